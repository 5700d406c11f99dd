"""Pictures: turned, mirrored, scaled, cut, coloured, and with noise; uint8[H, W, 3] in and out, the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
TURN = 15.0  # degrees at most
LARGER = 1.25  # how much larger, or smaller, at most
CUT = 0.15  # of a side, at most
TINT = 0.2  # share of a colour's strength that may come or go
GRAIN = 12.0  # grey levels, standard deviation at most
SPECKS = 0.02  # share of pixels at most


def rotate(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn by up to TURN degrees; what comes in at the corners is the edge, repeated."""
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    return _moved(pixels, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


def flip(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001 - a mirror has one answer
    """Mirror left and right."""
    return np.ascontiguousarray(pixels[:, ::-1])


def scale(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make it larger or smaller around its middle; around a smaller one the edge is repeated."""
    factor = float(np.exp(rng.uniform(-np.log(LARGER), np.log(LARGER))))
    return _moved(pixels, np.eye(2) / factor)


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut up to CUT off two neighbouring sides and bring the rest back to the size."""
    height, width = pixels.shape[:2]
    tall, wide = (n - int(rng.uniform(0, CUT) * n) for n in (height, width))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    return _moved(pixels, np.diag([tall / height, wide / width]), np.array([top, left]))


def colour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Change the strength of each of red, green and blue by up to TINT, and the light of all by as much."""
    strength = rng.uniform(1 - TINT, 1 + TINT, 3) * rng.uniform(1 - TINT, 1 + TINT)
    return _bytes(pixels * strength)


def gaussian(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add normal noise."""
    return _bytes(pixels + rng.normal(0, rng.uniform(0, GRAIN), pixels.shape))


def salt_and_pepper(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make some pixels white and as many black."""
    chance, share = rng.random(pixels.shape[:2]), rng.uniform(0, SPECKS)
    made = pixels.copy()
    made[chance < share / 2] = 255
    made[chance > 1 - share / 2] = 0
    return made


METHODS: Mapping[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    one.__name__: one for one in (rotate, flip, scale, crop, colour, gaussian, salt_and_pepper)
}


def _moved(pixels: Pixels, turn: npt.NDArray[np.float64], start: npt.NDArray[np.float64] | None = None) -> Pixels:
    """Return pixel p from turn @ p + start; without `start` around the middle. Bilinear, the edge repeated."""
    middle = (np.array(pixels.shape[:2]) - 1) / 2
    offset = middle - turn @ middle if start is None else np.asarray(start, dtype=np.float64)
    colours = [
        ndimage.affine_transform(pixels[..., c].astype(np.float32), turn, offset=offset, order=1, mode="nearest")
        for c in range(3)
    ]
    return _bytes(np.stack(colours, axis=2))


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    return np.asarray(np.rint(values).clip(0, 255).astype(np.uint8))
