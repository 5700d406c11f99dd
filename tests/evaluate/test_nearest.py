"""The fast lists are those of sorting the whole catalogue, whatever the numbers look like."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.evaluate import nearest

NONE = nearest._entries(None, 0, 0)


def brute(queries, products, count, extra=None, seen=None):
    """Score everything in float64, hide what was seen, sort; of equals the earlier first."""
    scores = queries.astype(np.float64) @ products.T.astype(np.float64)
    if extra is not None:
        scores += extra.toarray()
    if seen is not None:
        scores[seen.toarray() > 0] = -np.inf
    places = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(scores, places, axis=1)
    return np.where(np.isfinite(values), places, -1), values


def sparse(rng, users, items, density, value=None):
    made = sp.csr_matrix(sp.random_array((users, items), density=density, format="csr", rng=rng))
    made.data = np.asarray(rng.standard_normal(made.nnz) if value is None else np.full(made.nnz, value), np.float32)
    return made


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    items=st.integers(1, 4_000),
    width=st.sampled_from([1, 3, 16, 65]),
    lift=st.sampled_from([-3.0, 0.0, 2.0]),
    spread=st.sampled_from([0.0, 1.5]),
)
def test_whole_numbers_are_ordered_as_sorting_orders_them_ties_too(seed, items, width, lift, spread):
    """Sums of small whole numbers are exact in float32, so lists must be equal to the place; many scores are equal."""
    rng = np.random.default_rng(seed)
    queries = np.round(rng.standard_normal((20, width)) * 3 + lift).astype(np.float32)
    size = np.exp(spread * rng.standard_normal((items, 1)))
    products = np.round(rng.standard_normal((items, width)) * 3 * size).astype(np.float32)
    extra, seen = sparse(rng, 20, items, 0.01, 5.0), sparse(rng, 20, items, 0.05, 1.0)
    for count in (1, 10):
        wanted, worth = brute(queries, products, count, extra, seen)
        for half in (True, False):
            places, values = nearest.lists(queries, products, count=count, extra=extra, seen=seen, half=half)
            assert np.array_equal(places[:, : wanted.shape[1]], wanted)
            assert np.array_equal(values[:, : worth.shape[1]], worth)
            assert (places[:, wanted.shape[1] :] == -1).all() and (values[:, wanted.shape[1] :] == -np.inf).all()


@pytest.mark.parametrize("width", [16, 64, 200])
def test_real_numbers_give_the_scores_of_sorting(width):
    """Among thousands of products with scores that bfloat16 cannot tell apart."""
    rng = np.random.default_rng(width)
    queries = rng.standard_normal((300, width)).astype(np.float32)
    products = (rng.standard_normal((5_000, width)) + rng.standard_normal(width)).astype(np.float32)
    products[1_000:1_300] = products[:300] * np.float32(1.0002)  # a thousandth of what bfloat16 sees
    seen = sparse(rng, 300, 5_000, 0.002, 1.0)
    wanted, worth = brute(queries, products, 10, None, seen)
    places, values = nearest.lists(queries, products, count=10, seen=seen, half=True)
    np.testing.assert_allclose(values, worth, rtol=1e-4, atol=1e-4)
    assert (places == wanted).mean() > 0.999


def test_the_bound_holds_and_most_lists_are_proven():
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((200, 64)).astype(np.float32)
    products = rng.standard_normal((3_000, 64)).astype(np.float32)
    laid = nearest._lay_out(products)
    half = torch.from_numpy(queries).bfloat16() @ laid.table
    exact = queries.astype(np.float64) @ products.T.astype(np.float64)
    length = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(products, axis=1)
    off = np.abs(half.float().numpy()[:, laid.column] - exact)
    assert (off <= (2 * nearest.UNIT + nearest.UNIT**2) * length + nearest.UNIT * np.abs(exact) * 1.01).all()
    assert sorted(laid.item[laid.item >= 0]) == list(range(3_000))
    groups = laid.item.reshape(nearest.GROUP, -1).T  # the longest first, no product longer than its group says
    for group, longest in zip(groups, laid.length, strict=True):
        lengths = np.linalg.norm(products[group[group >= 0]], axis=1)
        assert lengths.max() == longest
    assert (np.diff(laid.length) <= 0).all()
    proven = nearest._proven(laid, products, queries, half, NONE, NONE, 10)[0]
    assert proven.all()
    below = nearest._proven(laid, products, -np.abs(queries), half * 0 - 1, NONE, NONE, 10)[0]
    assert not below.any()


def test_whoever_has_seen_everything_gets_nothing_and_others_their_lists():
    rng = np.random.default_rng(1)
    queries, products = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 8), (2_000, 8)))
    seen = sp.csr_matrix(np.vstack([np.ones(2_000), np.zeros(2_000), np.arange(2_000) >= 4]))
    places, values = nearest.lists(queries, products, count=10, seen=seen, half=True)
    assert (places[0] == -1).all() and (places[1] >= 0).all()
    assert sorted(places[2]) == [-1] * 6 + [0, 1, 2, 3] and np.isneginf(values[2, 4:]).all()


def test_nobody_asked_is_no_list():
    for half in (True, False):
        places, values = nearest.lists(np.empty((0, 4), np.float32), np.ones((900, 4), np.float32), count=5, half=half)
        assert places.shape == values.shape == (0, 5)
