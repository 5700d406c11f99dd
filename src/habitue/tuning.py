"""Tune one model of the customer model on a shop's own past, and say whether it was worth it.

past     = what may be known at the back-test's cut: `habitue report` still tests on what tuning never saw
folds    = the past rewound by one horizon, two, ...: fit there, foretell the horizon that is known by now
search   = the plan's settings first, then evaluate.tune
verdict  = best against default on a third of the customers that no trial was judged by
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from habitue import __version__, evaluate, pipeline
from habitue.core import settings
from habitue.core.errors import ModelError, UsageError
from habitue.core.progress import stage
from habitue.core.runtime import Runtime
from habitue.core.settings import Choice
from habitue.core.workspace import Workspace
from habitue.dashboard import sheet
from habitue.evaluate import tune
from habitue.evaluate.measured import Measured
from habitue.look_back import traits_learnt
from habitue.model.past import Past, next_sets
from habitue.plan import Plan
from habitue.tables import Tables, version

USERS = 3_000  # judged at a moment, at most
LEAST = 90  # customers at the latest moment, from which a third is held out; with fewer everybody is judged by
METRICS = {"rank": "ndcg@10", "churn": "log_loss"}
SAID = {"ndcg@10": "NDCG@10 of the next order", "log_loss": "log loss of churn, minus"}


@dataclass(frozen=True)
class Fold:
    """A moment whose next horizon is known."""

    past: Past  # what was known then
    truth: Any  # of every user of `past`: next orders csr [B, I], or LABELS
    judged: np.ndarray[Any, Any]  # [n] indices of the users that trials are judged by
    held: np.ndarray[Any, Any]  # [m] indices of those that only the verdict sees


@dataclass(frozen=True)
class Task:
    """What is tuned, on what, judged by what."""

    model: str
    answer: str  # "rank" or "churn"
    base: Any  # the plan's Config of the model: trial 0
    space: Mapping[str, Choice]
    folds: tuple[Fold, ...]  # the latest moment first

    @property
    def metric(self) -> str:
        """The metric by its name in the tables."""
        return METRICS[self.answer]


@dataclass(frozen=True)
class Tuned:
    """A finished tuning."""

    task: Task
    study: tune.Study
    gain: pl.DataFrame | None  # best minus default on the held-out: mean, low, high, n; None = the defaults are best
    held_out: bool  # False: too few customers, the gain is told on those that the trials were judged by
    toml: str  # lines for habitue.toml; "" = the defaults are best, or the plan does not hold this model


def run(
    workspace: Workspace,
    plan: Plan,
    *,
    model: str,
    trials: int,
    runtime: Runtime,
    store: Path,
    sampler: tune.Sampler = "tpe",
    moments: int = 1,
    budget_s: float | None = None,
) -> Tuned:
    """Tune `model` on the past before the plan's cut (default: one horizon before the end of the data).

    `moments`: horizons to judge on, one before the other; more are surer, and stop bad settings early. The study is
    kept in `store` under a name made of what it read, so that another past never goes on with it. Raises UsageError
    for a model that cannot be tuned, ModelError when the past is too short, and what `tune.search` raises.
    """
    module, base, space = _tunable(model, plan)
    with stage("Looking back"):
        tables = pipeline.read(workspace, plan)
        as_of = _cut(tables, plan)
        learnt = traits_learnt(tables, plan, as_of=as_of)
        past, _ = pipeline.look_back(tables, as_of=as_of, plan=plan, traits=learnt)
    answer = "rank" if "rank" in module.ANSWERS else "churn"
    task = Task(model, answer, base, space, tuple(_folds(past, answer, moments, runtime.seed)))
    name = f"{model}-{version(tables, plan, as_of)[:8]}-{sampler}-{runtime.seed}-{moments}"
    start = {key: getattr(base, key) for key in space}

    def score(tried: tune.Settings, fold: Fold) -> float:
        measured = judge(task, module, tried, fold, fold.judged, runtime)
        value = float(measured.statistic(np.ones((1, measured.user_keys.size)))[0])
        return value if measured.better == "higher" else -value

    study = tune.search(
        tune.folded(score, task.folds),
        space,
        trials=trials,
        sampler=sampler,
        seed=runtime.seed,
        store=store,
        name=name,
        first=start,
        budget_s=budget_s,
    )
    latest = task.folds[0]
    held_out = latest.held.size > 0
    if study.settings == start:
        return Tuned(task, study, None, held_out, "")
    with stage("Best against default"):
        users = latest.held if held_out else latest.judged
        pair = [
            dataclasses.replace(judge(task, module, tried, latest, users, runtime), model=called)
            for called, tried in (("default", start), ("best", study.settings))
        ]
        gain = evaluate.compare(pair, against="default", seed=runtime.seed)
    changed = {key: value for key, value in study.settings.items() if value != start[key]}
    return Tuned(task, study, gain, held_out, _toml(model, changed, plan))


def judge(
    task: Task, module: ModuleType, tried: tune.Settings, fold: Fold, users: np.ndarray[Any, Any], runtime: Runtime
) -> Measured:
    """Fit a model with settings at a moment and measure it on some users by what they did next."""
    state = module.fit(fold.past, dataclasses.replace(task.base, **tried), runtime=runtime)
    asked = fold.past.take(users)
    if task.answer == "rank":
        told = evaluate.basket(module.score(state, asked), asked, fold.truth[users], model=task.model)
    else:
        keys = asked.histories.user_keys
        told = evaluate.churn(module.predict(state, asked), fold.truth, keys, model=task.model)
    return next(m for m in told if m.metric == task.metric and m.slice == "all")


def _tunable(model: str, plan: Plan) -> tuple[ModuleType, Any, dict[str, Choice]]:
    module = pipeline.model_named(model)
    space = settings.space(module.Config)
    if not space or model == "blend":
        raise UsageError(
            f"model '{model}'",
            found="it has no setting that may be tuned",
            consequence="There is nothing to try",
            remedy="Tune one of its views" if model == "blend" else "Mark settings of its Config with tuned(...)",
        )
    if not module.ANSWERS & set(METRICS):
        raise UsageError(
            f"model '{model}'",
            found=f"it answers {', '.join(sorted(module.ANSWERS))}",
            consequence="Tuning judges ranks and churn only",
            remedy="Choose another model",
        )
    return module, getattr(plan.blend, model, None) or module.Config(), space


def _folds(past: Past, answer: str, moments: int, seed: int) -> list[Fold]:
    """Return the moments to judge on, the latest first; the horizon of each is closed and overlaps no other."""
    horizon, folds = dt.timedelta(days=past.horizon_days), []
    until = past.as_of
    for k in range(moments):
        at = until - horizon
        if answer == "churn":
            known = past.train_labels.filter(pl.col("as_of") <= at)["as_of"].max()
            at = known if isinstance(known, dt.datetime) else at
        earlier = past.rewind(at)
        truth, rows = (_ranked if answer == "rank" else _labelled)(past, earlier)
        held = _held(earlier.histories.user_keys[rows], seed) if rows.size >= LEAST else np.zeros(rows.size, dtype=bool)
        folds.append(Fold(earlier, truth, rows[~held][:USERS], rows[held][:USERS]))
        if not rows.size:
            raise ModelError(
                "tuning",
                found=f"no known customer can be judged in the {past.horizon_days} days after {at:%Y-%m-%d}"
                + (f" (moment {k + 1} of {moments})" if moments > 1 else ""),
                consequence="Settings cannot be compared there",
                remedy="Import a longer past, take a shorter horizon_days, or ask for fewer moments",
            )
        until = at
    return folds


def _ranked(past: Past, earlier: Past) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return everyone's next order after the earlier moment, and who is known, has a history and ordered."""
    target = next_sets(past.histories, after=earlier.day, until=earlier.day + past.horizon_days)
    history = np.diff(earlier.histories.set_start) > 0
    return target, np.flatnonzero(earlier.known & history & (np.diff(target.indptr) > 0))


