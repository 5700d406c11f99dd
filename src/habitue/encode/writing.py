"""What is written in a picture, line by line, in Latin letters and Chinese; and its meaning as a sentence's vector.

Two networks of PP-OCRv6 (weights `image-writing`, Apache-2.0), run from ONNX. The first marks where there are letters
(Liao et al., "Real-time scene text detection with differentiable binarization", AAAI 2020); each mark becomes the
smallest turned rectangle around it, grown as in their equation 10. The second reads the rectangle as a strip, letter by
letter (connectionist temporal classification, Graves et al. 2006: the likeliest sign of each column, repeats and
blanks dropped).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from habitue.core.errors import SettingsError
from habitue.encode import modality, onnx, sentence, weights
from habitue.encode.pixels import Pixels, decoded
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, assemble, refusals

Corners = npt.NDArray[np.float64]  # [4, 2] across and down: top left, top right, bottom right, bottom left
WEIGHTS = "image-writing"
TOLD = {"id": pl.String, "line": pl.Int64, "text": pl.String, "share": pl.Float64}
MARK, SURE = 0.3, 0.5  # share from which a pixel is a letter's, and the mean from which a mark is a line
GROWTH = 1.6
SMALLEST = 3  # pixels across a mark
TALL = 1.5  # times as high as wide: letters below each other, or a turned line
HEIGHT, WIDEST = 48, 3200  # pixels of a strip
STEP = 32  # sides of the first network's pictures are multiples of it


@dataclass(frozen=True)
class Config:
    """How writing is read. Raises SettingsError for settings that make no sense."""

    side: int = 960  # pixels of the longer side that are looked at
    least: float = 0.5  # mean share of its signs from which a line is told
    lines: int = 100  # read of a picture, the largest first
    largest: int = 50_000_000  # pixels of a file above which it is not decoded
    workers: int = 2  # threads that decode
    threads: int = 1  # threads that compute

    def __post_init__(self) -> None:
        """Refuse settings that would read nothing."""
        if self.side < STEP or not 0 <= self.least < 1 or min(self.lines, self.largest, self.workers, self.threads) < 1:
            raise SettingsError(
                "encode.writing.Config",
                found=f"side {self.side}, least {self.least:g}, lines {self.lines}, largest {self.largest}, workers "
                f"{self.workers}, threads {self.threads}",
                consequence="Nothing could be read",
                remedy=f"Give a side from {STEP} pixels, a share from 0 to below 1, and numbers from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its picture."""
    read = sentence.encoder(sentence.Config())
    both = "+".join([*(file.sha256 for file in weights.named(WEIGHTS).files), read.weights])
    settings = {"side": config.side, "least": config.least, "lines": config.lines, "words": read.key}
    return Encoder("picture.writing@1", read.dimension, settings, both)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return the sentence encoder's row for what is written in each thing (id and path or bytes); float32[I, 512].

    A picture without writing, or that cannot be seen, gets a reason, not a row. Raises MissingExtraError without the
    extras "pictures" and "text", ModelError without the weights of either.
    """
    config = config or Config()
    ids = things["id"].to_list()
    lines, refused = _read(things, config)
    texts = sentences(lines)
    told = [*refused.iter_rows()]
    known = {*texts["id"], *refused["id"]}
    told += [(i, "no_writing", "Nothing is written in it that can be read.") for i in ids if i not in known]
    by = encoder(config)
    if not texts.height:
        return assemble(ids, by, np.zeros(0, dtype=np.intp), np.zeros((0, by.dimension), np.float32), refusals(told))
    made = modality.run("sentence", texts)
    place = {i: n for n, i in enumerate(ids)}
    places = np.array([place[i] for i in made.ids], dtype=np.intp)
    return assemble(ids, by, places, made.dense, refusals(told))


def told(things: pl.DataFrame, config: Config | None = None) -> pl.DataFrame:
    """Return (id, line, text, share), a row a line in the order of reading; share = mean certainty of its signs.

    Pictures that cannot be seen, and those without writing, have no row; `encode.run` says which. About a second of
    CPU a picture. Raises MissingExtraError without the extra "pictures", ModelError without the weights.
    """
    return _read(things, config or Config())[0]


def sentences(lines: pl.DataFrame) -> pl.DataFrame:
    """Return (id, text): the lines of each picture in one, ready for `encode.run("sentence", ...)`."""
    joined = lines.group_by("id", maintain_order=True).agg(pl.col("text"))
    return joined.select("id", text=pl.col("text").list.join(" "))


def _read(things: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, pl.DataFrame]:
    check(things, of=("path", "bytes"), where="encode.writing")
    ids = things["id"].to_list()
    rows: list[tuple[str, int, str, float]] = []
    refused: list[tuple[str, str, str]] = []
    if not ids:
        return pl.DataFrame(schema=TOLD), refusals([])
    finder, reader = (onnx.session(weights.path(WEIGHTS, n), threads=config.threads, extra="pictures") for n in (0, 1))
    seen = decoded(things, np.ascontiguousarray, side=config.side, largest=config.largest, workers=config.workers)
    for place, made in seen:
        if isinstance(made, Refusal):
            refused.append((ids[place], made.code, made.sentence))
            continue
        lines = [_line(reader, strip(made, corners)) for corners in found(_marks(finder, made), config.lines)]
        kept = [(text, share) for text, share in lines if text.strip() and share >= config.least]
        rows += [(ids[place], n, text, share) for n, (text, share) in enumerate(kept)]
    return pl.DataFrame(rows, schema=TOLD, orient="row"), refusals(refused)


def _marks(session: Any, pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return how surely each pixel is a letter's, [H, W] of the picture, by the first network."""
    height, width = pixels.shape[:2]
    wide = np.pad(pixels, ((0, -height % STEP), (0, -width % STEP), (0, 0)), mode="edge")
    marks: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: _scaled(wide)})[0][0, 0]
    return marks[:height, :width]


