"""What searches mean: products by hand, and lines of events."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.schemas import EVENTS
from habitue.encode import search, text

TITLES = {
    "lamp1": "Red desk lamp",
    "lamp2": "Blue desk lamp",
    "mug": "Stoneware mug",
    "none": None,
    "灯": "红色台灯",
}


@pytest.fixture
def index() -> search.Index:
    return search.index(text.encode(pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})))


def events(*rows: tuple) -> pl.DataFrame:
    """Return EVENTS of (kind, item, query)."""
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = [
        {"event_id": f"e{n}", "line": 0, "at": at, "user_key": 1, "kind": kind, "item_id": item, "query": query}
        | {"source": "test", "import_id": "i"}
        for n, (kind, item, query) in enumerate(rows)
    ]
    return EVENTS.shape(pl.DataFrame(made, schema_overrides={"item_id": pl.String, "query": pl.String}))


@pytest.mark.parametrize(
    ("query", "means"),
    [
        ("red lamp", ("lamp1",)),  # the blue one is too far from it
        ("RED LAMPS", ("lamp1",)),  # pieces of words find the plural
        ("lamp", ("lamp1", "lamp2")),
        ("mugs", ("mug",)),
        ("台灯", ("灯",)),
        ("bicycle", ()),
        ("", ()),
        ("!?", ()),
    ],
)
def test_a_search_means_the_products_whose_words_are_near(index, query, means):
    assert search.products(index, [query]) == [means]


def test_many_searches_mean_what_each_means_alone(index, monkeypatch):
    queries = ["lamp", "bicycle", "mug", "blue lamp", "lamp"]
    alone = [search.products(index, [query])[0] for query in queries]
    monkeypatch.setattr(search, "QUERIES_A_CALL", 2)
    assert search.products(index, queries) == alone


def test_only_the_nearest_are_meant(index, monkeypatch):
    monkeypatch.setattr(search, "MEANT", 1)
    assert search.products(index, ["desk lamp blue"]) == [("lamp2",)]


def test_a_catalogue_without_words_means_nothing():
    bare = search.index(
        text.encode(pl.DataFrame({"item_id": ["a"], "title": [None]}, schema_overrides={"title": pl.String}))
    )
    assert search.products(bare, ["lamp", "a"]) == [(), ()]
    empty = search.index(text.encode(pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})))
    assert search.products(empty, ["lamp"]) == [()]


def test_a_search_becomes_a_line_a_product_and_nothing_else_changes(index):
    given_ = events(
        ("Product Viewed", "mug", None),
        (search.SEARCHED, None, "lamp"),
        (search.SEARCHED, "mug", "lamp"),  # it names its product itself
        (search.SEARCHED, None, "bicycle"),
        ("Page Viewed", None, None),
    )
    told = search.meant(given_, index)
    assert told["item_id"].to_list() == ["mug", "lamp1", "lamp2", "mug", None, None]
    assert told["event_id"].to_list() == ["e0", "e1", "e1", "e2", "e3", "e4"]
    assert told.drop("item_id").equals(given_[[0, 1, 1, 2, 3, 4]].drop("item_id"))
    assert search.meant(given_.clear(), index).equals(given_.clear())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_anything_may_be_searched(queries):
    made = search.index(text.encode(pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})))
    for found in search.products(made, queries):
        assert len(found) <= search.MEANT and len(set(found)) == len(found) and set(found) <= set(TITLES) - {"none"}


def test_a_vocabulary_kept_as_a_table_looks_up_the_same(tmp_path):
    words = text.encode(
        pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())}), text.Config(piece_max=5)
    )
    text.table(words.fitted).write_ipc(tmp_path / "terms.arrow")
    again = text.vocabulary(pl.read_ipc(tmp_path / "terms.arrow"), words.fitted.config, words.fitted.chinese)
    made = search.index(words)
    queries = ["lamps", "红色", "stoneware", "bicycle"]
    assert search.products(search.Index(made.items, made.words, again), queries) == search.products(made, queries)
    assert any(search.products(made, queries))
