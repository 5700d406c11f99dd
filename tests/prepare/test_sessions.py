import datetime as dt

import pytest

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS
from habitue.prepare.sessions import sessions

HALF_HOUR = dt.timedelta(minutes=30)
MINUTE = 1 / 1440


def test_a_longer_pause_starts_the_next_visit_of_that_user(lines):
    minutes = [(1, 95), (1, 0), (2, 10), (1, 30), (1, 61), (2, 10), (1, 60)]
    events = lines(*({"user_key": user, "day": at * MINUTE} for user, at in minutes))
    numbered = sessions(events, gap=HALF_HOUR)
    # user 1: 0, 30 (exactly the gap: same visit), 60, 61, then 34 minutes later 95
    assert numbered["session"].to_list() == [1, 0, 0, 0, 0, 0, 0]
    assert numbered.drop("session").equals(events)
    assert sessions(events, gap=dt.timedelta(minutes=29))["session"].to_list() == [3, 0, 0, 1, 2, 0, 2]


def test_empty_table():
    assert sessions(EVENTS.empty(), gap=HALF_HOUR)["session"].to_list() == []


@pytest.mark.parametrize("minutes", [0, -1])
def test_a_gap_that_is_none_is_refused(lines, minutes):
    with pytest.raises(UsageError, match="Every event would be a visit of its own"):
        sessions(lines({}), gap=dt.timedelta(minutes=minutes))
