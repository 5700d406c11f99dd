"""Is a picture safe to show? Two shares that sum to 1, by Open NSFW, for what customers send and others would see.

Weights `image-moderation` (Yahoo's open_nsfw, BSD-2-Clause): a residual network that was taught pornography against
the rest. It knows neither violence nor hate, and it errs: a share is a hint whom a person should look at first.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError
from habitue.encode import onnx, weights
from habitue.encode.pixels import Pixels, decoded
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected

NAMES = ("safe", "unsafe")
WEIGHTS = "image-moderation"
SIDE, CUT = 256, 16  # the whole picture is squeezed to SIDE, and CUT pixels of each edge are not looked at
MEANS = np.array([104, 117, 123], dtype=np.float32)  # of blue, green and red, as the weights were taught


@dataclass(frozen=True)
class Config:
    """How pictures are looked at. Raises SettingsError for settings that make no sense."""

    largest: int = 50_000_000  # pixels of a file above which it is not decoded
    workers: int = 2  # threads that decode
    threads: int = 1  # threads that compute

    def __post_init__(self) -> None:
        """Refuse settings that would see nothing."""
        if min(self.largest, self.workers, self.threads) < 1:
            raise SettingsError(
                "encode.unsafe.Config",
                found=f"largest {self.largest}, workers {self.workers}, threads {self.threads}",
                consequence="No picture could be looked at",
                remedy="Give numbers from 1",
            )


def encoder(config: Config) -> Encoder:  # noqa: ARG001 - no setting changes a vector
    """Return what decides a vector beside its picture."""
    return Encoder("picture.unsafe@1", len(NAMES), {}, weights.named(WEIGHTS).files[0].sha256)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one row per thing (id and path or bytes) with the shares NAMES; float32[I, 2].

    A picture that cannot be seen gets a reason, not a row: what has no row was not found safe. Raises
    MissingExtraError without the extra "pictures", ModelError without the weights.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.unsafe")
    ids = things["id"].to_list()
    if not ids:
        return collected(ids, encoder(config), [])
    session = onnx.session(weights.path(WEIGHTS), threads=config.threads, extra="pictures")
    name = session.get_inputs()[0].name
    rows: list[tuple[int, Dense | Refusal]] = []
    for place, seen in decoded(things, _prepared, side=SIDE, largest=config.largest, workers=config.workers):
        told = seen if isinstance(seen, Refusal) else session.run(None, {name: seen[None]})[0][0]
        rows.append((place, told if isinstance(told, Refusal) else np.asarray(told, dtype=np.float32)))
    return collected(ids, encoder(config), rows)


def _prepared(pixels: Pixels) -> Dense:
    """Return float32[224, 224, 3], blue first, less the means; through JPEG once more, as what it was taught from.

    So its shares are those of its first publication to .02 (without JPEG they are up to .1 apart).
    """
    from PIL import Image

    squeezed = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    squeezed.crop((CUT, CUT, SIDE - CUT, SIDE - CUT)).save(file, "JPEG")
    seen = np.asarray(Image.open(file), dtype=np.float32)[..., ::-1]
    return np.ascontiguousarray(seen - MEANS)
