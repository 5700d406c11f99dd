import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.bench import sequences
from habitue.core.errors import SchemaError, UsageError

DAY = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


def told(data: sequences.Sequences) -> dict[str, list[tuple[float, str]]]:
    """user -> [(days before the question, items of the set)]"""
    every, now = data.histories, data.as_of.timestamp() / 86_400
    return {
        user: [
            (
                round(now - every.set_at[s], 4),
                "".join(data.items[i] for i in every.row_item[every.row_start[s] : every.row_start[s + 1]]),
            )
            for s in range(every.set_start[b], every.set_start[b + 1])
        ]
        for b, user in enumerate(data.users)
    }


def test_a_list_a_user_has_an_order_and_no_clock():
    data = sequences.read(pl.DataFrame({"user_id": [7, 3], "items": [["c", "a", "b"], ["a", "b"]]}))
    assert told(data) == {"3": [(2, "a"), (1, "b")], "7": [(3, "c"), (2, "a"), (1, "b")]}
    assert (data.clock, data.ties, data.repeats, data.users) == (False, 0, 0, ("3", "7"))


def test_an_order_column_has_no_ties_and_its_gaps_do_not_count():
    frame = pl.DataFrame({"user": ["u", "u", "u", "v"], "sku": ["x", "y", "z", "x"], "step": [30, 1, 2, 5]})
    assert told(sequences.read(frame)) == {"u": [(3, "y"), (2, "z"), (1, "x")], "v": [(1, "x")]}


@pytest.mark.parametrize(
    "at",
    [
        [DAY, DAY, DAY + dt.timedelta(days=2), DAY + dt.timedelta(days=3)],
        [dt.date(2024, 3, 1), dt.date(2024, 3, 1), dt.date(2024, 3, 3), dt.date(2024, 3, 4)],
        ["2024-03-01", "2024-03-01", "2024-03-03", "2024-03-04"],
        *[[int((DAY.timestamp() + d * 86_400) * unit) for d in (0, 0, 2, 3)] for unit in (1, 10**3, 10**6, 10**9)],
    ],
    ids=["datetime", "date", "text", "s", "ms", "us", "ns"],
)
def test_rows_of_one_moment_are_a_set(at):
    frame = pl.DataFrame({"user_id": ["u", "u", "u", "v"], "item_id": ["b", "a", "b", "a"], "timestamp": at})
    data = sequences.read(frame)
    second = round(1 / 86_400, 4)
    assert told(data) == {"u": [(3 + second, "ba"), (1 + second, "b")], "v": [(second, "a")]}
    assert (data.clock, data.ties, data.repeats) == (True, 0.5, 0.25)


def test_rows_without_user_item_or_time_are_left_out_and_counted():
    frame = pl.DataFrame(
        {"user_id": ["u", None, "v", "v", "w"], "item_id": ["a", "b", None, "b", "a"], "at": [DAY, DAY, DAY, DAY, None]}
    )
    data = sequences.read(frame)
    assert data.dropped == {"no user, item or time": 3}
    assert data.users == ("u", "v")


def test_a_time_that_cannot_be_read_is_told_from_one_that_is_missing():
    when = ["2024-03-01 10:00", "2024-03-02 10:00", "03.03.2024 10:00", None]
    frame = pl.DataFrame({"user_id": ["u", "v", "u", "v"], "item_id": ["a", "b", "b", "a"], "at": when})
    unread = "'at' cannot be read as a time (one form a file, ISO 8601 at best)"
    assert sequences.read(frame).dropped == {"no user, item or time": 1, unread: 1}
    with pytest.raises(SchemaError, match=r"0 items are left of 2 rows; 2 left out: 'at' cannot be read as a time"):
        sequences.read(frame.head(2).with_columns(at=pl.Series(["soon", "later"])))
    order = pl.DataFrame({"u": ["a", "a", "b", "b"], "i": ["x", "y", "x", "y"], "n": ["1", "2", "3", "-"]})
    read = sequences.read(order, columns={"user": "u", "item": "i", "order": "n"})
    assert read.dropped == {"'n' cannot be read as a number": 1}


