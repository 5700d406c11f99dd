"""Who moved from one persona to another: the personas of one moment, the customers of several.

A customer who has not ordered for 90 days sleeps, whatever persona they have. Which moves are larger than chance is
told against two models of no connection: for staying, independence of before and after; for moving, quasi-independence,
which leaves the stayers out (Goodman 1968), because against all customers together every move looks small.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.schemas import Features
from habitue.model.past import PURCHASE, Past

Floats = npt.NDArray[np.float64]

PERIOD_DAYS = 90  # of the declared windows orders_..., spend_90d
NOT_YET, ASLEEP = "Not yet a customer", "Asleep"
SURPRISE = 3.0  # standard deviations of a count by chance from which a flow is larger than chance
ROUNDS = 200  # of proportional fitting; it settles in some ten
FLOWS = {
    "step": pl.Int64,
    "from": pl.String,
    "to": pl.String,
    "n": pl.Int64,
    "expected": pl.Float64,
    "surprise": pl.Float64,
    "more": pl.Boolean,
}


def moments(past: Past, periods: int) -> list[dt.datetime]:
    """Return at most `periods` ends of periods of 90 days, the last of them `past.as_of`, ascending.

    An earlier one needs at least 30 days of orders before it.
    """
    bought = past.histories.of_kind(PURCHASE).set_at
    first = float(bought.min()) if len(bought) else past.day
    ends = [past.as_of - dt.timedelta(days=PERIOD_DAYS * i) for i in range(periods)]
    return [end for end in reversed(ends) if end == past.as_of or end.timestamp() / 86_400 - first >= 30]


def states(frames: Sequence[Features], named: Sequence[Sequence[str]]) -> pl.DataFrame:
    """Return user_key, step, state of every customer of the last moment at each moment; step 0 is the earliest.

    `frames`: the profiles at each moment; `named`: the persona of each of their rows.
    """
    everyone = frames[-1].select("user_key")
    parts = []
    for step, (frame, names) in enumerate(zip(frames, named, strict=True)):
        mine = frame.select("user_key", "days_since_last").with_columns(state=pl.Series(list(names), dtype=pl.String))
        mine = mine.with_columns(
            state=pl.when(pl.col("days_since_last") > PERIOD_DAYS).then(pl.lit(ASLEEP)).otherwise("state")
        )
        there = everyone.join(mine.drop("days_since_last"), on="user_key", how="left", maintain_order="left")
        parts.append(there.with_columns(step=pl.lit(step, dtype=pl.Int64), state=pl.col("state").fill_null(NOT_YET)))
    return pl.concat(parts).select("user_key", "step", "state")


def flows(told: pl.DataFrame, *, least: int) -> pl.DataFrame:
    """Return step (the earlier of two moments), from, to, n, expected, surprise, more; largest first in a step.

    Surprise: (n - expected) / sqrt(expected); `more`: above 3, and at least `least` customers. Who is not yet a
    customer at either moment is not counted.
    """
    rows = []
    for step in range(_last(told)):
        before = told.filter(pl.col("step") == step).select("user_key", source="state")
        after = told.filter(pl.col("step") == step + 1).select("user_key", target="state")
        both = before.join(after, on="user_key").filter(pl.col("target") != NOT_YET)
        sources, targets = (both[side].unique().sort().to_list() for side in ("source", "target"))
        n = np.zeros((len(sources), len(targets)))
        for source, target, count in both.group_by("source", "target").len().iter_rows():
            n[sources.index(source), targets.index(target)] = count
        chance = by_chance(n, sources, targets)
        for i, j in np.argwhere(n > 0):
            surprise = float((n[i, j] - chance[i, j]) / np.sqrt(max(chance[i, j], 1e-9)))
            more = surprise > SURPRISE and n[i, j] >= least
            rows.append((step, sources[i], targets[j], int(n[i, j]), float(chance[i, j]), surprise, more))
    return pl.DataFrame(rows, schema=FLOWS, orient="row").sort(
        "step", "n", "from", "to", descending=[False, True, False, False]
    )


def by_chance(n: Floats, sources: Sequence[str], targets: Sequence[str]) -> Floats:
    """Return the counts [R, C] expected when before and after are not connected; see the top of this file."""
    same = np.array([[a == b for b in targets] for a in sources])
    known = np.array([a != NOT_YET for a in sources])
    margins = n[known]
    stay = np.outer(n.sum(axis=1), margins.sum(axis=0)) / max(margins.sum(), 1.0)
    moved = np.where(same, 0.0, n)
    move = np.where(same, 0.0, 1.0)
    for _ in range(ROUNDS):
        move *= _ratio(moved.sum(axis=1), move.sum(axis=1))[:, None]
        move *= _ratio(moved.sum(axis=0), move.sum(axis=0))[None, :]
    return np.asarray(np.where(same, stay, move))


def periods(frames: Sequence[Features], told: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return each persona at each moment: step, as_of, name, size, share, money, orders, an_order, silence.

    Size: customers who are awake. Money: net, of the 90 days before. Orders (in 180 days), money an order, days since
    the last order: medians; null where nobody is in the persona.
    """
    parts = []
    for step, frame in enumerate(frames):
        mine = told.filter(pl.col("step") == step, pl.col("state") != NOT_YET)
        joined = mine.join(frame, on="user_key", how="left", maintain_order="left")
        awake = max(int((joined["state"] != ASLEEP).sum()), 1)
        counted = joined.group_by(name="state").agg(
            size=pl.len().cast(pl.Int64),
            money=(pl.col("spend_90d") + pl.col("refunded_90d")).sum(),
            orders=pl.col("orders_180d").median(),
            an_order=pl.col("value_per_order").median(),
            silence=pl.col("days_since_last").median(),
        )
        listed = pl.DataFrame({"name": [*names, ASLEEP]}, schema={"name": pl.String})
        whole = listed.join(counted, on="name", how="left", maintain_order="left").with_columns(
            pl.col("size").fill_null(0), pl.col("money").fill_null(0.0)
        )
        parts.append(
            whole.with_columns(
                step=pl.lit(step, dtype=pl.Int64),
                as_of=pl.lit(frame["as_of"][0] if frame.height else None, dtype=pl.Datetime("us", "UTC")),
                share=pl.when(pl.col("name") == ASLEEP).then(None).otherwise(pl.col("size") / awake),
            )
        )
    columns = ("step", "as_of", "name", "size", "share", "money", "orders", "an_order", "silence")
    return pl.concat(parts).select(columns)


