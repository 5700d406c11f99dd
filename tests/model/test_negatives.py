"""The products of a step: the targets are there, the rest is drawn by sales, and the correction makes it right."""

import numpy as np
import pytest
from scipy.special import logsumexp

from habitue.model import negatives


def test_targets_are_there_and_what_was_never_sold_is_not():
    sold = np.array([5, 0, 1, 0, 30, 2], dtype=np.float32)
    for seed in range(20):
        sample = negatives.draw(np.array([2, 2]), sold, 3, np.random.default_rng(seed))
        assert 2 in sample.items and not {1, 3} & set(sample.items.tolist())
        assert (np.diff(sample.items) > 0).all() and len(sample.items) == len(sample.correction)
        assert (sample.correction >= 0).all()


def test_all_products_are_corrected_by_nothing():
    sold = np.array([1, 2, 3], dtype=np.float32)
    sample = negatives.draw(np.array([0]), sold, 10_000, np.random.default_rng(0))
    assert sample.items.tolist() == [0, 1, 2]
    np.testing.assert_allclose(sample.correction, 0)


def test_the_sum_over_the_sample_stands_for_the_sum_over_the_catalogue():
    """The softmax's denominator over many samples; without the correction it is several times too small."""
    rng = np.random.default_rng(0)
    sold = rng.zipf(1.6, 3_000).clip(max=500).astype(np.float32)
    scores = rng.normal(size=3_000)
    truth = logsumexp(scores)
    right, plain = [], []
    for _ in range(300):
        targets = rng.choice(3_000, 40, p=sold / sold.sum())
        sample = negatives.draw(targets, sold, 300, rng)
        right.append(np.exp(logsumexp(scores[sample.items] + sample.correction) - truth))
        plain.append(np.exp(logsumexp(scores[sample.items]) - truth))
    assert np.mean(right) == pytest.approx(1, abs=0.1)
    assert np.mean(plain) < 0.2
