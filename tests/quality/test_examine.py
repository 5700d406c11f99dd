import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import SchemaError
from habitue.core.schemas import EVENTS, FINDINGS, ITEMS, QUALITY, REFUSED, USERS, check
from habitue.quality import limits
from habitue.quality.drift import Config
from habitue.quality.examine import examine

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)


def look(events, **more):
    tables = {"events": events, "items": ITEMS.empty(), "users": USERS.empty(), "refused": REFUSED.empty(), **more}
    known = events.select("user_key").unique().with_columns(known=pl.lit(True))
    return examine(tables, known=known, now=NOW, currency="EUR")


def test_every_part_has_its_say(lines):
    rows = [
        {"user_key": i, "day": i / 10, "order_id": f"o{i}", "channel": "web" if i < 300 else "app"} for i in range(600)
    ]
    events = lines(*rows, rows[0], {"day": 500.0})
    seen = look(events)
    check(seen.findings, FINDINGS, at="test")
    check(seen.scores, QUALITY, at="test")
    codes = set(seen.findings["code"])
    assert {"exact_repeat", "orphan_item", "future", "drift"} <= codes
    assert {p.name for p in seen.proposals} == {"drop_exact_repeats", "drop_future"}
    # the future row does not set the period: the latest real one does
    assert seen.after[1] == dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=59.9, microseconds=1)
    assert seen.rows == {"events": 602}
    assert seen.broken == ()
    assert seen.scores.select("table", "dimension", "measure").is_duplicated().sum() == 0


def test_limits_and_periods_are_those_given(lines):
    config = limits.Config(least={"events.days": 1.0}, drift=Config(days=3))
    tables = {
        "events": lines({}, {"day": 2.0}),
        "items": ITEMS.empty(),
        "users": USERS.empty(),
        "refused": REFUSED.empty(),
    }
    known = pl.DataFrame({"user_key": [1], "known": [True]})
    seen = examine(tables, known=known, now=NOW, currency="EUR", config=config)
    assert seen.broken == ("'events.days' is 0.6667, and must be 1 or more.",)
    assert seen.after[1] - seen.after[0] == dt.timedelta(days=3)


def test_a_missing_or_broken_table_is_refused(lines):
    with pytest.raises(SchemaError, match="quality.examine: the table 'events' is missing"):
        examine({}, known=pl.DataFrame(), now=NOW, currency="EUR")
    with pytest.raises(SchemaError, match="quality.examine: USERS: column 'user_key' is missing"):
        look(lines({}), users=pl.DataFrame({"a": [1]}))


def test_nothing_at_all():
    seen = look(EVENTS.empty())
    assert seen.findings.is_empty()
    assert seen.scores.is_empty()
    assert seen.drift.is_empty()
    assert seen.proposals == ()


values = st.fixed_dictionaries(
    {
        "day": st.floats(-10, 400),
        "user_key": st.integers(0, 2),
        "price": st.one_of(st.none(), st.floats(-5, 1e6)),
        "quantity": st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 2.0])),
        "item_id": st.one_of(st.none(), st.sampled_from(["a", "A", "{x}", "é"])),
        "title": st.one_of(st.none(), st.text(max_size=12)),
        "currency": st.one_of(st.none(), st.sampled_from(["EUR", "eur", ""])),
        "order_id": st.one_of(st.none(), st.sampled_from(["o1", "o2"])),
        "kind": st.sampled_from(["Order Completed", "Order Refunded", "Product Viewed"]),
        "text": st.one_of(st.none(), st.text(max_size=60)),
    }
)


@settings(deadline=None, max_examples=15)
@given(st.lists(values, max_size=12))
def test_whatever_a_shop_brings_gets_an_answer(lines, rows):
    seen = look(lines(*rows))
    check(seen.findings, FINDINGS, at="test")
    check(seen.scores, QUALITY, at="test")
    assert seen.scores["score"].is_between(0, 1).all()
    assert seen.findings["rows"].gt(0).all()
    assert set(seen.findings["code"]) <= set(limits.CODES)
