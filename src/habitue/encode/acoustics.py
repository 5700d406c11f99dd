"""How a sound sounds, in numbers that have names: timbre, pitch, loudness and pace, without pretrained weights.

Per frame of 32 ms, 100 a second: cepstrum, shape of the spectrum, contrast, chroma, loudness and pitch. A vector
holds their means and spreads over the frames that sound, so it does not grow with the clip. Each number is divided by
a fixed SCALE, so that all are of about the size of 1 and one linear model can read them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.signal import find_peaks

from habitue.encode import pitch, spectra
from habitue.encode.samples import Samples, decoded, hears
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Vectors, collected

MEDIUM = "audio"  # content.py
RATE, SIZE, HOP = 16_000, 512, 160  # Hz, samples, samples
BANDS, LOW, HIGH, KEPT = 40, 40.0, 8_000.0, 20
QUIET_DB = 40.0  # below its loudest frame a frame does not sound: it is a pause
SWELL_DB = 3.0  # how far loudness must rise and fall to count as a syllable (de Jong and Wempe 2009: 2 to 4)
SHAPE = ("centroid", "spread", "roll-off", "flatness", "flux")
SHAPE_SCALE = np.array([1_000.0, 1_000.0, 2_000.0, 0.1, 0.05])
SEMITONES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")
MANNER = {  # what is told of pitch, loudness and pace, and its scale
    "pitch, mean (octaves above 100 Hz)": 0.5,
    "pitch, spread (octaves)": 0.2,
    "pitch, low tenth (octaves above 100 Hz)": 0.5,
    "pitch, high tenth (octaves above 100 Hz)": 0.5,
    "pitch, slope (octaves a second)": 0.3,
    "pitch, jitter": 0.02,
    "voiced share": 0.3,
    "loudness, mean (dB)": 10.0,
    "loudness, spread (dB)": 5.0,
    "loudness, slope (dB a second)": 10.0,
    "loudness, shimmer (dB)": 1.0,
    "pauses, share": 0.3,
    "pace (swells of loudness a second)": 2.0,
    "length (log2 of seconds)": 1.0,
}
NAMES = (
    *(f"cepstrum {k}, {how}" for how in ("mean", "spread", "spread of slope") for k in range(KEPT)),
    *(f"{name}, {how}" for how in ("mean", "spread") for name in SHAPE),
    *(f"contrast of octave {k}, {how}" for how in ("mean", "spread") for k in range(spectra.PARTS + 1)),
    *(f"chroma {name}" for name in SEMITONES),
    *MANNER,
)
DIMENSION = len(NAMES)


@dataclass(frozen=True)
class Config:
    """How sounds become numbers. Raises SettingsError for settings that make no sense."""

    seconds: float = 30.0  # of a longer sound only the start is heard
    workers: int = 2  # threads

    def __post_init__(self) -> None:
        """Refuse settings that would hear nothing."""
        hears(self.seconds, self.workers, where="encode.acoustics.Config")


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its sound."""
    return Encoder("sound.acoustics@1", DIMENSION, {"seconds": config.seconds})


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one row per thing (id and path or bytes) with the numbers NAMES; float32[I, 110], not of length 1.

    A sound that is broken, silent, shorter than 20 ms or none gets a reason, not a row. Raises MissingExtraError
    without the extra "sound".
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.acoustics")
    seen = decoded(things, _numbers, rate=RATE, seconds=config.seconds, workers=config.workers)
    return collected(things["id"].to_list(), encoder(config), seen)


def _numbers(sound: Samples) -> Dense:
    power = spectra.power(sound, size=SIZE, hop=HOP)
    loudness = spectra.decibels(power.mean(axis=1))
    on = loudness > loudness.max() - QUIET_DB
    weights = spectra.filters(RATE, SIZE, BANDS, LOW, HIGH)
    cepstrum = spectra.cepstrum(spectra.decibels(power @ weights), kept=KEPT) / 20.0
    shape = spectra.shape(power, rate=RATE) / SHAPE_SCALE
    contrast = spectra.contrast(power, rate=RATE) / 10.0
    chroma = spectra.chroma(power, rate=RATE)
    told = [
        cepstrum[on].mean(axis=0),
        cepstrum[on].std(axis=0),
        3.0 * spectra.slopes(cepstrum)[on].std(axis=0),
        shape[on].mean(axis=0),
        shape[on].std(axis=0),
        contrast[on].mean(axis=0),
        contrast[on].std(axis=0),
        3.0 * chroma[on].mean(axis=0),
        _manner(sound, loudness.astype(np.float64), on) / np.array(list(MANNER.values())),
    ]
    return np.concatenate(told).astype(np.float32)


def _manner(sound: Samples, loudness: npt.NDArray[np.float64], on: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return pitch, loudness and pace in the order and the units of MANNER; 0 for what an unvoiced sound has not."""
    height = np.log2(pitch.track(sound, rate=RATE, hop=HOP) / 100.0)
    height[~on] = np.nan
    voiced = np.isfinite(height)
    seconds = np.arange(len(loudness)) * HOP / RATE
    told = [0.0] * 6
    if voiced.sum() >= 2:
        low, high = np.quantile(height[voiced], (0.1, 0.9))
        both = voiced[1:] & voiced[:-1]
        period = 2.0**-height
        wobble = np.abs(np.diff(period))[both].mean() / period[voiced].mean() if both.any() else 0.0
        told = [height[voiced].mean(), height[voiced].std(), low, high, _slope(seconds, height, voiced), wobble]
    step = np.abs(np.diff(loudness))[on[1:] & on[:-1]]
    edges = np.flatnonzero(on)
    inside = on[edges[0] : edges[-1] + 1]
    swells, _ = find_peaks(np.r_[-200.0, _smooth(loudness), -200.0], prominence=SWELL_DB, height=loudness.max() - 25.0)
    length = sound.size / RATE
    told += [
        voiced.sum() / on.sum(),
        loudness[on].mean(),
        loudness[on].std(),
        _slope(seconds, loudness, on),
        float(step.mean()) if step.size else 0.0,
        1.0 - float(inside.mean()),
        len(swells) / length,
        np.log2(length),
    ]
    return np.array(told, dtype=np.float64)


def _slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], there: npt.NDArray[np.bool_]) -> float:
    """Return the slope of the line through the points there are; 0 below three of them."""
    if there.sum() < 3:
        return 0.0
    x = x[there] - x[there].mean()
    return float((x * y[there]).sum() / (x**2).sum())


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the running mean of 7 frames (70 ms)."""
    wide = np.pad(values, 3, mode="edge")
    return np.convolve(wide, np.full(7, 1 / 7), mode="valid")
