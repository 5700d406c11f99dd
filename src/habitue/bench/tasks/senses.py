"""Words, pictures and sound of a file: n-grams of text, and the vectors of frozen encoders, once for all folds.

Each row depends on its own text or picture alone, so nothing is learnt here that a fold may not know.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue import encode
from habitue.core.errors import UsageError, did_you_mean
from habitue.model.tabular import ngrams

if TYPE_CHECKING:
    from habitue.bench.tasks.reading import Columns

ENCODERS = ("sentence", "static")  # frozen encoders of text


@dataclass(frozen=True)
class Sensed:
    """What was read, and the sentences on what could not be."""

    texts: dict[str, sp.csr_matrix] = field(default_factory=dict)
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    spent_s: float = 0.0


def read(frame: pl.DataFrame, columns: Columns, *, folder: Path, encoders: Sequence[str], cache: Path | None) -> Sensed:
    """Count n-grams of every text column and run the encoders named; paths of pictures are relative to `folder`.

    A text or picture that cannot be read leaves its row without this modality; how many is said in `notes`. Raises
    UsageError for sound, an unknown encoder, and a column that is no text or picture.
    """
    began = time.process_time()
    _possible(frame, columns, encoders)
    texts: dict[str, sp.csr_matrix] = {}
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    notes: list[str] = []
    for name in columns.texts:
        written = frame[name].cast(pl.String)
        texts[name] = ngrams.counts(written.to_list())
        long = int((written.str.len_chars() > ngrams.Config().longest).fill_null(False).sum())
        if long:
            notes.append(f"{long:,} texts of '{name}' are longer than {ngrams.Config().longest:,} letters and are cut")
        for encoder in encoders:
            things = pl.DataFrame({"id": _ids(frame), "text": written})
            vectors[f"{name} ({encoder})"] = _encoded(encoder, things, name, notes, cache)
    for name in columns.pictures:
        given = frame[name]
        if given.dtype == pl.Binary:
            things = pl.DataFrame({"id": _ids(frame), "bytes": given})
        else:
            paths = [None if p is None else str(folder / p) for p in given.cast(pl.String)]
            things = pl.DataFrame({"id": _ids(frame), "path": pl.Series(paths, dtype=pl.String)})
        vectors[name] = _encoded("picture", things, name, notes, cache)
    modalities = (*(("text",) if columns.texts else ()), *(("picture",) if columns.pictures else ()))
    return Sensed(texts, vectors, tuple(notes), modalities, time.process_time() - began)


def _possible(frame: pl.DataFrame, columns: Columns, encoders: Sequence[str]) -> None:
    if columns.sounds:
        raise UsageError(
            "--sound",
            found=f"'{columns.sounds[0]}' is named, and no encoder of sound is in this version",
            consequence="Nothing could be learnt from it",
            remedy="Leave --sound out; --drop the column when it holds paths",
        )
    for name in columns.texts:
        if frame.schema[name].is_nested() or frame.schema[name] == pl.Binary:
            raise _no("--text", name, frame.schema[name], "text")
    for name in columns.pictures:
        if frame.schema[name] not in (pl.Binary, pl.String):
            raise _no("--picture", name, frame.schema[name], "bytes, or paths relative to the data file")
    for encoder in encoders:
        if encoder not in ENCODERS:
            raise UsageError(
                "--encoder",
                found=f"there is no encoder of text called '{encoder}'",
                consequence="No text can be encoded",
                remedy=did_you_mean(encoder, ENCODERS),
            )
    if encoders and not columns.texts:
        raise UsageError(
            "--encoder",
            found="no column of text is named",
            consequence="There is nothing to encode",
            remedy="Name one with --text COLUMN",
        )


def _encoded(
    modality: str, things: pl.DataFrame, name: str, notes: list[str], cache: Path | None
) -> npt.NDArray[np.float32]:
    """Return [N, D] with NaN in the rows that have no vector, and add a note on those."""
    found = encode.run(modality, things, cache=cache)
    matrix = np.array(found.dense, dtype=np.float32)
    matrix[~found.encoded] = np.nan
    reasons = found.refused.group_by("code").agg(pl.len(), pl.col("sentence").first()).sort("code")
    for _, count, sentence in reasons.iter_rows():
        notes.append(f"'{name}': {count:,} of {things.height:,} rows have no vector; for example: {sentence}")
    return matrix


def _ids(frame: pl.DataFrame) -> pl.Series:
    return pl.Series("id", [str(i) for i in range(frame.height)], dtype=pl.String)


def _no(option: str, name: str, dtype: pl.DataType, wanted: str) -> UsageError:
    return UsageError(
        f"{option} '{name}'",
        found=f"it is {dtype}",
        consequence="It cannot be read so",
        remedy=f"Name a column of {wanted}",
    )
