from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from habitue.evaluate import topk


def _sorted(scores: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Brute force: sort the whole catalogue, equal scores by place; -1 where there is no candidate left."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.where(np.isfinite(np.take_along_axis(scores, order, axis=1)), order, -1)


@pytest.mark.parametrize("items", [1, 9, 640, 1_281, 1_344, 5_003])
@pytest.mark.parametrize("levels", [None, 3, 50])
def test_it_is_what_sorting_gives(items: int, levels: int | None) -> None:
    rng = np.random.default_rng(items)
    scores = rng.standard_normal((40, items)).astype(np.float32)
    if levels:  # many equal scores
        scores = np.round(scores * levels / 3).astype(np.float32)
    seen = sp.random_array((40, items), density=0.2, format="csr", rng=rng)
    masked = np.where(seen.toarray() > 0, -np.inf, scores).astype(np.float32)
    places, values = topk.best(scores.copy(), count=10, seen=sp.csr_matrix(seen))
    expected = _sorted(masked, 10)
    assert places.shape == values.shape == (40, 10)
    assert np.array_equal(places[:, : expected.shape[1]], expected)
    assert (places[:, expected.shape[1] :] == -1).all()
    there = places >= 0
    assert np.array_equal(values[there], masked[np.nonzero(there)[0], places[there]])
    assert np.isneginf(values[~there]).all()


def test_all_equal_scores_keep_the_order_of_the_catalogue() -> None:
    places, values = topk.best(np.zeros((3, 2_000), dtype=np.float32), count=5)
    assert places.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert (values == 0).all()


def test_the_last_products_behind_the_whole_groups_count() -> None:
    scores = np.zeros((1, 64 * 30 + 7), dtype=np.float32)
    scores[0, -3:] = (1, 3, 2)
    scores[0, 5] = 2.5
    places, _ = topk.best(scores, count=4)
    last = scores.shape[1]
    assert places[0].tolist() == [last - 2, 5, last - 1, last - 3]


def test_whoever_has_seen_everything_gets_nothing() -> None:
    everything = sp.csr_matrix(np.ones((2, 3_000)))
    places, values = topk.best(np.ones((2, 3_000), dtype=np.float32), count=3, seen=everything)
    assert (places == -1).all() and np.isneginf(values).all()
