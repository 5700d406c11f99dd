"""What the soak says of memory: a slope, how sure it is, and when it is called flat."""

import runpy
from pathlib import Path

import numpy as np
import pytest

SOAK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/reliability/soak.py"))
trend, flat, flat_rounds, reported, highest = (
    SOAK[name] for name in ("trend", "flat", "flat_rounds", "reported", "highest")
)


def test_the_slope_is_that_of_the_second_half():
    hours = np.arange(400) / 720
    warm = np.where(hours < 0.25, 900.0, 500 + 20 * hours)
    slope, half = trend(hours, warm + np.random.default_rng(0).normal(0, 1, 400))
    assert abs(slope - 20) < half < 4


def test_a_few_minutes_tell_nothing():
    slope, half = trend(np.arange(10) / 60, np.arange(10.0))
    assert slope == pytest.approx(60) and np.isinf(half) and np.isnan(flat(slope, half, 500.0))
    found = {"MB an hour, server": slope, "MB an hour, server, half its interval": half}
    assert reported(found) == [{"metric": "MB an hour, server", "mean": slope, "low": None, "high": None}]


def test_looks_that_are_alike_make_it_less_sure():
    hours, rng = np.arange(400) / 720, np.random.default_rng(1)
    alone = rng.normal(0, 1, 400)
    alike = np.repeat(rng.normal(0, 1, 40), 10)
    assert trend(hours, alike)[1] > 2.5 * trend(hours, alone)[1]


def test_each_process_is_told_by_its_highest_minute():
    first = [300.0] * 12 + [310.0] * 11 + [305.0] + [500.0]  # one look of much is no minute
    found = highest(np.array([*first, *[290.0] * 5, *[320.0] * 12]), np.array([7] * 25 + [8] * 5 + [9] * 12))
    assert found == [305.0, 320.0]


@pytest.mark.parametrize(
    ("slope", "half", "told"), [(3, 4, 1), (4, 1, 1), (6, 1, 0), (-20, 1, 1), (30, 24, 0), (0, 26, None)]
)
def test_flat_is_said_of_what_is_flat_and_of_nothing_else(slope, half, told):
    found = flat(float(slope), float(half), 500.0)
    assert np.isnan(found) if told is None else found == told


def test_the_interval_stands_beside_its_slope_and_what_is_not_known_is_left_out():
    found = {"MB an hour, server": 3.0, "MB an hour, server, half its interval": 4.0, "flat, server": float("nan")}
    assert reported(found) == [{"metric": "MB an hour, server", "mean": 3.0, "low": -1.0, "high": 7.0}]


def test_a_process_in_the_background_may_take_what_came_and_no_more():
    assert flat_rounds([200.0, 209.0, 190.0], 0.0) == 1.0
    assert flat_rounds([200.0, 209.0, 215.0], 0.0) == 0.0
    assert flat_rounds([200.0, 209.0, 215.0], 3.0) == 1.0
    assert flat_rounds([200.0, 214.0, 215.0], 3.0) == 0.0
