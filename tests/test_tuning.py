from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from habitue import collect, evaluate, tuning
from habitue.collect import synthetic
from habitue.core import workspace
from habitue.core.errors import ModelError, UsageError
from habitue.core.runtime import Runtime
from habitue.core.settings import fill, tuned
from habitue.core.workspace import Workspace
from habitue.dashboard import sheet
from habitue.plan import Plan

MAPPING = """\
source = "orders"
time_zone = "UTC"
currency = "EUR"
[columns]
at = "at"
order_id = "order_id"
item_id = "item_id"
title = "title"
quantity = "quantity"
price = "price"
[user]
column = "user_key"
"""
PLAN = Plan(horizon_days=30)
RUNTIME = Runtime(seed=0)


@dataclass(frozen=True)
class Config:
    """A teller that says the same chance to everybody: best when it is the share that stays away."""

    chance: float = tuned(0.9, 0.05, 0.95)


def _teller() -> types.ModuleType:
    module = types.ModuleType("toy.teller")
    module.Config = Config  # type: ignore[attr-defined]
    module.ANSWERS = frozenset({"churn", "value"})  # type: ignore[attr-defined]
    module.fit = lambda past, config, *, runtime: config.chance  # type: ignore[attr-defined]

    def predict(state: float, past: Any) -> pl.DataFrame:
        keys = past.histories.user_keys
        return pl.DataFrame({"user_key": keys, "churn": np.full(len(keys), state), "value": np.zeros(len(keys))})

    module.predict = predict  # type: ignore[attr-defined]
    return module


@pytest.fixture(autouse=True)
def teller() -> Iterator[None]:
    sys.modules["toy.teller"] = _teller()
    yield
    del sys.modules["toy.teller"]


def _shop(folder: Path, users: int) -> Workspace:
    events = synthetic.shop(users=users, items=24, days=300)
    events.select("at", "order_id", "item_id", "title", "quantity", "price", "user_key").with_columns(
        pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S")
    ).write_csv(folder / "orders.csv")
    (folder / "orders.toml").write_text(MAPPING)
    space = workspace.init(folder / "shop")
    collect.import_file(space, folder / "orders.csv", folder / "orders.toml", seed=0)
    return space


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return _shop(tmp_path_factory.mktemp("shop"), 200)


def _tune(space: Workspace, folder: Path, plan: Plan = PLAN, **more: Any) -> tuning.Tuned:
    asked = {"model": "popular", "trials": 6, "runtime": RUNTIME, "store": folder / "s.sqlite", **more}
    return tuning.run(space, plan, **asked)


