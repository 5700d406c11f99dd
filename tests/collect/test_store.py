import datetime as dt

import polars as pl

from habitue.collect import store
from habitue.core.schemas import ITEMS

FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def said(*told):
    """Return rows of ITEMS of one product: (hours since FIRST, title)."""
    rows = [
        {
            "item_id": "a",
            "valid_from": FIRST + dt.timedelta(hours=hour),
            "title": title,
            "source": "s",
            "import_id": "1",
        }
        for hour, title in told
    ]
    return ITEMS.shape(pl.DataFrame(rows))


def titles(rows):
    return rows.sort("valid_from")["title"].to_list()


def test_the_same_news_twice_is_stored_once():
    rows = said((0, "x"))
    assert store.news(rows, ITEMS.empty(), of="item_id").equals(rows)
    assert store.news(pl.concat([rows, rows]), ITEMS.empty(), of="item_id").equals(rows)
    assert store.news(rows.with_columns(import_id=pl.lit("2")), rows, of="item_id").is_empty()
    assert store.news(said((5, "x")), rows, of="item_id").is_empty()


def test_what_was_unsaid_and_is_said_again_is_news():
    assert titles(store.news(said((2, "x")), said((0, "x"), (1, "y")), of="item_id")) == ["x"]
    assert titles(store.news(said((0, "x"), (1, "y"), (2, "x"), (3, "x")), ITEMS.empty(), of="item_id")) == list("xyx")
    assert titles(store.news(said((2, None)), said((0, "x")), of="item_id")) == [None]


def test_of_one_moment_what_came_last_holds_and_another_product_is_left_alone():
    other = said((0, "z")).with_columns(item_id=pl.lit("b"))
    found = store.news(pl.concat([said((0, "y"), (0, "x")), other]), said((0, "x"), (4, "w")), of="item_id")
    assert titles(found.filter(item_id="a")) == ["y", "x"] and found["valid_from"].max() < FIRST + dt.timedelta(hours=5)
    assert found.filter(item_id="a")["valid_from"].min() > FIRST + dt.timedelta(hours=4)
    assert titles(found.filter(item_id="b")) == ["z"]
