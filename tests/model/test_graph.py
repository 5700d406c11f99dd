"""Smoothing is checked against dense matrices, a score against its formula, what is learnt against a planted taste."""

import dataclasses

import numpy as np
import pytest
import torch

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import graph
from habitue.model.past import purchases

ITEMS = "ABCDEFGH"
IDS = graph.Config(width=8, steps=60, words=0.0, learning_rate=3e-2)
LIKE_A = np.eye(4)[[0, 0, 1, 1, 2, 2, 3, 3]]  # words join A to B, C to D, ...


def two_tastes(users: int = 40, seed: int = 3) -> list[tuple]:
    """Even users buy A to D, odd ones E to H, two products each time."""
    rng = np.random.default_rng(seed)
    return [
        (user, int(day), "".join(rng.choice(list(ITEMS[4 * (user % 2) :][:4]), size=2, replace=False)))
        for user in range(users)
        for day in rng.choice(np.arange(1, 60), size=3, replace=False)
    ]


@pytest.fixture
def past(make_past):
    return make_past(*two_tastes(), items=ITEMS)


@pytest.mark.parametrize("words", [0.0, 0.3])
@pytest.mark.parametrize("trips", [0, 1, 2])
def test_smoothing_is_the_mean_over_powers_of_the_normalised_matrix(make_past, trips, words):
    past = make_past(*two_tastes(), items=ITEMS, words=LIKE_A)
    config = graph.Config(trips=trips, own=0.2, words=words)
    bought = purchases(past, past.items, half_life_days=1e6, cap=1)
    dense = bought.toarray().astype(float)
    normal = np.diag(dense.sum(1) ** -0.5) @ dense @ np.diag(dense.sum(0) ** -0.5)
    alike = LIKE_A @ LIKE_A.T - np.eye(8)  # one edge each, so it is normalised
    trip = (1 - words) * normal.T @ normal + words * alike
    weights = [0.2, *[1.0] * trips]
    expected = sum(w * np.linalg.matrix_power(trip, k) for k, w in enumerate(weights)) / sum(weights)
    table = torch.randn(8, 3, requires_grad=True)
    smooth = graph.edges_of(bought, past.words, config).smooth(table)
    np.testing.assert_allclose(smooth.detach(), expected @ table.detach().numpy(), rtol=1e-4, atol=1e-5)
    upstream = torch.randn(8, 3)
    smooth.backward(upstream)
    np.testing.assert_allclose(table.grad, expected.T @ upstream.numpy(), rtol=1e-4, atol=1e-5)


def test_with_the_paper_s_weight_the_smoothing_is_that_of_its_eq_7_and_8(past):
    """The whole graph of users and products, with vectors of 0 for the users."""
    config = dataclasses.replace(IDS, trips=2, own=1.0)
    bought = purchases(past, past.items, half_life_days=1e6, cap=1)
    dense = bought.toarray().astype(float)
    users, items = dense.shape
    whole = np.block([[np.zeros((users, users)), dense], [dense.T, np.zeros((items, items))]])
    root = np.diag(whole.sum(1) ** -0.5)
    table = np.random.default_rng(0).normal(size=(items, 3))
    layers = [np.vstack([np.zeros((users, 3)), table])]
    for _ in range(4):
        layers.append(root @ whole @ root @ layers[-1])
    expected = sum(layers)[users:] / 3  # odd layers reach the users only
    smooth = graph.edges_of(bought, None, config).smooth(torch.from_numpy(table.astype(np.float32)))
    np.testing.assert_allclose(smooth, expected, rtol=1e-4, atol=1e-5)


def test_a_score_is_the_cosine_of_history_and_product(past):
    config = dataclasses.replace(IDS, steps=3, temperature=0.2, history_half_life_days=20.0)
    state = graph.fit(past, config, runtime=Runtime())
    np.testing.assert_allclose(np.linalg.norm(state.goods, axis=1), 5, rtol=1e-5)
    history = purchases(past, past.items, half_life_days=20.0).toarray()
    asked = history @ state.reasons
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    np.testing.assert_allclose(graph.score(state, past), asked @ state.goods.T, rtol=1e-4, atol=1e-4)


def test_reasons_are_divided_by_a_power_of_their_edges(past):
    """The same draw: what differs is the last factor, and for no trips nothing else."""
    plain = dataclasses.replace(IDS, steps=1, trips=0, learning_rate=1e-12)
    none, half = (graph.fit(past, dataclasses.replace(plain, popularity=p), runtime=Runtime()) for p in (0.0, 0.5))
    edges = purchases(past, past.items, half_life_days=1e6, cap=1).sum(axis=0).A1
    np.testing.assert_allclose(half.reasons, none.reasons / np.sqrt(edges)[:, None], rtol=1e-4)
    np.testing.assert_allclose(half.goods, none.goods, rtol=1e-4)


