from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from habitue.core import extras
from habitue.core.errors import InputError, MissingExtraError, ModelError, SettingsError, UsageError
from habitue.core.settings import Choice, space, tuned
from habitue.evaluate import tune


@dataclass(frozen=True)
class Config:
    """A toy model's settings: best at ridge 100, kind "b", depth 3."""

    ridge: float = tuned(10.0, 1, 1000, log=True)
    kind: str = tuned("a", values=("a", "b", None))
    depth: int = tuned(2, 1, 5)
    other: float = 1.0


SPACE = space(Config)
FIRST = {"ridge": 10.0, "kind": "a", "depth": 2}


def _value(settings: dict[str, Any]) -> float:
    far = abs(math.log10(settings["ridge"]) - 2) + 0.2 * abs(settings["depth"] - 3)
    return -far + (0.1 if settings["kind"] == "b" else 0)


def _objective(settings: dict[str, Any], report: tune.Report) -> float:
    return _value(settings)


def _search(objective: tune.Objective = _objective, **more: Any) -> tune.Study:
    return tune.search(objective, SPACE, **({"trials": 25, "seed": 3, "first": FIRST} | more))


def _shape(study: tune.Study) -> pl.DataFrame:
    return study.trials.drop("cpu_s")


def test_it_finds_better_settings_than_the_defaults() -> None:
    study = _search()
    assert study.default == pytest.approx(_value(FIRST))
    assert study.value > study.default + 0.8
    assert study.value == pytest.approx(_value(study.settings))
    assert study.value == study.trials["value"].max()
    assert study.trials.height == 25
    assert study.trials["state"].unique().to_list() == ["complete"]
    assert study.trials["settings"][0] == FIRST
    assert 50 < study.settings["ridge"] < 200
    assert list(study.importance)[0] == "ridge"
    assert sum(study.importance.values()) == pytest.approx(1, abs=0.01)
    assert study.stopped is None


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_gives_the_same_trials(sampler: Any) -> None:
    once, again, other = _search(sampler=sampler), _search(sampler=sampler), _search(sampler=sampler, seed=4)
    assert_frame_equal(_shape(once), _shape(again))
    assert once.importance == again.importance
    assert not _shape(once).equals(_shape(other))


def test_tpe_and_random_are_not_the_same() -> None:
    assert not _shape(_search(sampler="tpe")).equals(_shape(_search(sampler="random")))


def test_values_stay_inside_their_ranges() -> None:
    tried = _search(sampler="random", trials=60).trials["settings"].struct.unnest()
    assert tried["ridge"].min() >= 1 and tried["ridge"].max() <= 1000  # type: ignore[operator]
    assert tried.filter(pl.col("ridge") < 30).height > 15  # by ratios: half of the draws lie below 32
    assert set(tried["depth"]) == {1, 2, 3, 4, 5}
    assert set(tried["kind"]) == {"a", "b", None}


def test_a_grid_is_every_combination_beside_the_defaults() -> None:
    few = {"ridge": Choice(1, 100, log=True), "kind": SPACE["kind"]}
    first = {"ridge": 7.0, "kind": "a"}
    study = tune.search(lambda s, _: -s["ridge"], few, trials=16, seed=0, sampler="grid", first=first)
    rows = study.trials["settings"].struct.unnest().rows()
    assert rows[0] == (7.0, "a")
    assert rows[1:] == [(r, k) for r in (1.0, 3.1623, 10.0, 31.623, 100.0) for k in ("a", "b", None)]
    assert study.settings == {"ridge": 1.0, "kind": "a"}  # of equals the earliest


def test_defaults_inside_the_grid_are_tried_once() -> None:
    few = {"n": Choice(1, 3, whole=True)}
    study = tune.search(lambda s, _: s["n"], few, trials=9, seed=0, sampler="grid", first={"n": 2})
    assert study.trials["settings"].struct.field("n").to_list() == [2, 1, 3]


def test_a_grid_larger_than_the_trials_is_refused() -> None:
    with pytest.raises(UsageError, match="the grid is 5 x 3 x 5 = 75 places and the defaults, but 25 trials.*76"):
        _search(sampler="grid")


