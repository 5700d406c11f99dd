"""What a video shows, sounds like and does: pictures of its scenes, its sound track and its motion, side by side.

The best frame of each scene goes through the picture encoder, and scenes are averaged by their length; the sound
track goes through the sound encoder. A video without sound has zeros there, and the number `heard` says so.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError
from habitue.core.extras import need
from habitue.encode import frames, picture, samples, sound, weights
from habitue.encode.frames import Moments, Scene
from habitue.encode.pixels import Pixels, fitted
from habitue.encode.things import check, in_order, read_file
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected, unit

MEDIUM = "video"  # content.py
T = TypeVar("T")
MOTION = ("heard", "length (log2 of seconds)", "scenes a minute", "motion, mean", "motion, spread", "share at rest")
DIMENSION = picture.DIMENSION + sound.DIMENSION + len(MOTION)
REST = 0.01  # of full scale: less change from moment to moment is none


@dataclass(frozen=True)
class Config:
    """How videos become vectors. Raises SettingsError for settings that make no sense."""

    seconds: float = 60.0  # of a longer video only the start is seen and heard
    pace: float = 2.0  # frames a second that are looked at
    change: float = 0.1  # of the colours, in shares of full scale, from which a new scene begins
    scenes: int = 8  # at most so many are encoded, the longest
    largest: int = 10_000_000  # pixels of a frame above which it is not decoded
    workers: int = 2  # threads that decode

    def __post_init__(self) -> None:
        """Refuse settings that would see nothing."""
        whole = min(self.scenes, self.largest, self.workers)
        if not min(self.seconds, self.pace) > 0 or not 0 < self.change < 1 or whole < 1:
            raise SettingsError(
                "encode.video.Config",
                found=f"seconds {self.seconds}, pace {self.pace}, change {self.change}, scenes {self.scenes}, largest "
                f"{self.largest}, workers {self.workers}",
                consequence="No video could be encoded",
                remedy="Give numbers above 0, and a change between 0 and 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its video."""
    settings = {k: getattr(config, k) for k in ("seconds", "pace", "change", "scenes")}
    both = f"{picture.encoder(picture.Config()).key} {sound.encoder(sound.Config()).key}"
    return Encoder("video.scenes@1", DIMENSION, settings, hashlib.sha256(both.encode()).hexdigest())


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one row per thing (id and path or bytes): 1280 of pictures, 512 of sound, 6 of MOTION; float32[I, 1798].

    The first two parts have length 1 each, the sound 0 where there is none. A video that is broken, cut off, too large
    or none gets a reason, not a row. Raises MissingExtraError without the extra "video", ModelError without weights.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.video")
    seen = _each(things, lambda data: _seen(data, config), config)
    return collected(things["id"].to_list(), encoder(config), _rows(seen, config))


def scenes(things: pl.DataFrame, config: Config | None = None) -> pl.DataFrame:
    """Return (id, scene, start_s, end_s, cover_s): the scenes of each video and the moment that shows each best.

    Videos that cannot be seen have no row; encode.run says why.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.video")
    ids, rows = things["id"].to_list(), []
    for place, made in _each(things, lambda data: _looked(data, config), config):
        if not isinstance(made, Refusal):
            at, found = made
            ends = [*(float(at.seconds[s.first]) for s in found[1:]), at.length]
            rows += [
                (ids[place], n, float(at.seconds[s.first]), end, float(at.seconds[s.best]))
                for n, (s, end) in enumerate(zip(found, ends, strict=True))
            ]
    schema = {"id": pl.String, "scene": pl.Int64, "start_s": pl.Float64, "end_s": pl.Float64, "cover_s": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def covers(things: pl.DataFrame, config: Config | None = None) -> pl.DataFrame:
    """Return (id, at_s, jpeg): the frame of each video that is sharpest, well lit and full of tones."""
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.video")
    image = need("PIL.Image", extra="video", purpose="encode.video")
    ids, rows = things["id"].to_list(), []
    for place, made in _each(things, lambda data: _looked(data, config), config):
        if not isinstance(made, Refusal):
            at, found = made
            best = max((s.best for s in found), key=lambda i: frames.quality(at.frames[i]))
            file = io.BytesIO()
            image.fromarray(at.frames[best]).save(file, "JPEG", quality=90)
            rows.append((ids[place], float(at.seconds[best]), file.getvalue()))
    return pl.DataFrame(rows, schema={"id": pl.String, "at_s": pl.Float64, "jpeg": pl.Binary}, orient="row")


def _each(things: pl.DataFrame, make: Callable[[bytes], T], config: Config) -> Iterator[tuple[int, T | Refusal]]:
    """Yield (place, make(bytes) or why not), decoded in threads."""
    need("av", extra="video", purpose="encode.video")
    column = "bytes" if "bytes" in things.columns else "path"

    def one(content: Any) -> T | Refusal:
        try:
            if content is None:
                raise Refusal("no_video", "There is no video.")
            data = read_file(content) if column == "path" else content
            if data is None:
                raise Refusal("no_file", "The file cannot be read, or it is larger than 256 MB.")
            return make(data)
        except Refusal as refusal:
            return refusal

    yield from in_order(things[column], one, workers=config.workers)


def _looked(data: bytes, config: Config) -> tuple[Moments, list[Scene]]:
    at = frames.moments(data, pace=config.pace, seconds=config.seconds, largest=config.largest)
    return at, frames.scenes(at.frames, change=config.change)


def _seen(data: bytes, config: Config) -> tuple[list[Pixels], Dense, Dense | None, Dense]:
    """Return the frames to encode, the share of each, the blocks of the sound track or None, and MOTION but `heard`."""
    at, found = _looked(data, config)
    longest = sorted(sorted(found, key=lambda s: s.first - s.last)[: config.scenes], key=lambda s: s.first)
    share = np.array([s.last - s.first + 1 for s in longest], dtype=np.float32)
    try:
        track = sound.blocks(samples.samples(data, "bytes", rate=sound.RATE, seconds=min(config.seconds, 10.0)))
    except Refusal:
        track = None  # a silent film, or none at all
    moved = frames.motion(at.frames) if len(at.frames) > 1 else np.zeros(1)
    told = [
        np.log2(1 + at.length),
        60 * len(found) / max(at.length, 1.0),
        moved.mean(),
        moved.std(),
        (moved < REST).mean(),
    ]
    return [_square(at.frames[s.best]) for s in longest], share / share.sum(), track, np.array(told, dtype=np.float32)


def _rows(seen: Iterator[tuple[int, Any]], config: Config) -> Iterator[tuple[int, Dense | Refusal]]:  # noqa: ARG001
    """Run the networks, one video after the other: a row does not depend on its neighbours."""
    from habitue.encode import onnx

    eye = onnx.session(picture.model(picture.Config()), threads=1, extra="video")
    ear = sound.network(weights.path(sound.NAME))
    for place, made in seen:
        if isinstance(made, Refusal):
            yield place, made
            continue
        shown, share, track, told = made
        looks = unit(np.vstack([picture.run(eye, [one]) for one in shown]))
        heard = np.zeros(sound.DIMENSION, dtype=np.float32) if track is None else sound.run(ear, track)
        row = [unit((share @ looks)[None])[0], heard, [float(track is not None)], told]
        yield place, np.concatenate(row).astype(np.float32)


def _square(frame: Pixels) -> Pixels:
    """Return the middle square as the picture encoder reads it."""
    from PIL import Image

    return fitted(Image.fromarray(frame), picture.SIDES["lite0"], square=True)
