"""What everybody bought lately, at each of many moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from habitue.model.batches import Doubles
from habitue.model.past import PURCHASE, Floats, Ints, Past

MOMENTS = 400  # at most so many are kept


@dataclass(frozen=True)
class Rates:
    """Log of what was bought lately at each of G moments, step days apart, the last one `as_of`; mean 0 a row."""

    day: float
    step: float
    rates: Tensor  # [K, G, I], moment g is `day - g * step`

    def at(self, moments: Doubles) -> tuple[Ints, Floats]:
        """Return the place of the newest row that is not younger than each moment, and the first such row [K, I]."""
        row = np.ceil((self.day - moments) / self.step - 1e-9).astype(np.int64)
        row = np.clip(row, 0, self.rates.shape[1] - 1)
        return row, self.rates[:, row[0]].numpy()


def rates(past: Past, half_lives: tuple[float, ...]) -> Rates:
    """Count purchases, each worth half as much after a half-life, strictly before each moment; O(K G I)."""
    bought, items = past.histories.before(past.day).of_kind(PURCHASE), len(past.items)
    span = past.day - bought.set_at.min()
    step = max(1.0, span / MOMENTS)
    moments = int(np.ceil(span / step)) + 1
    row = np.clip(np.ceil((past.day - bought.set_at) / step).astype(np.int64), 1, moments)
    sold = np.zeros((moments + 1, items), dtype=np.float32)
    np.add.at(sold, (row[bought.row_set], bought.row_item), 1)
    rates = np.empty((len(half_lives), moments, items), dtype=np.float32)
    little = 0.05 * len(bought.row_item) / span / items  # a product nobody bought lately can still be bought
    for k, half_life in enumerate(half_lives):
        kept, fade = np.zeros(items, dtype=np.float32), np.float32(0.5 ** (step / half_life))
        for g in reversed(range(moments)):
            kept = kept * fade + sold[g + 1]
            rates[k, g] = np.log(kept / half_life + little)
    rates -= rates.mean(axis=2, keepdims=True)
    return Rates(past.day, step, torch.from_numpy(rates))
