"""Histories as arrays, against the same histories as lists."""

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import SchemaError
from habitue.core.schemas import FEATURES, LABELS, PURCHASE, REFUND, TIMELINE
from habitue.model import behaviour, blend, ease, neighbours, popular
from habitue.model.past import (
    Histories,
    _placed,
    bought,
    check_past,
    columns,
    freshness,
    histories,
    most_bought,
    next_sets,
    placed_once,
    places,
    purchases,
    reads,
)

DAY = 1 / 86_400  # a second, in days

SETS = (
    (7, 30, "BD"),
    (7, 10, "A", REFUND, -2.0),
    (7, 3, "AB", PURCHASE, 4.0),
    (2, 30, "A"),
    (2, 5, "Z"),  # outside the catalogue
    (5, 1, "C", "Product Viewed"),
)


def as_lists(h: Histories) -> dict[int, list[tuple[str, list[int], list[float]]]]:
    """user_key -> [(kind, items, values)], in order."""
    found = {}
    for user, key in enumerate(h.user_keys.tolist()):
        found[key] = []
        for s in range(h.set_start[user], h.set_start[user + 1]):
            rows = slice(h.row_start[s], h.row_start[s + 1])
            found[key].append((h.kinds[h.set_kind[s]], h.row_item[rows].tolist(), h.row_value[rows].tolist()))
    assert h.set_start[-1] == len(h.set_at) == len(h.set_kind) and h.row_start[-1] == len(h.row_item)
    return found


@pytest.fixture
def history(make_timeline) -> Histories:
    return histories(make_timeline(*SETS), tuple("ABCD"))


def test_flattens_sets_in_order(history, as_of):
    assert as_lists(history) == {
        2: [(PURCHASE, [0], [1.0])],
        5: [("Product Viewed", [2], [1.0])],
        7: [(PURCHASE, [1, 3], [1.0, 1.0]), (REFUND, [0], [-2.0]), (PURCHASE, [0, 1], [4.0, 4.0])],
    }
    day = as_of.timestamp() / 86_400
    np.testing.assert_allclose(day - history.set_at, [30, 1, 30, 10, 3])
    assert history.set_user.tolist() == [0, 1, 2, 2, 2]
    assert history.row_set.tolist() == [0, 1, 2, 2, 3, 4, 4]
    assert history.row_quantity.dtype == history.row_value.dtype == np.float32


def test_a_user_asked_for_and_absent_has_an_empty_history(make_timeline):
    found = histories(make_timeline(*SETS), tuple("ABCD"), users=[9, 2])
    assert as_lists(found) == {2: [(PURCHASE, [0], [1.0])], 9: []}


def test_nobody_and_nothing():
    found = histories(TIMELINE.empty(), ())
    assert as_lists(found) == {}
    assert next_sets(found, after=0, until=9).shape == (0, 0)


def test_a_null_quantity_is_none_bought(make_timeline):
    timeline = make_timeline((1, 2, "AB")).with_columns(
        quantities=pl.Series([[None, 3.0]]), values=pl.Series([[None, 1.5]])
    )
    found = histories(timeline, tuple("AB"))
    assert found.row_quantity.tolist() == [0, 3] and found.row_value.tolist() == [0, 1.5]


def test_a_table_of_another_shape_is_refused(make_timeline):
    with pytest.raises(SchemaError, match="model.histories: TIMELINE: column 'kind' is missing"):
        histories(make_timeline(*SETS).drop("kind"), tuple("ABCD"))


def test_of_kind(history):
    assert as_lists(history.of_kind(REFUND)) == {2: [], 5: [], 7: [(REFUND, [0], [-2.0])]}
    assert as_lists(history.of_kind("Never Seen")) == {2: [], 5: [], 7: []}


def test_before_is_strict(history, as_of):
    day = as_of.timestamp() / 86_400
    assert [len(s) for s in as_lists(history.before(day - 10)).values()] == [1, 0, 1]
    assert [len(s) for s in as_lists(history.before(day - 10 + DAY)).values()] == [1, 0, 2]