def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = _search(store=tmp_path / "whole.sqlite")
    calls = 0

    def killed(settings: dict[str, Any], report: tune.Report) -> float:
        nonlocal calls
        calls += 1
        if calls == 14:
            raise KeyboardInterrupt
        return _objective(settings, report)

    with pytest.raises(KeyboardInterrupt):
        _search(killed, store=tmp_path / "cut.sqlite")
    rest: list[dict[str, Any]] = []
    study = _search(lambda s, r: rest.append(s) or _objective(s, r), store=tmp_path / "cut.sqlite")
    assert len(rest) == 25 - 13
    assert_frame_equal(_shape(study), _shape(whole))
    assert study.importance == whole.importance


def test_a_kill_between_queue_and_trial_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.study.Study, "ask", killed)
        with pytest.raises(KeyboardInterrupt):
            _search(store=tmp_path / "s.sqlite")
    assert_frame_equal(_shape(_search(store=tmp_path / "s.sqlite", trials=12)), _shape(_search(trials=12)))


def test_a_kill_between_end_and_tell_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tune, "_tell", killed)
        with pytest.raises(KeyboardInterrupt):
            _search(store=tmp_path / "s.sqlite")
    done: list[dict[str, Any]] = []
    study = _search(lambda s, r: done.append(s) or _objective(s, r), store=tmp_path / "s.sqlite", trials=3)
    assert len(done) == 2
    assert study.default == pytest.approx(_value(FIRST))


def test_the_same_command_twice_adds_nothing_and_more_trials_go_on(tmp_path: Path) -> None:
    store = tmp_path / "deep/s.sqlite"
    once = _search(store=store, trials=12)

    def never(settings: dict[str, Any], report: tune.Report) -> float:
        raise AssertionError("this trial is in the store")

    assert_frame_equal(_search(never, store=store, trials=12).trials, once.trials)
    more = _search(store=store, trials=15)
    assert_frame_equal(more.trials.head(12), once.trials)
    assert_frame_equal(_shape(more), _shape(_search(trials=15)))


