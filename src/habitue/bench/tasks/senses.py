"""Words, pictures and sound of a file: n-grams of text, and the vectors of frozen encoders, once for all folds.

Each row depends on its own text or picture alone, so nothing is learnt here that a fold may not know.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue import encode
from habitue.core.errors import UsageError, did_you_mean
from habitue.encode import hub, speech
from habitue.model.tabular import ngrams

if TYPE_CHECKING:
    from habitue.bench.tasks.reading import Columns

TEXTS: dict[str, tuple[str, Any]] = {  # frozen encoders of text: the modality and its settings
    "sentence": ("sentence", None),
    "static": ("static", None),
    "minilm-en": ("hub", hub.Config(model="text-minilm-en")),
}
PICTURES = ("picture", "colour", "texture", "photo")  # of pictures, the first when none is named
SOUNDS: dict[str, tuple[str, Any]] = {  # of sound, the first when none is named
    "acoustics": ("acoustics", None),
    "spectrogram": ("spectrogram", None),
    "sound": ("sound", None),
    "speech": ("speech", None),
    "speech-en": ("speech", speech.Config(size="tiny-en")),
}


@dataclass(frozen=True)
class Sensed:
    """What was read, and the sentences on what could not be."""

    texts: dict[str, sp.csr_matrix] = field(default_factory=dict)
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    spent_s: float = 0.0


def read(frame: pl.DataFrame, columns: Columns, *, folder: Path, encoders: Sequence[str], cache: Path | None) -> Sensed:
    """Count n-grams of every text column, and run the encoders named; a sound is told by `acoustics` when none is.

    Paths of pictures and sounds are relative to `folder`. A text, picture or sound that cannot be read leaves its row
    without this modality; how many is said in `notes`. Raises UsageError for an unknown encoder, one that has nothing
    to encode, and a column that is no text, picture or sound.
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
        for encoder in (e for e in encoders if e in TEXTS):
            things = pl.DataFrame({"id": _ids(frame), "text": written})
            modality, config = TEXTS[encoder]
            vectors[f"{name} ({encoder})"] = _encoded(modality, things, name, notes, cache, config)
    for name in columns.pictures:
        things = _media(frame, name, folder)
        for n, encoder in enumerate([e for e in encoders if e in PICTURES] or PICTURES[:1]):
            told = notes if n == 0 else []  # what one cannot see or hear no other can
            vectors[f"{name} ({encoder})"] = _encoded(encoder, things, name, told, cache)
    for name in columns.sounds:
        things = _media(frame, name, folder)
        for n, encoder in enumerate([e for e in encoders if e in SOUNDS] or ["acoustics"]):
            modality, config = SOUNDS[encoder]
            told = notes if n == 0 else []
            vectors[f"{name} ({encoder})"] = _encoded(modality, things, name, told, cache, config)
    named = {"text": columns.texts, "picture": columns.pictures, "sound": columns.sounds}
    modalities = tuple(modality for modality, some in named.items() if some)
    return Sensed(texts, vectors, tuple(notes), modalities, time.process_time() - began)


def _media(frame: pl.DataFrame, name: str, folder: Path) -> pl.DataFrame:
    """Return the things of a column of bytes, or of paths relative to `folder`."""
    given = frame[name]
    if given.dtype == pl.Binary:
        return pl.DataFrame({"id": _ids(frame), "bytes": given})
    paths = [None if p is None else str(folder / p) for p in given.cast(pl.String)]
    return pl.DataFrame({"id": _ids(frame), "path": pl.Series(paths, dtype=pl.String)})


def _possible(frame: pl.DataFrame, columns: Columns, encoders: Sequence[str]) -> None:
    for name in columns.texts:
        if frame.schema[name].is_nested() or frame.schema[name] == pl.Binary:
            raise _no("--text", name, frame.schema[name], "text")
    for option, names in (("--picture", columns.pictures), ("--sound", columns.sounds)):
        for name in names:
            if frame.schema[name] not in (pl.Binary, pl.String):
                raise _no(option, name, frame.schema[name], "bytes, or paths relative to the data file")
    for encoder in encoders:
        if encoder not in (*TEXTS, *PICTURES, *SOUNDS):
            raise UsageError(
                "--encoder",
                found=f"there is no encoder called '{encoder}'",
                consequence="Nothing can be encoded with it",
                remedy=did_you_mean(encoder, (*TEXTS, *PICTURES, *SOUNDS)),
            )
        kind, some = "sound", columns.sounds
        if encoder not in SOUNDS:
            kind, some = ("text", columns.texts) if encoder in TEXTS else ("picture", columns.pictures)
        if not some:
            raise UsageError(
                "--encoder",
                found=f"'{encoder}' reads {kind}, and no column of {kind} is named",
                consequence="There is nothing to encode",
                remedy=f"Name one with --{kind} COLUMN",
            )


def _encoded(
    modality: str, things: pl.DataFrame, name: str, notes: list[str], cache: Path | None, config: Any = None
) -> npt.NDArray[np.float32]:
    """Return [N, D] with NaN in the rows that have no vector, and add a note on those."""
    found = encode.run(modality, things, config, cache=cache)
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