def test_keep_rows_drops_a_set_left_empty(history):
    assert as_lists(history.keep_rows(history.row_item != 0)) == {
        2: [],
        5: [("Product Viewed", [2], [1.0])],
        7: [(PURCHASE, [1, 3], [1.0, 1.0]), (PURCHASE, [1], [4.0])],
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_take_and_keep_agree_with_lists(data):
    users = data.draw(st.lists(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), max_size=4), max_size=5))
    sets = [s for user in users for s in user]
    rows = [item for s in sets for item in s]
    h = Histories(
        user_keys=np.arange(len(users)),
        set_start=np.cumsum([0, *map(len, users)]),
        set_at=np.arange(len(sets), dtype=float),
        set_kind=np.zeros(len(sets), dtype=np.int8),
        row_start=np.cumsum([0, *map(len, sets)]),
        row_item=np.array(rows, dtype=np.int32),
        row_quantity=np.ones(len(rows), dtype=np.float32),
        row_value=np.arange(len(rows), dtype=np.float32),
    )
    index = data.draw(st.lists(st.integers(0, len(users) - 1), max_size=6)) if users else []
    taken = h.take(index)
    assert taken.user_keys.tolist() == index
    lists = [[taken.row_item[slice(*taken.row_start[s : s + 2])].tolist() for s in range(a, b)]
             for a, b in zip(taken.set_start[:-1], taken.set_start[1:], strict=True)]  # fmt: skip
    assert lists == [users[i] for i in index]
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(sets), max_size=len(sets))), dtype=bool)
    kept = h.keep_sets(keep)
    assert kept.set_at.tolist() == np.flatnonzero(keep).tolist()
    assert kept.row_item.tolist() == [item for s, k in zip(sets, keep, strict=True) if k for item in s]
    assert kept.set_user.tolist() == h.set_user[keep].tolist()


def test_next_sets_are_the_first_purchase_in_the_window(history, as_of):
    day = as_of.timestamp() / 86_400
    assert next_sets(history, after=day - 40, until=day).toarray().tolist() == [[1, 0, 0, 0], [0] * 4, [0, 1, 0, 1]]
    assert next_sets(history, after=day - 29, until=day).toarray().tolist() == [[0] * 4, [0] * 4, [1, 1, 0, 0]]
    assert next_sets(history, after=day - 30, until=day - 30).nnz == 0  # the end is not in it
    assert next_sets(history, after=day - 10, until=day - 3).nnz == 0
    assert next_sets(history, after=day - 3, until=day).nnz == 2  # the start is


def test_next_sets_of_many_users(make_timeline, as_of):
    rng = np.random.default_rng(0)
    made = [(u, int(d), "ABCDE"[d % 5]) for u in range(12) for d in rng.choice(40, rng.integers(0, 6), replace=False)]
    history = histories(make_timeline(*made), tuple("ABCDE"), users=range(12))
    day = as_of.timestamp() / 86_400
    found = next_sets(history, after=day - 30, until=day - 5).toarray()
    for user in range(12):
        first = max((d for u, d, _ in made if u == user and 5 < d <= 30), default=None)
        assert found[user].nonzero()[0].tolist() == ([] if first is None else [first % 5])


def test_what_was_bought_stays_so_after_a_refund_and_a_view_is_no_purchase(history):
    found = bought(history, 6)
    assert found.dtype == np.float32 and found.shape == (3, 6)
    assert found.toarray().tolist() == [[1, 0, 0, 0, 0, 0], [0] * 6, [1, 1, 0, 1, 0, 0]]  # B twice is one


def test_what_a_model_reads_is_told_by_its_settings():
    assert reads(popular.Config()) == reads(neighbours.Config()) == ["events"]
    assert (
        reads(neighbours.Config(words=0.3)) == reads(ease.Config()) == reads(behaviour.Config()) == ["events", "text"]
    )
    assert reads(ease.Config(words=0.0)) == reads(behaviour.Config(content=0)) == ["events"]
    assert reads(blend.Config()) == reads(blend.Config(views=("popular", "ease"))) == ["events", "text"]
    assert reads(blend.Config(views=("popular", "my_shop.regulars"))) == ["events"]


def test_take_keeps_who_is_known(make_past):
    past = make_past(*SETS, items="ABCD", guests=[5])
    assert past.known.tolist() == [True, False, True]
    taken = past.take([2, 1])
    assert taken.histories.user_keys.tolist() == [7, 5] and taken.known.tolist() == [True, False]