def test_a_stored_study_of_other_settings_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    _search(store=store, trials=2)
    with pytest.raises(UsageError, match="it was searched with another seed"):
        _search(store=store, trials=2, seed=9)
    with pytest.raises(UsageError, match="it was searched with another first and sampler"):
        _search(store=store, trials=2, sampler="random", first=FIRST | {"depth": 1})
    with pytest.raises(UsageError, match="with another space"):
        tune.search(_objective, SPACE | {"depth": Choice(1, 6, whole=True)}, trials=2, seed=3, first=FIRST, store=store)
    assert _search(store=store, trials=2, seed=9, name="mine").trials.height == 2


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_text("these are words, and many of them, so that nobody takes them for a database" * 50)
    with pytest.raises(InputError, match="this file is no study"):
        _search(store=path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table studies (a)")
    database.close()
    with pytest.raises(InputError, match="this file is no study"):
        _search(store=path)


def test_a_bad_trial_is_stopped_early_and_kept() -> None:
    def objective(settings: dict[str, Any], report: tune.Report) -> float:
        for step in range(3):
            report(step, _value(settings))
        return _value(settings)

    study = _search(objective, sampler="random", trials=40)
    pruned = study.trials.filter(pl.col("state") == "pruned")
    assert 5 < pruned.height < 35
    assert pruned["trial"].min() >= tune.STARTUP  # type: ignore[operator]
    assert set(pruned["step"]) == {0}
    assert study.value == study.trials.filter(pl.col("state") == "complete")["value"].max()
    assert pruned["value"].max() < study.value  # type: ignore[operator]


def test_folds_are_averaged_and_told_one_by_one() -> None:
    told: list[tuple[int, float]] = []
    objective = tune.folded(lambda settings, fold: settings["a"] * fold, [1, 2, 6])
    assert objective({"a": 2}, lambda step, value: told.append((step, value))) == pytest.approx(6)
    assert told == [(0, 2.0), (1, 3.0)]


def test_an_error_is_kept_with_its_sentence_and_does_not_end_the_search() -> None:
    def objective(settings: dict[str, Any], report: tune.Report) -> float:
        if settings["kind"] == "a":
            raise ModelError("model.toy", found="it is singular", consequence="No.", remedy="Raise ridge")
        if settings["kind"] == "b":
            raise ZeroDivisionError("by nought")
        return math.nan if settings["depth"] == 1 else _value(settings)

    study = _search(objective, sampler="random", trials=40)
    failed = study.trials.filter(pl.col("state") == "failed")
    assert study.default is None
    assert failed["why"][0] == "model.toy: it is singular. No. Raise ridge."
    assert set(failed["why"]) == {failed["why"][0], "ZeroDivisionError: by nought", "the objective is nan"}
    assert failed["value"].is_null().all()
    assert study.settings["kind"] is None


def test_when_every_trial_fails_the_first_sentence_is_told() -> None:
    def objective(settings: dict[str, Any], report: tune.Report) -> float:
        raise ValueError("nobody bought")

    with pytest.raises(ModelError, match="none of 3 trials is complete; the first says: ValueError: nobody bought"):
        _search(objective, trials=3)


def test_a_budget_ends_the_search_between_trials() -> None:
    study = _search(budget_s=0.0, trials=30)
    assert study.trials.height == 1
    assert study.stopped and "the budget of 0 CPU-seconds ended after 1 of 30 trials" in study.stopped


def test_every_model_gets_the_same_trials(tmp_path: Path) -> None:
    told = tune.compare_tuned(
        {"toy": (_objective, SPACE, FIRST), "flat": (lambda s, _: s["n"], {"n": Choice(1, 9)}, {"n": 1})},
        trials=7,
        seed=1,
        store=tmp_path / "both.sqlite",
    )
    assert {name: study.trials.height for name, study in told.items()} == {"toy": 7, "flat": 7}
    assert told["flat"].value > 1


def test_nothing_to_tune_is_one_trial() -> None:
    study = tune.search(lambda s, _: 0.5, {}, trials=9, seed=0)
    assert (study.trials.height, study.settings, study.value, study.importance) == (1, {}, 0.5, {})


@pytest.mark.parametrize(
    ("choice", "first", "match"),
    [
        (Choice(2, 1), 1.5, "it may vary from 2 to 1"),
        (Choice(0, 1, log=True), 0.5, "it may vary from 0 to 1 by ratios"),
        (Choice(1, 2), 3, r"its default 3 lies outside what it may be.*1 to 2 is open"),
        (Choice(1, 9, whole=True), 2.5, "its default 2.5 lies outside"),
        (Choice(values=("a", "b")), "c", r"its default 'c' lies outside.*Choose one of \('a', 'b'\)"),
    ],
)
def test_a_range_that_cannot_be_is_refused(choice: Choice, first: Any, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        tune.search(_objective, {"ridge": choice}, trials=2, seed=0, first={"ridge": first})


def test_a_setting_without_default_is_refused() -> None:
    with pytest.raises(SettingsError, match="setting 'ridge': it has no default"):
        tune.search(_objective, SPACE, trials=2, seed=0)


def test_wrong_trials_and_sampler_are_refused() -> None:
    with pytest.raises(UsageError, match="0 trials"):
        _search(trials=0)
    with pytest.raises(UsageError, match="there is no sampler 'genetic'.*tpe, random, grid"):
        _search(sampler="genetic")


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extras.importlib.import_module

    def without(name: str, *package: str) -> Any:
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *package)

    monkeypatch.setattr(extras.importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[tune\]'"):
        _search()


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    _search(trials=3)
    assert capsys.readouterr() == ("", "")


KILLED = """
import sys, time
from pathlib import Path
from habitue.core.settings import Choice
from habitue.evaluate import tune

def objective(settings, report):
    print("trial", flush=True)
    time.sleep(float(sys.argv[2]))
    report(0, -abs(settings["x"] - 3))
    return -abs(settings["x"] - 3)

study = tune.search(objective, {"x": Choice(0, 10)}, trials=14, seed=5, first={"x": 9.0}, store=Path(sys.argv[1]))
print(study.trials.drop("cpu_s").rows())
"""


@pytest.mark.slow
def test_kill_minus_nine_changes_nothing(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(KILLED)

    def run(store: str, pause: float, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / store), str(pause)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)

    whole, _ = run("whole.sqlite", 0).communicate(timeout=120)
    for after in (1, 4, 3):  # trials begun in this process before it is killed
        killed = run("killed.sqlite", 0.2)
        assert killed.stdout is not None
        for _ in range(after):
            assert killed.stdout.readline() == "trial\n"
        killed.kill()
        killed.wait()
        killed.stdout.close()
    rest, _ = run("killed.sqlite", 0).communicate(timeout=120)
    assert rest.splitlines()[-1] == whole.splitlines()[-1]
    assert 7 <= rest.count("trial\n") <= 14 < whole.count("trial\n") + 1