def found(marks: npt.NDArray[np.float32], most: int) -> list[Corners]:
    """Return the corners of each line, in the order of reading: from the top down, and from the left in one row."""
    near = ndimage.binary_dilation(marks > MARK, structure=np.ones((2, 2)))
    regions, count = ndimage.label(near, structure=np.ones((3, 3)))
    windows = ndimage.find_objects(regions)
    sure = ndimage.mean(marks, regions, np.arange(1, count + 1)) if count else []
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    lines = []
    for n in np.argsort(-sizes, kind="stable")[:most]:
        if sure[n] < SURE:
            continue
        down, right = windows[n]
        points = np.argwhere(regions[down, right] == n + 1)[:, ::-1] + [right.start, down.start]
        corners = rectangle(points.astype(np.float64))
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)[:2]
        if sides.min() >= SMALLEST:
            lines.append(grown(corners, GROWTH * sides.prod() / (2 * sides.sum())))
    return _ordered(lines)


def rectangle(points: Corners) -> Corners:
    """Return the smallest rectangle around points [N, 2], turned as it may be; one of its sides lies on their hull."""
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:  # all in one line
        hull = points
    edges = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.round(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2), 6))
    best, smallest = hull[:0], np.inf
    for angle in angles:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = hull @ turn
        low, high = turned.min(axis=0), turned.max(axis=0)
        if (high - low).prod() < smallest - 1e-9:
            smallest = (high - low).prod()
            best = np.array([low, (high[0], low[1]), high, (low[0], high[1])]) @ turn.T
    first = int(np.roll(best, 0, axis=0).sum(axis=1).argmin())  # the top left one
    return np.roll(best, -first, axis=0)


def grown(corners: Corners, by: float) -> Corners:
    """Move every side of a rectangle outwards by so many pixels."""
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    across, down = (side / max(float(np.linalg.norm(side)), 1e-9) * by for side in (across, down))
    moved: Corners = corners + np.array([-across - down, across - down, across + down, down - across])
    return moved


def strip(pixels: Pixels, corners: Corners) -> Pixels:
    """Return what lies in a turned rectangle, upright and HEIGHT pixels high; a tall one is laid on its side."""
    from PIL import Image

    width, height = (float(np.linalg.norm(corners[n] - corners[0])) for n in (1, 3))
    if height > TALL * width:
        corners, width, height = np.roll(corners, -1, axis=0), height, width
    size = (int(np.clip(round(width * HEIGHT / max(height, 1.0)), HEIGHT // 4, WIDEST)), HEIGHT)
    first, second, third, fourth = (corners[n].tolist() for n in range(4))
    quad = (*first, *fourth, *third, *second)  # as Pillow wants them: down the left, up the right
    cut = Image.fromarray(pixels).transform(size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    return np.asarray(cut)


def _line(session: Any, pixels: Pixels) -> tuple[str, float]:
    """Read one strip; return its text and the mean share of its signs."""
    wide = np.zeros((1, 3, HEIGHT, max(320, pixels.shape[1])), dtype=np.float32)
    wide[..., : pixels.shape[1]] = _scaled(pixels)
    shares = session.run(None, {session.get_inputs()[0].name: wide})[0][0]  # [columns, signs]
    return spelt(shares, _signs(session))


def spelt(shares: npt.NDArray[np.floating], signs: tuple[str, ...]) -> tuple[str, float]:
    """Return the likeliest sign of each column, without repeats and blanks (sign 0), and their mean share."""
    best = shares.argmax(axis=1)
    new = (best > 0) & (best != np.concatenate([[-1], best[:-1]]))
    text = "".join(signs[b] for b in best[new])
    return text, float(shares.max(axis=1)[new].mean()) if new.any() else 0.0


@lru_cache(maxsize=2)
def _signs(session: Any) -> tuple[str, ...]:
    """Return the signs of the second network in its order; it carries them itself."""
    letters = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    count = session.get_outputs()[0].shape[2]
    return ("", *letters[: count - 2], " ")


def _scaled(pixels: Pixels) -> Dense:
    """Return float32[1, 3, H, W] of -1..1, blue first."""
    return np.ascontiguousarray((pixels[..., ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1))[None]


def _ordered(lines: list[Corners]) -> list[Corners]:
    """Return lines from the top down; those whose middles are within half a line's height, from the left."""
    waiting = sorted(lines, key=lambda corners: float(corners[:, 1].mean()))
    rows: list[list[Corners]] = []
    for corners in waiting:
        middle = corners[:, 1].mean()
        last = rows[-1][0] if rows else None
        if last is not None and abs(middle - last[:, 1].mean()) < np.linalg.norm(last[3] - last[0]) / 2:
            rows[-1].append(corners)
        else:
            rows.append([corners])
    return [corners for row in rows for corners in sorted(row, key=lambda c: float(c[:, 0].min()))]
