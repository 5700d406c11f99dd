"""Rows of rare classes as often, or as heavy, as the others: for the rows of training alone, inside each fold.

A balanced table says another share of each class than the world does: forecasts made from it must be calibrated on rows
that are not balanced before anybody reads them as chances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.metrics import Floats, Ints

METHODS = ("over", "under")


@dataclass(frozen=True)
class Config:
    """Which rows are repeated or left out."""

    method: str = "over"
    share: float = 1.0  # rows of the rarest class over rows of the commonest afterwards: 1 = level
    seed: int = 0


def rows(classes: npt.ArrayLike, config: Config | None = None) -> Ints:
    """Return the places of the rows to learn from, ascending; `classes` [N] are those of the training rows.

    over: every row once, and rows of rare classes again, drawn anew (each repeated as evenly as can be). under: of the
    common classes only some rows, drawn without repeat. One class alone stays as it is. O(N log N). Raises
    SettingsError, and UsageError when there is no row.
    """
    config = config or Config()
    told = _told(classes)
    if config.method not in METHODS or not 0 < config.share <= 1:
        wrong = config.method not in METHODS
        raise SettingsError(
            "prepare.balance",
            found=f"there is no method '{config.method}'" if wrong else f"a share of {config.share:g}",
            consequence="Classes would stay as rare as they are",
            remedy=did_you_mean(config.method, METHODS) if wrong else "Give a share above 0, up to 1",
        )
    rng = np.random.default_rng(config.seed)
    _, which, count = np.unique(told, return_inverse=True, return_counts=True)
    found = []
    for label, have in enumerate(count):
        mine = np.flatnonzero(which == label)
        if config.method == "over":
            want = max(int(have), round(config.share * int(count.max())))
            again = np.concatenate([rng.permutation(mine) for _ in range(-(-want // int(have)))])
            found.append(np.concatenate([mine, again])[:want] if want > have else mine)
        else:
            want = min(int(have), round(int(count.min()) / config.share))
            found.append(rng.choice(mine, want, replace=False))
    return np.sort(np.concatenate(found)).astype(np.int64)


def weights(classes: npt.ArrayLike) -> Floats:
    """Return how heavy each row [N] counts so that every class is as heavy as any other: N / (classes x its rows).

    The mean is 1 (King and Zeng 2001; scikit-learn's "balanced"). Raises UsageError when there is no row.
    """
    told = _told(classes)
    _, which, count = np.unique(told, return_inverse=True, return_counts=True)
    return np.asarray(told.size / (count.size * count[which]), dtype=np.float64)


def _told(classes: npt.ArrayLike) -> npt.NDArray[np.generic]:
    told = np.asarray(classes)
    if not told.size:
        raise UsageError(
            "prepare.balance",
            found="there is no row",
            consequence="Nothing can be learnt",
            remedy="Give the classes of the rows of training",
        )
    return told