def test_named_columns_and_words_of_the_catalogue():
    frame = pl.DataFrame({"who": ["u", "v"], "what": ["a", "b"], "when": [1.5e9, 1.6e9]})
    items = pl.DataFrame(
        {
            "what": ["a", "c", "a"],
            "title": ["red shoe", "red hat", "again"],
            "code": ["X1", "X2", "X3"],  # further ids are no words
            "tags": [["new", "cheap"], ["new"], []],
            "ids": [[1, 2], [2], []],
        }
    )
    data = sequences.read(frame, items, columns={"user": "who", "item": "what", "time": "when"})
    assert data.items == ("a", "b", "c")
    like = (data.words @ data.words.T).toarray()
    np.testing.assert_allclose(like.diagonal(), [1, 0, 1], atol=1e-6)  # b has no words
    assert 0.2 < like[0, 2] < 0.9
    without = sequences.read(frame, items.drop("code"), columns={"user": "who", "item": "what", "time": "when"})
    assert (without.words != data.words).nnz == 0


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        ({"user_id": ["u"], "item_id": ["a"], "at": [DAY]}, SchemaError, "1 users and 1 items are left of 1 rows"),
        ({"user_id": ["u", "v"], "item_id": ["a", "a"], "at": [DAY, DAY]}, SchemaError, "2 users and 1 items"),
        ({"user_id": ["u", "u"], "item_id": ["a", "b"], "at": [DAY, DAY]}, SchemaError, "1 users and 2 items"),
        ({"who": ["u"], "item_id": ["a"]}, UsageError, "no column looks like the user among: who, item_id"),
        ({"user_id": ["u"], "thing": ["a"]}, UsageError, "no column looks like the item .*--item COLUMN"),
        ({"user_id": ["u"], "item_id": ["a"]}, UsageError, "no column looks like a time or an order"),
        ({"user_id": ["u", "u"], "items": [["a"], ["b"]]}, SchemaError, "several rows with a list each"),
        ({"user_id": ["u", "v"], "item_id": ["a", "b"], "at": ["soon", "late"]}, SchemaError, "0 users and 0 items"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(frame, error, message):
    with pytest.raises(error, match=message):
        sequences.read(pl.DataFrame(frame))


def test_a_column_that_is_not_there():
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "moment": [DAY]})
    with pytest.raises(UsageError, match="there is no column 'momnt'.*Did you mean 'moment'"):
        sequences.read(frame, columns={"time": "momnt"})
    with pytest.raises(UsageError, match="--time: column 'nested' holds List"):
        sequences.read(frame.with_columns(nested=pl.lit([1])), columns={"time": "nested"})
    with pytest.raises(UsageError, match="--items: no column looks like the item"):
        sequences.read(
            frame.vstack(pl.DataFrame({"user_id": ["v"], "item_id": ["b"], "moment": [DAY]})),
            pl.DataFrame({"name": ["x"]}),
            columns={"time": "moment"},
        )


def test_steps_makes_each_row_a_set_of_its_own():
    frame = pl.DataFrame(
        {"user_id": ["u", "u", "u", "v"], "item_id": ["b", "a", "c", "a"], "at": [DAY, DAY, DAY + dt.timedelta(9), DAY]}
    )
    data = sequences.read(frame)
    every = sequences.steps(data.histories)
    now = sequences.NO_CLOCK.timestamp() / 86_400
    assert (now - every.set_at).tolist() == [3, 2, 1, 1]
    assert every.row_item.tolist() == [1, 0, 2, 0]
    assert every.set_start.tolist() == [0, 3, 4]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 6)), min_size=1, max_size=40
    )
)
def test_every_accepted_row_is_in_one_set(rows):
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "n"], orient="row")
    frame = frame.with_columns(at=pl.lit(DAY) + pl.duration(days="n"))
    if frame["user_id"].n_unique() < 2 or frame["item_id"].n_unique() < 2:
        with pytest.raises(SchemaError):
            sequences.read(frame)
        return
    found = told(sequences.read(frame))
    last = max(n for *_, n in rows)
    for user in {u for u, *_ in rows}:
        expected = {}
        for u, item, n in rows:
            if u == user:
                expected.setdefault(n, set()).add(item)
        second = 1 / 86_400
        sets = [(last - n + second, sorted(items)) for n, items in sorted(expected.items())]
        assert [(pytest.approx(age, abs=1e-4), items) for age, items in sets] == [
            (a, sorted(s)) for a, s in found[user]
        ]


def test_a_column_of_lists_is_refused_as_an_id_and_one_of_lists_in_lists_as_items():
    frame = pl.DataFrame({"user_id": ["u", "v"], "items": [[["a"], ["b"]], [["b"]]], "held": [["u"], ["v"]]})
    with pytest.raises(UsageError, match=r"--items: column 'items' holds List\(List.*The items of a row must be plain"):
        sequences.read(frame)
    with pytest.raises(UsageError, match=r"--user: column 'held' holds List"):
        sequences.read(frame, columns={"user": "held"})
