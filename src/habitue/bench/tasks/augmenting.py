"""Altered copies of the rows' words, pictures and sounds, for a model to learn from beside the rows themselves.

A copy of a row depends on that row alone, so copies are made once, outside the folds; `Data.lesson` puts them beside
the rows a fold may learn from, and no row is ever answered from a copy.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.extras import need
from habitue.encode import pixels, samples
from habitue.encode.vectors import Refusal
from habitue.prepare.augment import pictures, sounds, texts

if TYPE_CHECKING:
    from habitue.bench.tasks.reading import Columns

METHODS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "text": texts.METHODS,
    "picture": pictures.METHODS,
    "sound": sounds.METHODS,
}
SIDE = 256  # pixels of the longer side that an altered picture keeps: more than any encoder sees
RATE, SECONDS = 16_000, 30.0  # of altered sounds: what encoders of speech hear


@dataclass(frozen=True)
class Augment:
    """Which methods, one after the other in each copy. Raises SettingsError for settings that alter nothing."""

    methods: tuple[str, ...]
    copies: int = 1  # of each row
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what does not exist."""
        known = [name for some in METHODS.values() for name in some]
        wrong = [name for name in self.methods if name not in known]
        if wrong or not self.methods or self.copies < 1:
            raise SettingsError(
                "--augment",
                found=f"there is no method '{wrong[0]}'"
                if wrong
                else f"{self.copies} copies by {len(self.methods)} methods",
                consequence="No copy could be made",
                remedy=did_you_mean(wrong[0], known) if wrong else "Name a method, and 1 copy or more",
            )


def copies(frame: pl.DataFrame, columns: Columns, augment: Augment | None, *, folder: Path) -> Iterator[pl.DataFrame]:
    """Yield `augment.copies` frames whose words, pictures and sounds are altered; nothing for None.

    Paths are relative to `folder`. A picture or sound that cannot be read has none in the copy either. Raises
    UsageError for a method when no column is of its modality.
    """
    if augment is None:
        return
    named = {"text": columns.texts, "picture": columns.pictures, "sound": columns.sounds}
    for name in augment.methods:
        (modality,) = (sense for sense, some in METHODS.items() if name in some)
        if not named[modality]:
            raise UsageError(
                "--augment",
                found=f"'{name}' alters a {modality}, and no column of {modality}s is named",
                consequence="The copies would be the rows themselves",
                remedy=f"Name one with --{modality} COLUMN, or leave '{name}' out",
            )
    for copy in range(augment.copies):
        made = frame
        for modality, some in named.items():
            methods = [METHODS[modality][name] for name in augment.methods if name in METHODS[modality]]
            for n, column in enumerate(some if methods else ()):
                seed = (augment.seed, copy, list(METHODS).index(modality), n)
                made = made.with_columns(_altered(modality, frame[column], methods, seed, folder).alias(column))
        yield made


def _altered(
    modality: str, given: pl.Series, methods: Sequence[Callable[..., Any]], seed: tuple[int, ...], folder: Path
) -> pl.Series:
    """Return the column altered row by row; each row has a generator of its own."""

    def alter(place: int, content: Any) -> Any:
        rng = np.random.default_rng((*seed, place))
        for method in methods:
            content = method(content, rng)
        return content

    if modality == "text":
        lines = given.cast(pl.String)
        return pl.Series([None if line is None else alter(n, line) for n, line in enumerate(lines)], dtype=pl.String)
    column = "bytes" if given.dtype == pl.Binary else "path"
    values = given if column == "bytes" else pl.Series([None if p is None else str(folder / p) for p in given])
    things = pl.DataFrame({column: values})
    files: list[bytes | None] = [None] * given.len()
    if modality == "picture":
        image = need("PIL.Image", extra="pictures", purpose="bench tasks --augment")
        for place, seen in pixels.decoded(things, np.ascontiguousarray, side=SIDE, largest=50_000_000, workers=1):
            if not isinstance(seen, Refusal):
                out = io.BytesIO()
                image.fromarray(alter(place, seen)).save(out, "PNG", compress_level=1)
                files[place] = out.getvalue()
    else:
        soundfile = need("soundfile", extra="sound", purpose="bench tasks --augment")
        for place, heard in samples.decoded(things, np.ascontiguousarray, rate=RATE, seconds=SECONDS, workers=1):
            if not isinstance(heard, Refusal):
                out = io.BytesIO()
                soundfile.write(out, alter(place, heard), RATE, format="WAV", subtype="FLOAT")
                files[place] = out.getvalue()
    return pl.Series(files, dtype=pl.Binary)
