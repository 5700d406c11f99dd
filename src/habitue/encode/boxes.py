"""Boxes around things: how far two overlap, and which of many around one thing stays.

A box is (left, top, right, bottom), in pixels or in shares of the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.floating]  # [N, 4]


def overlap(one: Boxes, other: Boxes) -> npt.NDArray[np.float64]:
    """Return [N, M]: the area two boxes share, over the area they cover together (intersection over union)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both, dtype=np.float64), where=union > 0))


def best(boxes: Boxes, scores: npt.NDArray[np.floating], *, most: float) -> npt.NDArray[np.intp]:
    """Return the places of the boxes that stay, the surest first: none overlaps a surer one by more than `most`."""
    order = np.argsort(-scores, kind="stable")
    shared = overlap(boxes, boxes)
    kept: list[int] = []
    for place in order:
        if all(shared[place, other] <= most for other in kept):
            kept.append(int(place))
    return np.array(kept, dtype=np.intp)