def _labelled(past: Past, earlier: Past) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return the labels of the earlier moment, and whose they are."""
    labels = past.train_labels.filter(pl.col("as_of") == earlier.as_of)
    keys = earlier.histories.user_keys
    labels = labels.filter(pl.col("user_key").is_in(keys.tolist())).sort("user_key")
    return labels, np.searchsorted(keys, labels["user_key"].to_numpy())


def _held(keys: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Return whether a customer belongs to the third that no trial is judged by; the same at every moment."""
    mixed = (keys.astype(np.uint64) + np.uint64(2 * seed + 1)) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing
    return np.asarray((mixed >> np.uint64(33)) % np.uint64(3) == 0)


def _cut(tables: Tables, plan: Plan) -> dt.datetime:
    last = tables.events["at"].max()
    if not isinstance(last, dt.datetime):
        raise UsageError(
            "tuning",
            found="no event that can be believed is in the lake",
            consequence="There is nothing to tune on",
            remedy="Import a file first: habitue import orders.csv --mapping orders.toml",
        )
    end = dt.datetime(last.year, last.month, last.day, tzinfo=dt.UTC) + dt.timedelta(days=1)
    return plan.cut or end - dt.timedelta(days=plan.horizon_days)


def _toml(model: str, changed: Mapping[str, Any], plan: Plan) -> str:
    if not hasattr(plan.blend, model):
        return ""
    lines = [f"{key} = {json.dumps(value)}" for key, value in changed.items() if value is not None]
    return "\n".join([f"[blend.{model}]", *lines])


