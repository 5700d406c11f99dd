"""Products as vectors: where training starts, and what words say of a product that was not trained."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from habitue.core.errors import ModelError
from habitue.model import seeds


def test_words_become_a_few_numbers_of_mean_square_one():
    words = sp.random(30, 50, density=0.3, format="csr", random_state=0, dtype=np.float32)
    found = seeds.content(words, 8, 30)
    assert found.shape == (30, 8) and np.square(found).mean() == pytest.approx(1, rel=1e-5)
    left, size, _ = np.linalg.svd(words.toarray(), full_matrices=False)
    expected = (left[:, :8] * size[:8]) @ (left[:, :8] * size[:8]).T
    scale = np.square(left[:, :8] * size[:8]).mean()
    np.testing.assert_allclose(found @ found.T, expected / scale, atol=0.05 * np.abs(expected / scale).max())
    for nothing in (seeds.content(None, 8, 30), seeds.content(words, 0, 30), seeds.content(words * 0, 8, 30)):
        assert nothing.shape == (30, 0)


def test_words_that_are_no_numbers_are_refused():
    words = sp.random(30, 50, density=0.3, format="csr", random_state=0)
    words.data[3] = np.nan
    with pytest.raises(ModelError, match="1 weights are NaN.*'content' = 0"):
        seeds.content(words, 8, 30)
    assert seeds.content(words, 0, 30).shape == (30, 0)


def test_a_table_starts_from_the_words_turned_and_scaled(make_past):
    past = make_past((1, 3, "ab"), items="abcd")
    content = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    torch.manual_seed(0)
    found = seeds.start(content, past.histories, width=6, scale=0.5)
    noise = 4 * seeds.SMALL
    assert found.square().mean().sqrt().item() == pytest.approx(0.5, abs=noise)
    scaled = torch.from_numpy(0.5 * content / np.sqrt(np.square(content).mean()))
    np.testing.assert_allclose(found @ found.T, scaled @ scaled.T, atol=noise * 3)  # a turn keeps all angles
    met = seeds.start(np.zeros((4, 0), dtype=np.float32), past.histories, width=6, scale=0.5)
    assert met.shape == (4, 6) and met[0] @ met[1] > 10 * abs(met[2] @ met[3])


def test_what_words_foretell_is_a_weighted_ridge_regression():
    rng = np.random.default_rng(0)
    content, sold = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 9, 60).astype(np.float32)
    truth = rng.normal(size=(3, 2))
    vectors = (content @ truth + 2).astype(np.float32)
    vectors[sold == 0] = 99.0  # never trained: they say nothing
    found = seeds.foretold(content, vectors, sold)
    np.testing.assert_allclose(found, content @ truth + 2, atol=0.15)
    alone = seeds.foretold(np.zeros((60, 0), dtype=np.float32), vectors, sold)
    weight = np.log1p(sold)
    np.testing.assert_allclose(alone, np.tile((weight @ vectors) / weight.sum(), (60, 1)), rtol=1e-4)


def test_what_is_met_together_lies_together(make_past):
    """a and b in one set, c in the set after them; d and e of another customer: by hand, then as directions."""
    past = make_past((1, 30, "ab"), (1, 20, "c"), (2, 9, "de"), items="abcdef")
    factors = seeds.together(past.histories, 6, 6)
    # Pairs (both ways): ab twice (once from each row of the product), ac, bc once, de twice; 12 in all.
    often = np.array([3.0, 3.0, 2.0, 2.0, 2.0])
    count = {(0, 1): 2, (0, 2): 1, (1, 2): 1, (3, 4): 2}
    expected = np.zeros((6, 6))
    for (i, j), n in count.items():
        expected[i, j] = expected[j, i] = max(np.log(n * 12 / (often[i] * often[j])), 0)
    left, size, right = np.linalg.svd(expected)
    wanted = (left * size) @ left.T
    np.testing.assert_allclose(factors @ factors.T, wanted, atol=1e-4)
    assert not factors[5].any()
    assert not seeds.together(make_past((1, 3, "a"), items="ab").histories, 2, 4).any()


def test_a_new_product_borrows_from_those_told_in_like_words():
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    words = sp.csr_matrix(np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0, 1.0], [0, 0, 0]]))
    index = np.array([2, 0, -1, -1, -1])  # products 0 and 1 are rows 2 and 0 of the table
    found = seeds.borrowed(table, index, words)
    np.testing.assert_allclose(found[:2], table[[2, 0]])
    np.testing.assert_allclose(found[2], (0.6 * table[2] + 0.8 * table[0]) / 1.4, rtol=1e-6)
    np.testing.assert_allclose(found[3:], np.tile(table.mean(0), (2, 1)))  # nobody is told in its words
    np.testing.assert_allclose(seeds.borrowed(table, index, None)[2:], np.tile(table.mean(0), (3, 1)))
    many = sp.csr_matrix(np.c_[np.linspace(0.1, 1, 20), np.zeros(20)])
    nearest = seeds.borrowed(np.eye(19, dtype=np.float32), np.r_[np.arange(19), -1], many)[19]
    assert (nearest > 0).sum() == seeds.SIMILAR and (nearest[-seeds.SIMILAR :] > 0).all()
