"""Signals: onto one clock, spikes and pauses told apart from what was sensed, windows whose numbers are known."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import SchemaError, SettingsError
from habitue.core.schemas import SIGNALS
from habitue.encode import signals

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def sensed(at, value, *, user=1, signal="heart_rate", session=None) -> pl.DataFrame:
    n = len(at)
    frame = pl.DataFrame(
        {
            "signal_id": [f"{user}-{signal}-{session}-{i}" for i in range(n)],
            "user_key": [user] * n,
            "at": [START + dt.timedelta(seconds=float(s)) for s in at],
            "signal": [signal] * n,
            "value": np.asarray(value, dtype=np.float64),
            "unit": [None] * n,
            "session_id": [session] * n,
            "source": ["test"] * n,
            "import_id": ["test"] * n,
        },
        schema=SIGNALS.schema,
    )
    return SIGNALS.shape(frame)


def told(frame: pl.DataFrame, config=None, *, row=0) -> dict[str, float]:
    vectors = encode.run("signals", signals.series(frame), config)
    return dict(zip(signals.names(config), vectors.dense[row].tolist(), strict=True))


def test_a_steady_pulse_has_its_level_and_no_unrest():
    got = told(sensed(range(300), [70.0] * 300))
    assert got["heart_rate: level"] == 70 and got["heart_rate: there"] == 1
    assert got["heart_rate: unrest (spread within a window)"] == pytest.approx(0, abs=1e-6)
    assert got["heart_rate: trend (a minute)"] == pytest.approx(0, abs=1e-6)
    assert got["heart_rate: length (log2 of seconds)"] == pytest.approx(np.log2(300))
    assert got["heart_rate: share covered"] == 1
    assert [v for k, v in got.items() if not k.startswith("heart_rate")] == [0.0] * 33


def test_a_climbing_pulse_has_its_slope_whatever_the_rate_it_came_at():
    for rate in (0.2, 1.0, 4.0, 25.0):
        at = np.arange(0, 600, 1 / rate)
        got = told(sensed(at, 60 + at / 30))  # two beats a minute more each minute
        assert got["heart_rate: trend (a minute)"] == pytest.approx(2, rel=0.02), rate
        assert got["heart_rate: slope of windows (a minute)"] == pytest.approx(2, rel=0.1), rate
        assert got["heart_rate: level"] == pytest.approx(70, abs=0.3), rate
        assert got["heart_rate: level, lowest window"] == pytest.approx(60.5, abs=0.3), rate


def test_a_slow_swing_passes_and_fast_noise_does_not():
    at = np.arange(0, 600, 0.5)
    swing = 70 + 5 * np.sin(2 * np.pi * at / 20)  # .05 Hz, below the cut of .2
    noisy = swing + 3 * np.sin(2 * np.pi * 0.4 * at)
    config = signals.Config(rate_hz=2.0)
    clean, mixed = (told(sensed(at, v), config) for v in (swing, noisy))
    name = "heart_rate: unrest (spread within a window)"
    assert clean[name] == pytest.approx(5 / np.sqrt(2), rel=0.05)
    assert mixed[name] == pytest.approx(clean[name], rel=0.05)
    open_ = told(sensed(at, noisy), signals.Config(rate_hz=2.0, cutoff_hz=1.0))
    assert open_[name] > 1.1 * clean[name]


def test_spikes_are_replaced():
    at, value = np.arange(200.0), 70 + np.sin(np.arange(200) / 5)
    spiked = value.copy()
    spiked[[20, 90, 150]] = (220, 0, 300)
    assert told(sensed(at, spiked)) == pytest.approx(told(sensed(at, value)), rel=0.02, abs=0.05)


def test_a_pause_stays_a_pause_and_a_short_one_is_bridged():
    config = signals.Config(cutoff_hz=9.0)
    at = np.r_[np.arange(0, 60), np.arange(65, 100), np.arange(200, 260)]
    clock, where = signals.steady(at.astype(float), np.where(at < 150, 60.0, 90.0), config)
    assert clock.size == 260 and where[-1] == 259
    assert np.isfinite(clock[:100]).all() and np.isnan(clock[100:200]).all() and np.isfinite(clock[200:]).all()
    assert set(clock[np.isfinite(clock)]) == {60.0, 90.0}, "nothing is drawn through the pause"


def test_values_of_one_tick_are_averaged_and_their_order_does_not_matter():
    at, value = [0.0, 0.2, 0.9, 1.5, 2.1, 3.0], [60.0, 62.0, 64.0, 70.0, 72.0, 74.0]
    config = signals.Config(cutoff_hz=9.0)
    assert signals.steady(np.array(at), np.array(value), config)[0].tolist() == [62.0, 70.0, 72.0, 74.0]
    frame = sensed(at, value)
    assert told(frame) == told(frame.sample(fraction=1.0, shuffle=True, seed=1))


def test_nothing_after_the_moment_is_read():
    at = np.arange(200.0)
    whole = sensed(at, np.where(at < 100, 60.0, 200.0))
    cut = signals.series(whole, until=START + dt.timedelta(seconds=100))
    early = signals.series(sensed(at[:100], [60.0] * 100))
    assert encode.run("signals", cut).sha256 == encode.run("signals", early).sha256


def test_a_visit_is_a_row_and_a_person_is_another():
    both = pl.concat(
        [sensed(range(50), [60.0] * 50, session="a"), sensed(range(90, 150), [90.0] * 60, session="b")]
        + [sensed(range(50), [5.0] * 50, user=2, signal="touch"), sensed(range(9), [1.0] * 9, user=3, signal="mood")]
    )
    visits = encode.run("signals", signals.series(both, by="session_id"))
    assert visits.ids == ("1/a", "1/b") and visits.dense[:, 3].tolist() == [60.0, 90.0]
    people = encode.run("signals", signals.series(both))
    assert people.ids == ("1", "2", "3") and people.encoded.tolist() == [True, True, False]
    assert people.refused.rows() == [
        ("3", "no_signal", "None of heart_rate, attention, touch, emotion was sensed."),
    ]
    mood = encode.run("signals", signals.series(both), signals.Config(signals=("mood",)))
    assert mood.dense.shape == (3, 11) and mood.missing == ("1", "2")


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_few_values_are_enough(n):
    got = told(sensed(np.arange(n) * 3.0, [70.0] * n))
    assert got["heart_rate: level"] == pytest.approx(70) and all(np.isfinite(list(got.values())))


def test_values_of_one_moment_and_no_number_do_not_stop_it():
    same = sensed([0.0] * 5, [60, 61, 62, 63, 64])
    assert told(same)["heart_rate: level"] == 62
    broken = signals.series(same).with_columns(
        series=pl.lit([{"signal": "heart_rate", "at": START, "value": float("nan")}], dtype=signals.SERIES)
    )
    assert encode.run("signals", broken).refused["code"].to_list() == ["no_signal"]
    assert encode.run("signals", signals.series(same).clear()).dense.shape == (0, 44)


def test_a_year_between_two_values_costs_a_day_at_most():
    got = told(sensed([0.0, 365 * 86_400.0, 365 * 86_400.0 + 5], [60, 90, 90]))
    assert got["heart_rate: level"] == 90, "only the latest day is read"


def test_what_cannot_be_read_is_said():
    with pytest.raises(SchemaError, match="encode.signals: the columns are id String.*encode.signals.series"):
        encode.run("signals", pl.DataFrame({"id": ["a"]}))
    with pytest.raises(SettingsError, match="by is 'shop'.*Give user_key or session_id"):
        signals.series(sensed([0.0], [1.0]), by="shop")
    with pytest.raises(SchemaError, match="column 'signal_id' is missing"):
        signals.series(pl.DataFrame({"value": [1.0]}))
