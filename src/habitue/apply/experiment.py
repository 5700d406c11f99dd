"""What an experiment or a campaign brought: EXPOSURES held against what users bought in the days after."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from habitue.core.errors import ModelError, UsageError, did_you_mean
from habitue.core.schemas import EVENTS, EXPOSURES, PURCHASE, REFUND, Events, Exposures, check
from habitue.evaluate import experiment
from habitue.evaluate.experiment import Compared

DAYS = 14  # after the first exposure
METRICS = {"money": "net money", "orders": "share who order", "outcome": "outcome in the log"}


@dataclass(frozen=True)
class Experiment:
    """The answer: what the page and the command show."""

    name: str
    metric: str
    days: int
    control: str
    compared: Compared
    daily: pl.DataFrame  # day (date), arm, difference, always_low, always_high: as it stood at the end of each day
    counts: dict[str, int]  # users: met it, two_arms, too_early, nobody (rows without a user)
    notes: tuple[str, ...]


def judge(
    exposures: Exposures,
    events: Events,
    *,
    name: str,
    control: str | None = None,
    metric: str = "money",
    days: int = DAYS,
    planned: int | None = None,
    shares: Mapping[str, float] | None = None,
) -> Experiment:
    """Compare the arms of the experiment `name` by what each user did in the `days` after meeting it first.

    The arm met first counts, also where somebody met another one later. Users whose days are not over by the last event
    are left out, the same for every arm. CUPED reads the money of as many days before. `control`: default the arm with
    that name or the one most users met; `planned`, `shares`: see evaluate.experiment.compare. O(n log n).

    Raises UsageError: no such experiment or metric. ModelError: nobody's days are over, and what `compare` raises.
    """
    check(exposures, EXPOSURES, at="apply.experiment")
    check(events, EVENTS, at="apply.experiment")
    if metric not in METRICS:
        raise _wrong("metric", f"there is no metric '{metric}'", did_you_mean(metric, METRICS))
    met = exposures.filter(what=name)
    if met.is_empty():
        names = sorted(exposures["what"].unique())
        raise _wrong("name", f"nobody met an experiment '{name}'", did_you_mean(name, names))
    users, counts = _users(met, events, metric, days)
    if users.is_empty():
        raise _too_early(name, counts["users"], metric, days)
    arms = users["arm"].value_counts(sort=True)["arm"].to_list()
    chosen = control or ("control" if "control" in arms else arms[0] if arms else "control")
    compared = experiment.compare(users, control=chosen, planned=planned, shares=shares)
    daily = _daily(users, compared, chosen, planned)
    return Experiment(name, metric, days, chosen, compared, daily, counts, tuple(_notes(counts, days)))


def _too_early(name: str, users: int, metric: str, days: int) -> ModelError:
    soon = f"their {days} days are not over" if metric != "outcome" else "no outcome is told of them"
    return ModelError(
        "apply.experiment",
        found=f"{users:,} users met '{name}', and {soon}" if users else f"nobody who is known met '{name}'",
        consequence="There is nothing to compare yet",
        remedy="Look again later, or count fewer days: --days 1",
    )


def _users(met: pl.DataFrame, events: Events, metric: str, days: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """One row a user whose days are over: user_key, arm, at, outcome, before."""
    span = dt.timedelta(days=days)
    end = events["at"].max() if metric != "outcome" else met["at"].max()
    named = met.filter(pl.col("user_key").is_not_null()).sort("at", "exposure_id")
    first = named.group_by("user_key", maintain_order=True).agg(
        pl.col("at", "arm").first(),
        arms=pl.col("arm").n_unique(),
        told=pl.col("outcome").max(),  # one who clicked once has clicked
    )
    over = (
        first.filter(pl.col("at") + span <= end) if metric != "outcome" else first.filter(pl.col("told").is_not_null())
    )
    counts = {
        "users": first.height,
        "two_arms": int((first["arms"] > 1).sum()),
        "too_early": first.height - over.height,
        "nobody": met.height - named.height,
    }
    bought = events.filter(pl.col("kind").is_in([PURCHASE, REFUND])).select("user_key", "kind", "value", when="at")
    near = over.select("user_key", "at").join(bought, on="user_key", how="inner")
    after = near.filter(pl.col("when") >= pl.col("at"), pl.col("when") < pl.col("at") + span)
    before = near.filter(pl.col("when") < pl.col("at"), pl.col("when") >= pl.col("at") - span)
    money, earlier = (part.group_by("user_key").agg(pl.col("value").sum()) for part in (after, before))
    ordered = after.filter(kind=PURCHASE)["user_key"].unique()
    outcome = {
        "money": pl.col("value").fill_null(0.0),
        "orders": pl.col("user_key").is_in(ordered.implode()).cast(pl.Float64),
        "outcome": pl.col("told"),
    }[metric]
    users = (
        over.join(money, on="user_key", how="left")
        .join(earlier.rename({"value": "before"}), on="user_key", how="left")
        .select("user_key", "arm", "at", outcome=outcome, before=pl.col("before").fill_null(0.0))
        .sort("at", "user_key")
    )
    return users, counts


def _daily(users: pl.DataFrame, whole: Compared, control: str, planned: int | None) -> pl.DataFrame:
    """What would have been said at the end of each day, from the first on which every arm has enough users."""
    rows = []
    arms = whole.arms["arm"].to_list()
    for (day,), _ in users.group_by(pl.col("at").dt.date(), maintain_order=True):
        so_far = users.filter(pl.col("at").dt.date() <= day)
        count = so_far["arm"].value_counts()
        if count.height < len(arms) or count["count"].min() < experiment.LEAST:  # type: ignore[operator]
            continue
        told = experiment.compare(so_far, control=control, planned=planned or users.height).arms.slice(1)
        rows += [{"day": day, **row} for row in told.iter_rows(named=True)]
    names = {"day": pl.Date, "arm": pl.String} | dict.fromkeys(("difference", "always_low", "always_high"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=names).select(*names) if rows else pl.DataFrame(schema=names)


def _notes(counts: Mapping[str, int], days: int) -> list[str]:
    notes = []
    if counts["too_early"]:
        notes.append(f"{counts['too_early']:,} users are left out: they met it less than {days} days before the end.")
    if counts["two_arms"]:
        share = counts["two_arms"] / max(counts["users"], 1)
        notes.append(f"{counts['two_arms']:,} users ({share:.1%}) met two arms; the first counts.")
    if counts["nobody"]:
        notes.append(f"{counts['nobody']:,} exposures name nobody and are left out.")
    return notes


def _wrong(setting: str, found: str, remedy: str) -> UsageError:
    return UsageError(
        f"apply.experiment, {setting}", found=found, consequence="There is nothing to compare", remedy=remedy
    )
