"""A table as many columns for models that add up: scaled numbers, one column a level, TF-IDF, scaled vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core.metrics import Floats, Ints
from habitue.model.tabular.table import Table

RARE, UNKNOWN = "(rare)", "(unknown)"
LEAST_ROWS = 3  # a level with fewer rows is a rare one: nothing can be learnt of it alone
LEAST_TEXTS = 2  # an n-gram of one text says nothing of another
LARGEST = 1e100  # its square is a number still
FURTHEST = 8.0  # standard deviations; what lies further out is drawn in, so that one cell cannot tip a sum
VECTOR_LENGTH = 3.0  # root mean square length of a scaled vector; a text's letters and words have length 1 each


@dataclass(frozen=True)
class Number:
    """One scaled column; unknown values stand at the mean, and are told by a column of their own when there are any."""

    name: str
    mean: float
    deviation: float
    unknown: bool


@dataclass(frozen=True)
class Text:
    """The n-grams kept and their weight."""

    name: str
    kept: Ints
    idf: Floats
    letters: int  # the first so many of `kept` are of letters, the others of words


@dataclass(frozen=True)
class Vector:
    """The mean of an encoder's vectors and the factor that brings them to VECTOR_LENGTH."""

    name: str
    mean: Floats
    factor: float


@dataclass(frozen=True)
class State:
    """What was fitted on the rows of training."""

    numbers: tuple[Number, ...]
    categories: tuple[tuple[str, tuple[str, ...]], ...]
    texts: tuple[Text, ...]
    vectors: tuple[Vector, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Return, for every column of the design, the column of the table it was made from."""
        names = [name for n in self.numbers for name in (n.name,) * (2 if n.unknown else 1)]
        names += [name for name, levels in self.categories for _ in levels]
        names += [t.name for t in self.texts for _ in t.kept]
        return (*names, *(v.name for v in self.vectors for _ in range(v.mean.size + 1)))


def fit(table: Table) -> State:
    """Learn scales, levels and weights of n-grams. A number without two different known values is left out."""
    numbers = []
    for name in table.numbers:
        values = table.frame[name].to_numpy()
        known = np.clip(values[np.isfinite(values)], -LARGEST, LARGEST)
        if known.size and known.min() < known.max():
            numbers.append(Number(name, float(known.mean()), float(known.std()), known.size < values.size))
    categories = []
    for name in table.categories:
        counted = table.frame[name].drop_nulls().value_counts().filter(pl.col("count") >= LEAST_ROWS)
        categories.append((name, (*sorted(counted[name].to_list()), RARE, UNKNOWN)))
    return State(
        tuple(numbers),
        tuple(categories),
        tuple(_text(name, counts) for name, counts in table.texts.items()),
        tuple(_vector(name, matrix) for name, matrix in table.vectors.items()),
    )


def design(state: State, table: Table) -> Floats | sp.csr_matrix:
    """Return [N, columns] float64: sparse when there is text or a category of many levels, else dense."""
    n = table.height
    parts: list[Any] = []
    for number in state.numbers:
        values = table.frame[number.name].to_numpy()
        unknown = ~np.isfinite(values)
        near = np.where(unknown, number.mean, np.clip(values, -LARGEST, LARGEST))
        scaled = (near - number.mean) / max(number.deviation, 1e-300)
        parts.append(np.clip(scaled, -FURTHEST, FURTHEST)[:, None])
        if number.unknown:
            parts.append(unknown.astype(np.float64)[:, None])
    for name, levels in state.categories:
        place = code(table.frame[name], levels)
        parts.append(sp.csr_matrix((np.ones(n), (np.arange(n), place)), shape=(n, len(levels))))
    parts += [_weighted(text, table.texts[text.name]) for text in state.texts]
    for vector in state.vectors:
        matrix = table.vectors[vector.name].astype(np.float64)
        there = np.isfinite(matrix).all(axis=1, keepdims=True)
        scaled = np.where(there, (np.where(there, matrix, 0) - vector.mean) * vector.factor, 0.0)
        parts.append(np.hstack([scaled, ~there]))
    if not parts:
        return np.zeros((n, 0))
    if state.texts or sum(len(levels) for _, levels in state.categories) > 200:
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(part) for part in parts], format="csr"))
    return np.hstack([part.toarray() if sp.issparse(part) else part for part in parts])


def code(values: pl.Series, levels: tuple[str, ...]) -> Ints:
    """Return the place of each value among `levels`; a level never met is RARE, null is UNKNOWN."""
    place = {level: i for i, level in enumerate(levels)}
    found = values.replace_strict(place, default=place[RARE], return_dtype=pl.Int64)
    unknown = values.is_null()
    return np.where(unknown.to_numpy(), place[UNKNOWN], found.fill_null(place[RARE]).to_numpy()).astype(np.int64)


def _text(name: str, counts: sp.csr_matrix) -> Text:
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = np.flatnonzero(texts >= min(LEAST_TEXTS, counts.shape[0]))
    idf = np.log((1 + counts.shape[0]) / (1 + texts[kept])) + 1
    return Text(name, kept, idf, int((kept < counts.shape[1] // 2).sum()))


def _weighted(text: Text, counts: sp.csr_matrix) -> sp.csr_matrix:
    """Return (1 + ln count) x idf, letters and words of a row brought to length 1 each (Salton and Buckley 1988)."""
    kept = counts[:, text.kept].astype(np.float64)
    kept.data = (1 + np.log(kept.data)) * text.idf[kept.indices]
    return sp.hstack([_unit(kept[:, : text.letters]), _unit(kept[:, text.letters :])], format="csr")


def _unit(matrix: sp.csr_matrix) -> sp.csr_matrix:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    return sp.diags(np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)) @ matrix


def _vector(name: str, matrix: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Vector:
    known = matrix[np.isfinite(matrix).all(axis=1)].astype(np.float64)
    if not known.size:
        return Vector(name, np.zeros(matrix.shape[1]), 0.0)
    mean = known.mean(axis=0)
    length = float(np.sqrt(((known - mean) ** 2).sum(axis=1).mean()))
    return Vector(name, mean, VECTOR_LENGTH / length if length > 0 else 0.0)
