import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import synthetic
from habitue.prepare import features, replay
from habitue.prepare.declared import LEDGER, Feature

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
BUY, REFUND, VIEW = "Order Completed", "Order Refunded", "Product Viewed"
MORE = (
    *LEDGER,
    Feature("dear_lines", "count", where=(("price", ">", 3.0), ("quantity", "<=", 3.0))),
    Feature("views_2d", "count", kinds=(VIEW,), window_days=2),
    Feature("all_2d", "sum", "value", kinds=(BUY, REFUND, VIEW), window_days=2.5),
    Feature("titles_3d", "distinct", kinds=(BUY, VIEW), per=("title", "item_id"), window_days=3),
    Feature("fast", "decayed_sum", "value", half_life_days=0.01),
    Feature("view_gap", "gap_std", kinds=(VIEW,)),
    Feature("first_refund", "days_since_first", kinds=(REFUND,)),
)


def replayed(events: pl.DataFrame, at: dt.datetime, declared=MORE) -> dict[int, dict[str, float | None]]:
    """Every user's features at one moment, event by event."""
    found = {}
    past = events.filter(pl.col("at") < at).sort("user_key", "at", "event_id", "line")
    for (user,), rows in past.group_by("user_key", maintain_order=True):
        states = replay.start(declared)
        for event in rows.iter_rows(named=True):
            replay.update(declared, states, event)
        found[user] = replay.values(declared, states, at=at)
    return found


def same(events: pl.DataFrame, at: dt.datetime, declared=MORE) -> None:
    table = features(events, as_of=at, declared=declared)
    online = replayed(events, at, declared)
    assert table["user_key"].to_list() == sorted(online)
    decayed = {f.name for f in declared if f.kind == "decayed_sum"}
    for row in table.drop("as_of").iter_rows(named=True):
        mine = online[row.pop("user_key")]
        for name, number in row.items():
            if name in decayed:
                assert mine[name] == pytest.approx(number, rel=1e-9, abs=1e-9), name
            else:
                assert mine[name] == number, name


moment = st.integers(0, 24 * 12).map(lambda hours: hours / 24)
event = st.fixed_dictionaries(
    {
        "user_key": st.integers(0, 2),
        "day": moment,
        "kind": st.sampled_from([BUY, REFUND, VIEW]),
        "item_id": st.sampled_from(["a", "b", None]),
        "title": st.sampled_from(["mug", None]),
        "order_id": st.sampled_from(["o1", "o2", "o3", None]),
        "price": st.sampled_from([0.1, 0.7, 3.3, 19.99, None]),
        "quantity": st.sampled_from([-2.0, 1.0, 3.0, None]),
    }
)


@settings(deadline=None, max_examples=80)
@given(st.lists(event, min_size=1, max_size=30), moment)
def test_event_by_event_is_the_table(lines, rows, at):
    same(lines(*rows), START + dt.timedelta(days=at))


def test_a_shop_replayed_is_the_table():
    events = synthetic.shop(users=20, days=240).with_columns(pl.col("value") / 3)
    for at in (10, 100, 239.5):
        same(events, START + dt.timedelta(days=at))


def test_a_state_may_be_asked_on_the_way_without_changing_it(lines):
    events = lines(*({"day": float(d), "price": 1.5 * d} for d in range(9))).sort("at")
    states = replay.start(MORE)
    for row in events.iter_rows(named=True):
        early = replay.values(MORE, states, at=row["at"])
        assert replay.values(MORE, states, at=row["at"]) == early
        replay.update(MORE, states, row)
    end = START + dt.timedelta(days=20)
    assert replay.values(MORE, states, at=end) == replayed(events, end)[1]


def test_a_user_nothing_is_known_about(lines):
    told = replay.values(LEDGER, replay.start(LEDGER), at=START)
    assert told["order_count"] == told["spend_30d"] == told["items_90d"] == told["spend_half_60d"] == 0
    assert told["days_since_last"] is told["gap_mean"] is told["value_per_order"] is told["last_order_value"] is None
    assert (told["month"], told["weekday"]) == (1, 1)


def test_a_window_holds_its_first_moment(lines):
    declared = [Feature("n", "count", window_days=3), Feature("i", "distinct", per=("item_id",), window_days=3)]
    states = replay.start(declared)
    replay.update(declared, states, next(lines({}).iter_rows(named=True)))
    told = [replay.values(declared, states, at=START + dt.timedelta(days=d)) for d in (1, 3, 3.001)]
    assert told == [{"n": 1, "i": 1}, {"n": 1, "i": 1}, {"n": 0, "i": 0}]


def test_a_window_lets_go_of_what_it_can_no_longer_hold(lines):
    declared = [Feature("n", "count", window_days=3), Feature("i", "distinct", per=("item_id",), window_days=3)]
    states = replay.start(declared)
    for row in lines(*({"day": float(d), "item_id": str(d)} for d in range(50))).iter_rows(named=True):
        replay.update(declared, states, row)
    assert [len(states[f.name]["recent"]) for f in declared] == [4, 4]
