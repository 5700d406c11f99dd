"""How a photo of a product was taken, in numbers that have names: sharp, lit, on what background, how large in frame.

Colours in CIE Lab. The background is the commonest colour of the picture's edge; what differs from it is the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode.colour import Lab, lab
from habitue.encode.pixels import Pixels, decoded
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Vectors, collected

MEDIUM = "image"  # content.py
NAMES = (
    "sharpness",  # ln(1 + variance of the Laplacian of L): 0 flat, about 2 blurred, from 4 sharp
    "brightness",  # mean L, 0..1
    "contrast",  # spread of L, 0..1
    "colourfulness",  # Hasler and Suesstrunk 2003, section 5: 0 grey, from about 1 very colourful
    "background, share of the edge",  # how much of the edge is of one colour: 1 plain, below .5 busy or cut off
    "background, brightness",  # L of that colour, 0..1
    "product, share of the picture",  # pixels that are not of the background's colour
    "product, off centre",  # distance of its middle from the picture's, in half diagonals
    "width to height",  # log2
)
EDGE = 0.04  # of the shorter side
ALIKE = 12.0  # Lab distance up to which two colours are one background


@dataclass(frozen=True)
class Config:
    """How photos are looked at. Raises SettingsError for settings that make no sense."""

    side: int = 256  # pixels of the longer side that are looked at
    largest: int = 50_000_000  # pixels of a file above which it is not decoded
    workers: int = 2  # threads

    def __post_init__(self) -> None:
        """Refuse settings that would see nothing."""
        if self.side < 16 or min(self.largest, self.workers) < 1:
            raise SettingsError(
                "encode.photo.Config",
                found=f"side {self.side}, largest {self.largest}, workers {self.workers}",
                consequence="No photo could be looked at",
                remedy="Give a side from 16 pixels and numbers from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its picture."""
    return Encoder("picture.photo@1", len(NAMES), {"side": config.side})


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one row per thing (id and path or bytes) with the numbers NAMES; float32[I, 9], not of length 1.

    A picture that cannot be seen gets a reason, not a row. Raises MissingExtraError without the extra "pictures".
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.photo")
    seen = decoded(things, _numbers, side=config.side, largest=config.largest, workers=config.workers)
    return collected(things["id"].to_list(), encoder(config), seen)


def _numbers(pixels: Pixels) -> Dense:
    height, width, _ = pixels.shape
    seen = lab(pixels.reshape(-1, 3)).reshape(height, width, 3)
    light = seen[..., 0]
    bends = light[1:-1, 1:-1] * 4 - light[:-2, 1:-1] - light[2:, 1:-1] - light[1:-1, :-2] - light[1:-1, 2:]
    red, green, blue = (pixels[..., c].astype(np.float64) / 255 for c in range(3))
    opponents = red - green, (red + green) / 2 - blue
    spread = np.hypot(opponents[0].std(), opponents[1].std())
    mean = np.hypot(opponents[0].mean(), opponents[1].mean())
    thick = max(1, round(EDGE * min(height, width)))
    edge = np.ones((height, width), dtype=bool)
    edge[thick : height - thick, thick : width - thick] = False
    ground = _commonest(seen[edge])
    away = np.sqrt(((seen - ground) ** 2).sum(axis=2)) > ALIKE
    down, right = np.nonzero(away)
    off = 0.0
    if down.size:
        off = float(np.hypot(down.mean() - (height - 1) / 2, right.mean() - (width - 1) / 2))
    told = [
        np.log1p(bends.var()) if bends.size else 0.0,
        light.mean() / 100,
        light.std() / 100,
        spread + 0.3 * mean,
        1 - away[edge].mean(),
        ground[0] / 100,
        away.mean(),
        off / (np.hypot(height, width) / 2),
        np.log2(width / height),
    ]
    return np.array(told, dtype=np.float32)


def _commonest(colours: Lab) -> Lab:
    """Return the median of the fullest cell of a grid of 10 units of L, a and b."""
    cell = (colours // 10).astype(np.int64)
    _, place, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    middle: Lab = np.median(colours[place.ravel() == counts.argmax()], axis=0)
    return middle
