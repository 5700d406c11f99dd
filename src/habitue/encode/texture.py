"""The texture of a picture: which local patterns of light and dark it is made of.

Uniform local binary patterns (Ojala, Pietikainen and Maenpaa 2002, IEEE PAMI 24, section 2) at three distances. Eight
neighbours on a square, no interpolation, lighter by more than NOISE: integer arithmetic, the same on every machine.
A row holds the square roots of the shares, so that a cosine is the Bhattacharyya coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode.pixels import Pixels, described
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Vectors

MEDIUM = "image"  # content.py
DISTANCES = (1, 2, 4)  # pixels
PATTERNS = 59  # 58 with at most two changes around the circle, and one for the rest
DIMENSION = PATTERNS * len(DISTANCES)
NOISE = 3  # grey levels that count as equal
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # rows, columns; clockwise
LUMA = np.array([299, 587, 114])  # Rec. 601, thousandths


@dataclass(frozen=True)
class Config:
    """How pictures become patterns. Raises SettingsError for settings that make no sense."""

    side: int = 128  # pixels of the longer side that are looked at
    largest: int = 50_000_000  # pixels of a file above which it is not decoded
    workers: int = 2  # threads

    def __post_init__(self) -> None:
        """Refuse settings that would see nothing."""
        if self.side < 16 or min(self.largest, self.workers) < 1:
            raise SettingsError(
                "encode.texture.Config",
                found=f"side {self.side}, largest {self.largest}, workers {self.workers}",
                consequence="No pattern could be seen",
                remedy="Give a side from 16 pixels and numbers from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its picture."""
    return Encoder("picture.texture@1", DIMENSION, {"side": config.side})


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id and path or bytes); float32[I, 177]. Broken pictures get a reason."""
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.texture")
    by = encoder(config)
    return described(things, _patterns, by, side=config.side, largest=config.largest, workers=config.workers)


def _patterns(pixels: Pixels) -> Dense:
    grey = pixels.astype(np.int32) @ LUMA // 1000
    shares = [_share(grey, distance) for distance in DISTANCES]
    return np.sqrt(np.concatenate(shares) / len(DISTANCES)).astype(np.float32)


def _share(grey: npt.NDArray[np.int64], distance: int) -> npt.NDArray[np.float64]:
    """Return how often each pattern occurs; the edge is repeated beyond the picture."""
    height, width = grey.shape
    wide = np.pad(grey, distance, mode="edge")
    code = np.zeros_like(grey)
    for bit, (down, right) in enumerate(AROUND):
        top, left = distance * (1 + down), distance * (1 + right)
        code |= (wide[top : top + height, left : left + width] > grey + NOISE).astype(np.int64) << bit
    return np.bincount(_uniform()[code.ravel()], minlength=PATTERNS) / grey.size


@lru_cache(maxsize=1)
def _uniform() -> npt.NDArray[np.intp]:
    """Return the pattern 0..58 of each of the 256 codes."""
    changes = [bin(code ^ (code >> 1 | (code & 1) << 7)).count("1") for code in range(256)]
    even = [code for code in range(256) if changes[code] <= 2]
    place = {code: i for i, code in enumerate(even)}
    return np.array([place.get(code, PATTERNS - 1) for code in range(256)], dtype=np.intp)
