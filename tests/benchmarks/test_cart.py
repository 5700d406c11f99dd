"""The benchmark of carts pairs products as the server does, and hides what is to be found."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from habitue.model.past import Histories
from habitue.serve.shop import UNSURE

ORDERS = ([0, 1], [0, 1], [0, 2], [3])


@pytest.fixture
def cart(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks/quality")
    import cart

    yield cart
    for name in ("cart", "personas"):
        sys.modules.pop(name)


@pytest.fixture
def past():
    rows = np.concatenate(ORDERS).astype(np.int32)
    sets = np.arange(len(ORDERS))
    histories = Histories(
        user_keys=sets,
        set_start=np.arange(len(ORDERS) + 1),
        set_at=sets.astype(np.float64),
        set_kind=np.zeros(len(ORDERS), dtype=np.int8),
        row_start=np.cumsum([0, *map(len, ORDERS)]),
        row_item=rows,
        row_quantity=np.ones(len(rows), dtype=np.float32),
        row_value=np.ones(len(rows), dtype=np.float32),
    )
    return SimpleNamespace(histories=histories, items=tuple("abcd"))


def test_pairs_are_those_of_the_server(cart, past):
    found = cart._together(past).toarray()
    assert found[0, 1] == pytest.approx(2 / np.sqrt((3 + UNSURE) * (2 + UNSURE)))
    assert found[0, 2] > 0 and found[1, 2] == found[0, 3] == 0 and not found.diagonal().any()


def test_a_half_lies_in_the_cart_and_the_other_is_asked_for(cart, past):
    order = sp.csr_matrix(np.array([[1, 1, 1, 1], [1, 0, 1, 0]], dtype=np.float32))
    found = cart.Found(past, np.zeros((2, 4), dtype=np.float32), np.arange(2), order, quick=True)
    assert np.array_equal((found.cart + found.wanted).toarray(), order.toarray())
    assert np.asarray(found.cart.sum(axis=1)).ravel().tolist() == [2, 1]
