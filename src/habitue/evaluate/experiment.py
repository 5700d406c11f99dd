"""Experiments: who meets which arm, and what each arm did, told so that looking early fools nobody.

assign      by a hash of experiment and user: the same user meets the same arm for ever, and no table has to be kept;
            a hold-out is a share of all users that no experiment touches, the same in every experiment
compare     mean of an arm minus mean of the control, with two intervals:

    low, high            for one look at a moment that was fixed beforehand (Welch's normal interval)
    always_low, _high    for as many looks as one likes, together: an asymptotic confidence sequence,
                         s sqrt(2 (n r^2 + 1) / (n^2 r^2) log(sqrt(n r^2 + 1) / a)), r tightest at `planned` users
                         (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 2024, theorem 2.2;
                         r as it advises); n = users of both arms, s^2 = n times the variance of the difference

            With what each user did before (`before`), outcomes are first freed from what that foretold: y - t (x - mean
            x), t = cov(x, y) / var(x) within the arms (CUPED: Deng, Xu, Kohavi and Walker, WSDM 2013, section 3.1).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from habitue.core.errors import ModelError, UsageError, did_you_mean
from habitue.core.metrics import Floats

HELD_OUT = "held out"
LEAST = 30  # users of an arm; with fewer no mean is near normal
SUSPICIOUS = 0.001  # below this chance of shares as uneven, somebody's arm decided whether they were counted
COMPARED = {
    "arm": pl.String,
    "users": pl.Int64,
    "mean": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "always_low": pl.Float64,
    "always_high": pl.Float64,
    "relative": pl.Float64,
    "incremental": pl.Float64,
    "incremental_low": pl.Float64,
    "incremental_high": pl.Float64,
}


def assign(
    user_keys: npt.ArrayLike, *, experiment: str, arms: Mapping[str, float], hold_out: float = 0.0
) -> pl.DataFrame:
    """Return user_key, arm, propensity for each user, in order; O(n).

    `arms`: name -> share of those who are not held out, adding up to 1; `hold_out`: share of all users, chosen by a
    hash of the user alone. Raising an arm's share moves users only out of the arms named after it.
    Raises UsageError for shares that are none.
    """
    shares = np.array(list(arms.values()), dtype=np.float64)
    if not len(arms) or not np.isfinite(shares).all() or (shares < 0).any() or abs(shares.sum() - 1) > 1e-9:
        raise UsageError(
            "arms",
            found=f"the shares {', '.join(f'{name} {share:g}' for name, share in arms.items()) or '(none)'}",
            consequence="They are not a division of the users",
            remedy="Give each arm a share from 0 to 1 that together make 1",
        )
    if not 0 <= hold_out < 1 or HELD_OUT in arms:
        raise UsageError(
            "hold_out",
            found=f"a hold-out of {hold_out:g} beside the arms {', '.join(arms)}",
            consequence="Nobody, or nobody in particular, would be held out",
            remedy=f"Give a share from 0 to below 1, and call no arm '{HELD_OUT}'",
        )
    keys = np.asarray(user_keys, dtype=np.int64)
    names = [*arms, HELD_OUT]
    place = np.minimum(np.searchsorted(np.cumsum(shares), _uniform(keys, experiment), side="right"), len(arms) - 1)
    place[_uniform(keys, HELD_OUT) < hold_out] = len(arms)
    chance = np.append(shares * (1 - hold_out), hold_out)
    return pl.DataFrame({"user_key": keys, "arm": np.array(names)[place], "propensity": chance[place]})


@dataclass(frozen=True)
class Compared:
    """What the arms did: one row an arm (COMPARED), and what to think of it."""

    arms: pl.DataFrame  # the control first; `incremental` = difference x users of the arm
    explained: float  # share of the outcomes' variance that `before` foretold and CUPED took away
    balance: float  # chance of shares as uneven as these, if they are as planned; null hypothesis of a chi-square test
    sentences: tuple[str, ...]


def compare(
    users: pl.DataFrame,
    *,
    control: str,
    planned: int | None = None,
    shares: Mapping[str, float] | None = None,
    alpha: float = 0.05,
) -> Compared:
    """Compare the arms of one experiment; `users`: one row a user with arm, outcome and, where known, before.

    `planned`: users of two arms at which the sequence is to be tightest (default: those there are); choose it before
    the first look. `shares`: as planned (default: equal). Raises ModelError: an arm with too few users, an outcome that
    is no number, a control that is not among the arms.
    """
    users = users.drop_nulls("arm")
    arms = sorted(users["arm"].unique())
    if control not in arms:
        raise ModelError(
            "evaluate.experiment",
            found=f"nobody met the control '{control}'",
            consequence="There is nothing to compare with",
            remedy=did_you_mean(control, arms),
        )
    named = [control, *(arm for arm in arms if arm != control)]
    place = users["arm"].replace_strict(named, list(range(len(named))), return_dtype=pl.Int64).to_numpy()
    count = np.bincount(place, minlength=len(named))
    outcome = users["outcome"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    if count.min() < LEAST or not np.isfinite(outcome).all():
        few = named[int(count.argmin())]
        found = f"{count.min()} users in '{few}'" if count.min() < LEAST else "an outcome that is no number"
        raise ModelError(
            "evaluate.experiment",
            found=found,
            consequence="Its mean could be anything",
            remedy=f"Wait for {LEAST} users in each arm, whose time to answer is over",
        )
    before = users["before"].cast(pl.Float64).to_numpy() if "before" in users.columns else np.zeros(len(outcome))
    freed, explained = _freed(outcome, before, place, len(named))
    mean = np.bincount(place, freed, len(named)) / count
    variance = np.bincount(place, (freed - mean[place]) ** 2, len(named)) / np.maximum(count - 1, 1)
    expected = np.array([(shares or dict.fromkeys(named, 1.0)).get(arm, 0.0) for arm in named])
    balance = float(stats.chisquare(count, expected / expected.sum() * count.sum()).pvalue) if expected.all() else 0.0
    rows = []
    for arm, name in enumerate(named):
        difference = float(mean[arm] - mean[0])
        if arm == 0:
            rows.append((name, int(count[0]), float(mean[0]), *(None,) * 9))
            continue
        error = math.sqrt(variance[arm] / count[arm] + variance[0] / count[0])
        once = float(stats.norm.ppf(1 - alpha / 2)) * error
        always = _always(error, int(count[arm] + count[0]), planned, alpha)
        rows.append(
            (
                *(name, int(count[arm]), float(mean[arm]), difference),
                *(difference - once, difference + once, difference - always, difference + always),
                difference / float(mean[0]) if mean[0] else None,
                *((difference + by) * int(count[arm]) for by in (0.0, -always, always)),
            )
        )
    table = pl.DataFrame(rows, schema=COMPARED, orient="row")
    return Compared(table, explained, balance, tuple(_sentences(table, balance, explained)))


def _uniform(keys: npt.NDArray[np.int64], salt: str) -> Floats:
    """Return [n] numbers in [0, 1), one a key, by SHA-256 of salt and key."""
    start = hashlib.sha256(salt.encode() + b"\x00")

    def one(key: bytes) -> bytes:
        digest = start.copy()
        digest.update(key)
        return digest.digest()[:8]

    whole = b"".join(one(key.tobytes()) for key in keys.astype("<i8"))
    return (np.frombuffer(whole, dtype="<u8") >> 11) / 2.0**53


def _freed(outcome: Floats, before: Floats, place: npt.NDArray[np.int64], arms: int) -> tuple[Floats, float]:
    """Take from the outcomes what `before` foretells, the same slope in every arm; also the share it explains."""
    there = np.isfinite(before)
    before = np.where(there, before, before[there].mean() if there.any() else 0.0)
    count = np.bincount(place, minlength=arms)
    within = [v - (np.bincount(place, v, arms) / count)[place] for v in (outcome, before)]
    spread, whole = float(within[1] @ within[1]), float(within[0] @ within[0])
    if spread <= 1e-12 * max(float(before @ before), 1e-300) or whole == 0:
        return outcome, 0.0
    slope = float(within[0] @ within[1]) / spread
    freed: Floats = outcome - slope * (before - before.mean())
    return freed, slope * slope * spread / whole


def _always(error: float, n: int, planned: int | None, alpha: float) -> float:
    """Half the width of the confidence sequence after n users, for a standard error of the difference now."""
    r2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / (planned or n)
    grown = n * r2 + 1
    return error * math.sqrt(2 * grown / (n * r2) * math.log(math.sqrt(grown) / alpha))


def _sentences(table: pl.DataFrame, balance: float, explained: float) -> list[str]:
    said = []
    if balance < SUSPICIOUS:
        said.append(
            f"Do not believe this yet: arms of these sizes come by chance once in {1 / max(balance, 1e-12):,.0f} "
            "experiments. Something decides who is counted, and it depends on the arm."
        )
    control = table["arm"][0]
    for row in table.slice(1).iter_rows(named=True):
        clear = row["always_low"] > 0 or row["always_high"] < 0
        once = row["low"] > 0 or row["high"] < 0
        change = f"{row['difference']:+,.4g} a user ({row['always_low']:+,.4g} to {row['always_high']:+,.4g})"
        if clear:
            word = "more" if row["difference"] > 0 else "less"
            said.append(f"{row['arm']} brings {word} than {control}: {change}, however often one looked.")
        elif once:
            said.append(
                f"{row['arm']} against {control}: {change}. It would be clear had this been the only look, planned "
                "beforehand; it is not yet clear to somebody who looks again and again."
            )
        else:
            said.append(f"No difference between {row['arm']} and {control} is clear yet: {change}.")
    if explained > 0.01:
        said.append(f"What users did before explained {explained:.0%} of the outcomes' variance, and was taken out.")
    return said
