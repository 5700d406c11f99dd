"""A network that learns shapes over time: shapes that windows of statistics cannot tell, pauses, and nothing at all."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import InputError, SchemaError, SettingsError
from habitue.encode import signals, temporal

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CLOCK = signals.Config(signals=("touch", "attention"), cutoff_hz=0.5, window_s=40.0, step_s=20.0)
CONFIG = temporal.Config(signals=CLOCK, width=16, passes=25)


def one(kind: str, seed: int, *, length: int = 40) -> list[dict]:
    """A pulse that rises fast and falls slowly, or the other way round, somewhere: one level, one spread, one trend."""
    rng = np.random.default_rng(seed)
    shape = np.concatenate([np.linspace(0, 1, 3), np.linspace(1, 0, 12)])
    values = rng.normal(0, 0.05, length)
    begin = int(rng.integers(length - shape.size))
    values[begin : begin + shape.size] += shape if kind == "quick" else shape[::-1]
    return [{"signal": "touch", "at": START + dt.timedelta(seconds=s), "value": float(v)} for s, v in enumerate(values)]


def table(count: int, seed: int = 0, **more) -> pl.DataFrame:
    kinds = ["quick", "slow"] * (count // 2)
    rows = [one(kind, seed + n, **more) for n, kind in enumerate(kinds)]
    frame = pl.DataFrame({"id": [f"s{n}" for n in range(count)]})
    return frame.with_columns(series=pl.Series(rows, dtype=signals.SERIES), label=pl.Series(kinds))


@pytest.fixture(scope="module")
def learnt() -> temporal.Fitted:
    return temporal.fit(table(80), CONFIG)


def test_it_tells_shapes_of_series_it_never_saw(learnt):
    asked = table(40, 1000)
    shares = temporal.answer(asked.drop("label"), learnt, CONFIG)
    assert learnt.classes == ("quick", "slow") and shares.sum(axis=1) == pytest.approx(1)
    told = np.array(learnt.classes)[shares.argmax(axis=1)]
    assert (told == asked["label"].to_numpy()).mean() > 0.9


def test_rows_are_the_same_in_any_company_and_after_another_fit_of_one_seed(learnt):
    asked = table(6, 1000)
    rows = encode.run("temporal", asked, CONFIG, fitted=learnt)
    alone = encode.run("temporal", asked[3:4], CONFIG, fitted=learnt)
    assert rows.dense.shape == (6, 32) and (rows.dense[3] == alone.dense[0]).all()
    assert rows.encoder == "signals.temporal@1" and rows.fitted is learnt
    small = temporal.Config(signals=CLOCK, width=4, passes=1)
    first, again = (encode.run("temporal", asked, small) for _ in range(2))
    assert first.sha256 == again.sha256 and first.fitted.sha256 == again.fitted.sha256
    other = encode.run("temporal", asked, temporal.Config(signals=CLOCK, width=4, passes=1, seed=1))
    assert other.fitted.sha256 != first.fitted.sha256


def test_altered_copies_are_for_learning_alone(learnt):
    altering = temporal.Config(signals=CLOCK, width=16, passes=25, augment=("jitter", "warp"), mixed=0.2)
    asked = table(6, 1000).drop("label")
    assert (temporal.answer(asked, learnt, altering) == temporal.answer(asked, learnt, CONFIG)).all()
    small = {"signals": CLOCK, "width": 4, "passes": 1}
    plain = temporal.fit(table(10), temporal.Config(**small))
    assert temporal.fit(table(10), temporal.Config(**small, augment=("warp",))).sha256 != plain.sha256
    assert temporal.fit(table(10), temporal.Config(**small, mixed=0.4)).sha256 != plain.sha256


def test_what_strangers_send_gets_a_row_or_a_reason(learnt):
    def points(*pairs, signal="touch"):
        return [{"signal": signal, "at": START + dt.timedelta(seconds=s), "value": v} for s, v in pairs]

    series = {
        "one value": points((0, 1.0)),
        "not in order": points((5, 1.0), (1, 2.0), (3, 0.5)),
        "one moment": points((0, 1.0), (0, 2.0)),
        "a day's pause": points((0, 1.0), (1, 1.0), (86_000, 1.0)),
        "huge": points((0, 1e300), (1, -1e300), (2, 0.0), (3, 1e18), (4, -1e18)),
        "some nan": points((0, 1.0), (1, float("nan")), (2, float("inf")), (3, 1.0)),
        "another signal": points((0, 1.0), signal="noise"),
        "only nan": points((0, float("nan"))),
        "null": points((0, None)),
        "empty": [],
    }
    frame = pl.DataFrame({"id": list(series)}).with_columns(
        series=pl.Series(list(series.values()), dtype=signals.SERIES)
    )
    for name, more in (("temporal", {"fitted": learnt}), ("signals", {})):
        config = CONFIG if name == "temporal" else CLOCK
        vectors = encode.run(name, frame, config, **more)
        assert vectors.missing == ("another signal", "only nan", "null", "empty"), name
        assert set(vectors.refused["code"]) == {"no_signal"}
        assert np.isfinite(vectors.dense).all()
    alike = temporal.answer(frame, learnt, CONFIG)
    assert alike[-1].tolist() == [0.5, 0.5]
    assert temporal.answer(frame.clear(), learnt, CONFIG).shape == (0, 2)


def test_a_long_series_is_many_windows_and_a_short_one_is_filled_with_nothing():
    long = np.arange(95.0)[None].repeat(2, axis=0)
    windows = temporal._windows(long, CONFIG)
    assert windows[:, 0, 0].tolist() == [0, 20, 40, 55], "one ends where the series ends"
    (short,) = temporal._windows(long[:, :10], CONFIG)
    assert short.shape == (2, 40) and np.isnan(short[:, 10:]).all()
    gap = np.concatenate([long, np.full((2, 200), np.nan), long], axis=1)
    assert (
        len(temporal._windows(gap, CONFIG)) < 19 and np.isfinite(temporal._windows(gap, CONFIG)).any(axis=(1, 2)).all()
    )
    seen = temporal._seen(short[None])
    assert seen.shape == (1, 4, 40) and seen[0, 2:, :10].all() and not seen[0, :, 10:].any()


def test_two_signals_that_begin_apart_stay_apart():
    rows = [{"signal": "touch", "at": START + dt.timedelta(seconds=s), "value": 1.0} for s in range(10)]
    rows += [{"signal": "attention", "at": START + dt.timedelta(seconds=5 + s), "value": 2.0} for s in range(10)]
    frame = pl.DataFrame({"id": ["a"]}).with_columns(series=pl.Series([rows], dtype=signals.SERIES))
    clock = temporal._clocks(frame, CONFIG)[0]
    assert np.flatnonzero(np.isfinite(clock[0])).tolist() == list(range(10))
    assert np.flatnonzero(np.isfinite(clock[1])).tolist() == list(range(5, 15))


def test_what_it_cannot_learn_from_or_answer_is_said(learnt):
    with pytest.raises(SchemaError, match="none can be learnt without labels"):
        encode.run("temporal", table(2).drop("label"), CONFIG)
    with pytest.raises(InputError, match="4 of 4 series have a signal and a label, of 1 kinds"):
        temporal.fit(table(4).with_columns(label=pl.lit("a")), CONFIG)
    with pytest.raises(SchemaError, match="Make the things with encode.signals.series"):
        temporal.answer(pl.DataFrame({"id": ["a"], "text": ["b"]}), learnt, CONFIG)
    with pytest.raises(SettingsError, match="are not those that the network learnt with"):
        encode.run("temporal", table(2).drop("label"), fitted=learnt)
    with pytest.raises(SettingsError, match="there is no method 'jiter'.*Did you mean 'jitter'"):
        temporal.Config(augment=("jiter",))
    with pytest.raises(SettingsError, match="width 0, passes 30"):
        temporal.Config(width=0)
