"""Two clocks on one timeline: planted lags are found to one period, joins never look ahead, everything is told."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import SchemaError, UsageError
from habitue.prepare import align

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


def stream(seconds, values, **columns) -> pl.DataFrame:
    at = [START + dt.timedelta(seconds=float(s)) for s in seconds]
    return pl.DataFrame(
        {"at": at, "value": [None if v is None else float(v) for v in values], **columns},
        schema_overrides={"at": align.UTC, "value": pl.Float64},
    )


def walk(seed: int, seconds: float, every: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A wandering signal that any two sensors of one body would share."""
    rng = np.random.default_rng(seed)
    at = np.arange(0, seconds, every)
    return at, np.cumsum(rng.standard_normal(at.size)) + 70


@pytest.mark.parametrize("planted", [0.0, 3.7, -12.3, 29.0, -29.0])
@pytest.mark.parametrize(("first_hz", "second_hz"), [(10, 10), (4, 1), (1, 7.3)])
def test_a_planted_lag_is_found_to_one_period(planted, first_hz, second_hz):
    at, value = walk(1, 400)
    rng = np.random.default_rng(2)
    one = np.arange(20, 300, 1 / first_hz)
    two = np.arange(50, 370, 1 / second_hz) + rng.uniform(-0.2, 0.2, np.arange(50, 370, 1 / second_hz).size) / second_hz
    first = stream(one, np.interp(one, at, value))
    second = stream(two, 5 - 0.3 * -np.interp(two - planted, at, value) + 0.05 * rng.standard_normal(two.size))
    every = max(1 / first_hz, 1 / second_hz)
    found = align.lag(first, second, every=dt.timedelta(seconds=every), most=dt.timedelta(seconds=40))
    assert abs(found.seconds - planted) <= every + 1e-9
    assert found.correlation > 0.95 and found.second_best <= found.correlation
    assert found.overlap_s > 150


def test_gaps_and_another_level_do_not_move_the_lag():
    at, value = walk(3, 600)
    holes = ((at > 100) & (at < 160)) | ((at > 300) & (at < 420))
    first = stream(at[~holes], value[~holes])
    second = stream(at + 8, value * 1e4 + 1e9)
    found = align.lag(first, second, every=SECOND / 2, most=30 * SECOND)
    assert found.seconds == pytest.approx(8, abs=0.5) and found.correlation > 0.999


def test_streams_that_mean_the_opposite_are_not_called_alike():
    at, value = walk(4, 200)
    found = align.lag(stream(at, value), stream(at, -value), every=SECOND, most=5 * SECOND)
    assert found.correlation < 0.5


def test_a_rhythm_is_told_to_be_ambiguous():
    at = np.arange(0, 200, 0.5)
    beat = np.sin(2 * np.pi * at / 10)
    found = align.lag(stream(at, beat), stream(at, beat), every=SECOND / 2, most=25 * SECOND)
    assert found.correlation == pytest.approx(1) and found.second_best == pytest.approx(1, abs=1e-3)


def test_every_correlation_is_that_of_numpy():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal(30), rng.standard_normal(23)
    a[[3, 9]], b[[0, 14]] = np.nan, np.nan
    got, count = align._correlations(a, b)
    assert got.size == 52
    for i, shift in enumerate(range(-29, 23)):
        pairs = np.array([(a[t], b[t + shift]) for t in range(30) if 0 <= t + shift < 23])
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        assert count[i] == len(pairs)
        if len(pairs) > 2:
            assert got[i] == pytest.approx(np.corrcoef(pairs.T)[0, 1], abs=1e-9)


def test_what_cannot_be_aligned_is_said():
    at, value = walk(6, 60)
    with pytest.raises(UsageError, match="one of the streams has no value.*No lag can be told"):
        align.lag(stream(at, value), stream([], []), every=SECOND, most=SECOND)
    with pytest.raises(UsageError, match="no lag up to 0:00:05 leaves 8 ticks.*streams of the same time"):
        align.lag(stream(at, value), stream(at + 500, value), every=SECOND, most=5 * SECOND)
    with pytest.raises(UsageError, match="no lag up to .* that vary"):
        align.lag(stream(at, value), stream(at, value * 0), every=SECOND, most=5 * SECOND)


