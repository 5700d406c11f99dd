"""The whole bench of one task as a few calls, and what it writes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.bench.tasks import folds, judging, leaks, measuring, reading
from habitue.bench.tasks.augmenting import Augment
from habitue.bench.tasks.folds import Fold
from habitue.bench.tasks.judging import Judged
from habitue.bench.tasks.leaks import Chance, Leak
from habitue.bench.tasks.measuring import Answers
from habitue.bench.tasks.reading import Columns, Data
from habitue.core.errors import UsageError
from habitue.core.progress import stage
from habitue.core.runtime import Runtime
from habitue.evaluate import bench
from habitue.prepare.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """How a task is measured."""

    task: str
    columns: Columns
    kind: str | None = None
    models: tuple[str, ...] = ()  # none = every one that applies
    folds: int = 5
    seeds: int = 1
    cpu_hours: float | None = None  # for each model
    encoders: tuple[str, ...] = ()
    keep_leaks: bool = False
    cache: Path | None = None  # where vectors of encoders are kept
    augment: Augment | None = None  # altered copies to learn from
    prepare: Recipe | None = None  # done to the rows before every model, learnt inside each fold


@dataclass(frozen=True)
class Outcome:
    """Everything that was found."""

    plan: Plan
    dataset: str
    protocol: str
    data: Data
    answers: tuple[Answers, ...]
    judged: Judged
    importance: dict[str, pl.DataFrame]  # of the winner and the linear baseline
    leaks: tuple[Leak, ...]
    chance: Chance
    notes: tuple[str, ...]


def run(path: Path, plan: Plan, *, test: Path | None = None, runtime: Runtime) -> Outcome:
    """Read, look for leaks, measure every model on the same folds, judge.

    Raises UsageError, InputError and LeakageError in words; O(models x folds x seeds) fits, twice for calibration.
    """
    if plan.seeds < 1:
        raise UsageError(
            "--seeds", found=f"{plan.seeds} is given", consequence="Nothing would run", remedy="Give 1 or more"
        )
    if plan.cpu_hours is not None and plan.cpu_hours <= 0:
        raise UsageError(
            "--cpu-hours",
            found=f"{plan.cpu_hours} is given",
            consequence="No model could start",
            remedy="Give more than 0",
        )
    data = reading.read(
        path,
        plan.columns,
        task=plan.task,
        kind=plan.kind,
        test=test,
        encoders=plan.encoders,
        cache=plan.cache,
        augment=plan.augment,
    )
    models, left_out = measuring.chosen(plan.models, data)
    splits = [folds.split(data, plan.folds, seed=runtime.seed + s) for s in range(plan.seeds)]
    with warnings.catch_warnings():
        # what is a class is settled by now, and there may be a thousand of few rows each
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        return _measured(path, plan, data, models, left_out, splits, runtime)


def _measured(
    path: Path,
    plan: Plan,
    data: Data,
    models: list[str],
    left_out: list[str],
    splits: list[list[Fold]],
    runtime: Runtime,
) -> Outcome:
    """Look for leaks, then fit, answer and judge."""
    with stage("Look for leaks"):
        found = leaks.columns(data, plan.columns, seed=runtime.seed)
        if not plan.keep_leaks:
            leaks.refuse(found)
        chance = leaks.shuffled(data, splits[0][-1], runtime=runtime, recipe=plan.prepare)
    answers = measuring.every(data, models, splits, runtime=runtime, cpu_hours=plan.cpu_hours, recipe=plan.prepare)
    dataset, protocol = path.stem, _protocol(plan, data)
    with stage("Draw intervals"):
        judged = judging.judge(data, answers, dataset=dataset, protocol=protocol, seeds=len(splits), seed=runtime.seed)
        told = {
            one.model: measuring.importance(data, one, seed=runtime.seed)
            for one in answers
            if one.model in (judged.best, judging.BASELINE)
        }
    rare = folds.rare(data.target, plan.folds) if data.test is None else None
    kept = [f"kept on request though column '{leak.column}' {leak.sentence}" for leak in found]
    stopped = [f"'{one.model}': {one.stopped}" for one in answers if one.stopped]
    notes = (*stopped, *data.notes, *((rare,) if rare else ()), *kept, *left_out)
    return Outcome(plan, dataset, protocol, data, tuple(answers), judged, told, tuple(found), chance, notes)


def document(outcome: Outcome, *, commit: str | None = None) -> dict[str, Any]:
    """Return the one JSON schema of benchmarks, and beside its keys what a table of metrics cannot hold."""
    data, judged = outcome.data, outcome.judged
    return {
        **bench.document(judged.table, commit=commit),
        "task": outcome.plan.task,
        "kind": data.target.kind,
        "classes": list(data.target.classes),
        "rows_answered": int(np.unique(outcome.answers[0].row).size),
        "rows_read": int(data.target.values.size),
        "intervals_over": "rows" if data.table.group is None else "groups",
        "folds": outcome.plan.folds if data.test is None else 1,
        "seeds": len(np.unique(outcome.answers[0].seed)),
        "settings": _settings(outcome),
        "verdict": judged.verdict,
        "ranking": list(judged.ranking),
        "differences": judged.differences.drop("protocol", "slice").to_dicts(),
        "importance": {name: frame.to_dicts() for name, frame in outcome.importance.items()},
        "permutation_check": dataclasses.asdict(outcome.chance),
        "leaks_kept": [dataclasses.asdict(leak) for leak in outcome.leaks],
        "preparation_cpu_s": round(data.spent_s, 2),
        "notes": list(outcome.notes),
    }


def predictions(outcome: Outcome) -> pl.DataFrame:
    """Return row (from 0, in its file), fold, seed, model, label, answer, and a share for every class.

    `answer` of two classes is by the threshold found inside the fold; shares are as the model gave them.
    """
    target = outcome.data.target
    frames = []
    for one in outcome.answers:
        truth = target.values[one.row]
        named: dict[str, Any] = {"label": truth, "answer": one.said}
        if target.kind != "number":
            words = np.array(target.classes, dtype=object)
            named = {"label": words[truth.astype(np.int64)], "answer": words[one.guess]}
            named |= {f"share of {name}": one.said[:, i] for i, name in enumerate(target.classes)}
        rows = {"row": outcome.data.row[one.row], "fold": one.fold, "seed": one.seed}
        frames.append(pl.DataFrame(rows).with_columns(model=pl.lit(one.model)).hstack(pl.DataFrame(named)))
    return pl.concat(frames)


def _protocol(plan: Plan, data: Data) -> str:
    how = "own split" if data.test is not None else f"{plan.folds} folds"
    if data.test is None and data.time is not None:
        how = f"{plan.folds} folds forward in time"
    if data.table.group is not None:
        how += " by group"
    return f"{plan.task}, {how}"


def _settings(outcome: Outcome) -> dict[str, Any]:
    plan = outcome.plan
    own: dict[str, Any] = {one.model: dataclasses.asdict(measuring.load(one.model).Config()) for one in outcome.answers}
    columns = {k: v for k, v in dataclasses.asdict(plan.columns).items() if v}
    return {
        "columns": columns,
        "encoders": list(plan.encoders),
        "cpu_hours_per_model": plan.cpu_hours,
        "augment": None if plan.augment is None else dataclasses.asdict(plan.augment),
        "prepare": None if plan.prepare is None else dataclasses.asdict(plan.prepare),
        "models": own,
        "calibration": {one.model: list(one.manners) for one in outcome.answers},
    }


def models_of(names: Sequence[str]) -> tuple[str, ...]:
    """Split what a person typed after --models at commas."""
    return tuple(part.strip() for name in names for part in name.split(",") if part.strip())
