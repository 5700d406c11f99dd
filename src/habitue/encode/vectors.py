"""One vector per thing, who made it from what, and the things that have none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

REFUSED = {"id": pl.String, "code": pl.String, "sentence": pl.String}

Dense: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoder:
    """What decides the vector of a thing beside the thing itself: equal keys, vectors that may be compared and kept.

    `settings` holds those that change a vector, and no other (not the batch, not the number of workers).
    """

    name: str  # name@version; a change of what the code computes is a new version
    dimension: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""  # sha256 of the pretrained weights; empty when there are none

    @property
    def key(self) -> str:
        """SHA-256 of name, dimension, settings and weights."""
        return hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()

    @property
    def about(self) -> dict[str, Any]:
        """The four as a plain dict, for a file beside the vectors."""
        return {
            "encoder": self.name,
            "dimension": self.dimension,
            "settings": dict(self.settings),
            "weights": self.weights,
        }


@dataclass(frozen=True)
class Vectors:
    """Rows of `matrix` belong to `ids`, in that order. A thing that could not be encoded keeps a zero row."""

    ids: tuple[str, ...]  # [I]
    matrix: Any  # [I, D] float32, csr or dense; the rows of words and pictures have length 1, those of tables have not
    encoded: npt.NDArray[np.bool_]  # [I]
    encoder: str  # name@version
    sha256: str  # of the encoder, its settings, the ids and the matrix: equal digests, equal vectors
    refused: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=REFUSED))  # id, code, sentence
    fitted: Any = None  # what was learnt from the things (a vocabulary, means): give it back to encode others alike

    @property
    def missing(self) -> tuple[str, ...]:
        """The ids without a vector."""
        return tuple(i for i, there in zip(self.ids, self.encoded, strict=True) if not there)

    @property
    def dense(self) -> Dense:
        """The matrix as float32[I, D], whatever it is inside."""
        return np.asarray(self.matrix.toarray() if sp.issparse(self.matrix) else self.matrix, dtype=np.float32)


class Refusal(Exception):
    """Why one thing cannot be encoded: one word with underscores, and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code, self.sentence = code, sentence


def refusals(rows: Sequence[tuple[str, str, str]]) -> pl.DataFrame:
    """Return the frame (id, code, sentence) of things without a vector."""
    return pl.DataFrame(list(rows), schema=REFUSED, orient="row")


def unit(rows: npt.NDArray[np.floating[Any]]) -> Dense:
    """Bring every row to length 1; a zero row stays zero. Row by row, so neighbours do not show."""
    wide = rows.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    scaled: Dense = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0).astype(np.float32)
    return scaled


def assemble(
    ids: Sequence[str], encoder: Encoder, places: npt.NDArray[np.intp], rows: Dense, refused: pl.DataFrame
) -> Vectors:
    """Build Vectors: row i of `rows` float32[P, D] belongs to ids[places[i]]; the other ids keep a zero row."""
    matrix = np.zeros((len(ids), encoder.dimension), dtype=np.float32)
    encoded = np.zeros(len(ids), dtype=bool)
    matrix[places], encoded[places] = rows, True
    return Vectors(tuple(ids), matrix, encoded, encoder.name, digest(encoder, ids, matrix), refused)


def collected(ids: Sequence[str], by: Encoder, made: Iterable[tuple[int, Dense | Refusal]]) -> Vectors:
    """Build Vectors of (place, row float32[D] or why not), in any order; a place that does not come has no row."""
    told, places, rows = [], [], []
    for place, row in made:
        if isinstance(row, Refusal):
            told.append((ids[place], row.code, row.sentence))
        else:
            places.append(place)
            rows.append(row)
    matrix = np.stack(rows) if rows else np.zeros((0, by.dimension), dtype=np.float32)
    return assemble(ids, by, np.array(places, dtype=np.intp), matrix, refusals(told))


def digest(encoder: Encoder, ids: Sequence[str], matrix: Dense) -> str:
    """Return the SHA-256 of an encoder, ids and their vectors."""
    state = hashlib.sha256(json.dumps([encoder.key, list(ids)]).encode())
    state.update(np.ascontiguousarray(matrix).tobytes())
    return state.hexdigest()
