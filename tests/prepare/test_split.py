import datetime as dt

import pytest

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS
from habitue.prepare import split

DAY_1 = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)


def test_the_moment_of_the_cut_is_future(lines):
    events = lines({"day": 2.0}, {"day": 0.5}, {"day": 1.0}, {"day": 1.0 - 1e-9})
    past, future = split(events, DAY_1)
    assert past["event_id"].to_list() == ["e001", "e003"]
    assert future["event_id"].to_list() == ["e000", "e002"]


def test_a_cut_in_another_zone_is_the_same_moment(lines):
    events = lines({"day": 0.99}, {"day": 1.0})
    tokyo = DAY_1.astimezone(dt.timezone(dt.timedelta(hours=9)))
    assert [part.height for part in split(events, tokyo)] == [1, 1]


def test_an_empty_table_splits_into_two():
    assert [part.height for part in split(EVENTS.empty(), DAY_1)] == [0, 0]


def test_a_cut_without_a_zone_is_refused():
    with pytest.raises(UsageError, match=r"prepare.split: the moment 2024-01-02T00:00:00 has no time zone"):
        split(EVENTS.empty(), DAY_1.replace(tzinfo=None))