def test_rewinding_knows_only_what_was_closed(make_past, as_of):
    past = make_past(*SETS, items="ABCD")
    moments = [as_of - dt.timedelta(days=d) for d in (50, 40, 20)]
    features = pl.DataFrame({"user_key": [7, 7, 7], "as_of": moments, "orders": [0.0, 1.0, 2.0]})
    labels = pl.DataFrame(
        {
            "user_key": [7, 7, 7],
            "as_of": moments,
            "horizon_end": [m + dt.timedelta(days=20) for m in moments],
            "churned": [True, False, False],
            "orders": [0, 1, 1],
            "value": [0.0, 1.0, 2.0],
        }
    )
    features, labels = (
        f.with_columns(pl.col("as_of").cast(pl.Datetime("us", "UTC"))) for f in (FEATURES.shape(features), labels)
    )
    past = dataclasses.replace(past, train_features=features, train_labels=LABELS.shape(labels))
    check_past(past)
    earlier = past.rewind(moments[2])
    check_past(earlier)
    assert earlier.as_of == moments[2] and earlier.items == past.items
    assert [len(s) for s in as_lists(earlier.histories).values()] == [1, 0, 1]
    assert earlier.train_labels["as_of"].to_list() == moments[:2]  # the second closes at that very moment
    assert earlier.train_features["orders"].to_list() == [0, 1]
    assert earlier.features["orders"].to_list() == [2]
    assert past.rewind(moments[2] - dt.timedelta(days=1)).features.is_empty()


def test_check_past_names_the_table(make_past):
    past = make_past(*SETS, items="ABCD")
    broken = dataclasses.replace(past, train_labels=LABELS.empty().drop("value"))
    with pytest.raises(SchemaError, match="model.past.train_labels: LABELS: column 'value' is missing"):
        check_past(broken)


def test_places_and_columns():
    index = places(("A", "C", "D"), ("D", "B", "A"))
    assert index.tolist() == [2, -1, 0]
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
    assert columns(values, index, missing=-9).tolist() == [[3, -9, 1], [6, -9, 4]]
    assert columns(values[0], index).tolist() == [3, 0, 1]
    assert columns(values, places(("A", "C", "D"), ("A", "C", "D"))) is values
    assert columns(values, np.array([0, 1])).tolist() == [[1, 2], [4, 5]]


def test_what_is_looked_up_once_is_not_kept():
    before = dict(_placed)
    assert placed_once(("A", "C", "D"), ["D", "B", "A"]).tolist() == [2, -1, 0]
    assert placed_once(("A", "B"), ("A", "B")).tolist() == [0, 1]
    assert _placed == before


def test_purchases_fade_and_are_capped(make_past):
    past = make_past((1, 0, "A"), (1, 10, "AB"), (1, 20, "B"), (1, 5, "A", REFUND), (2, 10, "Z"), items="ABZ")
    bought = purchases(past, ("Z", "A", "B"), half_life_days=10)
    assert bought.dtype == np.float32
    np.testing.assert_allclose(bought.toarray(), [[0, 1.5, 0.75], [0.5, 0, 0]])
    np.testing.assert_allclose(purchases(past, ("A",), half_life_days=10, cap=1).toarray(), [[1], [0]])


def test_freshness_by_hand(make_past):
    past = make_past((1, 2, "AB"), (2, 30, "A"), (3, 50, "AC"), (4, 1, "C", REFUND), items="ABCD")
    np.testing.assert_allclose(freshness(past, window_days=30), [3 / 8, 2 / 6, 1 / 6, 1 / 5], rtol=1e-6)


def test_the_products_bought_most_are_kept_and_the_rest_is_gone(make_past):
    past = make_past(
        (1, 40, "a"), (1, 30, "bd"), (1, 20, "b", REFUND), (1, 19, "c", "Product Viewed"), (2, 9, "d"), (2, 5, "ad"),
        (3, 3, "b"), items="abcde", words=[[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]],
    )  # fmt: skip
    few = most_bought(past, 2)  # a and b are as often bought: the first of them
    assert few.items == ("a", "d")
    assert as_lists(few.histories) == {
        1: [(PURCHASE, [0], [1.0]), (PURCHASE, [1], [1.0])],
        2: [(PURCHASE, [1], [1.0]), (PURCHASE, [0, 1], [1.0, 1.0])],
        3: [],
    }
    np.testing.assert_array_equal(few.words.toarray(), past.words.toarray()[[0, 3]])
    assert few.histories.row_item.dtype == np.int32 and few.features is past.features
    assert most_bought(past, 5) is past
