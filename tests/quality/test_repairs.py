import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import SchemaError, UsageError
from habitue.core.schemas import EVENTS, ITEMS, REPAIRS, check
from habitue.quality import repairs

NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def catalogue(*titles: tuple[str, str]) -> pl.DataFrame:
    frame = pl.DataFrame(list(titles), schema={"item_id": pl.String, "title": pl.String}, orient="row")
    return ITEMS.shape(frame.with_columns(valid_from=pl.lit(START), source=pl.lit("t"), import_id=pl.lit("t")))


def proposed(events, items=None, **more) -> dict[str, repairs.Proposal]:
    items = ITEMS.empty() if items is None else items
    return {one.name: one for one in repairs.propose(events, items, now=NOW, currency="EUR", **more)}


def do(proposal, at=NOW) -> pl.DataFrame:
    journal = repairs.applied(proposal, at=at)
    check(journal, REPAIRS, at="test")
    return journal


@pytest.fixture
def wrong(lines) -> pl.DataFrame:
    early = START + dt.timedelta(days=1)
    return lines(
        {},
        {},  # 1: repeat
        {"day": 2.0, "received_at": early, "quantity": 3.0},  # 2: received before it happened
        {"day": 300.0, "order_id": "late"},  # 3: future
        {"currency": None, "order_id": "o3"},  # 4
        {"currency": " usd ", "order_id": "o4"},  # 5
        {"currency": "£", "order_id": "o5"},  # 6
        {"currency": "florins", "order_id": "o6"},  # 7: cannot be told
        {"currency": None, "order_id": "o7", "price": None},  # 8: no money
    )


def test_each_repair_touches_its_rows_and_says_their_money(wrong):
    found = proposed(wrong)
    assert {name: (one.rows, one.money) for name, one in found.items()} == {
        "drop_exact_repeats": (1, 2.0),
        "clamp_clock": (1, 6.0),
        "drop_future": (1, 2.0),
        "fix_currency": (3, 6.0),
    }
    assert found["drop_exact_repeats"].sentence == (
        "Leave out 1 rows that repeat an earlier row exactly, 2.00 of net money; the first of each stays."
    )
    none = ITEMS.empty()
    kept = {name: repairs.mend(wrong, none, do(one))[0] for name, one in found.items()}
    ids = wrong["event_id"].to_list()
    assert kept["drop_exact_repeats"]["event_id"].to_list() == ids[:1] + ids[2:]
    assert kept["drop_future"]["event_id"].to_list() == ids[:3] + ids[4:]
    clamped = kept["clamp_clock"]
    assert clamped["at"][2] == START + dt.timedelta(days=1)
    assert clamped.drop("at").equals(wrong.drop("at"))
    fixed = kept["fix_currency"]
    assert fixed["currency"].to_list() == ["EUR"] * 5 + ["USD", "GBP", "florins", None]
    assert fixed.drop("currency").equals(wrong.drop("currency"))
    for one in kept.values():
        check(one, EVENTS, at="test")


def test_what_is_mended_is_not_proposed_again(wrong):
    journal = pl.concat([do(one) for one in proposed(wrong).values()])
    events, items = repairs.mend(wrong, ITEMS.empty(), journal)
    assert proposed(events, items) == {}


def test_a_clock_that_stays_in_the_future_after_the_server_saw_it_is_dropped(lines):
    late = NOW + dt.timedelta(days=5)
    found = proposed(lines({"day": 300.0, "received_at": late}, {"day": 1.0, "received_at": late}))
    assert set(found) == {"clamp_clock"}  # its moment of arrival is later than now too, so clamping comes first
    events, _ = repairs.mend(lines({"day": 300.0, "received_at": late}), ITEMS.empty(), do(found["clamp_clock"]))
    assert set(proposed(events)) == {"drop_future"}


def test_bots(lines):
    second = 1 / 86_400
    fast = [{"user_key": 7, "day": i * 0.9 * second, "order_id": f"b{i}"} for i in range(70)]
    events = lines({}, *fast)
    bots = proposed(events)["drop_bots"]
    assert (bots.rows, bots.money) == (70, 140.0)
    assert repairs.mend(events, ITEMS.empty(), do(bots))[0]["user_key"].to_list() == [1]
    assert do(bots)["user_key"].unique().to_list() == [7]  # an erasure of the person finds the journal's rows


