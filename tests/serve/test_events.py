"""Events that came since a reading: packed, given back, let go."""

import datetime as dt

import numpy as np
import pytest

from habitue.prepare.declared import LEDGER
from habitue.serve import events

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
SAYS = ({"item_id": "茶壶"}, {"item_id": None, "meant": ["a", "b"]}, {"quantity": 2.5, "value": -0.1})


@pytest.fixture
def rows():
    """Sixty events of three people, mixed, at any moment; every seventh is not believed."""
    rng = np.random.default_rng(5)
    names = [*events.columns(LEDGER), "meant"]
    made = []
    for number in range(60):
        at = START + dt.timedelta(microseconds=int(rng.integers(10**12)))
        row = dict.fromkeys(names) | {"at": at, "event_id": f"e{number}", "line": 0, "kind": "k"} | SAYS[number % 3]
        made.append((int(rng.integers(3)), None if number % 7 == 6 else row))
    return made


def test_what_is_packed_comes_back_as_it_was(rows):
    """Whatever a row says, over readings that let go of the older ones."""
    fresh = events.Fresh([*events.columns(LEDGER), "meant"])
    for number, (key, row) in enumerate(rows):
        fresh.add(number, number % 50, key, row)
    for gone in (0, 7, 7, 31, 60):
        fresh.let_go(gone)
        assert len(fresh) == 60 - gone
        assert fresh.said == {number % 50 for number in range(gone, 60)}
        for person in range(3):
            mine = [row for key, row in rows[gone:] if key == person and row is not None]
            assert fresh.of(person) == mine[::-1]
    fresh.add(60, 1, 0, rows[0][1])
    assert fresh.of(0) == [rows[0][1]]


def test_numbers_may_have_gaps(rows):
    """Where memory was full, events in between were not kept."""
    fresh = events.Fresh([*events.columns(LEDGER), "meant"])
    for number in (3, 9, 40):
        fresh.add(number, number, 0, rows[number][1])
    fresh.let_go(10)
    assert fresh.of(0) == [rows[40][1]] and fresh.said == {40}