def document(tuned: Tuned) -> dict[str, Any]:
    """Return the tuning as a plain dict: what the JSON file holds."""
    study, task = tuned.study, tuned.task
    return {
        "model": task.model,
        "metric": task.metric,
        "higher_is_better": task.answer == "rank",
        "moments": [fold.past.as_of.date().isoformat() for fold in task.folds],
        "judged": [int(fold.judged.size) for fold in task.folds],
        "default": _own(task, study.default),
        "best": _own(task, study.value),
        "settings": study.settings,
        "gain": None if tuned.gain is None else tuned.gain.select("mean", "low", "high", "n").to_dicts()[0],
        "held_out": tuned.held_out,
        "importance": study.importance,
        "stopped": study.stopped,
        "toml": tuned.toml,
        "trials": [{**row, "value": _own(task, row["value"])} for row in study.trials.to_dicts()],
    }


def _own(task: Task, value: float | None) -> float | None:
    """A value as its metric is said; the search turns a loss round."""
    return value if value is None or task.answer == "rank" else -value


def sentences(tuned: Tuned) -> list[str]:
    """Say what was found, the verdict first."""
    task, study = tuned.task, tuned.study
    states = dict(study.trials.group_by("state").len().iter_rows())
    n = study.trials.height
    judged = f"{sum(f.judged.size for f in task.folds):,} customers' next {task.folds[0].past.horizon_days} days"
    said = [verdict(tuned)]
    best, default = _own(task, study.value), _own(task, study.default)
    if tuned.gain is not None and best is not None:
        before = f"the default's is {default:.4f}" if default is not None else "the default's trial failed"
        said.append(f"On {judged}, which chose it, the best {task.metric} of {n} trials is {best:.4f}; {before}.")
    kept = [
        f"{states[state]} {words}"
        for state, words in (("pruned", "stopped early"), ("failed", "failed"))
        if state in states
    ]
    if kept:
        said.append(f"Of {n} trials {' and '.join(kept)}.")
    if study.stopped:
        said.append(f"The search is not done: {study.stopped}.")
    return said


def verdict(tuned: Tuned) -> str:
    """Say in one sentence whether the tuned settings are better, and how surely."""
    task, n = tuned.task, tuned.study.trials.height
    if tuned.gain is None:
        return f"Keep the settings of {task.model}: none of {n - 1} others did better than they do."
    row = tuned.gain.to_dicts()[0]
    sign = 1 if task.answer == "rank" else -1  # of a loss less is better
    who = f"{row['n']:,} customers" + (" that no trial was judged by" if tuned.held_out else ", those that chose it")
    if row["low"] is None:
        return f"{row['n']:,} customers cannot decide whether the best settings of {task.model} are better."
    low, high = sorted((sign * row["low"], sign * row["high"]))
    span = f"{task.metric} {row['mean']:+.4f}, 95 % interval {row['low']:+.4f} to {row['high']:+.4f}, on {who}"
    if low > 0:
        return f"The best settings of {task.model} are better than the default: {span}."
    if high < 0:
        return f"Keep the settings of {task.model}: what looked best is worse ({span})."
    return f"No clear gain from tuning {task.model}, so keep its settings: {span}."


def offer(tuned: Tuned) -> str:
    """Say what the lines for habitue.toml are good for."""
    if verdict(tuned).startswith("The best settings"):
        return "These lines in habitue.toml make the best settings the shop's own."
    return "Should you want the best trial's settings all the same, these are the lines for habitue.toml."


