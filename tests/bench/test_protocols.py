"""What each protocol hides, by hand: the letters of a user's sets, before and after."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue.bench import protocols, sequences
from habitue.core.errors import SchemaError

DAY = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)


def lists(**users: str) -> sequences.Sequences:
    return sequences.read(pl.DataFrame({"user_id": list(users), "items": [list(i) for i in users.values()]}))


def dated(*rows: tuple[str, int, str]) -> sequences.Sequences:
    """user, day, one letter an item"""
    flat = [(u, i, DAY + dt.timedelta(days=d)) for u, d, items in rows for i in items]
    return sequences.read(pl.DataFrame(flat, schema=["user_id", "item_id", "at"], orient="row"))


def histories(data, past) -> dict[str, str]:
    every = past.histories
    words = {}
    for b, user in enumerate(data.users):
        rows = slice(every.row_start[every.set_start[b]], every.row_start[every.set_start[b + 1]])
        words[user] = "".join(data.items[i] for i in every.row_item[rows])
    return words


def letters(data, matrix) -> dict[str, str]:
    assert matrix.shape == (len(data.users), len(data.items))
    return {
        user: "".join(sorted(data.items[i] for i in matrix[b].indices))
        for b, user in enumerate(data.users)
        if matrix[b].nnz
    }


def target(data, question, name="all") -> dict[str, str]:
    return letters(data, question.slices[name][0])


def masked(data, question, name="all") -> dict[str, str] | None:
    hidden = question.slices[name][1]
    return None if hidden is None else letters(data, hidden)


def test_leave_one_out():
    data = lists(u="abcd", v="dcb", w="ab")
    task = protocols.leave_one_out(data, protocols.Settings())
    assert task.name == "leave-one-out" and not task.refit
    assert histories(data, task.validation.fit) == {"u": "ab", "v": "d", "w": ""}
    assert histories(data, task.test.fit) == {"u": "ab", "v": "d", "w": ""}
    assert histories(data, task.test.ask) == {"u": "abc", "v": "dc", "w": "a"}
    assert target(data, task.validation) == {"u": "c", "v": "c"}
    assert target(data, task.test) == {"u": "d", "v": "b"}
    assert task.notes == ("1 users with fewer than 3 events are learnt from and not asked",)
    ages = task.test.ask.day - task.test.ask.histories.set_at
    assert ages.tolist() == [3, 2, 1, 2, 1, 1]


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("protocol", ["leave-one-out", "time", "next"])
def test_what_a_user_has_is_no_candidate_unless_repeats_are(protocol, repeats):
    data = dated(("u", 0, "a"), ("u", 10, "b"), ("u", 20, "b"), ("u", 40, "a"), ("v", 1, "a"), ("v", 41, "c"))
    settings = protocols.Settings(cut=DAY + dt.timedelta(days=30), repeats=repeats)
    task = protocols.PROTOCOLS[protocol](data, settings)
    assert task.repeats == repeats
    question = task.validation if protocol == "next" else task.test
    last = {"u": "a", "v": "c"} if protocol != "leave-one-out" else {"u": "a"}
    if repeats:
        assert target(data, question) == last and masked(data, question) is None
    else:
        assert target(data, question) == {user: item for user, item in last.items() if user == "v"}
        assert masked(data, question) == {"u": "ab", "v": "a"}


def test_leave_one_out_fitted_with_the_validation_event():
    data = lists(u="abcd", v="dcb")
    task = protocols.leave_one_out(data, protocols.Settings(refit=True))
    assert task.name == "leave-one-out-refit" and task.refit
    assert histories(data, task.test.fit) == {"u": "abc", "v": "dc"}
    assert histories(data, task.validation.fit) == {"u": "ab", "v": "d"}


def test_leave_one_out_of_times_goes_by_order_and_refuses_ties():
    rows = [("u", day, "abcd"[day]) for day in range(4)] + [("v", 40 + day, "dcba"[day]) for day in range(4)]
    data = dated(*rows)
    task = protocols.leave_one_out(data, protocols.Settings())
    assert target(data, task.test) == {"u": "d", "v": "a"}
    tied = dated(*rows, ("w", 3, "ab"))
    with pytest.raises(SchemaError, match="20% of the rows share user and moment.*--protocol time"):
        protocols.leave_one_out(tied, protocols.Settings())


def test_time():
    data = dated(("u", 0, "ab"), ("u", 5, "c"), ("u", 11, "d"), ("u", 12, "ae"), ("v", 2, "e"), ("w", 11, "a"))
    cut = DAY + dt.timedelta(days=11)
    task = protocols.time(data, protocols.Settings(cut=cut))
    assert histories(data, task.test.fit) == {"u": "abc", "v": "e", "w": ""}
    assert target(data, task.test) == {"u": "d"}
    assert target(data, task.test, "later") == {"u": "de"}  # a is no news to u
    assert target(data, protocols.time(data, protocols.Settings(cut=cut, repeats=True)).test, "later") == {"u": "ade"}
    assert "1 users have no event before it and are not asked" in task.notes
    assert histories(data, task.validation.fit) == {"u": "ab", "v": "e", "w": ""}  # nine tenths of what is before
    assert target(data, task.validation) == {"u": "c"} and task.clock
    assert set(data.items) == set("abcde") == set(task.test.fit.items)  # d is not met before, and is a candidate


def test_time_validates_at_an_earlier_moment_not_on_everybodys_last_set():
    data = dated(*[("u", day, "abcdefghij"[day]) for day in range(10)], ("v", 0, "a"), ("v", 1, "b"), ("v", 10, "c"))
    task = protocols.time(data, protocols.Settings(cut=DAY + dt.timedelta(days=10)))
    assert target(data, task.test) == {"v": "c"}
    assert histories(data, task.validation.fit) == {"u": "abcdefgh", "v": "ab"}  # v has not been here since day 1
    assert target(data, task.validation) == {"u": "i"}


def test_time_by_default_has_nine_tenths_of_the_rows_before_it():
    data = dated(*[("uv"[n % 2], n, "ab"[n % 2]) for n in range(100)])
    past = protocols.time(data, protocols.Settings()).test.fit
    assert len(past.histories.row_item) == 90


def test_basket():
    data = dated(
        ("u", 0, "a"), ("u", 12, "b"), ("u", 21, "cd"), ("u", 22, "e"), ("v", 5, "a"), ("v", 40, "b"), ("w", 24, "a")
    )
    task = protocols.basket(data, protocols.Settings(cut=DAY + dt.timedelta(days=20), horizon_days=10))
    assert histories(data, task.test.fit) == {"u": "ab", "v": "a", "w": ""}
    assert target(data, task.test) == {"u": "cd"}  # v came back too late, w is new
    assert task.notes[1] == "1 users have no event before it and are not asked"
    assert histories(data, task.validation.fit) == {"u": "a", "v": "a", "w": ""}
    assert target(data, task.validation) == {"u": "b"}
    with pytest.raises(SchemaError, match="no event lies more than 30 days before"):
        protocols.basket(data, protocols.Settings(cut=DAY + dt.timedelta(days=20), horizon_days=30))


@pytest.mark.parametrize("repeats", [False, True])
def test_the_slices_of_a_basket_are_the_same_in_validation_and_test(repeats):
    data = dated(("u", 0, "a"), ("u", 12, "ab"), ("u", 21, "acd"), ("v", 1, "d"), ("v", 13, "c"), ("v", 22, "c"))
    settings = protocols.Settings(cut=DAY + dt.timedelta(days=20), horizon_days=10, repeats=repeats)
    task = protocols.basket(data, settings)
    for question, new, again, had in (
        (task.validation, {"u": "b", "v": "c"}, {"u": "a"}, {"u": "a", "v": "d"}),
        (task.test, {"u": "cd"}, {"u": "a", "v": "c"}, {"u": "ab", "v": "cd"}),
    ):
        assert list(question.slices) == ["all", "repeat", "first_time"]
        assert target(data, question, "repeat") == again and masked(data, question, "repeat") is None
        assert target(data, question, "first_time") == new and masked(data, question, "first_time") == had
        assert masked(data, question) is None
        assert question.asked.tolist() == [0, 1]
    assert target(data, task.test) == {"u": "acd", "v": "c"}


def test_a_fingerprint_changes_with_all_a_trial_rests_on():
    rows = [("u", 0, "a"), ("u", 12, "b"), ("u", 25, "c"), ("v", 1, "b"), ("v", 14, "c"), ("v", 24, "a")]
    items = pl.DataFrame({"item_id": list("abc"), "title": ["red mug", "blue mug", "red cup"]})
    flat = [(u, i, DAY + dt.timedelta(days=d)) for u, d, i in rows]
    frame = pl.DataFrame(flat, schema=["user_id", "item_id", "at"], orient="row")

    def mark(protocol="leave-one-out", frame=frame, items=None, **settings):
        return protocols.fingerprint(
            protocols.PROTOCOLS[protocol](sequences.read(frame, items), protocols.Settings(**settings))
        )

    day = DAY + dt.timedelta(days=23)
    swapped = frame.with_columns(pl.col("item_id").replace({"a": "b", "b": "a"}))
    renamed = frame.with_columns(pl.col("item_id").replace({"c": "d"}))
    marks = [
        mark(),
        mark(frame=swapped),
        mark(frame=renamed),
        mark(items=items),
        mark(items=items.with_columns(title=pl.lit("red mug"))),
        mark(repeats=True),
        mark(refit=True),
        mark("time"),
        mark("basket", cut=day, horizon_days=12),
        mark("basket", cut=day, horizon_days=13),
        mark("basket", cut=day + dt.timedelta(hours=1), horizon_days=12),
    ]
    assert len(set(marks)) == len(marks)
    assert mark() == marks[0] and mark(items=items) == marks[3]
    assert all(len(one) == 12 for one in marks)


@pytest.mark.parametrize("clock", [True, False])
def test_next_fits_everything(clock):
    data = dated(("u", 0, "a"), ("u", 3, "b"), ("v", 1, "c")) if clock else lists(u="ab", v="c")
    task = protocols.next(data, protocols.Settings())
    assert task.refit and not task.test.slices
    assert histories(data, task.test.fit) == histories(data, task.test.ask) == {"u": "ab", "v": "c"}
    assert task.test.asked.tolist() == [0, 1] and task.validation.asked.tolist() == [0]
    assert target(data, task.validation) == {"u": "b"}
    assert histories(data, task.validation.fit)["u"] == "a"


@pytest.mark.parametrize("protocol", ["time", "basket"])
def test_a_file_without_times_has_no_moment_to_cut_at(protocol):
    with pytest.raises(SchemaError, match="the file has an order but no times.*leave-one-out"):
        protocols.PROTOCOLS[protocol](lists(u="abc", v="abc"), protocols.Settings())


@pytest.mark.parametrize("days", [-1, 200])
def test_a_cut_outside_the_data(days):
    data = dated(("u", 0, "a"), ("u", 12, "b"), ("v", 5, "a"))
    with pytest.raises(SchemaError, match="leaves nothing on one side; events run from 2024-03-01 to 2024-03-13"):
        protocols.time(data, protocols.Settings(cut=DAY + dt.timedelta(days=days)))


def test_no_protocol_lets_a_model_see_what_it_is_asked_for():
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", int(d), rng.choice(list("abcdef"))) for u in range(20) for d in rng.choice(300, 6, replace=False)]
    data = dated(*rows)
    whole = len(data.histories.row_item)
    for name, protocol in protocols.PROTOCOLS.items():
        task = protocol(data, protocols.Settings(horizon_days=60))
        for question in (task.validation, task.test):
            came = question.slices["all"][0].nnz if question.slices else 0
            assert len(question.ask.histories.row_item) + came <= whole, name
            assert len(question.fit.histories.row_item) <= len(question.ask.histories.row_item)
            assert question.ask.histories.set_at.max() < question.ask.day
