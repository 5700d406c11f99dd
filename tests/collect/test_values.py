import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.values import MONEY_LIMIT, currencies, moments, numbers, truths, words

LONDON = "Europe/London"


def utc(*moment: int) -> dt.datetime:
    return dt.datetime(*moment, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (pl.Series([17850, None], dtype=pl.Int32), ["17850", None]),
        (pl.Series([17850.0, None, 1.5, -0.0]), ["17850", None, "1.5", "0"]),
        (pl.Series([1e300, float("inf")]), ["1e+300", "inf"]),
        (pl.Series([" a ", "", "  ", None]), [" a ", None, None, None]),
        (pl.Series(["x"], dtype=pl.Categorical), ["x"]),
        (pl.Series([None], dtype=pl.Null), [None]),
    ],
)
def test_words(raw, read):
    assert words(raw).to_list() == read


@pytest.mark.parametrize(
    ("raw", "read", "bad"),
    [
        (pl.Series(["1.5", " 2 ", "", None, "-0"]), [1.5, 2.0, None, None, 0.0], []),
        (pl.Series(["nan", "inf", "-inf", "1e308", "1,5", "x"]), [None] * 6, [0, 1, 2, 3, 4, 5]),
        (pl.Series([1.5, float("nan"), float("inf"), 1e308, None]), [1.5, None, None, None, None], [1, 2, 3]),
        (pl.Series([MONEY_LIMIT, -MONEY_LIMIT, MONEY_LIMIT - 1]), [None, None, MONEY_LIMIT - 1], [0, 1]),
        (pl.Series([7], dtype=pl.Int8), [7.0], []),
        (pl.Series([Decimal("1.25")]), [1.25], []),
        (pl.Series([None], dtype=pl.Null), [None], []),
        (pl.Series([dt.date(2024, 1, 1)]), [None], [0]),
    ],
)
def test_numbers(raw, read, bad):
    value, wrong = numbers(raw)
    assert value.dtype == pl.Float64
    assert value.to_list() == read
    assert wrong.arg_true().to_list() == bad


def test_numbers_end_where_a_double_loses_the_last_cent():
    assert MONEY_LIMIT == 90_071_992_547_409.92


def test_minus_zero_is_zero():
    value, _ = numbers(pl.Series([-0.0]))
    assert str(value[0]) == "0.0"


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("2011-07-01 10:30:15", utc(2011, 7, 1, 9, 30, 15)),  # summer time
        ("2011-01-01T10:30:15.25", utc(2011, 1, 1, 10, 30, 15, 250_000)),
        (" 2011-01-01 10:30 ", utc(2011, 1, 1, 10, 30)),
        ("2011-01-01", utc(2011, 1, 1)),
        ("2011-01-01T10:30:15Z", utc(2011, 1, 1, 10, 30, 15)),
        ("2011-01-01 10:30:15.5+02:00", utc(2011, 1, 1, 8, 30, 15, 500_000)),
        ("2011-01-01T10:30:15-0500", utc(2011, 1, 1, 15, 30, 15)),
        ("2011-03-27 01:30:00", None),  # the clocks skipped it
        ("2011-10-30 01:30:00", utc(2011, 10, 30, 0, 30)),  # it came twice: the first
        ("12/1/2010 8:26", None),
        ("2011-13-01", None),
        ("", None),
        (None, None),
    ],
)
def test_times_as_text(raw, read):
    read_back = moments(pl.Series([raw, "2011-01-01"]), zone=LONDON, time_format=None)
    assert read_back.dtype == pl.Datetime("us", "UTC")
    assert read_back[0] == read


def test_offsets_and_local_times_in_one_column():
    raw = pl.Series(["2011-07-01 10:00:00", "2011-07-01T10:00:00Z"])
    assert moments(raw, zone=LONDON, time_format=None).to_list() == [utc(2011, 7, 1, 9), utc(2011, 7, 1, 10)]


@pytest.mark.parametrize(
    ("raw", "time_format", "read"),
    [
        ("12/1/2010 8:26", "%m/%d/%Y %H:%M", utc(2010, 12, 1, 8, 26)),
        ("1.7.2011", "%d.%m.%Y", utc(2011, 6, 30, 23)),
        ("2011-07-01 10:00 +0200", "%Y-%m-%d %H:%M %z", utc(2011, 7, 1, 8)),
        ("2011-07-01", "%m/%d/%Y", None),
        ("2011-07-01 10:00", "%Y-%m-%d %H:%M %z", None),
        ("2011-07-01", "%nonsense", None),
    ],
)
def test_times_in_a_form_of_their_own(raw, time_format, read):
    assert moments(pl.Series([raw]), zone=LONDON, time_format=time_format).to_list() == [read]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_typed_times(unit):
    raw = pl.Series([dt.datetime(2011, 7, 1, 10)], dtype=pl.Datetime(unit))
    assert moments(raw, zone=LONDON, time_format=None).to_list() == [utc(2011, 7, 1, 9)]
    aware = raw.dt.replace_time_zone("America/New_York")
    assert moments(aware, zone=LONDON, time_format=None).to_list() == [utc(2011, 7, 1, 14)]


def test_typed_dates_are_local_midnights():
    assert moments(pl.Series([dt.date(2011, 9, 9)]), zone=LONDON, time_format=None).to_list() == [utc(2011, 9, 8, 23)]


def test_a_bare_number_is_no_time():
    read = moments(pl.Series([1_300_000_000]), zone=LONDON, time_format=None)
    assert (read.dtype, read.to_list()) == (pl.Datetime("us", "UTC"), [None])


SOME = st.lists(st.none() | st.text(max_size=20) | st.text("0123456789.,:-+/TZ 年月日€¥$%eE", max_size=20), max_size=6)


@settings(deadline=None)
@given(
    cells=SOME, decimal=st.sampled_from(".,"), form=st.sampled_from([None, "%d/%m/%Y %H:%M", "seconds", "microseconds"])
)
def test_any_text_is_a_value_or_is_said_to_be_none(cells, decimal, form):
    raw = pl.Series("x", cells, dtype=pl.String)
    blank = words(raw).is_null()
    read, bad = numbers(raw, decimal=decimal)
    assert read.drop_nulls().is_finite().all() and (read.is_null() == (bad | blank)).all()
    said, unclear = truths(raw)
    assert (said.is_null() == unclear).all() or (said.is_null() == (unclear | blank)).all()
    met = moments(raw, zone=LONDON, time_format=form)
    assert (
        met.dtype == pl.Datetime("us", "UTC") and len(met) == len(raw) and met.filter(blank).null_count() == blank.sum()
    )
    assert currencies(raw).drop_nulls().str.contains("^[A-Z]{3}$").all()


@pytest.mark.parametrize("told", ["-2026-05-01T11:59:00Z", "-0001-01-01", "9999-12-31T23:59:59-05:00", "+12026-05-01"])
def test_years_that_no_date_of_python_has_are_no_moment(told):
    found = moments(pl.Series([told, "2026-05-01"]), zone="UTC", time_format=None)
    assert found.to_list() == [None, dt.datetime(2026, 5, 1, tzinfo=dt.UTC)]


def test_a_column_of_moments_with_such_a_year_keeps_the_others():
    far = pl.Series([-4_000_000 * 86_400_000_000, 0]).cast(pl.Datetime("us"))
    assert moments(far, zone="UTC", time_format=None).to_list() == [None, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]
