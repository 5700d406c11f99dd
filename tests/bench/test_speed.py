from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from habitue.bench import sequences, speed
from habitue.core import extras
from habitue.core.errors import HabitueError, ModelError
from habitue.core.runtime import detect
from habitue.core.schemas import EVENTS, METRICS, check
from habitue.evaluate import bench

SMALL = speed.Options(repeats=2, items=120, users=150, rows=3_000, steps=2)
RUNTIME = detect()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an optional package look as if it were not installed."""
    real = extras.importlib.import_module

    def hide(missing: str) -> None:
        def load(name: str, *package: str) -> Any:
            if name.split(".")[0] == missing:
                raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)
            return real(name, *package)

        monkeypatch.setattr(extras.importlib, "import_module", load)

    return hide


def test_the_planted_shop_has_the_asked_size_and_tastes() -> None:
    frame = speed.planted(2_000, 600, 9.0)
    assert frame["item"].n_unique() == 600
    assert frame["user"].n_unique() == 2_000
    assert 7 < frame.height / 2_000 < 11
    assert frame.equals(speed.planted(2_000, 600, 9.0))
    assert frame.unique(["user", "item"]).height == frame.height
    taste = frame.with_columns(taste=pl.col("item") // speed.BLOCK)
    top = taste.group_by("user", "taste").len().group_by("user").agg(pl.col("len").max())["len"].sum() / frame.height
    assert top > 0.5  # most of what a user buys is of one taste: chance would be far below
    assert sequences.read(frame).items


def test_p2_measures_both_closed_forms_against_their_bound() -> None:
    told = speed.run(["P2"], SMALL, runtime=RUNTIME).timed
    assert [one.name for one in told] == ["ease", "slist"]
    for one in told:
        assert len(one.values) == 2 and min(one.values) > 0
        assert one.ratio is not None and one.ratio > 0
        assert "120^3 = 1.7e+06 operations at" in one.bound


def test_p3_counts_users_per_second_and_names_its_bound_and_peer() -> None:
    pytest.importorskip("implicit")
    told = {one.name: one for one in speed.run(["P3"], SMALL, runtime=RUNTIME).timed}
    flagship = ["behaviour, window 50", "behaviour, product alone"]
    assert list(told) == ["als", "als, product alone", "implicit recommend", *flagship]
    assert "float32 product alone" in told["behaviour, window 50"].bound
    assert told["als"].values[0] == pytest.approx(150 / told["als"].cpu_s, rel=5)
    assert "implicit's recommend" in told["als"].bound


def test_p3_goes_on_without_implicit(without: Any) -> None:
    without("implicit")
    result = speed.run(["P3"], SMALL, runtime=RUNTIME)
    assert [one.name for one in result.timed] == ["behaviour, window 50", "behaviour, product alone"]
    assert "pip install 'habitue[als]'" in result.refused["P3 als"]


def test_wrong_lists_are_refused() -> None:
    queries, products = np.ones((1, 1), np.float32), np.arange(20, dtype=np.float32)[:, None]
    seen = speed.sp.csr_matrix((1, 20))
    right = np.arange(19, 9, -1)[None]
    speed._as_sorted((right, right), queries, products, seen, "toy")
    more = speed.sp.csr_matrix(([100.0], ([0], [3])), shape=(1, 20))
    for lists, extra in ((right[:, ::-1], None), (right, more)):
        with pytest.raises(ModelError, match="P3, toy: 1 of 1 lists are not those of sorting the catalogue"):
            speed._as_sorted((lists, lists), queries, products, seen, "toy", extra=extra)
    with_it = np.r_[3, right[0, :9]][None]
    speed._as_sorted((with_it, with_it), queries, products, seen, "toy", extra=more)


def test_p6_clicks_are_events_in_order() -> None:
    events = speed._clicks(1_000)
    check(events, EVENTS, at="test")
    assert events.height == 1_000
    assert events["at"].is_sorted()


def test_p6_measures_and_says_when_the_peer_is_missing(without: Any) -> None:
    without("duckdb")
    result = speed.run(["P6"], SMALL, runtime=RUNTIME)
    assert [one.name for one in result.timed] == ["habitue, 3,000 events"]
    assert "the package 'duckdb' is not installed" in result.refused["P6 peer"]
    assert "pip install 'habitue[speed]'" in result.refused["P6 peer"]


def test_p6_beside_duckdb() -> None:
    pytest.importorskip("duckdb")
    told = speed.run(["P6"], SMALL, runtime=RUNTIME).timed
    assert [one.name for one in told] == ["habitue, 3,000 events", "duckdb"]
    assert told[0].ratio is not None and "DuckDB with 1 thread(s) takes" in told[0].bound


def test_p6_of_different_answers_is_refused() -> None:
    ours = pl.DataFrame({"user_key": [1], "events": [2], "sessions": [1], "items": [1], "money": [0.5]})
    speed._agree(ours, ours.with_columns(pl.col("sessions").cast(pl.Int32)))
    with pytest.raises(ModelError, match="DuckDB and Habitue do not agree"):
        speed._agree(ours, ours.with_columns(sessions=pl.lit(2)))


def test_p7_without_weights_names_the_command_that_brings_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HABITUE_MODELS", str(tmp_path))
    result = speed.run(["P7"], SMALL, runtime=RUNTIME)
    assert result.timed == []
    assert "habitue models fetch" in result.refused["P7"]


def test_p7_counts_texts_beside_the_encoder_alone() -> None:
    try:
        speed.weights.path(speed.sentence.NAME)
    except HabitueError as error:
        pytest.skip(str(error))
    told = speed.run(["P7"], dataclasses.replace(SMALL, repeats=1, texts=40), runtime=RUNTIME).timed
    assert [one.name for one in told] == ["encode.run sentence, 40 titles", "the encoder alone"]
    assert told[0].ratio is not None and told[0].values[0] == pytest.approx(40 / told[0].cpu_s)


def test_p8_measures_fresh_processes() -> None:
    told = speed.run(["P8"], dataclasses.replace(SMALL, repeats=1), runtime=RUNTIME).timed
    assert [one.name for one in told] == ["python", "import habitue", "habitue --help"]
    assert told[1].ratio is not None and told[1].ratio > 0.5
    assert told[1].bound.startswith("python alone: 0.")


def test_a_program_that_fails_has_no_time() -> None:
    with pytest.raises(ModelError, match="ended with 3"):
        speed._process([speed.sys.executable, "-c", "raise SystemExit(3)"])


def test_p9_runs_the_demo_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(speed, "_process", lambda command: (ran.append(command), (150.0, 140.0, 900.0))[1])
    (one,) = speed.run(["P9"], SMALL, runtime=RUNTIME).timed
    assert ran[0][1:3] == ["demo", "--workspace"]
    assert (one.values, one.cpu_s, one.peak_mb, one.ratio) == ((150.0,), 140.0, 900.0, 0.5)
    assert "P9" not in speed.DEFAULT


def test_a_part_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ModelError("model.toy", found="it is singular", consequence="No.", remedy="Mend it")

    monkeypatch.setattr(speed, "PARTS", {"P2": broken, "P8": lambda *_: [_timed((1.0,))]})
    result = speed.run(["P2", "P8"], SMALL, runtime=RUNTIME)
    assert result.refused == {"P2": "model.toy: it is singular. No. Mend it."}
    assert len(result.timed) == 1


def _timed(values: tuple[float, ...]) -> speed.Timed:
    return speed.Timed("P8", "python", "seconds", values, 0.5, 10.0)


def test_the_rows_are_medians_with_their_interval_in_the_one_schema() -> None:
    result = speed.Result([_timed((1.0, 5.0, 2.0)), dataclasses.replace(_timed((4.0,)), ratio=1.25)])
    metrics = speed.metrics(result, dataset="none")
    check(metrics, METRICS, at="test")
    first, second, bound = metrics.to_dicts()
    assert (bound["metric"], bound["mean"]) == ("times its bound", 1.25)
    assert (first["slice"], first["metric"], first["mean"], first["n"]) == ("P8", "median seconds", 2.0, 3)
    assert 1.0 <= first["low"] <= 2.0 <= first["high"] <= 5.0
    assert (second["mean"], second["low"], second["high"]) == (4.0, None, None)
    assert bench.document(metrics, commit="c")["rows"][0]["model"] == "python"
