"""From a person's file to a table a model can read: what each column is, what was left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from habitue.bench import files
from habitue.bench.tasks import augmenting, senses
from habitue.bench.tasks import label as labels
from habitue.bench.tasks.augmenting import Augment
from habitue.core.errors import InputError, UsageError, did_you_mean
from habitue.core.metrics import Ints
from habitue.core.progress import stage
from habitue.model.tabular import Table, Target, stacked

NAMES_FROM = 20  # different words in a column from which it may be names or free text, which no row shares


@dataclass(frozen=True)
class Columns:
    """Which column of the file is what; the rest are numbers, categories and times by their type."""

    label: str
    texts: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    sounds: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # numbers that are only names: an operating system, a region
    drop: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Return every column that was named."""
        single = [name for name in (self.group, self.time) if name is not None]
        return (self.label, *self.texts, *self.pictures, *self.sounds, *self.categories, *self.drop, *single)


@dataclass(frozen=True)
class Data:
    """The labelled rows of one file, or of two when a test file was given."""

    table: Table
    target: Target
    raw: pl.DataFrame  # the columns as they stood in the file, the same rows
    row: Ints  # [N] place in its file, from 0
    test: Ints | None = None  # rows of the test file, when there is one
    time: Ints | None = None  # [N] rank of the moment, equal moments share one
    notes: tuple[str, ...] = ()
    spent_s: float = 0.0  # CPU-seconds of n-grams and encoders, once for all models
    modalities: tuple[str, ...] = field(default=("table",))
    copies: tuple[Table, ...] = ()  # the same rows, altered: to learn from, never to be answered

    def lesson(self, rows: Ints) -> tuple[Table, Target]:
        """Return what a model learns from that may know `rows`: them, and their altered copies where there are any."""
        table, target = self.table.take(rows), self.target.take(rows)
        if not self.copies:
            return table, target
        several = [table, *(copy.take(rows) for copy in self.copies)]
        return stacked(several), target.take(np.tile(np.arange(rows.size), len(several)))


def read(
    path: Path,
    columns: Columns,
    *,
    task: str,
    kind: str | None = None,
    test: Path | None = None,
    encoders: Sequence[str] = (),
    cache: Path | None = None,
    augment: Augment | None = None,
) -> Data:
    """Read, label and sort out the columns of `path` (and of a test file with the same columns).

    Raises UsageError for a column that is not there, InputError when there is nothing to learn or to learn from.
    """
    frame = files.read(path, what="--data").with_columns(pl.lit(0).alias("test?"), pl.row_index("row?"))
    _present(frame, columns, path)
    if test is not None:
        more = files.read(test, what="--test").with_columns(pl.lit(1).alias("test?"), pl.row_index("row?"))
        _present(more, columns, test)
        lacking = sorted(set(frame.columns) - set(more.columns))
        if lacking:
            raise InputError(
                f"--test {test.name}",
                found=f"it lacks the column '{lacking[0]}' of --data",
                consequence="A model would be asked without what it learnt from",
                remedy=f"Add it, or leave it out: --drop '{lacking[0]}'",
            )
        frame = pl.concat([frame, more.select(frame.columns)], how="vertical_relaxed")
    found = labels.read(frame, columns.label, task=task, kind=kind)
    frame = frame.filter(found.kept)
    time = None if columns.time is None else _moments(frame[columns.time], columns.time)
    sorted_out, notes = _sorted_out(frame, columns)
    with stage("Read words, pictures and sound"):
        sensed = senses.read(frame, columns, folder=path.parent, encoders=encoders, cache=cache)
        copies = [
            senses.read(altered, columns, folder=path.parent, encoders=encoders, cache=None)
            for altered in augmenting.copies(frame, columns, augment, folder=path.parent)
        ]
    group = None if columns.group is None else _groups(frame[columns.group])
    table = Table(sorted_out, sensed.texts, sensed.vectors, group)
    if not table.columns:
        raise InputError(
            path.name,
            found="no column is left to learn from: " + "; ".join(notes or ("there is only the label",)),
            consequence="Every model would be the constant answer",
            remedy="Give a file with columns that differ between rows, or name text with --text",
        )
    at = np.flatnonzero(frame["test?"].to_numpy() == 1) if test is not None else None
    return Data(
        table=table,
        target=found.target,
        raw=frame.drop("test?", "row?"),
        row=frame["row?"].to_numpy().astype(np.int64),
        test=at,
        time=time,
        notes=(*found.notes, *notes, *sensed.notes, *_copies(frame, columns)),
        spent_s=sensed.spent_s + sum(one.spent_s for one in copies),
        modalities=(*(("table",) if sorted_out.width else ()), *sensed.modalities),
        copies=tuple(Table(sorted_out, one.texts, one.vectors, group) for one in copies),
    )


def without(data: Data, dropped: Sequence[str]) -> Data:
    """Return the data without some columns of the frame."""
    kept = data.table.frame.select(pl.exclude(list(dropped)))
    return replace(
        data,
        table=replace(data.table, frame=kept),
        copies=tuple(replace(copy, frame=kept) for copy in data.copies),
    )


