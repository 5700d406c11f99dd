import datetime as dt

import pytest

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS
from habitue.prepare import split
from habitue.prepare.split import basket, cold_items, k_fold, leave_one_out, new_users

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


def ids(events):
    return events["event_id"].to_list()


def test_leave_one_out_holds_the_last_moment_of_each_user(lines):
    events = lines(
        {"day": 5.0},
        {"day": 1.0},
        {"day": 5.0, "item_id": "b"},
        {"user_key": 2, "day": 9.0},
        {"user_key": 2, "day": 9.0},
    )
    past, future = leave_one_out(events)
    assert ids(past) == ["e001", "e003", "e004"]  # user 2 has one moment: nothing to ask
    assert ids(future) == ["e000", "e002"]
    assert [part.height for part in leave_one_out(EVENTS.empty())] == [0, 0]


def test_cold_items_are_those_no_earlier_row_names(lines):
    events = lines(
        {"item_id": "a"}, {"item_id": "a", "day": 2.0}, {"item_id": "b", "day": 2.0}, {"item_id": None, "day": 3.0}
    )
    past, future = cold_items(events, DAY_1)
    assert (ids(past), ids(future)) == (["e000"], ["e002"])


def test_new_users_have_no_earlier_row(lines):
    events = lines({}, {"day": 2.0}, {"user_key": 2, "day": 1.0}, {"user_key": 2, "day": 3.0})
    past, future = new_users(events, DAY_1)
    assert (ids(past), ids(future)) == (["e000"], ["e002", "e003"])


def test_a_basket_is_the_first_purchase_within_the_horizon(lines):
    events = lines(
        {},
        {"day": 3.0, "item_id": "a"},
        {"day": 3.0, "item_id": "b"},
        {"day": 4.0},
        {"day": 2.0, "kind": "Product Viewed"},
        {"user_key": 2, "day": 3.0},  # unknown before the cut
        {"user_key": 3},
        {"user_key": 3, "day": 11.0},  # beyond the horizon
        {"user_key": 4},
        {"user_key": 4, "day": 10.999},
    )
    past, future = basket(events, DAY_1, horizon_days=10)
    assert ids(past) == ["e000", "e006", "e008"]
    assert ids(future) == ["e001", "e002", "e009"]
    with pytest.raises(UsageError, match="prepare.basket: the horizon is 0 days"):
        basket(events, DAY_1, horizon_days=0)


def test_k_fold_holds_each_user_once(lines):
    events = lines(*({"user_key": i % 7, "day": float(i)} for i in range(30)))
    folds = k_fold(events, 3, seed=1)
    held = [set(future["user_key"]) for _, future in folds]
    assert sorted(len(users) for users in held) == [2, 2, 3]
    assert set.union(*held) == set(range(7))
    for past, future in folds:
        assert past.height + future.height == 30
        assert not set(past["user_key"]) & set(future["user_key"])
    assert [ids(f) for _, f in k_fold(events, 3, seed=1)] == [ids(f) for _, f in folds]
    assert [ids(f) for _, f in k_fold(events, 3, seed=2)] != [ids(f) for _, f in folds]
    with pytest.raises(UsageError, match="prepare.k_fold: 8 folds of 7 users"):
        k_fold(events, 8)
    with pytest.raises(UsageError, match="prepare.k_fold: 1 folds"):
        k_fold(events, 1)
