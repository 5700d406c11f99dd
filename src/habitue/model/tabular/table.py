"""What a tabular model reads and learns: a table of numbers and categories, n-grams and vectors beside it, a target."""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import ModelError
from habitue.core.metrics import Floats, Ints

Kind = Literal["binary", "classes", "number"]
MIN_ROWS = 2


@dataclass(frozen=True)
class Table:
    """N rows to learn from or to answer; every part of a row depends on that row alone."""

    frame: pl.DataFrame  # Float64 = a number (NaN = unknown), String = a category (null = unknown)
    texts: Mapping[str, sp.csr_matrix] = field(default_factory=dict)  # column -> hashed n-gram counts [N, C]
    vectors: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)  # [N, D] of an encoder; NaN = none
    group: Ints | None = None  # [N] rows that belong together and stay together in inner folds

    @property
    def height(self) -> int:
        """Return N."""
        parts = [*self.texts.values(), *self.vectors.values()]
        return int(parts[0].shape[0]) if parts else self.frame.height

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return the names of the numbers."""
        return tuple(name for name, dtype in self.frame.schema.items() if dtype == pl.Float64)

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the names of the categories."""
        return tuple(name for name, dtype in self.frame.schema.items() if dtype == pl.String)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of everything a model may read."""
        return (*self.frame.columns, *self.texts, *self.vectors)

    def take(self, rows: Ints) -> Table:
        """Return these rows, in this order."""
        return Table(
            self.frame[rows] if self.frame.width else self.frame,
            {name: counts[rows] for name, counts in self.texts.items()},
            {name: matrix[rows] for name, matrix in self.vectors.items()},
            None if self.group is None else self.group[rows],
        )

    def shuffled(self, column: str, order: Ints) -> Table:
        """Return the table with the values of one column in another order, all else in place."""
        if column in self.texts:
            return replace(self, texts={**self.texts, column: self.texts[column][order]})
        if column in self.vectors:
            return replace(self, vectors={**self.vectors, column: self.vectors[column][order]})
        return replace(self, frame=self.frame.with_columns(self.frame[column][order]))

    def only(self, column: str) -> Table:
        """Return one text or vector column and nothing else."""
        texts = {column: self.texts[column]} if column in self.texts else {}
        vectors = {column: self.vectors[column]} if column in self.vectors else {}
        return Table(pl.DataFrame(), texts, vectors, self.group)


def stacked(tables: Sequence[Table]) -> Table:
    """Return the rows of several tables of one shape, one table below the other.

    Row n of each is taken for a copy of row n of the first: they form a group, so that no inner fold learns from a copy
    of what it is asked.
    """
    first = tables[0]
    group = np.arange(first.height, dtype=np.int64) if first.group is None else first.group
    return Table(
        pl.concat([one.frame for one in tables]) if first.frame.width else first.frame,
        {name: sp.csr_matrix(sp.vstack([one.texts[name] for one in tables])) for name in first.texts},
        {name: np.concatenate([one.vectors[name] for one in tables]) for name in first.vectors},
        np.tile(group, len(tables)),
    )


@dataclass(frozen=True)
class Target:
    """What is to be answered: the index of a class, or a number."""

    kind: Kind
    values: npt.NDArray[Any]  # [N] int64 index into `classes`; float64 for a number
    classes: tuple[str, ...] = ()

    def take(self, rows: Ints) -> Target:
        """Return these rows, in this order."""
        return replace(self, values=self.values[rows])

    @property
    def known(self) -> Ints:
        """Return the classes that some row has, ascending."""
        return np.unique(self.values).astype(np.int64)

    def compact(self) -> Ints:
        """Return the rows' classes numbered from 0 without gaps, in the order of `known`."""
        return np.searchsorted(self.known, self.values).astype(np.int64)

    def spread(self, share: Floats) -> Floats:
        """Return shares [N, known] of the known classes as shares [N, classes].

        Each class that no row had gets 1 / (rows + unknown classes), as one unseen row more of it would (Laplace).
        """
        missing = len(self.classes) - self.known.size
        every = np.full((share.shape[0], len(self.classes)), 1 / (self.values.size + max(missing, 1)))
        every[:, self.known] = share * (1 - missing / (self.values.size + max(missing, 1)))
        return np.asarray(every / every.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Clock:
    """CPU time a model may use, of all threads of this process."""

    until: float = float("inf")  # of time.process_time()

    @classmethod
    def after(cls, seconds: float | None) -> Clock:
        """Return a clock that runs out `seconds` from now; None = never."""
        return cls() if seconds is None else cls(time.process_time() + seconds)

    @property
    def over(self) -> bool:
        """Say whether the time is up."""
        return time.process_time() >= self.until


def deal(target: Target, folds: int, *, seed: int, group: Ints | None = None) -> Ints:
    """Return the fold [N] of each row, 0 to folds - 1; every class (every level of a number) is spread evenly.

    With `group`, rows of one group share a fold and folds are level in rows: the largest group first, each to the
    smallest fold so far (Graham 1969); classes are then spread by chance. Raises ModelError for fewer rows or groups
    than folds.
    """
    rng = np.random.default_rng(seed)
    units = target.values.size if group is None else np.unique(group).size
    if units < max(folds, MIN_ROWS):
        what = "rows" if group is None else "groups"
        raise ModelError(
            "tabular.deal",
            found=f"{units:,} {what} for {folds} folds",
            consequence="A fold without rows measures nothing",
            remedy=f"Give at least {max(folds, MIN_ROWS)} {what}, or ask for fewer folds",
        )
    if group is None:
        mixed = rng.permutation(target.values.size)
        order = mixed[np.argsort(target.values[mixed], kind="stable")]
        fold = np.empty(order.size, dtype=np.int64)
        fold[order] = (np.arange(order.size) + rng.integers(folds)) % folds
        return fold
    _, member, size = np.unique(group, return_inverse=True, return_counts=True)
    mixed = rng.permutation(size.size)
    smallest = [(0, int(f)) for f in rng.permutation(folds)]
    heapq.heapify(smallest)
    of_group = np.empty(size.size, dtype=np.int64)
    for g in mixed[np.argsort(-size[mixed], kind="stable")]:
        rows, f = heapq.heappop(smallest)
        of_group[g] = f
        heapq.heappush(smallest, (rows + int(size[g]), f))
    return of_group[member]
