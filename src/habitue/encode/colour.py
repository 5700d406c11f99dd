"""The colours of a picture: how much of it lies where in CIE Lab, and the names of those that dominate.

Lab under D65 by IEC 61966-2-1 (sRGB) and CIE 15. A row holds the square roots of the shares of 5 x 8 x 8 bins, so that
a cosine is the Bhattacharyya coefficient of two histograms (Bhattacharyya 1943).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode.pixels import Pixels, decoded, described
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors

MEDIUM = "image"  # content.py
BINS = (5, 8, 8)  # of L in 0..100, a and b in -80..80
DIMENSION = 5 * 8 * 8
LOW, HIGH = np.array([0.0, -80.0, -80.0]), np.array([100.0, 80.0, 80.0])
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
D65 = np.array([0.95047, 1.0, 1.08883])
# the eleven basic colour terms (Berlin and Kay 1969) and three more that shops write, each by a few typical sRGB values
NAMES = {
    "black": ("101010", "2a2a2a", "3c3c3c"),
    "white": ("ffffff", "ebebeb", "dcdcdc"),
    "grey": ("a0a0a0", "808080", "6a6a6a", "bebebe"),
    "red": ("c81414", "e62828", "96141e"),
    "orange": ("f07d14", "ff9b3c"),
    "yellow": ("f5dc28", "fff078"),
    "green": ("28963c", "144628", "78c83c", "6e7832"),
    "blue": ("1e50c8", "3c8cdc", "78b4e6", "508290", "6482a0", "a0bed2"),
    "navy": ("141e46", "283250", "323c55"),
    "purple": ("6e288c", "965abe", "50325a", "5f4664", "aa96be"),
    "pink": ("f078aa", "fabed2", "d21e78"),
    "brown": ("643c1e", "8c5a32", "46281e", "6e5a50", "503c32"),
    "beige": ("dcc8aa", "f0e6d2", "b49b78"),
    "turquoise": ("1eaaa0", "78dcd2"),
}
LIGHTNESS = 0.4  # weight of L beside a and b: a shadow on a product is not its name
PAPER = (97.0, 4.0)  # a pixel lighter than this L with less chroma than this is background
Lab: TypeAlias = npt.NDArray[np.float64]  # [pixels, 3]


@dataclass(frozen=True)
class Config:
    """How pictures become colours. Raises SettingsError for settings that make no sense."""

    side: int = 64  # pixels of the longer side that are looked at
    largest: int = 50_000_000  # pixels of a file above which it is not decoded
    workers: int = 2  # threads

    def __post_init__(self) -> None:
        """Refuse settings that would see nothing."""
        if min(self.side, self.largest, self.workers) < 1:
            raise SettingsError(
                "encode.colour.Config",
                found=f"side {self.side}, largest {self.largest}, workers {self.workers}",
                consequence="No picture could be looked at",
                remedy="Give numbers from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its picture."""
    return Encoder("picture.colour@1", DIMENSION, {"side": config.side})


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id and path or bytes); float32[I, 320]. Broken pictures get a reason."""
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.colour")
    by = encoder(config)
    return described(things, _histogram, by, side=config.side, largest=config.largest, workers=config.workers)


def names(things: pl.DataFrame, config: Config | None = None) -> pl.DataFrame:
    """Return (id, colour, share), the largest share first; shares of a picture sum to 1 and below .05 are left out.

    Background, nearly white pixels, is left out unless it is all there is. Pictures that cannot be read have no row.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.colour")
    ids = things["id"].to_list()
    rows = []
    seen = decoded(things, _shares, side=config.side, largest=config.largest, workers=config.workers)
    for place, made in seen:
        if not isinstance(made, Refusal):
            rows += [(ids[place], name, share) for name, share in made if share >= 0.05]
    return pl.DataFrame(rows, schema={"id": pl.String, "colour": pl.String, "share": pl.Float64}, orient="row")


def lab(rgb: npt.NDArray[np.uint8]) -> Lab:
    """Return CIE Lab float64[N, 3] (L 0..100) of sRGB uint8[N, 3]."""
    xyz = _linear()[rgb] @ TO_XYZ.T / D65
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _histogram(pixels: Pixels) -> Dense:
    share = (lab(pixels.reshape(-1, 3)) - LOW) / (HIGH - LOW)
    places = np.clip((share * BINS).astype(np.intp), 0, np.array(BINS) - 1)
    counts = np.bincount(np.ravel_multi_index(tuple(places.T), BINS), minlength=DIMENSION)
    shares: Dense = np.sqrt(counts / counts.sum()).astype(np.float32)
    return shares


def _shares(pixels: Pixels) -> list[tuple[str, float]]:
    seen = lab(pixels.reshape(-1, 3))
    paper = (seen[:, 0] > PAPER[0]) & (np.hypot(seen[:, 1], seen[:, 2]) < PAPER[1])
    if not paper.all():
        seen = seen[~paper]
    typical, owner = _typical()
    apart = (seen[:, None, :] - typical[None]) * (LIGHTNESS, 1.0, 1.0)
    nearest = (apart**2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(owner[nearest], minlength=len(NAMES))
    order = np.argsort(-counts, kind="stable")
    return [(tuple(NAMES)[i], float(counts[i] / counts.sum())) for i in order if counts[i]]


@lru_cache(maxsize=1)
def _linear() -> npt.NDArray[np.float64]:
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


@lru_cache(maxsize=1)
def _typical() -> tuple[Lab, npt.NDArray[np.intp]]:
    """Return the typical colours in Lab and whose they are."""
    pairs = [(bytes.fromhex(value), place) for place, values in enumerate(NAMES.values()) for value in values]
    rgb = np.array([list(value) for value, _ in pairs], dtype=np.uint8)
    return lab(rgb), np.array([place for _, place in pairs], dtype=np.intp)
