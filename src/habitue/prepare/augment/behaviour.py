"""What a customer did, as the products' numbers in the order of time: cut, masked, reordered, or with stand-ins.

Xie et al., "Contrastive learning for sequential recommendation", ICDE 2022 (crop, mask, reorder); Liu et al.,
"Contrastive self-supervised sequential recommendation with robust augmentation", 2021 (substitute).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Items = npt.NDArray[np.int64]
KEPT = 0.8  # of a history that a cut one keeps
MASKED = 0.2  # of a history that is left out
MIXED = 0.2  # of a history whose order is mixed
REPLACED = 0.2


def crop(items: Items, rng: np.random.Generator) -> Items:
    """Keep one stretch of the history, KEPT of its length, two products at least."""
    count = min(items.size, max(2, round(KEPT * items.size)))
    start = int(rng.integers(items.size - count + 1))
    return items[start : start + count].copy()


def mask(items: Items, rng: np.random.Generator) -> Items:
    """Leave out a MASKED share of the products, wherever they stand; two at least stay."""
    gone = min(round(MASKED * items.size), max(items.size - 2, 0))
    kept = np.sort(rng.permutation(items.size)[gone:])
    return items[kept]


def reorder(items: Items, rng: np.random.Generator) -> Items:
    """Mix the order of one stretch, MIXED of the length."""
    count = min(items.size, max(2, round(MIXED * items.size)))
    start = int(rng.integers(items.size - count + 1))
    made = items.copy()
    made[start : start + count] = rng.permutation(made[start : start + count])
    return made


def substitute(alike: Items) -> Callable[[Items, np.random.Generator], Items]:
    """Return a method that puts stand-ins for a REPLACED share: `alike` [I] is the product most like each one."""

    def replaced(items: Items, rng: np.random.Generator) -> Items:
        made = items.copy()
        some = rng.permutation(items.size)[: max(1, round(REPLACED * items.size))]
        made[some] = alike[made[some]]
        return made

    return replaced


METHODS: Mapping[str, Callable[[Items, np.random.Generator], Items]] = {
    one.__name__: one for one in (crop, mask, reorder)
}
