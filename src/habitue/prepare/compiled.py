"""Declarations as Polars expressions over the events of one bucket.

Totals are added event by event (cum_sum), never in an order that depends on threads or on what comes later.

A decayed sum uses S(t) = 2^(-t/h) x sum of x_i 2^(t_i/h), with t counted from the user's first event and in blocks of
500 half-lives, so that no power leaves the range of a float; a block starts with what the one before it carries over.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from itertools import zip_longest

import polars as pl

from habitue.core.schemas import EVENTS
from habitue.prepare.declared import OPERATORS, TINY, Feature, days

USER = "user_key"
BLOCK = 500.0  # half-lives


def lines(events: pl.DataFrame, declared: Sequence[Feature]) -> pl.DataFrame:
    """Return user_key, at, time (us) and, per feature f, what each line adds, in the order a server would meet them.

    f.x: the amount (0 where the line does not match); f.seen: its time where it matches; <which lines>.before: the
    time of the user's earlier line of the same combination. Sorted by user_key, at, event_id, line.
    """
    named = {"kind", *(c for f in declared for c in (f.column, *f.per, *(w[0] for w in f.where)) if c)}
    named &= {c.name for c in EVENTS.columns}
    codes = sorted({c for f in declared for c in f.per})
    table = events.sort(USER, "at", "event_id", "line").select(
        USER,
        "at",
        *(c for c in sorted(named) if c not in (USER, "at")),
        *(pl.col(c).cast(pl.String).cast(pl.Categorical).to_physical().alias(f"{c}.code") for c in codes),
        time=pl.col("at").dt.epoch("us"),
    )
    apart = {_which(f): f for f in declared}  # many features read the same lines
    table = table.with_columns(_matches(f).alias(f"{which}.match") for which, f in apart.items())
    table = table.with_columns(_before(f) for f in apart.values() if f.per)
    table = table.with_columns(e for f in declared for e in _rows(f))
    kept = [c for c in table.columns if c.endswith((".x", ".seen", ".before"))]
    return table.select(USER, "at", "time", *kept)


def states(table: pl.DataFrame, declared: Sequence[Feature]) -> pl.DataFrame:
    """Return the running state of every feature after each line, as columns f.<part>, in the order of `table`."""
    table = table.with_columns(start=pl.col("time").first().over(USER))
    for step in zip_longest(*(_passes(f) for f in declared), fillvalue={}):
        named = zip((f.name for f in declared), step, strict=True)
        table = table.with_columns(e.alias(f"{name}.{part}") for name, parts in named for part, e in parts.items())
    return table.drop(USER, "at", "time")


def value(feature: Feature) -> pl.Expr:
    """Return the value at `as_of`, from the state of the last line before it (ratio: from the columns it names)."""
    part = _parts(feature)
    now = pl.col("as_of").dt.epoch("us")
    match feature.kind:
        case "count" | "sum" | "distinct" | "last":
            return part("total")
        case "decayed_sum":
            age = _half_lives(feature, now - pl.col("start")) - BLOCK * part("block")
            return part("total") * _power(-age)
        case "days_since_first" | "days_since_last":
            return days(now - part("seen"))
        case "gap_mean" | "gap_std":
            n, mean = part("n"), part("total") / part("n")
            square = part("square") / n
            variance = square - mean * mean
            spread = pl.when(variance > TINY * square).then(variance.sqrt()).otherwise(0.0)
            return pl.when(n > 0).then(mean if feature.kind == "gap_mean" else spread)
        case "ratio":
            first, second = (pl.col(name) for name in feature.of)
            return pl.when(second != 0).then(first / second)
        case _:
            return getattr(pl.col("as_of").dt, str(feature.column))()  # type: ignore[no-any-return]


def window(
    table: pl.DataFrame, moments: Sequence[dt.datetime], declared: Sequence[Feature], length: dt.timedelta
) -> pl.DataFrame:
    """Return user_key, as_of and the totals over [as_of - length, as_of), for users with a line in it."""
    schema = {USER: pl.Int64(), "as_of": pl.Datetime("us", "UTC"), **{f.name: pl.Float64() for f in declared}}
    found = [pl.DataFrame(schema=schema)]
    for moment in moments:
        recent = table.filter(pl.col("at") >= moment - length, pl.col("at") < moment)
        totals = (_within(f, moment - length).cum_sum().last().cast(pl.Float64).alias(f.name) for f in declared)
        grouped = recent.group_by(USER, maintain_order=True).agg(*totals)
        found.append(grouped.with_columns(as_of=pl.lit(moment, dtype=pl.Datetime("us", "UTC"))).select(list(schema)))
    return pl.concat(found)


def _which(feature: Feature) -> str:
    """Name the lines a feature reads."""
    return repr((feature.kinds, feature.where, feature.per))


def _matches(feature: Feature) -> pl.Expr:
    wanted = pl.col("kind").is_in(list(feature.kinds))
    for column, sign, constant in feature.where:
        wanted &= OPERATORS[sign](pl.col(column), constant).fill_null(False)
    for column in feature.per:
        wanted &= pl.col(column).is_not_null()
    return wanted


def _rows(feature: Feature) -> list[pl.Expr]:
    """What each line adds to the feature."""
    name, matches = feature.name, pl.col(f"{_which(feature)}.match")
    found = []
    if feature.kind in ("days_since_first", "days_since_last", "gap_mean", "gap_std", "last"):
        found.append(pl.when(matches).then(pl.col("time")).alias(f"{name}.seen"))
    if feature.kind in ("count", "distinct"):
        found.append(matches.cast(pl.Int64).alias(f"{name}.x"))
    if feature.kind in ("sum", "last", "decayed_sum"):
        amount = pl.lit(1.0) if feature.column is None else pl.col(feature.column).cast(pl.Float64).fill_null(0.0)
        found.append(pl.when(matches).then(amount).otherwise(0.0).alias(f"{name}.x"))
    return found


def _before(feature: Feature) -> pl.Expr:
    which = _which(feature)
    combination = [USER, *(f"{c}.code" for c in feature.per), f"{which}.match"]
    return pl.col("time").shift(1).over(combination).alias(f"{which}.before")


def _first_time(feature: Feature) -> pl.Expr:
    """The amount of each line, 0 where its combination was met before."""
    amount = pl.col(f"{feature.name}.x")
    return pl.when(pl.col(f"{_which(feature)}.before").is_null()).then(amount).otherwise(0) if feature.per else amount


def _within(feature: Feature, start: dt.datetime) -> pl.Expr:
    """The amount of each line of a window, 0 where its combination was met in the window before."""
    amount, before = pl.col(f"{feature.name}.x"), pl.col(f"{_which(feature)}.before")
    if not feature.per:
        return amount
    fresh = before.is_null() | (before < int(start.timestamp()) * 1_000_000 + start.microsecond)
    return pl.when(fresh).then(amount).otherwise(0)


def _passes(feature: Feature) -> list[dict[str, pl.Expr]]:
    """The state's parts, in passes: an expression of one pass may read the parts of those before it."""
    part = _parts(feature)
    match feature.kind:
        case "count" | "sum" | "distinct":
            return [{"total": _first_time(feature).cum_sum().over(USER)}]
        case "decayed_sum":
            age = _half_lives(feature, pl.col("time") - pl.col("start"))
            block = (age * (1 / BLOCK)).floor()
            gone = part("block") - part("block").shift(1).over(USER)
            carry = part("inside").shift(1).over(USER) * _power(-BLOCK * gone)
            return [
                {"block": block, "grown": _first_time(feature) * _power(age - BLOCK * block)},
                {"inside": part("grown").cum_sum().over(USER, f"{feature.name}.block")},
                {"carry": pl.when(gone > 0).then(carry)},
                {"total": part("inside") + part("carry").forward_fill().over(USER).fill_null(0.0)},
            ]
        case "last":
            total = pl.when(part("seen").is_not_null()).then(part("moment"))
            return [{"moment": part("x").cum_sum().over(USER, "time")}, {"total": total.forward_fill().over(USER)}]
        case "days_since_first":
            return [{"seen": part("seen").cum_min().forward_fill().over(USER)}]
        case "days_since_last":
            return [{"seen": part("seen").forward_fill().over(USER)}]
        case _:
            pause = part("seen") - part("seen").forward_fill().shift(1).over(USER)
            gap = part("gap").fill_null(0.0)
            return [
                {"gap": pl.when(pause > 0).then(days(pause))},
                {
                    "n": part("gap").is_not_null().cast(pl.Int64).cum_sum().over(USER),
                    "total": gap.cum_sum().over(USER),
                    "square": (gap * gap).cum_sum().over(USER),
                },
            ]


def _parts(feature: Feature) -> Callable[[str], pl.Expr]:
    return lambda part: pl.col(f"{feature.name}.{part}")


def _half_lives(feature: Feature, microseconds: pl.Expr) -> pl.Expr:
    return days(microseconds) * (1 / (feature.half_life_days or 1))


def _power(exponent: pl.Expr) -> pl.Expr:
    return pl.lit(2.0).pow(exponent)
