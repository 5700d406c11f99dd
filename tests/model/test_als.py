"""Vectors solve eq. 4 of the paper; what they say is checked against the package that trains them and by hand."""

import sys

import numpy as np
import pytest

from habitue.core.errors import MissingExtraError, ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import REFUND
from habitue.model import als

pytest.importorskip("implicit")
ITEMS = "ABCDEFGH"


def two_tastes(users: int = 40, seed: int = 3) -> list[tuple]:
    """Even users buy A to D, odd ones E to H."""
    rng = np.random.default_rng(seed)
    return [
        (user, int(day), "".join(rng.choice(list(ITEMS[4 * (user % 2) :][:4]), size=2, replace=False)))
        for user in range(users)
        for day in rng.choice(np.arange(1, 60), size=2, replace=False)
    ]


@pytest.fixture
def past(make_past):
    return make_past(*two_tastes(), items=ITEMS)


def test_it_learns_who_likes_what(past):
    scores = als.score(als.fit(past, als.Config(factors=4), runtime=Runtime()), past)
    for user, row in enumerate(scores):
        mine = slice(4 * (user % 2), 4 * (user % 2) + 4)
        assert np.mean(row[mine]) > np.mean(np.delete(row, mine)) + 0.3


def test_a_users_vector_solves_equation_4(past):
    config = als.Config(factors=3, regularization=0.7, alpha=5.0, half_life_days=30.0)
    state = als.fit(past, config, runtime=Runtime())
    y = state.item_factors.astype(float)
    worth = als.purchases(past, past.items, half_life_days=30.0).toarray()
    for user in (0, 7):
        bought = worth[user] > 0
        c = np.where(bought, np.maximum(5.0 * worth[user], 1.0), 1.0)
        expected = np.linalg.solve(y.T @ np.diag(c) @ y + 0.7 * np.eye(3), y.T @ (c * bought))
        np.testing.assert_allclose(state.user_factors[user], expected, rtol=1e-4)


def test_the_vectors_are_those_of_the_package_once_it_stands_still(past):
    config = als.Config(factors=4, iterations=200, half_life_days=1e6)
    state = als.fit(past, config, runtime=Runtime(seed=2))
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=4, regularization=1.0, alpha=1.0, iterations=200, num_threads=1, random_state=2, use_gpu=False
    )
    model.fit(als._confidence(past, past.items, 10.0, 1e6), show_progress=False)
    np.testing.assert_allclose(
        state.user_factors @ state.item_factors.T, model.user_factors @ model.item_factors.T, atol=0.02
    )


def test_a_history_that_went_on_is_solved_anew_and_one_that_did_not_is_kept(past, make_past):
    state = als.fit(past, als.Config(factors=4), runtime=Runtime())
    later = make_past(*two_tastes(), (0, 0.5, "EFGH"), (99, 3, "AB"), items=ITEMS)
    now = als.users_as_asked(state, later)
    keys = later.histories.user_keys.tolist()
    np.testing.assert_array_equal(now[keys.index(1)], state.user_factors[1])
    assert np.abs(now[keys.index(0)] - state.user_factors[0]).max() > 0.05
    scores = als.score(state, later)[keys.index(99)]
    assert scores[:4].mean() > scores[4:].mean() + 0.3  # never seen at the fit
    fresh = als._solve(state.item_factors, als._confidence(later, ITEMS_TUPLE, 10.0, 120.0), 1.0)
    np.testing.assert_allclose(now, fresh, atol=1e-5)


ITEMS_TUPLE = tuple(ITEMS)


def test_unknown_items_and_empty_users_score_0(past, make_past):
    state = als.fit(past, als.Config(factors=4), runtime=Runtime())
    asked = make_past((1, 3, "Z"), items="AZ", users=[1, 2])
    assert als.score(state, asked).tolist() == [[0, 0], [0, 0]]


def test_nobody_bought_a_thing(make_past):
    with pytest.raises(ModelError, match="model.als: no purchase of any product before as_of"):
        als.fit(make_past((1, 1, "A", REFUND), items="AB"), als.Config(), runtime=Runtime())


def test_without_the_package_it_says_how_to_install_it(past, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[als\]'"):
        als.fit(past, als.Config(), runtime=Runtime())
