"""A past small enough to be worked out by hand."""

import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from habitue.core.schemas import FEATURES, LABELS, PURCHASE, TIMELINE
from habitue.model.past import Past, histories

AS_OF = dt.datetime(2024, 7, 1, tzinfo=dt.UTC)


@pytest.fixture
def as_of() -> dt.datetime:
    return AS_OF


@pytest.fixture
def make_timeline() -> Callable[..., pl.DataFrame]:
    def make(*sets: tuple) -> pl.DataFrame:
        """One set a tuple: user, days before AS_OF, items (a string: one letter an item), [kind], [money an item]."""
        rows = []
        for user, days, items, *more in sets:
            kind, money = (*more, *(PURCHASE, 1.0)[len(more) :])
            rows.append(
                {
                    "user_key": user,
                    "at": AS_OF - dt.timedelta(days=days),
                    "kind": kind,
                    "item_ids": sorted(items),
                    "quantities": [1.0] * len(items),
                    "values": [float(money)] * len(items),
                    "order_ids": [f"{user}-{days}"],
                    "has_item": True,
                    "has_words": False,
                    "has_money": True,
                }
            )
        frame = pl.DataFrame(rows, schema={k: v for k, v in TIMELINE.schema.items() if k != "step"}, orient="row")
        frame = frame.sort("user_key", "at", "kind")
        return TIMELINE.shape(frame.with_columns(step=pl.int_range(pl.len()).over("user_key").cast(pl.Int32)))

    return make


@pytest.fixture
def make_past(make_timeline) -> Callable[..., Past]:
    def make(
        *sets: tuple,
        items: str,
        users: Sequence[int] | None = None,
        guests: Sequence[int] = (),
        words: Sequence[Sequence[float]] | None = None,
        horizon_days: int = 30,
    ) -> Past:
        history = histories(make_timeline(*sets), tuple(items), users=users)
        return Past(
            as_of=AS_OF,
            horizon_days=horizon_days,
            items=tuple(items),
            histories=history,
            known=~np.isin(history.user_keys, guests),
            words=None if words is None else sp.csr_matrix(np.array(words, dtype=np.float32)),
            features=FEATURES.empty(),
            train_features=FEATURES.empty(),
            train_labels=LABELS.empty(),
        )

    return make