def test_a_clock_has_means_lines_and_pauses():
    got = align.resample(stream([0, 0.5, 1, 4, 20], [1, 3, 5, 8, 9]), every=SECOND, gap=5 * SECOND)
    assert got["value"].to_list() == [2, 5, 6, 7, 8, *[None] * 15, 9]
    assert got["at"][1] - got["at"][0] == SECOND and got["at"][0] == START
    assert got.schema == {"at": align.UTC, "value": pl.Float64}


def test_a_clock_does_not_depend_on_the_order_of_rows_and_leaves_out_no_numbers():
    mixed = stream([4, 0, 2, 3, 1], [8, 1, None, float("inf"), 5])
    assert align.resample(mixed, every=SECOND).equals(align.resample(stream([0, 1, 4], [1, 5, 8]), every=SECOND))
    assert align.resample(stream([], []), every=SECOND).height == 0


def test_a_clock_that_would_fill_the_memory_is_refused():
    with pytest.raises(UsageError, match="31,536,001 ticks of 0:00:01.*Give a longer `every`"):
        align.resample(stream([0, 365 * 86_400], [1, 2]), every=SECOND)
    with pytest.raises(UsageError, match="every is 0:00:00.*clock would stand still"):
        align.resample(stream([0], [1]), every=0 * SECOND)


def test_each_row_gets_the_latest_value_that_is_not_too_old():
    left = stream([10, 1, 5, 30], [0, 0, 0, 0]).select("at", order=pl.Series(["d", "a", "b", "z"]))
    got = align.join(left, stream([0, 4, 5, 12], [1, 2, 3, 4]), tolerance=6 * SECOND)
    assert got.frame["order"].to_list() == ["d", "a", "b", "z"]
    assert got.frame["value"].to_list() == [3, 1, 3, None] and got.frame["age_s"].to_list() == [5, 1, 0, None]
    assert got.matched == 0.75 and got.oldest_s == 5 and got.lag_s == 0


def test_a_lag_is_taken_off_before_the_join():
    got = align.join(stream([10], [0]).select("at"), stream([11, 14], [1, 2]), tolerance=2 * SECOND, lag_s=3.0)
    assert got.frame["value"].to_list() == [1] and got.frame["age_s"].to_list() == [2] and got.lag_s == 3


def test_persons_are_not_mixed():
    left = stream([5, 5, 5], [0] * 3, user_key=[1, 2, 3]).drop("value")
    right = stream([1, 2, 4], [10, 20, 11], user_key=[1, 2, 1])
    got = align.join(left, right, tolerance=9 * SECOND, by="user_key")
    assert got.frame["value"].to_list() == [11, 20, None] and got.matched == pytest.approx(2 / 3)


def test_nothing_to_join_is_no_error():
    empty = align.join(stream([], []).select("at"), stream([1], [1]), tolerance=SECOND)
    assert empty.frame.height == 0 and empty.matched == 0 and empty.oldest_s is None
    none = align.join(stream([1], [1]).select("at"), stream([], []), tolerance=SECOND)
    assert none.frame["value"].to_list() == [None] and none.matched == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 60), max_size=25),
    st.lists(st.integers(0, 60), max_size=25),
    st.integers(0, 20),
)
def test_a_join_is_what_a_plain_search_finds(left, right, tolerance):
    values = list(range(len(right)))
    got = align.join(stream(left, left).select("at"), stream(right, values), tolerance=tolerance * SECOND)
    for moment, value in zip(left, got.frame["value"], strict=True):
        before = [r for r in right if moment - tolerance <= r <= moment]
        newest = [v for r, v in zip(right, values, strict=True) if before and r == max(before)]
        assert value == (newest[-1] if newest else None)


def test_frames_that_are_no_streams_are_refused():
    good, bad = stream([1], [1]), pl.DataFrame({"at": [1], "value": [1.0]})
    with pytest.raises(SchemaError, match="the columns are at Int64, value Float64.*Give `at`"):
        align.resample(bad, every=SECOND)
    with pytest.raises(SchemaError, match="the left frame has no column 'at'"):
        align.join(bad, good, tolerance=SECOND)
    with pytest.raises(SchemaError, match="column 'user_key' is not in both"):
        align.join(good.select("at"), good, tolerance=SECOND, by="user_key")
    with pytest.raises(UsageError, match="the tolerance is -1 day.*Give 0 or more"):
        align.join(good.select("at"), good, tolerance=-SECOND)
