"""A common space: canonical correlations against scikit-learn's, pairs found again, what is filled in."""

import numpy as np
import pytest

from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.encode import space


def pairs(n: int, *, seed: int = 0, noise: float = 0.3, shared: int = 6):
    """Two views of the same hidden things, of 20 and 30 numbers, each with noise of its own."""
    rng = np.random.default_rng(7)  # the views are the same for every seed
    views = rng.standard_normal((shared, 20)), rng.standard_normal((shared, 30))
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((n, shared))
    return tuple((hidden @ v + noise * rng.standard_normal((n, v.shape[1]))).astype(np.float32) for v in views)


def test_canonical_correlations_are_those_of_scikit_learn():
    from sklearn.cross_decomposition import CCA

    a, b = pairs(400, noise=3.0)
    found = space.fit(a, b, space.Config(method="cca", width=3, ridge=1e-9))
    peer = CCA(n_components=3, scale=False, max_iter=5_000, tol=1e-10).fit(a, b)
    x, y = peer.transform(a, b)
    wanted = [np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(3)]
    assert found.correlations == pytest.approx(wanted, abs=1e-4)
    x, y = ((rows - side.mean) @ side.map for rows, side in ((a, found.left), (b, found.right)))
    assert [np.corrcoef(x[:, k], y[:, k])[0, 1] for k in range(3)] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("method", ["cca", "contrastive"])
def test_pairs_it_never_saw_find_each_other(method):
    a, b = pairs(600)
    new = pairs(200, seed=1)
    found = space.fit(a, b, space.Config(method=method, width=6))
    left, right = space.place(found.left, new[0]), space.place(found.right, new[1])
    assert np.linalg.norm(left, axis=1) == pytest.approx(1, abs=1e-5)
    for ranks in (space.ranks(left, right), space.ranks(right, left)):
        assert np.median(ranks) == 1 and (ranks <= 10).mean() > 0.95
    mixed = space.ranks(left, right[np.random.default_rng(0).permutation(200)])
    assert 60 < np.median(mixed) < 140, "partners of others are anywhere"


def test_what_is_not_shared_is_not_found():
    a, _ = pairs(300)
    _, b = pairs(300, seed=5)
    found = space.fit(a, b)
    new = pairs(200, seed=1)[0], pairs(200, seed=2)[1]
    ranks = space.ranks(space.place(found.left, new[0]), space.place(found.right, new[1]))
    assert 70 < np.median(ranks) < 130


def test_learning_ends_where_held_back_pairs_are_no_nearer():
    a, b = pairs(300, noise=2.0)
    found = space.fit(a, b, space.Config(method="contrastive", width=6, learning_rate=0.05, passes=40))
    assert found.passes < 40
    assert space.fit(a, b, space.Config(method="cca")).passes == 0


def test_the_same_seed_gives_the_same_space():
    a, b = pairs(100, noise=2.0)
    config, rows = space.Config(method="contrastive", width=4, batch=32), np.arange(100)
    one, two, other = (space._passes(a, b, rows, None, config, 3, seed) for seed in (0, 0, 1))
    assert (one[0].left.map == two[0].left.map).all() and one[1] == two[1] == 3
    assert (one[0].left.map != other[0].left.map).any()
    found = space.fit(a, b, config, runtime=Runtime(seed=1))
    assert (found.right.map == space.fit(a, b, config, runtime=Runtime(seed=1)).right.map).all()


def test_ranks_count_from_one_and_ties_half():
    asked = np.eye(3, dtype=np.float32)
    assert space.ranks(asked, asked).tolist() == [1, 1, 1]
    assert space.ranks(asked, asked[::-1]).tolist() == [2, 1, 2], "of two equal ones the half"
    assert space.ranks(asked, np.ones((3, 3), dtype=np.float32)).tolist() == [2, 2, 2]
    assert space.ranks(asked[:0], asked[:0]).tolist() == []
    many = np.random.default_rng(0).standard_normal((1_500, 8)).astype(np.float32)
    assert (space.ranks(many, many * 2) >= 1).all()


def test_a_missing_modality_is_filled_by_its_neighbours():
    a, b = pairs(500)
    found = space.fit(a, b, space.Config(width=6))
    known, truth = pairs(100, seed=1)
    made = space.fill(found, known, a, b)
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    mean = b.mean(axis=0) / np.linalg.norm(b.mean(axis=0))
    assert (made * truth).sum(axis=1).mean() > 0.8 > (truth @ mean).mean() + 0.3
    with pytest.raises(ModelError, match="nearest is 501, of 500 examples.*Nothing can be filled in"):
        space.fill(found, known, a, b, nearest=501)


def test_what_cannot_be_learnt_from_is_said():
    a, b = pairs(20)
    with pytest.raises(ModelError, match=r"the shapes are \(20, 20\) and \(19, 30\)"):
        space.fit(a, b[:19])
    with pytest.raises(ModelError, match="there are 5 pairs.*at least 8 pairs"):
        space.fit(a[:5], b[:5])
    with pytest.raises(ModelError, match="not finite"):
        space.fit(a * np.nan, b)
    for wrong in ({"method": "clip"}, {"width": 0}, {"ridge": 0}, {"held": 0.6}, {"batch": 1}):
        with pytest.raises(SettingsError, match="encode.space.Config: method.*No common space"):
            space.Config(**wrong)


def test_constant_vectors_do_no_harm():
    a, b = pairs(50)
    a[:, 3] = 1.0
    found = space.fit(a, np.zeros_like(b), space.Config(method="cca"))
    assert np.isfinite(space.place(found.left, a)).all()
