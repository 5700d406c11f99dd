import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue.apply.experiment import judge
from habitue.core.errors import ModelError, UsageError
from habitue.core.schemas import EVENTS, EXPOSURES, PURCHASE, REFUND

START = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def exposures(rows):
    """Rows of (user_key, arm, day[, outcome])."""
    return EXPOSURES.shape(
        pl.DataFrame(
            [
                {
                    "exposure_id": f"x{n}",
                    "at": START + day * DAY,
                    "user_key": user,
                    "what": "banner",
                    "arm": arm,
                    "propensity": 0.5,
                    "cost": None,
                    "outcome": more[0] if more else None,
                    "source": "test",
                }
                for n, (user, arm, day, *more) in enumerate(rows)
            ],
            schema=EXPOSURES.schema,
        )
    )


def events(rows):
    """Rows of (user_key, day, value[, kind])."""
    made = [
        {
            "event_id": f"e{n}",
            "line": 0,
            "at": START + day * DAY,
            "user_key": user,
            "value": float(value),
            "kind": more[0] if more else PURCHASE,
            "source": "test",
            "import_id": "i",
        }
        for n, (user, day, value, *more) in enumerate(rows)
    ]
    return EVENTS.shape(pl.DataFrame(made, schema_overrides=EVENTS.schema).with_columns(EVENTS.empty().select([])))


@pytest.fixture
def shop():
    """80 users meet it one an hour; those of `new` spend 6 in the days after, the others 4; then one month passes."""
    met = [(user, ("control", "new")[user % 2], user / 24) for user in range(80)]
    bought = [(user, user / 24 + 2, 4 + 2 * (user % 2) + (user // 2) % 2) for user in range(80)]
    bought += [(user, user / 24 - 3, 10.0) for user in range(80) if user // 2 % 4 < 2]  # before, alike in both arms
    bought += [(user, user / 24 + 20, 100.0) for user in range(40)]  # long after
    bought += [(999, 60, 1.0)]  # the data go on
    return met, bought


def test_only_the_days_after_count(shop):
    met, bought = shop
    found = judge(exposures(met), events(bought), name="banner", days=14)
    assert found.control == "control" and found.compared.arms["mean"].to_list() == pytest.approx([4.5, 6.5], abs=0.02)
    assert found.counts == {"users": 80, "two_arms": 0, "too_early": 0, "nobody": 0} and found.notes == ()
    assert found.compared.arms["incremental"][1] == pytest.approx(80, abs=1)
    assert found.daily["day"].is_sorted() and found.daily["arm"].unique().to_list() == ["new"]


def test_refunds_count_against_it_and_orders_are_counted_once(shop):
    met, bought = shop
    back = [(user, user / 24 + 3, -4.0, REFUND) for user in range(1, 80, 2)]
    money = judge(exposures(met), events(bought + back), name="banner")
    assert money.compared.arms["mean"].to_list() == pytest.approx([4.5, 2.5], abs=0.02)
    again = [(user, user / 24 + 5, 1.0) for user in range(80)]
    orders = judge(exposures(met), events(bought[20:] + again), name="banner", metric="orders")
    assert orders.compared.arms["mean"].to_list() == [1.0, 1.0]


def test_users_whose_days_are_not_over_are_left_out_alike(shop):
    met, bought = shop
    late = [(1_000 + user, ("control", "new")[user % 2], 55.0) for user in range(10)]
    found = judge(exposures(met + late), events(bought), name="banner", days=14)
    assert found.counts["too_early"] == 10 and found.compared.arms["users"].to_list() == [40, 40]
    assert "10 users are left out: they met it less than 14 days before the end." in found.notes


def test_where_nobodys_days_are_over_it_says_how_many_wait(shop):
    met, bought = shop
    with pytest.raises(ModelError, match="80 users met 'banner', and their 300 days are not over.*--days 1"):
        judge(exposures(met), events(bought), name="banner", days=300)
    with pytest.raises(ModelError, match="80 users met 'banner', and no outcome is told of them"):
        judge(exposures(met), events(bought), name="banner", metric="outcome")


def test_the_first_arm_counts_and_nobody_is_in_none(shop):
    met, bought = shop
    more = [(0, "new", 5.0), (None, "new", 1.0), (None, "control", 1.0)]
    found = judge(exposures(met + more), events(bought), name="banner", days=14)
    assert (found.counts["two_arms"], found.counts["nobody"]) == (1, 2)
    assert found.compared.arms["users"].to_list() == [40, 40]
    assert "1 users (1.2%) met two arms; the first counts." in found.notes


def test_what_they_spent_before_is_taken_out():
    rng = np.random.default_rng(0)
    spent = rng.gamma(2.0, 20.0, 400)
    met = [(user, "ab"[user % 2], 10.0) for user in range(400)]
    bought = [(user, 5.0, spent[user]) for user in range(400)]
    bought += [(user, 11.0, spent[user] + 3 * (user % 2) + rng.normal()) for user in range(400)] + [(999, 60, 1.0)]
    found = judge(exposures(met), events(bought), name="banner", control="a")
    assert found.compared.explained > 0.95
    assert found.compared.arms["always_low"][1] > 2 and found.compared.arms["always_high"][1] < 4


def test_the_outcome_of_the_log(shop):
    met = [(user, ("control", "new")[user % 2], user / 24, float(user % 2)) for user in range(80)]
    found = judge(exposures([*met, (1, "new", 4.0, 0.0)]), events(shop[1]), name="banner", metric="outcome")
    assert found.compared.arms["mean"].to_list() == [0.0, 1.0]  # who clicked once has clicked


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "baner"}, r"nobody met an experiment 'baner'.*Did you mean 'banner'"),
        ({"name": "banner", "metric": "mony"}, r"there is no metric 'mony'.*Did you mean 'money'"),
    ],
)
def test_what_is_not_there_is_said(shop, asked, words):
    with pytest.raises(UsageError, match=words):
        judge(exposures(shop[0]), events(shop[1]), **asked)