@pytest.fixture(scope="module")
def ranked(space: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuning.Tuned:
    return _tune(space, tmp_path_factory.mktemp("study"))


def test_the_plans_own_settings_come_first_and_the_best_is_no_worse(ranked: tuning.Tuned) -> None:
    start = {key: getattr(PLAN.blend.popular, key) for key in ranked.task.space}
    assert ranked.study.trials["settings"][0] == start
    assert ranked.study.default is not None and ranked.study.value >= ranked.study.default
    assert ranked.task.metric == "ndcg@10"
    assert ranked.study.trials.height == 6


def test_nothing_after_the_cut_is_read(space: Workspace, tmp_path: Path, ranked: tuning.Tuned) -> None:
    fold = ranked.task.folds[0]
    last = synthetic.shop(users=200, items=24, days=300)["at"].max()
    assert isinstance(last, dt.datetime)
    end = dt.datetime(last.year, last.month, last.day, tzinfo=dt.UTC) + dt.timedelta(days=1)
    assert fold.past.as_of == end - 2 * dt.timedelta(days=30)
    assert fold.past.histories.set_at.max() < fold.past.day
    cut = end - dt.timedelta(days=90)
    earlier = _tune(space, tmp_path, dataclasses.replace(PLAN, cut=cut), trials=1)
    assert earlier.task.folds[0].past.as_of == cut - dt.timedelta(days=30)


def test_a_third_of_the_customers_judges_no_trial(ranked: tuning.Tuned) -> None:
    fold = ranked.task.folds[0]
    judged, held = set(fold.judged.tolist()), set(fold.held.tolist())
    assert not judged & held
    assert 0.2 < len(held) / len(judged | held) < 0.47
    assert ranked.held_out
    ordered = np.diff(fold.truth.indptr) > 0
    assert all(ordered[i] and fold.past.known[i] for i in judged | held)


def test_the_value_is_that_of_the_table(ranked: tuning.Tuned) -> None:
    from habitue.model import popular

    fold = ranked.task.folds[0]
    state = popular.fit(fold.past, popular.Config(), runtime=RUNTIME)
    asked = fold.past.take(fold.judged)
    told = evaluate.basket(popular.score(state, asked), asked, fold.truth[fold.judged], model="popular")
    row = next(m for m in told if (m.metric, m.slice) == ("ndcg@10", "all"))
    assert row.values is not None
    assert ranked.study.default == pytest.approx(row.values.mean())


def test_the_same_command_twice_adds_nothing(space: Workspace, tmp_path: Path, ranked: tuning.Tuned) -> None:
    once = _tune(space, tmp_path)
    assert _tune(space, tmp_path).study.trials.equals(once.study.trials)
    assert once.study.trials.drop("cpu_s").equals(ranked.study.trials.drop("cpu_s"))
    assert _tune(space, tmp_path, trials=2, sampler="random").study.trials.height == 2  # a study of its own


def test_several_moments_do_not_overlap(space: Workspace, tmp_path: Path) -> None:
    told = _tune(space, tmp_path, moments=3, trials=2)
    days = [fold.past.as_of for fold in told.task.folds]
    assert [a - b for a, b in zip(days, days[1:], strict=False)] == [dt.timedelta(days=30)] * 2
    held = [set(f.past.histories.user_keys[f.held].tolist()) for f in told.task.folds]
    judged = [set(f.past.histories.user_keys[f.judged].tolist()) for f in told.task.folds]
    assert not set.union(*held) & set.union(*judged)  # the same third at every moment


def test_a_teller_is_judged_by_its_log_loss(space: Workspace, tmp_path: Path) -> None:
    told = _tune(space, tmp_path, model="toy.teller", trials=15, moments=2)
    assert told.task.metric == "log_loss"
    labels = told.task.folds[0].truth
    assert labels["horizon_end"].max() <= told.task.folds[0].past.as_of + dt.timedelta(days=30)
    share = float(pl.concat([f.truth for f in told.task.folds])["churned"].mean())  # type: ignore[arg-type]
    assert abs(told.study.settings["chance"] - share) < 0.12
    assert told.study.value < 0
    document = tuning.document(told)
    assert document["best"] == pytest.approx(-told.study.value)
    assert document["best"] < document["default"]
    assert told.gain is not None and told.gain["high"][0] < 0
    assert tuning.verdict(told).startswith("The best settings of toy.teller are better than the default: log_loss -")
    assert told.toml == ""  # the plan has no place for a model of one's own
    first = told.task.folds[0].past.as_of - told.task.folds[1].past.as_of
    assert first >= dt.timedelta(days=30)


def test_the_lines_for_the_plan_can_be_read_by_the_plan(space: Workspace, tmp_path: Path) -> None:
    import tomllib

    told = _tune(space, tmp_path, model="neighbours", sampler="random", trials=8)
    assert told.toml.startswith("[blend.neighbours]\n")
    plan = fill(Plan, tomllib.loads(told.toml))
    got = {key: getattr(plan.blend.neighbours, key) for key in told.task.space}
    assert got == told.study.settings


def test_few_customers_are_all_judged(tmp_path: Path) -> None:
    told = _tune(_shop(tmp_path, 40), tmp_path, trials=4, sampler="random")
    assert not told.held_out and told.task.folds[0].held.size == 0
    if told.gain is not None:
        assert "those that chose it" in tuning.verdict(told)


def test_models_without_ranges_are_refused(space: Workspace, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Fixed:
        a: int = 1

    sys.modules["toy.teller"].Config = Fixed  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="model 'toy.teller': it has no setting that may be tuned.*Mark settings"):
        _tune(space, tmp_path, model="toy.teller")
    with pytest.raises(UsageError, match="model 'blend': it has no setting.*Tune one of its views"):
        _tune(space, tmp_path, model="blend")


def test_a_model_that_answers_neither_is_refused(space: Workspace, tmp_path: Path) -> None:
    sys.modules["toy.teller"].ANSWERS = frozenset({"value"})  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="model 'toy.teller': it answers value. Tuning judges ranks and churn only"):
        _tune(space, tmp_path, model="toy.teller")


