"""English texts as the mean of the vectors of their word pieces: no network to run, tens of thousands a second.

Weights `text-wordllama` (MIT): token vectors taken from a large language model and trained for likeness, read here from
safetensors and cut by its tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError
from habitue.core.extras import need
from habitue.encode import weights
from habitue.encode.things import NO_TEXT, check, texts
from habitue.encode.vectors import Encoder, Vectors, assemble, refusals, unit

MEDIUM = "title"  # content.py
NAME = "text-wordllama"
DIMENSION = 256


@dataclass(frozen=True)
class Config:
    """How texts become vectors. Raises SettingsError for settings that make no sense."""

    characters: int = 10_000  # of a longer text only the start is read

    def __post_init__(self) -> None:
        """Refuse settings that would encode nothing."""
        if self.characters < 1:
            raise SettingsError(
                "encode.static.Config",
                found=f"characters {self.characters}",
                consequence="No text could be encoded",
                remedy="Give a number from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its text."""
    sha256 = "+".join(file.sha256 for file in weights.named(NAME).files)
    return Encoder("text.static@1", DIMENSION, {"characters": config.characters}, sha256)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id, text); float32[I, 256]. A text of nothing but blanks gets a reason.

    Sums are exact, so a vector is the same in any company. O(characters). Raises MissingExtraError without the extra
    "text", ModelError without the weights.
    """
    config = config or Config()
    check(things, of=("text",), where="encode.static")
    places, lines = texts(things, characters=config.characters)
    ids = things["id"].to_list()
    refused = refusals([(ids[i], *NO_TEXT) for i in sorted(set(range(len(ids))) - set(places))])
    rows = np.zeros((len(lines), DIMENSION), dtype=np.float32)
    if lines:
        tokenizer, table = _load(weights.path(NAME), weights.path(NAME, 1))
        for row, cut in enumerate(tokenizer.encode_batch_fast(lines, add_special_tokens=False)):
            rows[row] = table[cut.ids].mean(axis=0)
    return assemble(ids, encoder(config), np.array(places, dtype=np.intp), unit(rows), refused)


@lru_cache(maxsize=1)
def _load(vectors: Path, tokenizer: Path) -> tuple[Any, npt.NDArray[np.float32]]:
    from safetensors.numpy import load_file

    cutter = need("tokenizers", extra="text", purpose="encode.static").Tokenizer.from_file(str(tokenizer))
    cutter.no_truncation()
    cutter.no_padding()
    (table,) = load_file(vectors).values()
    return cutter, np.ascontiguousarray(table, dtype=np.float32)
