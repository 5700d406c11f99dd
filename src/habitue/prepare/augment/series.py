"""Series of one or several signals on a regular clock, [..., T]: trembling, and run faster here and slower there.

Um et al., "Data augmentation of wearable sensor data", ICMI 2017. NaN (a pause) stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Series = npt.NDArray[np.floating]
TREMBLE = 0.05  # of a signal's own spread
BENDS = 4  # knots of the curve that time is bent by
BENT = 0.2  # how much faster or slower at a knot, standard deviation


def jitter(series: Series, rng: np.random.Generator) -> Series:
    """Add normal noise, TREMBLE of each signal's own spread."""
    spread = np.nanstd(np.where(np.isfinite(series).any(axis=-1, keepdims=True), series, 0.0), axis=-1, keepdims=True)
    return np.asarray((series + TREMBLE * spread * rng.standard_normal(series.shape)).astype(series.dtype))


def warp(series: Series, rng: np.random.Generator) -> Series:
    """Bend time by a smooth curve: begin and end stay, all signals together; values between samples are linear."""
    length = series.shape[-1]
    if length < 3:
        return series.copy()
    speed = np.exp(rng.normal(0, BENT, BENDS))
    smooth = np.interp(np.arange(length - 1), np.linspace(0, length - 2, BENDS), speed)
    at = np.concatenate([[0.0], np.cumsum(smooth)])
    at *= (length - 1) / at[-1]
    low = np.minimum(at.astype(np.int64), length - 2)
    share = at - low
    return np.asarray((series[..., low] * (1 - share) + series[..., low + 1] * share).astype(series.dtype))


METHODS: Mapping[str, Callable[[Series, np.random.Generator], Series]] = {one.__name__: one for one in (jitter, warp)}