def _present(frame: pl.DataFrame, columns: Columns, path: Path) -> None:
    for name in columns.named:
        if name not in frame.columns:
            raise UsageError(
                path.name,
                found=f"there is no column '{name}'",
                consequence="The task cannot be set up",
                remedy=did_you_mean(name, [c for c in frame.columns if c not in ("test?", "row?")]),
            )
    taken = [name for name in columns.named if name == columns.label]
    if len(taken) > 1:
        raise UsageError(
            "--label",
            found=f"'{columns.label}' is named for something else too",
            consequence="The answer would stand in the question",
            remedy="Name the label once",
        )


def _sorted_out(frame: pl.DataFrame, columns: Columns) -> tuple[pl.DataFrame, list[str]]:
    """Return numbers (Float64, unknown = NaN) and categories (String), and a sentence on what was left out."""
    used = {columns.label, *columns.texts, *columns.pictures, *columns.sounds, *columns.drop, "test?", "row?"}
    used |= {name for name in (columns.group,) if name is not None}
    kept: list[pl.Series] = []
    notes: list[str] = []
    infinite = []
    for name in frame.columns:
        if name in used:
            continue
        values = frame[name]
        for part in _parts(values, as_category=name in columns.categories):
            if part.dtype == pl.Float64:
                wild = int(part.is_infinite().sum())
                infinite += [f"'{name}' ({wild:,})"] if wild else []
                part = part.fill_null(float("nan")).set(part.is_infinite().fill_null(False), float("nan"))
            known = part.drop_nans().drop_nulls() if part.dtype == pl.Float64 else part.drop_nulls()
            some_unknown = known.len() < part.len()
            if known.n_unique() < 2 and not (known.n_unique() == 1 and some_unknown):
                notes.append(f"column '{part.name}' is the same in every row and is not read")
            elif _names(values, part, known) and name not in columns.categories:
                notes.append(
                    f"column '{part.name}' looks like a number of the row or a name of its own ({known.n_unique():,} "
                    f"different values in {known.len():,} rows) and is not read; read it with --text or --category"
                )
            else:
                kept.append(part)
        if not _parts(values, as_category=False):
            notes.append(f"column '{name}' is {values.dtype} and is not read")
    if infinite:
        notes.append(f"infinite values count as unknown: {', '.join(infinite)}")
    return pl.DataFrame(kept), notes


def _parts(values: pl.Series, *, as_category: bool) -> list[pl.Series]:
    """Return a column as one or more columns of Float64 or String; nothing for a type that is neither."""
    name, dtype = values.name, values.dtype
    if as_category or dtype in (pl.String, pl.Categorical, pl.Enum):
        return [values.cast(pl.String)] if not dtype.is_nested() else []
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return [values.cast(pl.Float64)]
    if dtype == pl.Duration:
        return [(values.dt.total_microseconds() / 1e6).cast(pl.Float64).alias(f"{name} (seconds)")]
    if dtype == pl.Time:
        return [(values.cast(pl.Int64) / 3.6e12).cast(pl.Float64).alias(f"{name} (hour)")]
    if dtype in (pl.Date, pl.Datetime):
        days = (values.cast(pl.Datetime("us")).dt.epoch("us") / 86_400e6).cast(pl.Float64).alias(f"{name} (day)")
        parts = [
            days,
            values.dt.month().cast(pl.String).alias(f"{name} (month)"),
            values.dt.weekday().cast(pl.String).alias(f"{name} (weekday)"),
        ]
        hours = [values.dt.hour().cast(pl.Float64).alias(f"{name} (hour)")] if dtype == pl.Datetime else []
        return parts + hours
    return []


def _names(values: pl.Series, part: pl.Series, known: pl.Series) -> bool:
    """Say whether a column is a running number, or words that hardly two rows share."""
    different = known.n_unique()
    if values.dtype.is_integer():
        numbers = values.drop_nulls()
        if different < max(NAMES_FROM, len(values)) or numbers.len() == 0:
            return False
        return int(numbers.max()) - int(numbers.min()) + 1 == different  # type: ignore[arg-type]
    return part.dtype == pl.String and different > NAMES_FROM and different > known.len() / 2


def _moments(values: pl.Series, name: str) -> Ints:
    if values.null_count() or values.dtype.is_nested() or values.dtype == pl.Binary:
        raise InputError(
            f"--time '{name}'",
            found=f"{values.null_count():,} rows have no moment" if values.null_count() else f"it is {values.dtype}",
            consequence="Past and future cannot be told apart",
            remedy="Give a date, a time or a running number in every row",
        )
    return values.rank("dense").to_numpy().astype(np.int64)


def _groups(values: pl.Series) -> Ints:
    """Return a number for each group; a row without one is a group of its own."""
    group = values.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    nobody = group == 0
    return np.where(nobody, group.max(initial=0) + np.cumsum(nobody), group)


def _copies(frame: pl.DataFrame, columns: Columns) -> list[str]:
    plain = frame.select(pl.exclude("row?", "test?", *columns.drop))
    plain = plain.select(name for name, dtype in plain.schema.items() if not dtype.is_nested())
    copies = int(plain.is_duplicated().sum())
    if not copies or columns.group is not None:
        return []
    return [f"{copies:,} rows equal another row in every column; the same row may stand on both sides of a fold"]
