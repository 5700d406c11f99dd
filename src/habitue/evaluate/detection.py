"""How well boxes were found: average precision of each kind at an overlap, and its mean (mAP)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from habitue.core.errors import SchemaError
from habitue.core.metrics import Floats, Statistic
from habitue.encode import boxes

SIDES = ("left", "top", "right", "bottom")
TRUE = ("picture", "kind", *SIDES)
SAID = (*TRUE, "score")
RECALLS = np.linspace(0, 1, 101)


def average_precision(true: pl.DataFrame, said: pl.DataFrame, *, overlap: float = 0.5) -> pl.DataFrame:
    """Return (kind, boxes, ap), a row a kind that has a true box; mAP is the mean of `ap`.

    `true` has the columns TRUE, `said` those of SAID. The surest boxes come first; each takes the true box of its
    picture and kind, not taken yet, that it overlaps most, if that is by at least `overlap` (area shared over area
    covered together). `ap` is the mean, over 101 levels of recall, of the best precision at that recall or a higher
    one (Lin et al. 2014, "Microsoft COCO", its evaluation at one overlap). Raises SchemaError for a missing column.
    """
    pictures = sorted({*true["picture"], *said["picture"]})
    once = np.ones((1, len(pictures)))
    rows = [
        (kind, true.filter(pl.col("kind") == kind).height, float(of(once)[0]))
        for kind, of in _kinds(true, said, pictures, overlap).items()
    ]
    return pl.DataFrame(rows, schema={"kind": pl.String, "boxes": pl.Int64, "ap": pl.Float64}, orient="row")


def mean_average_precision(
    true: pl.DataFrame, said: pl.DataFrame, pictures: Sequence[str], *, overlap: float = 0.5
) -> Statistic:
    """Return mAP as a function of how often each of `pictures` counts, for intervals; frames as above.

    A kind that a draw holds no box of is left out of that draw's mean; a draw without any box counts as 0.
    """
    every = list(_kinds(true, said, pictures, overlap).values())

    def statistic(weight: Floats) -> Floats:
        precision = np.stack([of(weight) for of in every])
        there = np.isfinite(precision)
        return np.asarray(np.where(there, precision, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))

    return statistic


def _kinds(true: pl.DataFrame, said: pl.DataFrame, pictures: Sequence[str], overlap: float) -> dict[str, Statistic]:
    """Return the average precision of each kind as a function of weights [draws, pictures]; NaN without a box."""
    for name, frame, wanted in (("true", true, TRUE), ("said", said, SAID)):
        lacking = [column for column in wanted if column not in frame.columns]
        if lacking:
            raise SchemaError(
                "evaluate.detection",
                found=f"`{name}` has no column '{lacking[0]}'",
                consequence="Boxes cannot be compared",
                remedy=f"Give {', '.join(wanted)}",
            )
    place = {picture: n for n, picture in enumerate(pictures)}
    made = {}
    for kind in sorted(true["kind"].unique()):
        mine = true.filter(pl.col("kind") == kind)
        told = said.filter(pl.col("kind") == kind).sort("score", descending=True, maintain_order=True)
        there = np.bincount([place[p] for p in mine["picture"]], minlength=len(pictures))
        at = np.array([place[p] for p in told["picture"]], dtype=np.int64)
        made[str(kind)] = _precision(_hits(mine, told, overlap), at, there)
    return made


def _hits(true: pl.DataFrame, told: pl.DataFrame, overlap: float) -> np.ndarray:
    """Return for each box of `told`, the surest first, whether it takes a true one."""
    waiting = {key[0]: part.select(SIDES).to_numpy() for key, part in true.group_by("picture")}
    hit = np.zeros(told.height, dtype=bool)
    for n, (picture, *box) in enumerate(told.select("picture", *SIDES).iter_rows()):
        left = waiting.get(picture, np.zeros((0, 4)))
        shared = boxes.overlap(np.array([box], dtype=np.float64), left)[0]
        if shared.size and shared.max() >= overlap:
            hit[n] = True
            waiting[picture] = np.delete(left, shared.argmax(), axis=0)
    return hit


def _precision(hit: np.ndarray, at: np.ndarray, there: np.ndarray) -> Statistic:
    def statistic(weight: Floats) -> Floats:
        made = np.full(len(weight), np.nan)
        for n, often in enumerate(weight):
            found, asked = np.cumsum(hit * often[at]), np.cumsum(often[at])
            total = float(there @ often)
            if total > 0:
                precision = np.divide(found, asked, out=np.zeros_like(found, dtype=np.float64), where=asked > 0)
                highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
                made[n] = highest[np.searchsorted(found / total, RECALLS - 1e-12)].mean()
        return made

    return statistic
