"""Labelled examples with a planted answer, and what may be known of a toy shop at one moment."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from habitue import prepare
from habitue.core.schemas import EXAMPLES, FEATURES, LABELS, Events, Examples
from habitue.encode import text
from habitue.model.past import Past, histories


def review_table(n: int, seed: int) -> Examples:
    """Reviews whose verdict is in one planted word; 'fine fabric' says nothing."""
    rng = np.random.default_rng(seed)
    refused = np.arange(n) % 4 == 0
    filler = np.array(["sleeves", "colour", "size", "dress", "shop", "parcel", "button", "hem"])
    texts, columns = [], []
    for no in refused:
        said = "horrid" if no else "lovely"
        texts.append(" ".join([*rng.choice(filler, 6), said, "fabric"]))
        columns.append(json.dumps({"title": "my view", "item_id": str(rng.integers(5))}))
    return EXAMPLES.shape(
        pl.DataFrame(
            {
                "example_id": [str(i) for i in range(n)],
                "text": texts,
                "columns": columns,
                "label": np.where(refused, "not recommended", "recommended").tolist(),
                "source": "planted",
            }
        )
    )


def session_table(n: int, seed: int) -> Examples:
    """Visits: 'PageValues' gives the answer away, long looks on a rainy Month tell half of it, 'Noise' nothing."""
    rng = np.random.default_rng(seed)
    bought = np.arange(n) % 3 == 0
    rows = [
        {
            "PageValues": float(10 * b + rng.normal()),
            "Duration": float(rng.gamma(2.0, 1.0) * (2 if b else 1)),
            "Month": str(rng.choice(["Nov", "May"], p=[0.7, 0.3] if b else [0.3, 0.7])),
            "Noise": float(rng.normal()),
        }
        for b in bought
    ]
    return EXAMPLES.shape(
        pl.DataFrame(
            {
                "example_id": [str(i) for i in range(n)],
                "columns": [json.dumps(row) for row in rows],
                "label": np.where(bought, "bought", "left").tolist(),
                "source": "planted",
            }
        )
    )


@pytest.fixture(scope="session")
def reviews_() -> Examples:
    return review_table(240, 0)


@pytest.fixture(scope="session")
def sessions_() -> Examples:
    return session_table(600, 0)


def toy_past(events: Events, as_of: dt.datetime, *, horizon_days: int = 60, catalogue: Events | None = None) -> Past:
    """What may be known of `events` at `as_of`; the words of `catalogue`'s products are known in advance."""
    seen, _ = prepare.split(events, as_of)
    products = (seen if catalogue is None else catalogue).select("item_id", "title").unique("item_id").sort("item_id")
    items = tuple(products["item_id"])
    keys = seen["user_key"].unique().sort()
    return Past(
        as_of=as_of,
        horizon_days=horizon_days,
        items=items,
        histories=histories(prepare.timeline(seen), items, users=keys),
        known=np.ones(len(keys), dtype=bool),
        words=text.encode(products).matrix,
        features=prepare.features(seen, as_of=as_of),
        train_features=FEATURES.empty(),
        train_labels=LABELS.empty(),
    )


@pytest.fixture(scope="session")
def past_of() -> Callable[..., Past]:
    return toy_past
