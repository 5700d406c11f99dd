"""How high a voice is, frame by frame: YIN (de Cheveigne and Kawahara 2002, JASA 111, sections II.B to II.E)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft

Floats = npt.NDArray[np.float64]
DEEP = 0.15  # of the normalised difference: the first dip below it is the period (step 4 of the paper: .1 to .15)
VOICED = 0.30  # the deepest dip of a frame that still counts as voiced
CHUNK = 32  # frames at once: few enough for memory that is kept; with 1,024 page faults took a third of the time


def track(sound: npt.NDArray[np.float32], *, rate: int, hop: int, low: float = 60.0, high: float = 500.0) -> Floats:
    """Return the fundamental frequency in Hz of each frame [1 + N // hop], NaN where there is none.

    A frame looks at 40 ms around its middle and as far beside it as one period of `low`. The best lag is refined by a
    parabola through its neighbours. O(N / hop x window log window).
    """
    window, longest, shortest = round(0.04 * rate), int(rate / low) + 2, max(2, int(rate / high))
    reach = window + longest
    wide = np.pad(sound.astype(np.float64), (reach // 2, reach - reach // 2))
    frames = np.lib.stride_tricks.sliding_window_view(wide, reach)[::hop]
    parts = [_periods(frames[s : s + CHUNK], window, shortest, longest) for s in range(0, len(frames), CHUNK)]
    return np.asarray(rate / np.concatenate(parts))


def _periods(frames: Floats, window: int, shortest: int, longest: int) -> Floats:
    """Return the period of each frame in samples, NaN where it has none."""
    apart = _differences(frames, window, longest)
    running = np.cumsum(apart[:, 1:], axis=1)
    lags = np.arange(1, apart.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = np.where(running > 0, apart[:, 1:] * lags / running, 1.0)
    normal = np.column_stack([np.ones(len(frames)), normal])  # equation 8
    inside = normal[:, shortest:longest]
    dip = (inside < DEEP) & (inside <= normal[:, shortest - 1 : longest - 1])
    dip &= inside <= normal[:, shortest + 1 : longest + 1]
    lag = np.where(dip.any(axis=1), dip.argmax(axis=1), inside.argmin(axis=1)) + shortest
    rows = np.arange(len(frames))
    before, here, after = normal[rows, lag - 1], normal[rows, lag], normal[rows, lag + 1]
    bend = before - 2 * here + after
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(bend > 0, np.clip((before - after) / (2 * bend), -0.5, 0.5), 0.0)
    return np.where(here < VOICED, lag + shift, np.nan)


def _differences(frames: Floats, window: int, longest: int) -> Floats:
    """Return how the first `window` samples differ from those `lag` later, squared, [T, 0..longest] (equation 6)."""
    size = next_fast_len(frames.shape[1] + window, real=True)
    ahead = rfft(frames, size, axis=1)
    start = rfft(frames[:, :window], size, axis=1)
    product = irfft(ahead * np.conj(start), size, axis=1)[:, : longest + 1]
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    moved = energy[:, window : window + longest + 1] - energy[:, : longest + 1]
    apart: Floats = np.maximum(moved[:, :1] + moved - 2 * product, 0.0)
    return apart