def page(tuned: Tuned, *, command: str) -> dict[str, Any]:
    """Return the sheet of a tuning: history, what matters, every trial."""
    task, study = tuned.task, tuned.study
    trials = study.trials.with_columns(pl.col("value") * (1 if task.answer == "rank" else -1))
    made = {"version": __version__, "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "command": command}
    sections = [
        {"title": "Trial by trial", "parts": [_history(trials, task)]},
        {"title": "What matters", "text": _matters(study), "parts": _importance(study) + _along(trials, task, study)},
        {"title": "Every trial", "parts": [_table(trials, task)]},
    ]
    if tuned.toml:
        lines = [[line] for line in tuned.toml.splitlines()]
        text = [offer(tuned)]
        part = {"kind": "table", "columns": [{"name": "habitue.toml"}], "rows": lines}
        sections.insert(0, {"title": "To use it", "text": text, "parts": [part]})
    return {"title": f"Tuning {task.model}", "lead": sentences(tuned), "sections": sections, "made": made}


def write(tuned: Tuned, *, data: Path, command: str) -> tuple[Path, Path]:
    """Write the JSON to `data` and the page beside it; return both paths."""
    html = sheet.write(page(tuned, command=command), data.with_suffix(".html"))
    data.write_text(json.dumps(document(tuned), ensure_ascii=False, indent=1, default=str) + "\n", encoding="utf-8")
    return data, html


def _history(trials: pl.DataFrame, task: Task) -> dict[str, Any]:
    told = trials.drop_nulls("value")
    series: list[dict[str, Any]] = [
        {"name": words, "points": [list(p) for p in part.select("trial", "value").iter_rows()], "dots": True}
        for state, words in (("complete", "a trial"), ("pruned", "stopped early"))
        if (part := told.filter(pl.col("state") == state)).height
    ]
    complete = told.filter(pl.col("state") == "complete")
    best = complete["value"].cum_max() if task.answer == "rank" else complete["value"].cum_min()
    series.append({"name": "best so far", "points": [list(p) for p in zip(complete["trial"], best, strict=True)]})
    default = complete.filter(pl.col("trial") == 0)["value"]
    if len(default) and trials.height > 1:
        points = [[0, default[0]], [trials.height - 1, default[0]]]
        series.append({"name": "the default", "points": points, "dashed": True})
    better = "Higher" if task.answer == "rank" else "Lower"
    note = f"{better} is better. Trial 0 is the default; the default's line is dashed."
    return {
        "kind": "lines",
        "title": "Value of each trial",
        "x": "trial",
        "y": task.metric,
        "series": series,
        "note": note,
    }


def _matters(study: tune.Study) -> list[str]:
    if not study.importance:
        return ["Too few trials differ to say which setting matters."]
    first, share = next(iter(study.importance.items()))
    return [f"{first} explains {share:.0%} of the differences between trials."]


def _importance(study: tune.Study) -> list[dict[str, Any]]:
    if not study.importance:
        return []
    values = list(study.importance.values())
    return [
        {
            "kind": "bars",
            "title": "Share of the differences that a setting explains",
            "x": "share of the variance (fANOVA)",
            "labels": list(study.importance),
            "series": [{"name": "share", "values": values}],
            "percent": True,
        }
    ]


def _along(trials: pl.DataFrame, task: Task, study: tune.Study) -> list[dict[str, Any]]:
    """Draw the value along each of the four settings that matter most, where they are numbers."""
    complete = trials.filter(pl.col("state") == "complete")
    tried = complete["settings"].struct.unnest()
    parts = []
    for key in list(study.importance)[:4]:
        if not tried[key].dtype.is_numeric():
            continue
        points = [[x, y] for x, y in zip(tried[key], complete["value"], strict=True) if x is not None]
        part = {"kind": "lines", "title": f"Value along {key}", "x": key, "y": task.metric}
        log = {"log": ["x"]} if task.space[key].log else {}
        parts.append({**part, **log, "series": [{"name": "a trial", "points": points, "dots": True}]})
    return parts


def _table(trials: pl.DataFrame, task: Task) -> dict[str, Any]:
    columns = ["trial", task.metric, *task.space, "state", "CPU seconds", "why"]
    left = ("state", "why", *(key for key, choice in task.space.items() if choice.values))
    descending = task.answer == "rank"
    rows = [
        [r["trial"], r["value"], *(_plain(v) for v in r["settings"].values()), r["state"], r["cpu_s"], r["why"]]
        for r in trials.sort("value", "trial", descending=[descending, False], nulls_last=True).to_dicts()
    ]
    return {
        "kind": "table",
        "columns": [{"name": name, "align": "left" if name in left else "right"} for name in columns],
        "rows": rows,
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)
