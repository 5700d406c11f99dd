"""What another policy would have earned, from a log of what one policy showed and with which probability.

Of each logged row: r = outcome, p = probability with which the log's policy showed its arm (propensity), t = the
probability with which the policy asked about would have, w = t / p; q = a model's expected outcome of an arm in a slot.

    ips    mean(w r)                              Horvitz and Thompson 1952; unbiased, wide where w is large
    snips  sum(w r) / sum(w)                      Swaminathan and Joachims, NIPS 2015; a little biased, narrower
    dm     mean(sum_a t(a) q(a))                  as right as q is
    dr     dm + mean(w (r - q(shown arm)))        Dudik, Langford and Li, ICML 2011, eq. 2; right when p or q is

All assume that the log's policy could have shown whatever the other policy shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import ModelError
from habitue.core.metrics import Floats, Ints, bootstrap, mean
from habitue.core.schemas import EXPOSURES, Exposures, check

POLICY = {"what": pl.String, "arm": pl.String, "probability": pl.Float64}


@dataclass(frozen=True)
class Logged:
    """A log of n rows held against one policy, as arrays; arms are numbered within the whole log."""

    outcome: Floats  # [n]
    propensity: Floats  # [n] in (0, 1]
    slot: Ints  # [n] index into the S slots (`what`)
    arm: Ints  # [n] index into the K arms
    policy: Floats  # [S, K] probability with which the policy asked about shows an arm; rows add up to 1

    @property
    def weight(self) -> Floats:
        """[n] how much more often the policy asked about shows what was shown."""
        return self.policy[self.slot, self.arm] / self.propensity


def read(exposures: Exposures, policy: pl.DataFrame) -> Logged:
    """Turn EXPOSURES and `policy` (what, arm, probability) into arrays.

    Slots of the policy that the log does not hold are left out. Raises ModelError for: fewer than two rows, an outcome
    or propensity that is null, a propensity outside (0, 1], a slot of the log where the policy's probabilities do not
    add up to 1, and a policy that never shows what was shown.
    """
    check(exposures, EXPOSURES, at="evaluate.offpolicy")
    shown = exposures.select("what", "arm", "propensity", "outcome")
    if shown.height < 2:
        raise _refused(f"the log has {shown.height} row(s)", "Give every row that was shown")
    for column in ("outcome", "propensity"):
        if shown[column].null_count():
            found = f"{shown[column].null_count():,} of {shown.height:,} rows have no {column}"
            raise _refused(found, f"Leave rows without {column} out, if that does not depend on the arm")
    if not shown["propensity"].is_between(0, 1, closed="right").all():
        raise _refused("a propensity is not in (0, 1]", "Log the probability with which the arm was shown")
    wanted = policy.select(pl.col(name).cast(dtype) for name, dtype in POLICY.items())
    wanted = wanted.filter(pl.col("what").is_in(shown["what"].unique().implode()))
    slots, arms = shown["what"].unique().sort(), pl.concat([shown["arm"], wanted["arm"]]).unique().sort()
    table = np.zeros((slots.len(), arms.len()))
    cell = (slots.search_sorted(wanted["what"]).to_numpy(), arms.search_sorted(wanted["arm"]).to_numpy())
    np.add.at(table, cell, wanted["probability"].to_numpy())
    for s, total in enumerate(table.sum(axis=1)):
        if abs(total - 1) > 1e-6:
            raise _refused(
                f"the policy's probabilities in slot {slots[s]!r} add up to {total:g}", "Make them add up to 1"
            )
    slot, arm = slots.search_sorted(shown["what"]).to_numpy(), arms.search_sorted(shown["arm"]).to_numpy()
    logged = Logged(
        outcome=shown["outcome"].to_numpy(),
        propensity=shown["propensity"].to_numpy(),
        slot=slot.astype(np.int64),
        arm=arm.astype(np.int64),
        policy=table,
    )
    if not logged.weight.any():
        raise _refused("the policy never shows anything that was shown", "Take a policy that overlaps with the log")
    return logged


def cell_means(logged: Logged, *, folds: int = 5, prior: float = 20.0, seed: int = 0) -> Floats:
    """Return q [n, K]: the expected outcome of each arm in the row's slot, never from the row's own fold.

    The mean of (slot, arm) drawn towards the arm's mean over slots by `prior` rows, and that towards the overall mean
    likewise. Cross-fitting keeps a row's outcome out of its own forecast (Chernozhukov et al. 2018), which dr needs.
    """
    n, (slots, arms) = logged.outcome.size, logged.policy.shape
    fold = np.random.default_rng(seed).permutation(n) % min(folds, n)
    expected = np.empty((n, arms))
    for f in range(min(folds, n)):
        train, held = fold != f, fold == f
        outcome, arm, cell = logged.outcome[train], logged.arm[train], (logged.slot * arms + logged.arm)[train]
        by_arm = _drawn(arm, outcome, np.full(arms, outcome.mean()), prior)
        by_cell = _drawn(cell, outcome, np.tile(by_arm, slots), prior).reshape(slots, arms)
        expected[held] = by_cell[logged.slot[held]]
    return expected


def _drawn(group: Ints, outcome: Floats, towards: Floats, prior: float) -> Floats:
    """Return the mean outcome of each group, with `prior` further rows of `towards` [groups] in it."""
    rows = np.bincount(group, minlength=towards.size)
    total = np.bincount(group, weights=outcome, minlength=towards.size)
    return np.asarray((total + prior * towards) / (rows + prior))


def ips(logged: Logged, *, weight: Floats | None = None) -> Floats:
    """Return the inverse propensity score estimate; `weight` [draws, n] as in core.metrics."""
    return mean(logged.weight * logged.outcome, weight=weight)


def snips(logged: Logged, *, weight: Floats | None = None) -> Floats:
    """Return the self-normalised estimate; NaN where the policy never shows what was shown."""
    top, bottom = mean(logged.weight * logged.outcome, weight=weight), mean(logged.weight, weight=weight)
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))


def dm(logged: Logged, expected: Floats, *, weight: Floats | None = None) -> Floats:
    """Return the direct estimate from q = `expected` [n, K]."""
    return mean((logged.policy[logged.slot] * expected).sum(axis=1), weight=weight)


def dr(logged: Logged, expected: Floats, *, weight: Floats | None = None) -> Floats:
    """Return the doubly robust estimate from q = `expected` [n, K]."""
    direct = (logged.policy[logged.slot] * expected).sum(axis=1)
    shown = expected[np.arange(logged.outcome.size), logged.arm]
    return mean(direct + logged.weight * (logged.outcome - shown), weight=weight)


def refitted_dm(logged: Logged, *, prior: float = 20.0, weight: Floats) -> Floats:
    """Return the direct estimate [draws] from cell means (see `cell_means`, here without folds) fitted on each draw."""
    slots, arms = logged.policy.shape
    n, cell = logged.outcome.size, logged.slot * arms + logged.arm
    member = sp.csr_matrix((np.ones(n), (cell, np.arange(n))), shape=(slots * arms, n))
    rows, total = ((member @ w.T).T.reshape(-1, slots, arms) for w in (weight, weight * logged.outcome))
    overall = total.sum((1, 2)) / rows.sum((1, 2))
    by_arm = (total.sum(1) + prior * overall[:, None]) / (rows.sum(1) + prior)
    by_cell = (total + prior * by_arm[:, None]) / (rows + prior)
    share = rows.sum(2) / rows.sum((1, 2))[:, None]
    return np.asarray((share * (logged.policy * by_cell).sum(2)).sum(1))


def estimate(logged: Logged, expected: Floats | None = None, *, draws: int = 1000, seed: int = 0) -> pl.DataFrame:
    """Return estimator (ips, snips, dm, dr), mean, low, high (95 %, bootstrap over rows), n, effective_n, unseen.

    `expected` [n, K] defaults to cell means, which dm then fits anew on each draw; of a q that is given, dm has no
    interval, because resampled rows cannot tell how wrong q is. effective_n = (sum w)^2 / sum w^2 (Kish 1965): the rows
    of a log of the policy itself that this log is worth. unseen: the share of what the policy would show that the log
    holds no row of, in its slot; of that share ips and snips know nothing. `seed` draws the folds and the rows.
    """
    q = cell_means(logged, seed=seed) if expected is None else expected
    statistics: dict[str, Callable[[Floats], Floats]] = {
        "ips": lambda weight: ips(logged, weight=weight),
        "snips": lambda weight: snips(logged, weight=weight),
        "dm": lambda weight: refitted_dm(logged, weight=weight) if expected is None else dm(logged, q, weight=weight),
        "dr": lambda weight: dr(logged, q, weight=weight),
    }
    told = bootstrap(list(statistics.values()), logged.outcome.size, draws=draws, seed=seed)
    worth = float(logged.weight.sum() ** 2 / (logged.weight**2).sum())
    met = np.zeros(logged.policy.shape, dtype=bool)
    met[logged.slot, logged.arm] = True
    unseen = float((logged.policy * ~met).sum(axis=1)[logged.slot].mean())
    return pl.DataFrame(
        [
            (name, e.mean, None if fixed else e.low, None if fixed else e.high, e.n, worth, unseen)
            for name, e in zip(statistics, told, strict=True)
            for fixed in [name == "dm" and expected is not None]
        ],
        schema={
            "estimator": pl.String,
            "mean": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "n": pl.Int64,
            "effective_n": pl.Float64,
            "unseen": pl.Float64,
        },
        orient="row",
    )


def _refused(found: str, remedy: str) -> ModelError:
    return ModelError(
        "evaluate.offpolicy",
        found=found,
        consequence="The value of the policy could not be told from this log",
        remedy=remedy,
    )