def test_a_past_that_is_too_short_is_told(space: Workspace, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no known customer can be judged in the 140 days after \d{4}-\d\d-\d\d \(moment"
    ):
        _tune(space, tmp_path, Plan(horizon_days=140), moments=2)


def test_an_empty_lake_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no event that can be believed is in the lake"):
        _tune(workspace.init(tmp_path / "empty"), tmp_path)


def test_page_and_json_are_written_beside_each_other(ranked: tuning.Tuned, tmp_path: Path) -> None:
    data, html = tuning.write(ranked, data=tmp_path / "deep/tune.json", command="habitue tune --model popular")
    told = json.loads(data.read_text(encoding="utf-8"))
    assert html == tmp_path / "deep/tune.html"
    assert (told["model"], told["metric"], len(told["trials"])) == ("popular", "ndcg@10", 6)
    assert told["best"] == ranked.study.value
    page = html.read_text(encoding="utf-8")
    assert "Every trial" in page and "Value of each trial" in page
    assert re.search(r"Of|On \d", page)


def _with(ranked: tuning.Tuned, **gain: float | None) -> tuning.Tuned:
    frame = pl.DataFrame(
        [{"mean": 0.01, "low": 0.005, "high": 0.02, "n": 80} | gain], schema_overrides={"low": pl.Float64}
    )
    return dataclasses.replace(ranked, gain=frame, toml="[blend.popular]")


def test_the_verdict_follows_the_interval(ranked: tuning.Tuned) -> None:
    better = tuning.verdict(_with(ranked))
    assert better == (
        "The best settings of popular are better than the default: ndcg@10 +0.0100, 95 % interval +0.0050 to "
        "+0.0200, on 80 customers that no trial was judged by."
    )
    assert tuning.verdict(_with(ranked, low=-0.01)).startswith(
        "No clear gain from tuning popular, so keep its settings"
    )
    assert tuning.verdict(_with(ranked, low=-0.02, high=-0.01)).startswith("Keep the settings of popular: what looked")
    assert "80 customers cannot decide" in tuning.verdict(_with(ranked, low=None, high=None))
    assert tuning.offer(_with(ranked)).startswith("These lines in habitue.toml make")
    assert tuning.offer(_with(ranked, low=-0.01)).startswith("Should you want")
    kept = dataclasses.replace(ranked, gain=None, toml="")
    assert tuning.verdict(kept) == "Keep the settings of popular: none of 5 others did better than they do."


def test_pruned_failed_and_stopped_are_said(ranked: tuning.Tuned) -> None:
    trials = ranked.study.trials.with_columns(
        state=pl.Series(["complete", "complete", "pruned", "pruned", "failed", "complete"])
    )
    study = dataclasses.replace(ranked.study, trials=trials, stopped="the budget ended")
    said = tuning.sentences(dataclasses.replace(ranked, study=study))
    assert "Of 6 trials 2 stopped early and 1 failed." in said
    assert "The search is not done: the budget ended." in said
    page = tuning.page(dataclasses.replace(ranked, study=study), command="c")
    history = next(s for s in page["sections"] if s["title"] == "Trial by trial")["parts"][0]
    assert [s["name"] for s in history["series"]] == ["a trial", "stopped early", "best so far", "the default"]
    sheet.render(page)
