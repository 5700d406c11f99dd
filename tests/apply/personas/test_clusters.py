from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.cluster import KMeans

from habitue.apply.personas import clusters
from habitue.apply.personas.clusters import Candidate, Fitted

RNG = np.random.default_rng(0)
APART = RNG.normal(size=(240, 4)) + 30 * np.eye(4)[np.arange(240) % 3, :]  # three groups, far apart
NOISE = RNG.normal(size=(240, 4))


def measured(points: np.ndarray, candidates: list[Candidate], **more: int) -> pl.DataFrame:
    asked = {"draws": 3, "rows": 1000, "least": 5, "seed": 0} | more
    return pl.DataFrame(list(clusters.compare(points, candidates, **asked)))


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("kmeans", count=3),
        Candidate("mixture", shape="diag", count=3),
        Candidate("mixture", shape="full", count=3),
        Candidate("hdbscan", share=0.1),
    ],
    ids=lambda c: c.said,
)
def test_every_method_finds_groups_that_are_there_and_places_strangers(candidate: Candidate) -> None:
    fitted = clusters.fit(candidate, APART[:120], seed=0)
    assert fitted.groups == 3
    labels = clusters.assign(fitted, APART[120:]).labels
    assert [len(set(labels[np.arange(120, 240) % 3 == k])) for k in range(3)] == [1, 1, 1]
    assert len(set(labels)) == 3
    table = measured(APART, [candidate])
    assert table["stability"][0] == pytest.approx(1)
    assert table["apart"][0] == pytest.approx(2 / 3, abs=0.02)
    assert table["smallest"][0] == pytest.approx(1 / 3, abs=0.06)
    assert table["silhouette"][0] > 0.8 and table["groups"][0] == 3 and table["none"][0] == 0


def test_groups_of_noise_do_not_come_back() -> None:
    table = measured(NOISE, [Candidate("kmeans", count=6), Candidate("hdbscan", share=0.1)])
    assert table["stability"][0] < 0.5 and table["stability"][1] == 0
    assert table["none"][1] > 0.5 and table["silhouette"][1] is None
    fitted = clusters.fit(Candidate("kmeans", count=6), NOISE, seed=0)
    assert clusters.jaccard(NOISE, fitted, draws=5, rows=1000, seed=0).mean() < 0.75


def test_stability_is_the_agreement_on_the_half_that_was_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = clusters.assign

    def spy(fitted: Fitted, points: np.ndarray) -> clusters.Assigned:
        asked.append(len(points))
        return real(fitted, points)

    monkeypatch.setattr(clusters, "assign", spy)
    measured(APART, [Candidate("kmeans", count=3)], draws=1)
    assert asked == [120, 120, 120, 120]  # both halves by the other's groups and by their own
    asked.clear()
    measured(APART, [Candidate("kmeans", count=3)], draws=2, rows=100)
    assert asked == [50] * 8


def test_many_stable_groups_beat_two_stable_halves() -> None:
    table = measured(APART, [Candidate("kmeans", count=2), Candidate("kmeans", count=3)])
    assert clusters.choose(table)[0] == 1


def test_of_equals_the_clearest_is_taken_and_none_is_lost() -> None:
    rows = {
        "place": [0, 1, 2, 3],
        "stability": [0.90, 0.88, 0.40, 0.0],
        "error": [0.04, 0.01, 0.01, 0.0],
        "apart": [0.7, 0.7, 0.8, 0.0],
        "silhouette": [0.1, 0.3, 0.9, None],
    }
    assert clusters.choose(pl.DataFrame(rows)) == [1, 0, 2, 3]
    assert clusters.choose(pl.DataFrame(rows | {"error": [0.01, 0.01, 0.01, 0.0]})) == [0, 1, 2, 3]


def test_told_apart_is_the_chance_that_two_customers_are_in_different_groups() -> None:
    lopsided = np.r_[np.zeros((180, 2)), np.full((60, 2), 9.0)] + np.random.default_rng(1).normal(size=(240, 2)) / 9
    table = measured(lopsided, [Candidate("kmeans", count=2)], draws=20)
    assert table["apart"][0] == pytest.approx(1 - 0.75**2 - 0.25**2, abs=0.01)


def test_a_group_comes_back_by_its_overlap_with_the_best_match() -> None:
    points = np.r_[np.zeros((100, 2)), np.ones((300, 2))] + np.random.default_rng(0).normal(scale=0.01, size=(400, 2))
    skewed = KMeans(2, init=np.array([[0.0, 0], [0.99, 0.99]]), n_init=1, max_iter=1).fit(points)
    skewed.cluster_centers_ = np.array([[0.2, 0.2], [-9.0, -9.0]])  # everybody is in the first group
    fitted = Fitted(Candidate("kmeans", count=2), 2, skewed, None, None)
    assert clusters.jaccard(points, fitted, draws=20, rows=400, seed=0) == pytest.approx([0.75, 0.0], abs=0.02)
    right = clusters.fit(Candidate("kmeans", count=2), points, seed=0)
    assert clusters.jaccard(points, right, draws=5, rows=400, seed=0) == pytest.approx([1.0, 1.0])


def test_the_distance_is_to_the_own_centre_and_the_probability_of_the_own_component() -> None:
    fitted = clusters.fit(Candidate("kmeans", count=3), APART, seed=0)
    told = clusters.assign(fitted, APART)
    assert isinstance(fitted.estimator, KMeans) and told.distance is not None and told.probability is None
    centres = fitted.estimator.cluster_centers_[told.labels]
    assert told.distance == pytest.approx(np.linalg.norm(APART - centres, axis=1))
    likely = clusters.assign(clusters.fit(Candidate("mixture", shape="diag", count=3), APART, seed=0), APART)
    assert likely.distance is None and likely.probability is not None and likely.probability.min() > 0.99
    dense = clusters.assign(clusters.fit(Candidate("hdbscan", share=0.1), APART, seed=0), APART + 0.0)
    assert dense.distance is not None and dense.distance.max() == 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = clusters.fit(Candidate("kmeans", count=3), APART, seed=0)
    whole = clusters.assign(fitted, APART)
    monkeypatch.setattr(clusters, "BLOCK", 7)
    assert np.array_equal(clusters.assign(fitted, APART).labels, whole.labels)


def test_the_grid_asks_for_groups_that_can_be_large_enough() -> None:
    every = clusters.grid(5000, methods=clusters.METHODS, count=None, least=10)
    assert len(every) == 7 + 3 + 14
    few = clusters.grid(60, methods=clusters.METHODS, count=None, least=10)
    assert sorted({c.count for c in few}) == [0, 2, 3]
    assert [c.share for c in few if c.method == "hdbscan"] == [0.10]
    assert [c.count for c in clusters.grid(20, methods=["kmeans"], count=None, least=10)] == [2]
    assert [c.said for c in clusters.grid(99, methods=["mixture"], count=5, least=10)] == [
        "Gaussian mixture (diagonal), 5 groups",
        "Gaussian mixture (full), 5 groups",
    ]


def test_the_same_seed_gives_the_same_table() -> None:
    grid = [Candidate("kmeans", count=4), Candidate("mixture", shape="full", count=4)]
    assert measured(NOISE, grid).equals(measured(NOISE, grid))
    assert not measured(NOISE, grid).equals(measured(NOISE, grid, seed=1))
