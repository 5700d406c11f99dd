"""What the trained model foretells of shoppers: who stays away, what they spend, what they do next."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from habitue.model import blend
from habitue.model.past import Histories
from habitue.serve.problems import Problem
from habitue.serve.shop import Shop
from habitue.serve.state import Shopper


def predictions(shop: Shop, shoppers: Iterable[Shopper], *, now: dt.datetime) -> list[dict[str, float]]:
    """Return of each shopper churn and value within the horizon and, where the flagship tells them, what is done next.

    Models are asked about all of them at once: the cost of asking is shared, and memory is that of their histories and
    the views' own. Each gets what would be said of them alone, to 1e-4. Raises Problem 503 when no model foretells it.
    """
    state = shop.snapshot.state
    if state is None or not state.churn:
        raise Problem(
            503, "no_model", "No model was trained that foretells this", "Train one on a longer ledger: habitue train"
        )
    past_of, values, persons = [], [], []
    for number, shopper in enumerate(shoppers):
        past_of.append(shopper.history(shop.index))
        persons.append(shopper.person)
        values.append({"user_key": number, "as_of": now, **shopper.values(now)})
    if not past_of:
        return []
    past = dataclasses.replace(
        shop.past,
        as_of=now,
        histories=joined(past_of),
        known=np.ones(len(past_of), dtype=bool),
        traits=None if shop.traits is None else shop.traits.of(persons),
        features=_features(values),
    )
    told = blend.predict(state, past).drop("user_key")
    return [{name: float(value) for name, value in row.items() if value is not None} for row in told.to_dicts()]


def joined(every: Sequence[Histories]) -> Histories:
    """Return the users of several histories, one after the other under the keys 0, 1, ...; kinds as they are met."""
    kinds = tuple(dict.fromkeys(kind for one in every for kind in one.kinds))
    renamed = [np.array([kinds.index(kind) for kind in one.kinds], dtype=np.int8)[one.set_kind] for one in every]
    return Histories(
        user_keys=np.arange(sum(len(one.user_keys) for one in every)),
        set_start=_starts([np.diff(one.set_start) for one in every]),
        set_at=np.concatenate([one.set_at for one in every]),
        set_kind=np.concatenate(renamed),
        row_start=_starts([np.diff(one.row_start) for one in every]),
        row_item=np.concatenate([one.row_item for one in every]),
        row_quantity=np.concatenate([one.row_quantity for one in every]),
        row_value=np.concatenate([one.row_value for one in every]),
        kinds=kinds,
    )


def _starts(lengths: Sequence[Any]) -> Any:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(lengths), dtype=np.int64)])


def _features(values: list[dict[str, Any]]) -> pl.DataFrame:
    """Return FEATURES of shoppers as they declare them."""
    schema = {"user_key": pl.Int64(), "as_of": pl.Datetime("us", "UTC")}
    return pl.DataFrame(values, schema=schema | dict.fromkeys(list(values[0])[2:], pl.Float64()))
