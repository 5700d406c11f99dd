import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import SchemaError, UsageError
from habitue.core.schemas import EVENTS
from habitue.prepare.activity import COLUMNS, activity

GAP = dt.timedelta(minutes=30)
MINUTE = 1 / 1_440
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def test_visits_and_totals_worked_by_hand(lines):
    events = lines(
        {"day": 60 * MINUTE, "item_id": "b", "quantity": 3.0},
        {"day": 0.0},
        {"day": 30 * MINUTE},  # thirty minutes are no more than thirty minutes
        {"day": 90 * MINUTE + 1e-9, "item_id": None, "price": None},
        {"day": 91 * MINUTE, "user_key": 0, "item_id": "b", "price": 0.5},
    )
    late = START + dt.timedelta(minutes=91)
    assert activity(events, gap=GAP).rows() == [
        (0, 1, 1, 1, 0.5, late, late),
        (1, 4, 2, 2, 10.0, START, events["at"][3]),
    ]
    assert activity(events, gap=dt.timedelta(minutes=29))["sessions"].to_list() == [1, 4]


def test_nobody_and_one():
    assert activity(EVENTS.empty(), gap=GAP).is_empty()
    narrow = EVENTS.empty().select(COLUMNS)
    assert activity(narrow, gap=GAP).columns == ["user_key", "events", "sessions", "items", "money", "first", "last"]


rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.sampled_from(["a", "b", None])), max_size=30)


@settings(deadline=None, max_examples=50)
@given(rows)
def test_as_counting_one_by_one(lines, some):
    events = lines(*({"user_key": u, "day": m * MINUTE, "item_id": i} for u, m, i in some))
    told = {row["user_key"]: row for row in activity(events, gap=GAP).to_dicts()}
    assert set(told) == {u for u, _, _ in some}
    for user, row in told.items():
        mine = sorted(m for u, m, _ in some if u == user)
        assert row["events"] == len(mine)
        assert row["sessions"] == 1 + sum(b - a > 30 for a, b in zip(mine, mine[1:], strict=False))
        assert row["items"] == len({i for u, _, i in some if u == user and i})
        assert row["money"] == 2.0 * len(mine)


def test_what_cannot_be_counted():
    with pytest.raises(SchemaError, match="prepare.activity: column 'at' is missing"):
        activity(pl.DataFrame({"user_key": [1]}), gap=GAP)
    with pytest.raises(UsageError, match="prepare.activity: the gap is 0:00:00"):
        activity(EVENTS.empty(), gap=dt.timedelta(0))
