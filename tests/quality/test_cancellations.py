import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.schemas import EVENTS, PURCHASE, REFUND
from habitue.quality.cancellations import matched


def buy(quantity=1.0, **more):
    return {"quantity": quantity, **more}


def undo(quantity=1.0, **more):
    return {"kind": REFUND, "quantity": -quantity, **more}


def test_a_refund_needs_its_own_earlier_purchase(lines):
    events = lines(
        undo(day=0.0),  # nothing bought yet
        buy(day=1.0),
        undo(day=2.0),
        undo(day=3.0),  # the one purchase is taken
        buy(day=4.0),
        undo(day=5.0),
    )
    assert matched(events).to_list() == [False, False, True, False, False, True]


def test_another_customer_product_or_number_of_units_is_no_match(lines):
    events = lines(buy(2.0), undo(2.0, day=1.0, user_key=2), undo(2.0, day=1.0, item_id="x"), undo(1.0, day=1.0))
    assert matched(events).to_list() == [False] * 4


def test_the_same_moment_is_not_earlier(lines):
    assert not matched(lines(buy(), undo())).any()


def test_units_of_several_purchases_cover_a_refund(lines):
    events = lines(buy(2.0), buy(3.0), undo(4.0, day=1.0), undo(1.0, day=2.0), undo(1.0, day=3.0))
    assert matched(events, whole=False).to_list() == [False, False, True, True, False]
    assert not matched(events).any()


def test_nothing_is_matched_in_an_empty_table():
    assert matched(EVENTS.empty()).to_list() == []


moves = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2), st.booleans(), st.integers(0, 8)), max_size=25)


@settings(deadline=None, max_examples=60)
@given(moves)
def test_as_many_matches_as_looking_one_by_one(lines, rows):
    events = lines(
        *(
            {"user_key": u, "quantity": q if b else -q, "kind": PURCHASE if b else REFUND, "day": d}
            for u, q, b, d in rows
        )
    )
    free: list[tuple[int, int, int]] = []
    expected = 0
    for day in range(9):
        for user, units, bought, when in rows:
            earlier = [f for f in free if f[:2] == (user, units) and f[2] < day]
            if when == day and not bought and earlier:
                free.remove(earlier[0])
                expected += 1
        free += [(u, q, d) for u, q, b, d in rows if b and d == day]
    assert matched(events).sum() == expected
    assert matched(events, whole=False).sum() >= 0
    assert not matched(events).filter(events.select(pl.col("kind") == PURCHASE).to_series()).any()
