"""What any table holds, read off its contract: columns one by one, and scores that every table can be given.

EVENTS have measures of their own in `scores`; what stands here needs no more than a contract, so a table that is added
to `core/schemas.py` is looked at from the first day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from habitue.core.schemas import TABLES, Quality, Table
from habitue.quality.scores import Measure, evenness, table_of

DERIVED = frozenset(  # made by Habitue itself, or read by nobody but it
    ("identities", "timeline", "features", "labels", "profiles", "scores", "reasons", "metrics", "findings", "quality")
) | {"checks", "repairs"}
MOMENTS = ("at", "valid_from")
RANGES: Mapping[str, tuple[float, float]] = {  # what a column means, wherever it stands; docs/quality.md
    "scroll": (0.0, 1.0),
    "propensity": (0.0, 1.0),
    "dwell_s": (0.0, 86_400.0),
    "start_s": (0.0, 86_400.0),
    "position": (1.0, 1e6),
    "rating": (-100.0, 100.0),
    "cost": (0.0, 1e9),
    "price": (0.0, 1e9),
}
KINDS = ("kind", "label", "arm", "modality", "signal", "code", "purpose")  # columns that say what a row is
LEVELS = 1_000  # a column with more different values names things, it does not sort them


@dataclass(frozen=True)
class Column:
    """One column of one table."""

    table: str
    column: str
    type: str
    rows: int
    present: float  # share of rows that are not null
    different: int  # values, null left out
    least: str | None  # as text; None where values have no order worth telling, or may be personal
    most: str | None


def imported() -> tuple[Table, ...]:
    """Return the contracts of the tables a shop brings, in their order."""
    return tuple(table for table in TABLES if table.name not in DERIVED)


def columns(tables: Mapping[str, pl.DataFrame]) -> list[Column]:
    """Describe every column; of texts and ids only how many differ, never a value. O(rows x columns)."""
    told = []
    for table in imported():
        frame = tables.get(table.name)
        for col in table.columns if frame is not None and frame.height else ():
            assert frame is not None
            if col.name not in frame.columns:  # bytes of media are looked at by senses.py, one at a time
                continue
            values = frame[col.name]
            known = values.drop_nulls()
            ordered = (values.dtype.is_numeric() or values.dtype.is_temporal()) and col.name != "user_key"
            ends = (_end(known.min()), _end(known.max())) if ordered and known.len() else (None, None)
            present = known.len() / frame.height
            different = 0 if known.dtype == pl.Binary or known.dtype.is_nested() else known.n_unique()
            told.append(Column(table.name, col.name, col.type, frame.height, present, different, *ends))
    return told


def _end(value: object) -> str:
    """Write a number to twelve digits: 3 x 627.60 is 1882.8, not 1882.8000000000002."""
    return str(float(f"{value:.12g}")) if isinstance(value, float) else str(value)


def scores(tables: Mapping[str, pl.DataFrame], *, now: dt.datetime) -> Quality:
    """Return QUALITY of every table that holds a row; `now`: the moment after which nothing can have happened.

    EVENTS get only what `quality.scores` does not say. O(rows x columns), and a sort of the keys.
    """
    measures: list[Measure] = []
    for table in imported():
        frame = tables.get(table.name)
        if frame is not None and frame.height:
            measures += [*_complete(table, frame), *_consistent(table, frame), *_accurate(table, frame, now)]
            measures += _diverse(table, frame)
    return table_of(measures)


def _complete(table: Table, frame: pl.DataFrame) -> Iterator[Measure]:
    """A column the shop never fills is no gap of this row or that: it is listed, not scored."""
    if table.name == "events":  # which of its columns a row needs depends on what happened; see scores.py
        return
    for col in table.columns:
        filled = frame.height - frame[col.name].null_count() if col.name in frame.columns else 0
        if col.nullable and filled:
            measure = f"{col.name} present"
            yield table.name, "completeness", measure, filled / frame.height, f"rows with {col.name} / rows"


def _consistent(table: Table, frame: pl.DataFrame) -> Iterator[Measure]:
    key = [name for name in table.key if name in frame.columns]
    different = frame.select(key).n_unique()
    yield table.name, "consistency", "one row a key", different / frame.height, "different keys / rows"
    if "currency" in frame.columns and table.name != "events":
        money = frame["currency"].drop_nulls()
        if money.len():
            share = int((money == money.mode().sort()[0]).sum()) / money.len()
            yield table.name, "consistency", "one currency", share, "rows in the commonest currency / rows with one"


def _accurate(table: Table, frame: pl.DataFrame, now: dt.datetime) -> Iterator[Measure]:
    for moment in MOMENTS:
        known = frame[moment].drop_nulls() if moment in frame.columns else pl.Series()
        if known.len():
            share = int((known <= now).sum()) / known.len()
            yield table.name, "accuracy", "not in the future", share, f"rows with {moment} up to now / rows"
    for name, (low, high) in RANGES.items():
        if name not in frame.columns or (table.name == "events" and name == "price"):
            continue
        known = frame[name].drop_nulls()
        if known.len():
            share = int(known.is_between(low, high).sum()) / known.len()
            told = f"{name} from {low:g} to {high:g} / rows with it"
            yield table.name, "accuracy", f"{name} in range", share, told


def _diverse(table: Table, frame: pl.DataFrame) -> Iterator[Measure]:
    for name in KINDS:
        if name in frame.columns:
            counts = frame[name].drop_nulls().value_counts()["count"]
            even = evenness(counts) if counts.len() <= LEVELS else None
            yield table.name, "diversity", f"{name}s", even, f"entropy of rows over {name} / ln of how many there are"
