"""What is said and how it is said, as 512 numbers: the mean of what Whisper's encoder makes of a voice.

Weights `speech-whisper-base` (99 languages) or `speech-whisper-tiny-en` (English, a third of the cost). The encoder
was taught on 30 seconds at a time; a short clip is given as it is, with silence up to the next half second, which
costs a tenth and keeps the vector of a clip its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode import weights
from habitue.encode.samples import Samples, decoded
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected, unit

MEDIUM = "audio"  # content.py
DIMENSIONS = {"base": 512, "tiny-en": 384}
RATE = 16_000
LEAST, STEP = 1.0, 0.5  # seconds a clip is filled up to: at least, and to a multiple of
LONGEST = 30.0  # seconds the encoder has places for


@dataclass(frozen=True)
class Config:
    """How voices become vectors. Raises SettingsError for settings that make no sense."""

    size: str = "base"
    seconds: float = 30.0  # of a longer sound only the start is heard
    workers: int = 2  # threads that decode

    def __post_init__(self) -> None:
        """Refuse settings that would hear nothing."""
        if self.size not in DIMENSIONS or not 0 < self.seconds <= LONGEST or self.workers < 1:
            raise SettingsError(
                "encode.speech.Config",
                found=f"size '{self.size}', seconds {self.seconds}, workers {self.workers}",
                consequence="No voice could be encoded",
                remedy=f"Give a size of {', '.join(DIMENSIONS)}, up to {LONGEST:.0f} seconds and at least 1 worker",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its sound."""
    sha256 = weights.named(_name(config)).files[0].sha256
    settings = {"size": config.size, "seconds": config.seconds}
    return Encoder("speech.whisper@1", DIMENSIONS[config.size], settings, sha256)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id and path or bytes); float32[I, 512], 384 of tiny-en.

    A sound that is broken, silent, shorter than 20 ms or none gets a reason, not a row. Each passes the encoder alone.
    About 50 ms of one core a second of sound (base). Raises MissingExtraError without the extra "sound", ModelError
    without the weights.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.speech")
    network = _network(weights.path(_name(config))) if things.height else None
    seen = decoded(things, np.ascontiguousarray, rate=RATE, seconds=config.seconds, workers=config.workers)
    rows = ((place, made if isinstance(made, Refusal) else _run(network, made)) for place, made in seen)
    return collected(things["id"].to_list(), encoder(config), rows)


def _name(config: Config) -> str:
    return f"speech-whisper-{config.size}"


def _run(network: Any, sound: Samples) -> Dense:
    from habitue.encode import whisper  # torch, only where something is encoded

    seconds = sound.size / RATE
    filled = max(LEAST, math.ceil(seconds / STEP) * STEP)
    wide = np.pad(sound, (0, round(filled * RATE) - sound.size))
    heard = network(whisper.log_mel(wide))[: max(1, math.ceil(seconds * whisper.FRAMES_A_SECOND))]
    row: Dense = unit(heard.mean(axis=0)[None])[0]
    return row


@lru_cache(maxsize=1)
def _network(path: Path) -> Any:
    from habitue.encode import whisper

    return whisper.Encoder(path)
