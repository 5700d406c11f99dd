"""What a sound is made of, frame by frame: power spectra, bands as the ear hears them, and their shape in few numbers.

Mel: HTK's formula, 2595 log10(1 + f / 700) (Young et al., "The HTK Book", equation 5.13). Frames lie one hop apart,
each with its middle at a hop, the ends of the sound padded by zeros. T frames, F = size / 2 + 1 frequencies.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, rfft

Frames = npt.NDArray[np.float32]  # [T, anything]
Floats = npt.NDArray[np.float64]
FLOOR = 1e-10  # of power at full scale: -100 dB
CHUNK = 4_096  # frames transformed at once: bounds the memory
PARTS = 6  # of the spectrum that contrast is told of, an octave each
LOWEST = 200.0  # Hz, the upper end of the first of them
LOUD = 0.2  # share of a part's frequencies that count as its peaks, and as many as its valleys
A4 = 440.0  # Hz


def power(sound: Frames, *, size: int, hop: int) -> Frames:
    """Return |FFT|^2 of Hann-windowed frames, float32[T, F]; T = 1 + N // hop."""
    return np.concatenate([part for _, part in _chunks(sound, size, hop)])


def mel(sound: Frames, *, rate: int, size: int, hop: int, bands: int, low: float, high: float) -> Frames:
    """Return the mean power in `bands` mel bands from `low` to `high` Hz, float32[T, bands]; no log is taken."""
    weights = filters(rate, size, bands, low, high)
    return np.concatenate([part @ weights for _, part in _chunks(sound, size, hop)])


@lru_cache(maxsize=8)
def filters(rate: int, size: int, bands: int, low: float, high: float) -> Frames:
    """Return triangles in mel, float32[F, bands], each summing to 1; a band narrower than a bin takes the nearest."""
    edges = _from_mel(np.linspace(_to_mel(low), _to_mel(high), bands + 2))
    bins = np.arange(size // 2 + 1) * rate / size
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rise = (bins[:, None] - left) / (middle - left)
    fall = (right - bins[:, None]) / (right - middle)
    weights = np.maximum(np.minimum(rise, fall), 0.0)
    empty = weights.sum(axis=0) == 0
    weights[np.abs(bins[:, None] - middle[empty]).argmin(axis=0), np.flatnonzero(empty)] = 1.0
    return np.asarray(weights / weights.sum(axis=0), dtype=np.float32)


def decibels(power: Frames) -> Frames:
    """Return 10 log10 of power, never below -100."""
    return np.asarray(10 * np.log10(np.maximum(power, FLOOR)), dtype=np.float32)


def cepstrum(log_mel: Frames, *, kept: int) -> Frames:
    """Return the first `kept` coefficients of the orthonormal cosine transform: MFCC (Davis and Mermelstein 1980)."""
    return np.asarray(dct(log_mel, type=2, norm="ortho", axis=1)[:, :kept], dtype=np.float32)


def slopes(values: Frames, *, reach: int = 2) -> Frames:
    """Return the regression slope over 2 x `reach` + 1 frames, per frame (HTK's deltas, equation 5.16)."""
    wide = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    steps = range(1, reach + 1)
    n = len(values)
    total = sum(k * (wide[reach + k : reach + k + n] - wide[reach - k : reach - k + n]) for k in steps)
    return np.asarray(total / (2 * sum(k * k for k in steps)), dtype=np.float32)


def shape(power: Frames, *, rate: int) -> Frames:
    """Return centroid, spread and 85 % roll-off in Hz, flatness 0..1 and flux, float32[T, 5].

    Of magnitudes; flux is the length of the change between neighbouring magnitudes of sum 1 (Tzanetakis and Cook
    2002, section 3.1), 0 for the first frame. A frame of silence has zeros.
    """
    size = np.sqrt(power.astype(np.float64))
    bins = np.linspace(0, rate / 2, power.shape[1])
    total = size.sum(axis=1, keepdims=True)
    share = np.divide(size, total, out=np.zeros_like(size), where=total > 0)
    centroid = share @ bins
    spread = np.sqrt(np.maximum(share @ bins**2 - centroid**2, 0))
    reached = np.cumsum(share, axis=1) >= 0.85 - 1e-9
    rolloff = np.where(total[:, 0] > 0, bins[reached.argmax(axis=1)], 0.0)
    level = power.astype(np.float64) + FLOOR
    flatness = np.where(total[:, 0] > 0, np.exp(np.log(level).mean(axis=1)) / level.mean(axis=1), 0.0)
    flux = np.r_[0.0, np.sqrt((np.diff(share, axis=0) ** 2).sum(axis=1))]
    return np.column_stack([centroid, spread, rolloff, flatness, flux]).astype(np.float32)


def contrast(power: Frames, *, rate: int) -> Frames:
    """Return how far peaks stand above valleys in each of 7 octaves, dB, float32[T, 7] (Jiang et al. 2002)."""
    bins = np.linspace(0, rate / 2, power.shape[1])
    edges = [0.0, *(LOWEST * 2.0**k for k in range(PARTS)), rate / 2]
    told = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        part = np.sort(power[:, (bins >= low) & (bins <= high)], axis=1)
        some = max(1, round(LOUD * part.shape[1]))
        told.append(decibels(part[:, -some:].mean(axis=1)) - decibels(part[:, :some].mean(axis=1)))
    return np.column_stack(told)


def chroma(power: Frames, *, rate: int) -> Frames:
    """Return the share of each of the 12 semitones, C first, octaves folded, float32[T, 12] (Fujishima 1999)."""
    bins = np.linspace(0, rate / 2, power.shape[1])
    heard = (bins >= 55) & (bins <= 5_000)
    tone = np.round(12 * np.log2(bins[heard] / A4)).astype(np.intp) + 9
    folded = np.zeros((len(power), 12))
    for k in range(12):
        folded[:, k] = power[:, heard][:, tone % 12 == k].sum(axis=1)
    total = folded.sum(axis=1, keepdims=True)
    share: Frames = np.divide(folded, total, out=np.zeros_like(folded), where=total > 0).astype(np.float32)
    return share


def _chunks(sound: Frames, size: int, hop: int) -> list[tuple[int, Frames]]:
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    wide = np.pad(sound, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(wide, size)[::hop]
    starts = range(0, len(frames), CHUNK)
    return [(s, np.abs(rfft(frames[s : s + CHUNK] * window, axis=1)).astype(np.float32) ** 2) for s in starts]


def _to_mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _from_mel(mels: Floats) -> Floats:
    return 700 * (10 ** (mels / 2595) - 1)
