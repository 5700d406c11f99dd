"""Which rows are learnt from and which are answered: dealt, by group, forward in time, or as the files say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from habitue.bench.tasks.reading import Data
from habitue.core.errors import InputError, ModelError, UsageError
from habitue.core.metrics import Ints
from habitue.model.tabular import Table, Target, deal

INNER = 5  # one of so many parts of the training rows is held back for calibration and threshold


@dataclass(frozen=True)
class Fold:
    """Row numbers of the data; no row is in both."""

    learn: Ints
    held: Ints


def split(data: Data, folds: int, *, seed: int) -> list[Fold]:
    """Return the folds of one seed.

    A test file: one fold. Groups: no group is in two folds. Time: `folds` blocks of later rows, each answered from
    all that is strictly earlier (rows of one moment stay together), without the groups it asks of. Else every class
    is spread evenly. Raises UsageError for fewer than 2 folds, InputError when a fold could not learn.
    """
    if folds < 2 and data.test is None:
        raise UsageError(
            "--folds",
            found=f"{folds} is given",
            consequence="Rows would be answered by models that saw them",
            remedy="Give 2 or more, or a file with --test",
        )
    if data.test is not None:
        held = np.zeros(data.target.values.size, dtype=bool)
        held[data.test] = True
        made = [Fold(np.flatnonzero(~held), np.flatnonzero(held))]
    elif data.time is not None:
        made = _forward(data, folds)
    else:
        try:
            fold = deal(data.target, folds, seed=seed, group=data.table.group)
        except ModelError as error:
            raise InputError(
                "--folds", found=error.found, consequence=error.consequence, remedy=error.remedy
            ) from error
        made = [Fold(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    for k, one in enumerate(made, start=1):
        _can_learn(data.target, one, k)
    return made


def inner(table: Table, target: Target, time: Ints | None, *, seed: int) -> Fold | None:
    """Return a part of the training rows held back for calibration and threshold; the latest ones under time.

    None when they are too few for both sides to hold every known class.
    """
    if time is not None:
        late = time >= np.quantile(time, 1 - 1 / INNER)
    else:
        units = table.height if table.group is None else np.unique(table.group).size
        if units < 2 * INNER:
            return None
        late = deal(target, INNER, seed=seed, group=table.group) == 0
    one = Fold(np.flatnonzero(~late), np.flatnonzero(late))
    if not one.learn.size or not one.held.size:
        return None
    if target.kind == "binary" and min(np.unique(target.values[r]).size for r in (one.learn, one.held)) < 2:
        return None
    return None if target.kind == "classes" and np.unique(target.values[one.learn]).size < 2 else one


def rare(target: Target, folds: int) -> str | None:
    """Return a sentence on classes with fewer rows than folds, or None."""
    if target.kind == "number":
        return None
    rows = np.bincount(target.values.astype(np.int64), minlength=len(target.classes))
    few = rows < folds
    if not few.any():
        return None
    which = f"{int(few.sum()):,} of {few.size:,} classes have"
    return (
        f"{which} fewer rows than the {folds} folds ({int(rows[few].sum()):,} rows); they are kept, and where a fold "
        "learns none of a class it cannot answer it"
    )


def _forward(data: Data, folds: int) -> list[Fold]:
    assert data.time is not None
    moments, rows = np.unique(data.time, return_counts=True)
    if moments.size < folds + 1:
        raise InputError(
            "--time",
            found=f"there are {moments.size:,} different moments for {folds} folds and a past before the first",
            consequence="A fold would have no past or no future",
            remedy=f"Ask for at most {max(moments.size - 1, 0)} folds, or leave --time out",
        )
    # the block of each moment by the rows up to it; every block gets at least one moment
    block = np.minimum((np.cumsum(rows) - rows) * (folds + 1) // rows.sum(), folds)
    if np.unique(block).size < folds + 1:
        block = np.arange(moments.size) * (folds + 1) // moments.size
    of_row = block[np.searchsorted(moments, data.time)]
    made = []
    for k in range(1, folds + 1):
        learn, held = of_row < k, of_row == k
        if data.table.group is not None:
            learn &= ~np.isin(data.table.group, data.table.group[held])
        made.append(Fold(np.flatnonzero(learn), np.flatnonzero(held)))
    return made


def _can_learn(target: Target, fold: Fold, k: int) -> None:
    values = target.values[fold.learn]
    if fold.learn.size >= 2 and fold.held.size and np.unique(values).size >= 2:
        return
    what = f"{fold.learn.size:,} rows to learn from"
    if fold.learn.size:
        what += f" with {np.unique(values).size} different label{'s' if np.unique(values).size != 1 else ''}"
    raise InputError(
        f"fold {k}",
        found=f"it has {what} and {fold.held.size:,} to answer",
        consequence="Nothing can be told apart there",
        remedy="Give more rows, fewer --folds, or another --group or --time",
    )