def test_it_learns_who_likes_what_and_asks_the_history_of_the_moment(past, make_past):
    state = graph.fit(past, IDS, runtime=Runtime())
    scores = graph.score(state, past)
    for user, row in enumerate(scores):
        mine = slice(4 * (user % 2), 4 * (user % 2) + 4)
        assert row[mine].min() > np.delete(row, np.arange(8)[mine]).max()
    later = make_past(*two_tastes(), (0, 0.5, "EFGH"), (99, 3, "AB"), items=ITEMS)
    now = graph.score(dataclasses.replace(state, history_half_life_days=1.0), later)
    keys = later.histories.user_keys.tolist()
    stranger = now[keys.index(99)]
    assert stranger[:4].min() > stranger[4:].max()  # never seen at the fit
    turned = now[keys.index(0)]
    assert turned[4:].min() > turned[:4].max()


def test_what_comes_after_what_is_learnt(make_past):
    """B follows A and D follows C; a table of what goes together could not tell the direction."""
    sets = [(user, 10 - place, one) for user in range(30) for place, one in enumerate("ABCD"[2 * (user % 2) :][:2])]
    state = graph.fit(make_past(*sets, items="ABCD"), IDS, runtime=Runtime())
    asked = make_past((1, 1, "A"), (2, 1, "C"), (3, 1, "B"), items="ABCD")
    scores = graph.score(state, asked)
    assert scores[:2].argmax(axis=1).tolist() == [1, 3]


def test_words_join_a_product_nobody_has_bought(make_past):
    sets = [(user, day, one.replace("H", "G")) for user, day, one in two_tastes()]
    words = LIKE_A.copy()
    words[4:6] = words[6:8] = 0  # only A to D, and G with H
    words[6:8, 2] = 1
    words[4:6, 3] = 1
    config = dataclasses.replace(IDS, words=0.3)
    told = graph.fit(make_past(*sets, items=ITEMS, words=words), config, runtime=Runtime())
    assert told.items == tuple(ITEMS)
    scores = graph.score(told, make_past((1, 2, "EF"), (2, 2, "AB"), items=ITEMS))
    assert scores[0, 7] > scores[0, :4].max()
    assert scores[1, 7] < scores[1, :4].min()
    silent = graph.fit(make_past(*sets, items=ITEMS), config, runtime=Runtime())
    assert silent.items == tuple(ITEMS[:7])
    scores = graph.score(silent, make_past((1, 2, "EF"), items=ITEMS))
    assert scores[0, 7] == scores[0].min()


def test_a_fading_edge(past):
    """A purchase long ago is a weaker edge, not a weaker reason."""
    config = dataclasses.replace(IDS, steps=2)
    one, other = (graph.fit(past, dataclasses.replace(config, half_life_days=d), runtime=Runtime()) for d in (5.0, 1e6))
    assert np.abs(one.reasons - other.reasons).max() > 1e-3


def test_seeds_differ_and_repeat(past):
    config = dataclasses.replace(IDS, steps=2)
    one, again, other = (graph.fit(past, config, runtime=Runtime(seed=seed)) for seed in (1, 1, 2))
    assert one.goods.tobytes() == again.goods.tobytes()
    assert np.abs(one.goods - other.goods).max() > 0.1


def test_it_goes_on_where_it_was_cut_off(past, tmp_path):
    class Killed(Exception):
        pass

    def kill(done: int, *_: object) -> None:
        if done == 110:
            raise Killed

    config = dataclasses.replace(IDS, steps=120)
    with pytest.raises(Killed):
        graph.fit(past, config, runtime=Runtime(), folder=tmp_path, progress=kill)
    steps = []
    there = graph.fit(past, config, runtime=Runtime(), folder=tmp_path, progress=lambda done, *_: steps.append(done))
    assert steps[0] == 101
    assert there.goods.tobytes() == graph.fit(past, config, runtime=Runtime()).goods.tobytes()
    with pytest.raises(ModelError, match="checkpoint.safetensors: it was written by a run with other data, settings"):
        graph.fit(past, dataclasses.replace(config, width=4), runtime=Runtime(), folder=tmp_path)


def test_a_budget_ends_the_training(past):
    state = graph.fit(past, dataclasses.replace(IDS, steps=10**6), runtime=Runtime(budget_s=0.2))
    assert 1 <= state.steps < 10**6
    assert np.isfinite(state.goods).all()


def test_nobody_bought_twice(make_past):
    with pytest.raises(ModelError, match="model.graph: no user has two purchases before as_of"):
        graph.fit(make_past((1, 1, "A"), items="AB"), IDS, runtime=Runtime())
