"""What sells lately, by hand, and nothing of what comes after a moment."""

import dataclasses
import datetime as dt

import numpy as np

from habitue.model.trend import rates


def test_trend_holds_nothing_of_its_own_moment_or_later(make_past):
    rng = np.random.default_rng(0)
    sets = ((user, int(day), "abcdefgh"[rng.integers(8)]) for user in range(30) for day in rng.permutation(200)[:9])
    past = make_past(*sets, items="abcdefgh")
    trend = rates(past, (7.0, 30.0))
    day = past.day - 50.5  # between two rows: the older one counts
    rows, newest = trend.at(np.array([day]))
    then = rates(past.rewind(past.as_of - dt.timedelta(days=51)), (7.0, 30.0))
    assert rows[0] == 51
    moved = newest - then.at(np.array([then.day]))[1]  # the floor follows the whole record, the order does not
    assert np.abs(moved).max() < 0.2
    later = dataclasses.replace(past, histories=past.histories.before(past.day - 51))
    assert np.abs(rates(later, (7.0, 30.0)).at(np.array([day]))[1] - newest).max() < 0.2


def test_trend_by_hand(make_past):
    past = make_past((1, 10, "a"), (2, 3.5, "b"), (2, 0.5, "b"), items="ab")
    found = rates(past, (2.0,)).rates[0]
    little = 0.05 * 3 / 10 / 2
    sold = np.array([0.5 ** (9 / 2), 0.5 ** (3 / 2) + 1.0])  # whole days, by the younger end of each
    expected = np.log(sold / 2 + little)
    np.testing.assert_allclose(found[0], expected - expected.mean(), rtol=1e-5)
