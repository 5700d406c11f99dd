from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.apply import recommend
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.schemas import SCORES, check
from habitue.model.past import Past


@pytest.fixture(scope="module")
def past(past_of: Callable[..., Past]) -> Past:
    whole = past_of(synthetic.shop(users=12, items=8, days=60), dt.datetime(2024, 2, 20, tzinfo=dt.UTC))
    return whole.take([0, 3, 5])


def _by_hand(row: np.ndarray, hidden: set[int], n: int) -> list[int]:
    return [i for i in sorted(range(len(row)), key=lambda i: (-row[i], i)) if i not in hidden][:n]


def _lists(table: pl.DataFrame, past: Past) -> list[list[int]]:
    return [
        [past.items.index(i) for i in table.filter(pl.col("user_key") == key).sort("rank")["item_id"]]
        for key in past.histories.user_keys
    ]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_lists_equal_brute_force_ties_and_exclusions_included(past: Past, data: st.DataObject) -> None:
    cells = len(past.items)
    rows = st.lists(st.integers(0, 3), min_size=cells, max_size=cells).filter(lambda r: len(set(r)) > 1)
    scores = np.array([data.draw(rows) for _ in range(3)], dtype=np.float32)
    hidden = [data.draw(st.sets(st.integers(0, cells - 1), max_size=cells - 1)) for _ in range(3)]
    n = data.draw(st.integers(1, cells + 2))
    mask = sp.lil_matrix((3, cells))
    for b, items in enumerate(hidden):
        mask[b, list(items)] = 1
    table = recommend.top(scores, past, model="toy", n=n, exclude=mask.tocsr())
    check(table, SCORES, at="test")
    assert _lists(table, past) == [_by_hand(scores[b], hidden[b], n) for b in range(3)]
    assert (table["model"] == "toy").all() and table["as_of"].unique().to_list() == [past.as_of]


def test_who_is_unknown_gets_the_named_fallback(past: Past) -> None:
    scores = np.zeros((3, len(past.items)), dtype=np.float32)
    scores[0, 2] = 1
    count = np.arange(len(past.items), dtype=np.float32)
    table = recommend.top(scores, past, model="toy", n=2, fallback=count, fallback_model="popular")
    keys = past.histories.user_keys
    assert table.filter(pl.col("user_key") == keys[0])["model"].to_list() == ["toy", "toy"]
    assert table.filter(pl.col("user_key") != keys[0])["model"].unique().to_list() == ["popular"]
    assert _lists(table, past) == [[2, 0], [7, 6], [7, 6]]
    assert table["rank"].to_list() == [1, 2] * 3
    with pytest.raises(ModelError, match="of 2 customers the model knows nothing, and there is no fallback. Somebody"):
        recommend.top(scores, past, model="toy")


def test_blocks_of_users_give_the_same_lists(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).random((3, len(past.items)), dtype=np.float32)
    hidden = sp.csr_matrix(scores > 0.8)
    whole = recommend.top(scores, past, model="toy", exclude=hidden)
    monkeypatch.setattr(recommend, "ROWS", 2)
    assert recommend.top(scores, past, model="toy", exclude=hidden).equals(whole)


def test_an_empty_list_is_refused_in_words(past: Past) -> None:
    scores = np.random.default_rng(0).random((3, len(past.items)), dtype=np.float32)
    everything = sp.csr_matrix(np.array([[1], [0], [0]]) * np.ones((1, len(past.items))))
    with pytest.raises(ModelError, match="for 1 customers every product is excluded. Somebody would get an empty"):
        recommend.top(scores, past, model="toy", exclude=everything)
    with pytest.raises(ModelError, match="'toy' gave scores of shape \\(2, 8\\), or NaN or infinite ones, for 3 users"):
        recommend.top(scores[:2], past, model="toy")
    with pytest.raises(ModelError, match="or NaN or infinite ones"):
        recommend.top(np.full_like(scores, np.nan), past, model="toy")
    with pytest.raises(ModelError, match="0 of 8 products are asked for"):
        recommend.top(scores, past, model="toy", n=0)


def test_nobody_asked_is_an_empty_table(past: Past) -> None:
    nobody = dataclasses.replace(past, histories=past.histories.take([]), known=past.known[:0])
    table = recommend.top(np.zeros((0, len(past.items)), dtype=np.float32), nobody, model="toy")
    check(table, SCORES, at="test")
    assert table.height == 0
