"""A catalogue too large for a softmax over all of it: the products of one step, and what each must be corrected by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from habitue.model.past import Ints

FLATTER = 0.75  # power of the sales that negatives are drawn by (word2vec's; Mikolov et al., NIPS 2013)
EVEN = 0.1  # share drawn evenly from all that is for sale


@dataclass(frozen=True)
class Sample:
    """K products that stand for the catalogue in one step."""

    items: Ints  # [K] ascending, every target of the step among them
    correction: npt.NDArray[np.float32]  # [K] to add to their scores


def draw(targets: Ints, sold: npt.NDArray[np.float32], count: int, rng: np.random.Generator) -> Sample:
    """Draw `count` products beside `targets`, what the step must hold, the same for every question; O(I).

    A sampled softmax is right in the limit when each product's score is lowered by the logarithm of how often it is
    expected in the sample (Bengio and Senecal, 2008, section III; "logQ", Yi et al., RecSys 2019, eq. 5). Expected is
    `count` times the chance of being drawn, plus the number of targets times the share of sales; at most once.
    `sold` [I] >= 0, with at least one sale; a product without sales is never drawn.
    """
    share = sold / sold.sum()
    flat = np.where(sold > 0, sold**FLATTER, 0)
    chance = (1 - EVEN) * flat / flat.sum() + EVEN * (sold > 0) / np.count_nonzero(sold)
    drawn = np.searchsorted(np.cumsum(chance), rng.random(count) * (1 - 1e-9), side="right")
    items = np.unique(np.r_[targets, np.minimum(drawn, len(sold) - 1)])
    expected = np.minimum(count * chance[items] + len(targets) * share[items], 1)
    return Sample(items, -np.log(np.maximum(expected, 1e-12)).astype(np.float32))
