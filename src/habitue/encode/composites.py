"""Pictures with known boxes, made from photos of products on white: cut out, and pasted on other backgrounds.

What a detector learns from where nobody has drawn boxes (Dwibedi, Misra and Hebert, ICCV 2017, "Cut, Paste and Learn").
Everything is drawn from one generator, so the same seed makes the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitue.encode.boxes import Boxes, overlap
from habitue.encode.pixels import Pixels

Mask = npt.NDArray[np.bool_]  # [H, W]
WHITE = 245  # of 255: what is at least that in all three colours, and reaches the edge, is background
FULL = 0.25  # share of its box that a cut-out product fills at least; of a white one on white little is left
EDGE = 0.9  # share of a photo's edge that must be background, or it is no product on white
SMALLEST, LARGEST = 0.25, 0.8  # of the side, how high or wide a pasted product is
TOGETHER = 0.15  # overlap of two products' boxes up to which both may lie there
TRIES = 12


@dataclass(frozen=True)
class Cutout:
    """A product without its background."""

    pixels: Pixels  # [h, w, 3], tight around the product
    alpha: npt.NDArray[np.float32]  # [h, w], 1 = product


@dataclass(frozen=True)
class Scene:
    """A made picture, and what lies where in it."""

    pixels: Pixels  # [S, S, 3]
    boxes: Boxes  # [N, 4] in shares of the side
    which: tuple[int, ...]  # [N] places among the cutouts


def cut(photo: Pixels) -> Cutout | None:
    """Return the product of a photo on white; None when the photo has another background or holds nothing else."""
    light = (photo >= WHITE).all(axis=2)
    regions, _ = ndimage.label(light)
    rim = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    if (rim > 0).mean() < EDGE:
        return None
    there: Mask = ~np.isin(regions, np.unique(rim[rim > 0]))
    parts, count = ndimage.label(there)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    there = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))  # a pair of shoes is two parts; dust is none
    down, right = (np.flatnonzero(there.any(axis=axis)) for axis in (1, 0))
    down, right = (np.arange(some[0], some[-1] + 1) for some in (down, right))
    if min(down.size, right.size) < 8:
        return None
    if there.sum() < FULL * down.size * right.size:
        return None
    window = np.ix_(down, right)
    alpha = ndimage.gaussian_filter(there.astype(np.float32), 0.7)[window] * there[window]
    return Cutout(np.ascontiguousarray(photo[window]), alpha)


def background(side: int, rng: np.random.Generator) -> Pixels:
    """Return an invented background: a slope of two colours under stripes, squares, spots or nothing, with grain."""
    colours = rng.integers(0, 256, (3, 3)).astype(np.float64)
    down, right = np.mgrid[0:side, 0:side] / side
    angle = rng.uniform(0, 2 * np.pi)
    along = down * np.sin(angle) + right * np.cos(angle)
    slope = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
    picture = colours[0] + (colours[1] - colours[0]) * slope[..., None]
    pitch = rng.uniform(6, 40) / side
    match rng.integers(4):
        case 0:
            pattern = np.sin(2 * np.pi * along / pitch) > 0
        case 1:
            pattern = (np.floor(down / pitch) + np.floor(right / pitch)) % 2 > 0
        case 2:
            spots = ndimage.gaussian_filter(rng.standard_normal((side, side)), pitch * side / 3)
            pattern = spots > np.quantile(spots, rng.uniform(0.5, 0.9))
        case _:
            pattern = np.zeros((side, side), dtype=bool)
    picture = np.where(pattern[..., None], colours[2], picture)
    picture += rng.normal(0, rng.uniform(0, 25), (side, side, 1))
    return np.asarray(picture.clip(0, 255).astype(np.uint8))


def scene(
    cutouts: Sequence[Cutout], ground: Pixels, rng: np.random.Generator, *, most: int = 3, which: Sequence[int] = ()
) -> Scene:
    """Paste one to `most` products (those of `which`, else drawn) on `ground`, uint8[S, S, 3]; each lies whole in it.

    Products are mirrored, lit and scaled by chance; one that finds no free place is left out.
    """
    from PIL import Image

    side = len(ground)
    canvas = ground.astype(np.float64)
    chosen = list(which) or rng.integers(len(cutouts), size=rng.integers(1, most + 1)).tolist()
    boxes: list[tuple[float, float, float, float]] = []
    kept: list[int] = []
    for place in chosen:
        one = cutouts[place]
        longer = rng.uniform(SMALLEST, LARGEST if len(chosen) == 1 else 0.55) * side
        scale = longer / max(one.alpha.shape)
        height, width = (max(4, round(n * scale)) for n in one.alpha.shape)
        for _ in range(TRIES):
            top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
            box = (left / side, top / side, (left + width) / side, (top + height) / side)
            if not boxes or overlap(np.array([box]), np.array(boxes)).max() <= TOGETHER:
                break
        else:
            continue
        pixels = np.asarray(Image.fromarray(one.pixels).resize((width, height), Image.Resampling.BILINEAR), np.float64)
        cover = Image.fromarray((one.alpha * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
        alpha = np.asarray(cover, dtype=np.float64)[..., None] / 255
        if rng.random() < 0.5:
            pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
        lit = (pixels * rng.uniform(0.7, 1.1)).clip(0, 255)
        part = canvas[top : top + height, left : left + width]
        part[...] = alpha * lit + (1 - alpha) * part
        boxes.append(box)
        kept.append(int(place))
    return Scene(canvas.clip(0, 255).astype(np.uint8), np.array(boxes).reshape(-1, 4), tuple(kept))
