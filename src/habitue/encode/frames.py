"""Videos to moments: frames at a slow pace, small, turned upright, cut into scenes; bounded like every decoding here.

A scene ends where the colours of two neighbouring moments differ much: histograms of the picture's quarters (Boreczky
and Rowe 1996, "Comparison of video shot boundary detection techniques", section 2.2), held against each other by the
earth mover's distance, so that a fade, which moves every pixel a little, is no cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitue.encode import samples
from habitue.encode.pixels import Pixels
from habitue.encode.vectors import Refusal

SIDE = 320  # pixels of the longer side that are kept
LEVELS = 32  # of each of red, green and blue
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
NO_VIDEO = ("no_video", "It is no video of a known format.")


@dataclass(frozen=True)
class Moments:
    """Frames of one video, `seconds` after its start."""

    seconds: npt.NDArray[np.float64]  # [N] ascending
    frames: list[Pixels]  # N of uint8[H, W, 3]
    length: float  # seconds that were looked at


@dataclass(frozen=True)
class Scene:
    """Moments `first` to `last` (both of it), and the one that shows it best."""

    first: int
    last: int
    best: int


def moments(data: bytes, *, pace: float, seconds: float, largest: int) -> Moments:
    """Return a frame every 1 / `pace` seconds of the first `seconds`, by the clock of the video, whatever its rate.

    `largest`: pixels of a frame above which nothing is decoded. Raises Refusal.
    """
    try:
        opened = samples.container(data, ("video",))
    except Refusal as refusal:
        raise Refusal(*NO_VIDEO) if refusal.code == "no_sound" else refusal from None
    from av.video.reformatter import VideoReformatter

    at: list[float] = []
    kept: list[Pixels] = []
    with opened:
        if not opened.streams.video:
            raise Refusal("no_video", "It has no picture track.")
        stream = opened.streams.video[0]
        if stream.codec_context is None:
            raise Refusal("strange", "Its pictures are packed in a way that is not known here.")
        _fits(stream.codec_context.width, stream.codec_context.height, largest)
        told = float(stream.duration * stream.time_base) if stream.duration else None
        stream.codec_context.thread_count = 1  # several videos are decoded side by side as it is
        last, first, shape = None, None, VideoReformatter()
        try:
            for frame in opened.decode(stream):
                now = float(frame.time) if frame.time is not None else (last or 0.0) + 0.04
                first = now if first is None else first
                last = now
                if now - first >= seconds:
                    break
                if not at or now - first >= at[-1] + 1 / pace - 1e-6:
                    _fits(frame.width, frame.height, largest)
                    at.append(now - first)
                    kept.append(_small(frame, shape))
        except Refusal:
            raise
        except Exception as error:  # a decoder of hostile bytes may raise anything
            raise Refusal("broken", f"The video is broken or cut off ({type(error).__name__}).") from error
    if first is None or last is None:
        raise Refusal("empty", "It holds no frame.")
    if told is not None and last - first < min(seconds, samples.WHOLE * told) - 2 / pace:
        raise Refusal("broken", f"It is cut off: {last - first:.1f} seconds are there, and its header says more.")
    return Moments(np.array(at), kept, min(last - first, seconds))


def scenes(frames: Sequence[Pixels], *, change: float) -> list[Scene]:
    """Cut frames where the colours of two neighbours are further apart than `change` (0 equal, 1 black and white)."""
    colours = np.stack([_colours(frame) for frame in frames])
    apart = np.abs(np.diff(colours, axis=0)).mean(axis=1)
    cuts = [0, *(int(i) + 1 for i in np.flatnonzero(apart > change)), len(frames)]
    good = np.array([quality(frame) for frame in frames])
    return [
        Scene(start, end - 1, start + int(good[start:end].argmax()))
        for start, end in zip(cuts[:-1], cuts[1:], strict=True)
    ]


def motion(frames: Sequence[Pixels]) -> npt.NDArray[np.float64]:
    """Return how much each frame differs from the one before, 0..1, [N - 1]: mean change of grey in a 16 x 16 grid."""
    grids = np.stack([_grid(frame) for frame in frames])
    return np.asarray(np.abs(np.diff(grids, axis=0)).mean(axis=(1, 2)) / 255)


def quality(frame: Pixels) -> float:
    """Return how good a cover a frame is: sharp, neither dark nor bright, full of tones; higher is better."""
    grey = frame @ LUMA
    edges = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    sharp = np.log1p(edges.var()) if edges.size else 0.0
    light = 1 - abs(grey.mean() / 255 - 0.5) * 2
    return float(sharp * light * (0.1 + min(grey.std() / 64, 1.0)))


def _fits(width: int, height: int, largest: int) -> None:
    if width * height > largest:
        raise Refusal("too_large", f"Its frames have more than {largest:,} pixels.")


def _small(frame: Any, shape: Any) -> Pixels:
    """Return a frame as RGB with the longer side at most SIDE, upright; `shape` does it, one for all frames of a video.

    A frame of its own makes one each time, and what that prepares is a third of the cost.
    """
    scale = min(1.0, SIDE / max(frame.width, frame.height))
    width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    pixels: Pixels = shape.reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _colours(frame: Pixels) -> npt.NDArray[np.float64]:
    """Return the distribution function of red, green and blue in each quarter, [4 x 3 x LEVELS].

    The mean difference of two such is the earth mover's distance of their histograms, in shares of full scale.
    """
    middle = max(1, frame.shape[0] // 2), max(1, frame.shape[1] // 2)
    told = []
    for rows in (slice(None, middle[0]), slice(-middle[0], None)):
        for columns in (slice(None, middle[1]), slice(-middle[1], None)):
            level = (frame[rows, columns] // (256 // LEVELS)).reshape(-1, 3)
            told += [np.cumsum(np.bincount(level[:, c], minlength=LEVELS)) / len(level) for c in range(3)]
    return np.concatenate(told)


def _grid(frame: Pixels) -> npt.NDArray[np.float64]:
    """Return mean greys of a 16 x 16 grid."""
    grey = frame @ LUMA
    rows = np.linspace(0, grey.shape[0], 17).astype(np.intp)[:-1]
    columns = np.linspace(0, grey.shape[1], 17).astype(np.intp)[:-1]
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    ones = np.add.reduceat(np.add.reduceat(np.ones_like(grey), rows, axis=0), columns, axis=1)
    return np.asarray(sums / ones)
