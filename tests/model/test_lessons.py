"""Which questions are asked, about whom, and that each comes once a pass."""

import numpy as np
import pytest

from habitue.model.lessons import _repeats, drawn, lessons
from habitue.model.past import PURCHASE, REFUND


@pytest.mark.parametrize("clock", [True, False])
def test_every_lesson_is_taken_once_a_pass(make_past, clock):
    rng = np.random.default_rng(0)
    sets = ((user, 0.5 + n, "abc"[rng.integers(3)]) for user in range(40) for n in range(1 + rng.integers(25)))
    given = lessons(make_past(*sets, items="abc"), clock=clock)
    every = given.known.every
    a_pass, stretches = drawn(given, window=5, questions=60, clock=clock, seed=1)
    assert a_pass == int(np.ceil(len(given.target) / 60)) > 3
    taken = [stretches(step) for step in range(2 * a_pass)]
    for first in (0, a_pass):
        found = []
        for some in taken[first : first + a_pass]:
            asked, of = some.about(given.key)
            target = given.target[asked]
            assert len(asked) and (some.end - some.start).max() <= 5
            assert (every.set_user[target] == some.user[of]).all()
            assert ((target > some.start[of]) | (target == every.set_start[some.user[of]])).all()
            assert (target <= some.end[of]).all()
            found.append(target)
        assert np.sort(np.concatenate(found)).tolist() == given.target.tolist()
    places = [np.sort(np.concatenate([s.start for s in taken[f : f + a_pass]])).tolist() for f in (0, a_pass)]
    assert places[0] != places[1]  # histories are cut elsewhere
    assert stretches(0).start.tolist() == taken[0].start.tolist()  # and a step is the same whenever it is asked for


def test_repeats_are_counted_among_what_is_to_be_foretold(make_past):
    past = make_past((1, 30, "ab"), (1, 20, "bc"), (1, 10, "a", REFUND), (2, 5, "a"), items="abc")
    given = lessons(past, clock=True)
    assert _repeats(past.histories, given.target) == pytest.approx(1 / 5)
    assert given.again and not lessons(make_past((1, 30, "ab"), (1, 20, "c"), items="abc"), clock=True).again


def test_purchases_alone_are_targets(make_past):
    past = make_past((1, 20, "a"), (1, 10, "b", REFUND), (1, 5, "c"), items="abc")
    given = lessons(past, clock=True)
    assert past.histories.set_kind[given.target].tolist() == [past.histories.kinds.index(PURCHASE)] * 2
    np.testing.assert_allclose(past.day - given.after, [20, 20])  # the pause began with the last purchase
