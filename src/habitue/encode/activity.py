"""Where somebody speaks: Silero's voice activity detection in ONNX Runtime, weights `audio-vad` (MIT).

The model reads 32 ms at a time with the 4 ms before them and keeps a state; its shares of speech become stretches
with two thresholds, so that a stretch that began does not end at the first breath.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode import onnx, weights
from habitue.encode.samples import Samples, decoded
from habitue.encode.things import check
from habitue.encode.vectors import Refusal

NAME = "audio-vad"
RATE, WINDOW, BEFORE = 16_000, 512, 64  # Hz, samples, samples
STATE = (2, 1, 128)
SCHEMA = {"id": pl.String, "start_s": pl.Float64, "end_s": pl.Float64}


@dataclass(frozen=True)
class Config:
    """What counts as speech. Raises SettingsError for settings that make no sense."""

    starts: float = 0.5  # share of speech from which a stretch begins
    ends: float = 0.35  # below which it may end
    pause_s: float = 0.1  # a shorter pause does not part two stretches
    shortest_s: float = 0.2  # a shorter stretch is a noise
    seconds: float = 600.0  # of a longer sound only the start is heard
    workers: int = 2  # threads that decode

    def __post_init__(self) -> None:
        """Refuse settings that would find nothing."""
        ordered = 0 < self.ends <= self.starts < 1 and self.pause_s >= 0 and self.shortest_s >= 0
        if not ordered or not self.seconds > 0 or self.workers < 1:
            raise SettingsError(
                "encode.activity.Config",
                found=f"starts {self.starts}, ends {self.ends}, pause_s {self.pause_s}, seconds {self.seconds}",
                consequence="No speech could be found",
                remedy="Give 0 < ends <= starts < 1, pauses from 0 and more than 0 seconds",
            )


def spoken(things: pl.DataFrame, config: Config | None = None) -> pl.DataFrame:
    """Return (id, start_s, end_s), a row a stretch of speech, in the order of `things` (id and path or bytes).

    A sound without speech, or one that cannot be heard, has no row; encode.run says why. Raises MissingExtraError
    without the extra "sound", ModelError without the weights. About 4 ms of one core a second of sound.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.activity")
    if not things.height:
        return pl.DataFrame(schema=SCHEMA)
    session = onnx.session(weights.path(NAME), threads=1, extra="sound")
    ids, rows = things["id"].to_list(), []
    seen = decoded(things, np.ascontiguousarray, rate=RATE, seconds=config.seconds, workers=config.workers)
    for place, made in seen:
        if not isinstance(made, Refusal):
            found = stretches(_shares(session, made), config)
            length = made.size / RATE
            rows += [(ids[place], start, min(end, length)) for start, end in found]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def stretches(shares: Sequence[float] | npt.NDArray[np.float32], config: Config) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of the stretches of speech in `shares`, one every 32 ms."""
    step = WINDOW / RATE
    found: list[tuple[float, float]] = []
    start: int | None = None
    last = 0  # the window after the last one that was speech
    for i, share in enumerate(shares):
        if share >= config.starts and start is None:
            start = i
        if start is not None and share >= config.ends:
            last = i + 1
        elif start is not None and (i + 1 - last) * step > config.pause_s:
            found.append((start * step, last * step))
            start = None
    if start is not None:
        found.append((start * step, last * step))
    return [(a, b) for a, b in found if b - a >= config.shortest_s]


def _shares(session: Any, sound: Samples) -> npt.NDArray[np.float32]:
    """Return the share of speech of each 32 ms; the last window is filled with silence."""
    count = -(-sound.size // WINDOW)
    wide = np.zeros(BEFORE + count * WINDOW, dtype=np.float32)
    wide[BEFORE : BEFORE + sound.size] = sound
    state, rate, shares = np.zeros(STATE, dtype=np.float32), np.array(RATE, dtype=np.int64), []
    for i in range(count):
        part = wide[None, i * WINDOW : i * WINDOW + BEFORE + WINDOW]
        share, state = session.run(None, {"input": part, "state": state, "sr": rate})
        shares.append(float(share[0, 0]))
    return np.array(shares, dtype=np.float32)
