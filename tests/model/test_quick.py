"""One customer's closed forms over plain arrays agree with the modules'."""

import dataclasses

import numpy as np
import pytest

from habitue.core import plugins
from habitue.core.runtime import Runtime
from habitue.model import fuse, quick
from habitue.model.past import PURCHASE, REFUND

RUNTIME = Runtime(seed=1, threads=1)
ITEMS = "abcdefghij"


@pytest.fixture
def past(make_past):
    rng = np.random.default_rng(0)
    rows = []
    for user in range(1, 12):
        for day in np.sort(rng.uniform(0.1, 90, rng.integers(1, 20)))[::-1]:
            basket = "".join(sorted(rng.choice(list(ITEMS), rng.integers(1, 5), replace=False)))
            rows.append(
                (user, float(day), basket, [PURCHASE, PURCHASE, REFUND, "Product Viewed"][rng.integers(4)], 1.0)
            )
    return make_past(*rows, items=ITEMS, users=range(12))


@pytest.mark.parametrize("name", ["popular", *quick.LINEAR])
@pytest.mark.parametrize("catalogue", ["same", "other"])
def test_a_view_says_of_one_customer_what_its_module_says(past, name, catalogue):
    module = plugins.load("model", name, contract=("Config", "fit", "score"))
    state = module.fit(past, module.Config(), runtime=RUNTIME)
    asked = past
    if catalogue == "other":  # two products went, one came, the places moved
        items = ("A", *past.items[2:])
        place = np.array([-1 if item not in items else items.index(item) for item in past.items])
        h = past.histories
        kept = place[h.row_item] >= 0
        size = np.add.reduceat(kept.astype(np.int64), h.row_start[:-1])
        rows = dict(row_start=np.r_[0, np.cumsum(size)], row_item=place[h.row_item][kept].astype(np.int32))
        rows |= {n: getattr(h, n)[kept] for n in ("row_quantity", "row_value")}
        asked = dataclasses.replace(past, items=items, histories=dataclasses.replace(h, **rows), words=None)
    view = quick.ready(name, state, asked.items)
    wanted = module.score(state, asked)
    assert len(np.unique(wanted)) > 20
    for user in range(12):
        told = view(quick.bought(asked.take([user])))
        np.testing.assert_allclose(told.scores(), wanted[user], rtol=1e-5, atol=1e-6)
        assert told.scores().dtype == np.float32 and (np.diff(told.places) > 0).all()
        some = np.array([0, 3, 8])
        np.testing.assert_array_equal(told.at(some), told.scores()[some])
        mean, spread = told.moments()
        np.testing.assert_allclose(mean, wanted[user].mean(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(spread, wanted[user].std(), rtol=1e-4, atol=1e-6)


def test_a_view_of_another_kind_is_not_ready(past):
    assert quick.ready("clv", None, past.items) is None


def test_standard_is_that_of_a_row():
    scores = np.random.default_rng(0).normal(3, 2, 500).astype(np.float32)
    np.testing.assert_allclose(quick.standard(scores), fuse.standard(scores[None])[0], rtol=1e-4, atol=1e-5)
    assert not quick.standard(np.full(5, 3, dtype=np.float32)).any()


@pytest.mark.parametrize("count", [5, 400])
def test_sums_are_the_same_by_sorting_and_in_a_long_row(count):
    rng = np.random.default_rng(0)
    index, weights = rng.integers(0, 1000, count), rng.uniform(1, 2, count).astype(np.float32)
    places, added = quick.summed(index, weights, 1000)
    wanted = np.bincount(index, weights, minlength=1000)
    np.testing.assert_array_equal(places, np.flatnonzero(wanted))
    np.testing.assert_allclose(added, wanted[places], rtol=1e-6)
    assert added.dtype == np.float32 and places.dtype == np.int64


@pytest.mark.parametrize("base", [None, 0.3])
def test_without_differences_there_is_no_spread(base):
    everybody = None if base is None else quick.base(np.full(1000, base, dtype=np.float32))
    told = quick.Told(1000, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), everybody)
    mean, spread = told.moments()
    assert mean == pytest.approx(base or 0.0) and spread == 0
    assert quick.Told(0, told.places, told.added).moments() == (0.0, 0.0)
