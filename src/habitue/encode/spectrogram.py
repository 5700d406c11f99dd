"""A short sound as a picture of itself: log-mel of what sounds, brought to a fixed number of moments.

The plain baseline of speech commands and of noises that have a course: quiet ends are cut, the rest is stretched to
MOMENTS by straight lines, and each sound's mean level is taken out, so that near and far are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.encode import spectra
from habitue.encode.samples import Samples, decoded, hears
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected, unit

MEDIUM = "audio"  # content.py
RATE, SIZE, HOP = 16_000, 512, 160  # Hz, samples, samples
BANDS, LOW, HIGH, MOMENTS = 40, 60.0, 8_000.0, 32
DIMENSION = MOMENTS * BANDS
QUIET_DB = 30.0  # below its loudest frame an end is cut off
RANGE_DB = 80.0  # below its loudest cell nothing is told apart


@dataclass(frozen=True)
class Config:
    """How sounds become pictures. Raises SettingsError for settings that make no sense."""

    seconds: float = 5.0  # of a longer sound only the start is heard
    workers: int = 2  # threads

    def __post_init__(self) -> None:
        """Refuse settings that would hear nothing."""
        hears(self.seconds, self.workers, where="encode.spectrogram.Config")


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its sound."""
    return Encoder("sound.spectrogram@1", DIMENSION, {"seconds": config.seconds})


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id and path or bytes), 32 moments of 40 bands; float32[I, 1280].

    A sound that is broken, silent, shorter than 20 ms or none gets a reason, not a row. Raises MissingExtraError
    without the extra "sound".
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.spectrogram")
    seen = decoded(things, cells, rate=RATE, seconds=config.seconds, workers=config.workers)
    rows = ((place, made if isinstance(made, Refusal) else unit(made.reshape(1, -1))[0]) for place, made in seen)
    return collected(things["id"].to_list(), encoder(config), rows)


def cells(sound: Samples) -> Dense:
    """Return the log-mel of what sounds, dB around its mean, float32[32, 40]."""
    power = spectra.mel(sound, rate=RATE, size=SIZE, hop=HOP, bands=BANDS, low=LOW, high=HIGH)
    level = spectra.decibels(power)
    level = np.maximum(level, level.max() - RANGE_DB)
    loudness = level.mean(axis=1)
    on = np.flatnonzero(loudness >= loudness.max() - QUIET_DB)
    level = level[on[0] : on[-1] + 1]
    at = np.linspace(0, len(level) - 1, MOMENTS)
    before = np.minimum(at.astype(np.intp), max(len(level) - 2, 0))
    after = np.minimum(before + 1, len(level) - 1)
    share = (at - before)[:, None]
    stretched = level[before] * (1 - share) + level[after] * share
    return np.asarray(stretched - stretched.mean(), dtype=np.float32)