def changes(table: pl.DataFrame) -> list[str]:
    """Say of each persona what changed from the first moment to the last."""
    if _last(table) == 0:
        return []
    told = []
    for name in table["name"].unique(maintain_order=True):
        mine = table.filter(pl.col("name") == name)
        was, now = mine.row(0, named=True), mine.row(-1, named=True)
        if not was["size"] and not now["size"]:
            continue  # a persona of the silent: all of it sleeps
        size = (
            f"{name}: {was['size']:,} customers at the first moment, {now['size']:,} at the last{_by(was, now, 'size')}"
        )
        money = (
            ""
            if name == ASLEEP
            else f"; money in 90 days {was['money']:,.0f}, then {now['money']:,.0f}{_by(was, now, 'money')}"
        )
        told.append(f"{size}{money}.")
    return told


def surprises(table: pl.DataFrame, labels: Sequence[str], *, shown: int = 4) -> list[str]:
    """Say which moves (not the staying) are larger than chance, the most surprising first."""
    moved = table.filter("more", pl.col("from") != pl.col("to"), pl.col("from") != NOT_YET)
    moved = moved.sort("surprise", "step", "from", "to", descending=[True, False, False, False]).head(shown)
    return [
        f"{row['n']:,} went from {row['from']} to {row['to']} between {labels[row['step']]} and "
        f"{labels[row['step'] + 1]}; by chance {row['expected']:,.0f} would have."
        for row in moved.to_dicts()
    ]


def _by(was: dict[str, float], now: dict[str, float], key: str) -> str:
    return f" ({(now[key] - was[key]) / was[key]:+.0%})" if was[key] > 0 else ""


def _last(table: pl.DataFrame) -> int:
    return max(table["step"].to_list(), default=0)


def _ratio(wanted: Floats, there: Floats) -> Floats:
    return np.divide(wanted, there, out=np.zeros_like(wanted), where=there > 0)