def test_one_product_written_twice_becomes_one_in_both_tables(lines):
    items = catalogue(("85123A", "red mug"), ("85123a", "red mug"), ("9", "plate"))
    events = lines({"item_id": "85123A"}, {"item_id": "85123A", "day": 1.0}, {"item_id": "85123a", "quantity": 4.0})
    merge = proposed(events, items)["merge_items"]
    assert (merge.rows, merge.money) == (1, 8.0)
    kept, listed = repairs.mend(events, items, do(merge))
    assert kept["item_id"].to_list() == ["85123A"] * 3
    assert listed["item_id"].to_list() == ["85123A", "9"]  # the two rows were one key
    check(listed, ITEMS, at="test")


def test_repairs_are_done_in_the_order_they_were_asked_for(lines):
    events = lines({"currency": None})
    first = do(proposed(events)["fix_currency"], at=NOW)
    second = first.with_columns(
        value=pl.lit("GBP"),
        repair_id=pl.lit("a"),
        applied_at=pl.lit(NOW + dt.timedelta(seconds=1)).cast(pl.Datetime("us", "UTC")),
    )
    both = pl.concat([second, first])
    assert repairs.mend(events, ITEMS.empty(), both)[0]["currency"].to_list() == ["GBP"]
    assert repairs.in_force(both).select("repair", "rows", "money").rows() == [("fix_currency", 1, 2.0)] * 2


def test_undoing_takes_every_application_of_a_name(wrong):
    found = proposed(wrong)
    journal = pl.concat([do(found["drop_future"]), do(found["fix_currency"])])
    kept = repairs.undone(journal, "drop_future")
    assert kept["repair"].unique().to_list() == ["fix_currency"]
    with pytest.raises(
        UsageError, match=r"repair 'drop_bots': it is not in force\. There is nothing to undo\. Known: "
    ):
        repairs.undone(kept, "drop_bots")
    with pytest.raises(UsageError, match=r"there is no repair of that name.*Did you mean 'fix_currency'\?"):
        repairs.undone(kept, "fix_curency")
    with pytest.raises(UsageError, match=r"No repair is in force\."):
        repairs.undone(REPAIRS.empty(), "drop_bots")


def test_nothing_to_mend(lines):
    assert proposed(EVENTS.empty()) == {}
    assert proposed(lines({}), catalogue(("10001", "red mug"))) == {}
    events, items = lines({}), catalogue(("10001", "red mug"))
    same = repairs.mend(events, items, REPAIRS.empty())
    assert same[0].equals(events)
    assert same[1].equals(items)
    with pytest.raises(SchemaError, match="quality.repairs: EVENTS"):
        repairs.propose(ITEMS.empty(), ITEMS.empty(), now=NOW, currency="EUR")


rows = st.fixed_dictionaries(
    {
        "day": st.sampled_from([0.0, 1.0, 300.0]),
        "currency": st.sampled_from(["EUR", None, "usd", "€"]),
        "item_id": st.sampled_from(["a1", "A1", "b"]),
        "quantity": st.sampled_from([1.0, 2.0]),
    }
)


@settings(deadline=None, max_examples=15)
@given(st.lists(rows, max_size=8))
def test_no_row_is_lost_but_those_a_repair_names(lines, some):
    events = lines(*some)
    items = catalogue(("a1", "red mug"), ("A1", "red mug"), ("b", "plate"))
    found = proposed(events, items)
    journal = pl.concat([REPAIRS.empty(), *(do(one) for one in found.values())])
    mended, _ = repairs.mend(events, items, journal)
    dropped = journal.filter(pl.col("column").is_null()).select("event_id", "line").unique().height
    assert mended.height == events.height - dropped
    assert mended["event_id"].to_list() == [e for e in events["event_id"] if e in set(mended["event_id"])]
    assert repairs.mend(events, items, journal.clear())[0].equals(events)
