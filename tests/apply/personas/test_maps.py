from __future__ import annotations

import numpy as np
import pytest

from habitue.apply.personas import maps

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(90, 5)) + 20 * np.eye(5)[np.arange(90) % 3]
NAMES = [f"g{k % 3}" for k in range(90)]


def test_neighbours_stay_neighbours_and_the_same_seed_draws_the_same() -> None:
    table = maps.draw(POINTS, range(90), NAMES, rows=90, seed=0)
    places = table.select("x", "y").to_numpy()
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(90)
    nearest = apart.argmin(axis=1)
    assert all(NAMES[i] == NAMES[j] for i, j in enumerate(nearest))
    assert np.abs(places).max() == 1.0
    assert table.equals(maps.draw(POINTS, range(90), NAMES, rows=90, seed=0))


def test_a_large_shop_is_drawn_in_part() -> None:
    table = maps.draw(POINTS, [100 + k for k in range(90)], NAMES, rows=30, seed=0)
    assert table.height == 30 and table["user_key"].n_unique() == 30
    assert all(NAMES[key - 100] == name for key, name in table.select("user_key", "name").rows())


@pytest.mark.parametrize("points", [POINTS[:5], POINTS[:5, :1], np.zeros((40, 3))], ids=["few", "one column", "equal"])
def test_few_or_equal_customers_have_a_place_too(points: np.ndarray) -> None:
    table = maps.draw(points, range(len(points)), NAMES[: len(points)], rows=99, seed=0)
    assert table.height == len(points)
    assert np.isfinite(table.select("x", "y").to_numpy()).all()
