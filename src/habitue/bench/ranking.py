"""Every model on anybody's file under one protocol: settings chosen on validation, one test, costs beside quality.

A model is a file of `model/` that ranks. It is tried with the settings its file names (Config(), and SEQUENCE for
data in which nothing is bought twice), then, when more trials are asked for, with settings drawn from the ranges that
stand at its Config; every model gets the same number of trials. The best on validation is asked the test once.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import evaluate
from habitue.bench.protocols import Question, Task
from habitue.bench.sequences import Sequences
from habitue.core import metrics, plugins, progress
from habitue.core.errors import HabitueError, ModelError, UsageError
from habitue.core.runtime import Runtime
from habitue.core.schemas import METRICS, Metrics
from habitue.core.settings import fill, space
from habitue.evaluate import paired, topk, tune
from habitue.evaluate.measured import Measured, per_user
from habitue.model.past import Floats, Past

MODELS = ("popular", "neighbours", "rules", "ease", "slist", "als", "behaviour", "blend")
SIMPLE = ("popular",)
READS_WORDS = ("neighbours", "ease", "slist", "behaviour", "blend")
REPEATS = 0.01  # share of rows; with fewer a file is taken for one in which nothing is bought twice
USERS_A_CALL = 1024
CUTOFFS = (5, 10, 20)
MAIN = "ndcg@10"
TOP = 10


@dataclass(frozen=True)
class Options:
    """What a person may set beside the protocol."""

    models: tuple[str, ...] = MODELS
    seeds: int = 1
    trials: int = 1
    cpu_hours: float | None = None  # a model; None = no limit
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # model -> fixed settings, no trials
    repeats: bool = False  # what a user has may be recommended again
    top: int = TOP  # products a list
    study: Path | None = None  # where trials are kept, and gone on from


@dataclass(frozen=True)
class Trial:
    """One try of a model's settings on validation."""

    settings: dict[str, Any]
    validation: float | None  # NDCG@10; None = it failed or was given up
    cpu_s: float
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """Everything about one model."""

    model: str
    config: Any
    trials: tuple[Trial, ...]
    measured: tuple[Measured, ...]  # empty under `next`
    lists: pl.DataFrame  # user_id, rank, item_id, score, model
    cpu_s: float  # fit and score of the test, a seed
    tuning_cpu_s: float
    seeds: int
    coverage: float | None  # share of the catalogue in anybody's list
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The table of a bench, and all that stands behind it."""

    metrics: Metrics
    paired: pl.DataFrame  # every model minus the simple count
    sentence: str
    cells: tuple[Cell, ...]
    failed: Mapping[str, str]  # model -> why there is no row of it

    @property
    def lists(self) -> pl.DataFrame:
        """Every model's lists, one under the other."""
        return pl.concat([cell.lists for cell in self.cells])


def run(data: Sequences, task: Task, options: Options, *, dataset: str, runtime: Runtime) -> Result:
    """Run every model of `options` on `task`.

    A model that cannot be fitted is named in `failed` and the others go on; raises ModelError when none can, UsageError
    for a model that is not known or does not rank.
    """
    modules = {name: _module(name) for name in options.models}
    cells, failed = [], {}
    for name, module in progress.track(modules.items(), "Models", total=len(modules)):
        try:
            cells.append(_cell(name, module, data, task, options, runtime))
        except UsageError:
            raise
        except HabitueError as error:
            failed[name] = str(error)
        except MemoryError:
            failed[name] = (
                f"model.{name}: {len(data.items):,} items do not fit into this machine's memory as this model needs "
                "them. Its row is missing. Leave it out with --models, or use a machine with more."
            )
    if not cells:
        raise ModelError(
            "bench ranking",
            found=f"no model could be fitted; {next(iter(failed))}: {next(iter(failed.values()))}",
            consequence="There is no table to write",
            remedy="Mend what the first model says",
        )
    tables = [_table(cell, dataset, data) for cell in cells]
    measured = [one for cell in cells for one in cell.measured]
    simple = [name for name in SIMPLE if any(cell.model == name for cell in cells)]
    compared, sentence = pl.DataFrame(schema=paired.SCHEMA), "Nothing was measured: the lists are made from everything."
    if measured and len(cells) > 1:
        against = simple[0] if simple else cells[0].model
        compared = evaluate.compare(measured, against=against, seed=runtime.seed)
        sentence = paired.verdict(measured, metric=MAIN, seed=runtime.seed).sentence
    elif measured:
        sentence = f"{cells[0].model} was measured alone: there is nothing to compare it with."
    return Result(pl.concat(tables), compared, sentence, tuple(cells), failed)


def presets(module: ModuleType, data: Sequences) -> list[Any]:
    """Return the settings the file of a model names, the likelier ones for this data first."""
    named = [module.Config(), *([module.SEQUENCE] if hasattr(module, "SEQUENCE") else [])]
    return named if data.clock and data.repeats >= REPEATS else named[::-1]


def _module(name: str) -> ModuleType:
    module = plugins.load("model", name, contract=("Config", "ANSWERS", "fit"))
    if "rank" not in module.ANSWERS:
        raise UsageError(
            "bench ranking --models",
            found=f"'{name}' foretells {' and '.join(sorted(module.ANSWERS))}, it does not rank items",
            consequence="It has no place in a table of rankings",
            remedy=f"Choose among {', '.join(MODELS)}, or a module of your own that answers 'rank'",
        )
    return module


def _cell(name: str, module: ModuleType, data: Sequences, task: Task, options: Options, runtime: Runtime) -> Cell:
    """Choose the settings of one model, fit it, ask it the test; a seeded one as often as there are seeds."""
    budget = None if options.cpu_hours is None else options.cpu_hours * 3600
    notes: list[str] = []
    chosen = _choose(name, module, data, task, options, runtime, notes)
    spent = sum(trial.cpu_s for trial in chosen.trials)
    seeds = options.seeds if getattr(module, "SEEDED", False) else 1
    question = task.test or Question(task.final or task.validation.fit, task.final or task.validation.ask, {})
    runs: list[list[Measured]] = []
    lists, cost = pl.DataFrame(), 0.0
    for seed in range(runtime.seed, runtime.seed + seeds):
        left = None if budget is None else max(budget - spent - cost, 0) / (seeds - len(runs))
        begun = time.process_time()
        state = chosen.state if seed == runtime.seed else None
        if state is None:
            state = _fit(module, question.fit, chosen.config, replace(runtime, seed=seed, budget_s=left), notes)
        measured, told = _asked(name, module, state, question, task, data, options)
        cost += time.process_time() - begun
        runs.append(measured)
        lists = told if seed == runtime.seed else lists
        chosen, state = replace(chosen, state=None), None
    if chosen.reused:  # the fit of the trial is that of the first seed
        cost, spent = cost + chosen.reused, spent - chosen.reused
    if budget is not None and cost + spent > budget * 1.05:
        notes.append(f"took {cost + spent:,.0f} CPU-seconds of a budget of {budget:,.0f}: it cannot stop half-way")
    return Cell(
        model=name,
        config=chosen.config,
        trials=chosen.trials,
        measured=tuple(_mean_of_seeds(runs)),
        lists=lists,
        cpu_s=round(cost / seeds, 2),
        tuning_cpu_s=round(spent, 2),
        seeds=seeds,
        coverage=lists["item_id"].n_unique() / len(data.items) if lists.height else None,
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True)
class _Chosen:
    """The settings to test, and the trials behind them."""

    config: Any
    trials: tuple[Trial, ...] = ()
    state: Any = None  # fitted for validation, where the test may use it as it is
    reused: float = 0.0  # CPU-seconds of that fit


def _choose(
    name: str, module: ModuleType, data: Sequences, task: Task, options: Options, runtime: Runtime, notes: list[str]
) -> _Chosen:
    """Try the settings the file names, then settings drawn around the better one of them.

    With one trial and a test that is fitted anew nothing has to be chosen, and validation is not looked at.
    """
    named, wanted = presets(module, data), options.trials
    if name in options.settings:
        where = f"--settings, {name}"
        named, wanted = [fill(module.Config, {**as_dict(named[0]), **options.settings[name]}, where=where)], 1
    if wanted == 1 and task.refit:
        return _Chosen(named[0])
    budget = None if options.cpu_hours is None else options.cpu_hours * 3600
    started = time.process_time()
    tried: dict[str, Trial] = {}
    values: dict[str, float] = {}
    best: tuple[float, Any, Any, float] | None = None  # NDCG@10, settings, state, CPU-seconds of its fit

    def left(share: float = 1.0) -> float | None:
        return None if budget is None else max(budget * share - (time.process_time() - started), 0.0)

    def attempt(config: Any) -> float:
        nonlocal best
        key = repr(as_dict(config))
        if key not in tried:
            begun = time.process_time()
            state = _fit(module, task.validation.fit, config, replace(runtime, budget_s=left()), notes)
            fitted = time.process_time() - begun
            values[key] = value = _validated(name, module, state, task.validation, options)
            tried[key] = Trial(as_dict(config), value, round(time.process_time() - begun, 2))
            if best is None or value > best[0]:
                best = (value, config, None if task.refit else state, fitted)
        return values[key]

    def room() -> bool:
        # The test may need one more fit: half of the budget is for choosing.
        return not tried or budget is None or (left(0.5) or 0.0) > max(t.cpu_s for t in tried.values())

    for config in named[:wanted]:
        if room():
            attempt(config)
    assert best is not None
    choices = space(module.Config)
    if wanted > len(named) and choices and room():
        base = best[1]
        study = tune.search(
            lambda settings, _: attempt(replace(base, **settings)),
            choices,
            trials=wanted - len(named) + 1,  # its first one is `base`
            seed=runtime.seed,
            store=options.study,
            name=f"{name} {task.name}",
            first={key: getattr(base, key) for key in choices},
            budget_s=left(0.5),
        )
        config = replace(base, **study.settings)
        if repr(as_dict(config)) not in tried or study.value > best[0]:  # gone on from a stored study
            best = (study.value, config, None, 0.0)
        for row in study.trials.iter_rows(named=True):
            settings = as_dict(replace(base, **row["settings"]))
            tried.setdefault(repr(settings), Trial(settings, row["value"], row["cpu_s"], row["why"] or ""))
    if len(tried) < wanted:
        why = "it has no settings with a range" if not choices else "that is what fitted into the budget"
        notes.append(f"{len(tried)} of {wanted} trials: {why}")
    return _Chosen(best[1], tuple(tried.values()), best[2], best[3] if best[2] is not None else 0.0)


def _fit(module: ModuleType, past: Past, config: Any, runtime: Runtime, notes: list[str]) -> Any:
    state = module.fit(past, config, runtime=runtime)
    for part in (state, *getattr(state, "views", {}).values()):
        wanted = getattr(getattr(part, "config", None), "steps", None)
        done = getattr(part, "steps", None)
        if wanted is not None and done is not None and done < wanted:
            notes.append(f"the budget ended training after {done:,} of {wanted:,} steps")
    return state


def _validated(name: str, module: ModuleType, state: Any, question: Question, options: Options) -> float:
    """Return NDCG@10 on the validation's target."""
    (target,) = question.slices.values()
    values = [metrics.ndcg_at(at, 10) for _, at, _ in _placed(name, module, state, question.ask, target, options)]
    if not values:
        raise ModelError(
            "bench ranking",
            found="nobody has an event to choose settings on",
            consequence="Validation would be empty",
            remedy="Give a file in which users have at least three events, or a later --cut",
        )
    return float(np.concatenate(values).mean())


def _asked(
    name: str,
    module: ModuleType,
    state: Any,
    question: Question,
    task: Task,
    data: Sequences,
    options: Options,
) -> tuple[list[Measured], pl.DataFrame]:
    """Return what was measured, and the lists of everybody asked."""
    measured: list[Measured] = []
    if task.name == "basket":
        scores = np.concatenate(
            [module.score(state, part) for _, part in _parts(question.ask, _everybody(question.ask))]
        )
        measured = evaluate.basket(scores, question.ask, question.slices["all"], model=name, cutoffs=CUTOFFS)
        del scores
        asked = np.flatnonzero(np.diff(question.slices["all"].indptr))
    elif question.slices:
        for slice_, target in question.slices.items():
            measured.extend(_measured(name, module, state, question.ask, target, slice_, task.name, options))
        asked = np.flatnonzero(np.diff(question.slices["all"].indptr))
    else:
        asked = _everybody(question.ask)
    lists = [
        _listed(module.score(state, part), part, data, users, options) for users, part in _parts(question.ask, asked)
    ]
    return measured, pl.concat(lists).with_columns(model=pl.lit(name))


def _measured(
    name: str,
    module: ModuleType,
    state: Any,
    past: Past,
    target: sp.csr_matrix,
    slice_: str,
    protocol: str,
    options: Options,
) -> list[Measured]:
    keys: list[np.ndarray] = []
    values: dict[str, list[np.ndarray]] = {}
    for users, at, _ in _placed(name, module, state, past, target, options):
        keys.append(past.histories.user_keys[users])
        for k in CUTOFFS:
            values.setdefault(f"ndcg@{k}", []).append(metrics.ndcg_at(at, k))
            values.setdefault(f"hit@{k}", []).append(metrics.hit_at(at, k))
            values.setdefault(f"recall@{k}", []).append(metrics.recall_at(at, k))
        values.setdefault("mrr", []).append(metrics.reciprocal_rank(at))
    if not keys:
        return []
    everyone = np.concatenate(keys)
    return [per_user(protocol, name, slice_, m, everyone, np.concatenate(v)) for m, v in values.items()]


def _placed(
    name: str, module: ModuleType, state: Any, past: Past, target: sp.csr_matrix, options: Options
) -> Iterator[tuple[np.ndarray, metrics.Places, Floats]]:
    """Yield (users, places of what came, scores) of the users to whom something came that may be recommended."""
    wide = sp.csr_matrix(target, copy=True)
    wide.resize(len(past.histories.user_keys), len(past.items))
    seen = _seen(past) if not options.repeats else None
    if seen is not None:
        wide = sp.csr_matrix(wide - wide.multiply(seen))
        wide.eliminate_zeros()
    for users, part in _parts(past, np.flatnonzero(np.diff(wide.indptr))):
        scores = module.score(state, part)
        if not np.isfinite(scores).all():
            raise ModelError(
                f"bench ranking, model '{name}'",
                found=f"{int((~np.isfinite(scores)).sum()):,} scores are NaN or infinite",
                consequence="A ranking metric over them would mean nothing",
                remedy="Mend the model's score function",
            )
        yield users, metrics.places(scores, wide[users], masked=None if seen is None else seen[users]), scores


def _listed(scores: Floats, past: Past, data: Sequences, users: np.ndarray, options: Options) -> pl.DataFrame:
    """Return the `top` best of each user: user_id, rank from 1, item_id, score. Equal scores: the earlier item."""
    seen = None if options.repeats else _seen(past)
    best, found = topk.best(scores.copy(), count=options.top, seen=seen)
    kept = best >= 0
    rows, ranks = np.nonzero(kept)
    return pl.DataFrame(
        {
            "user_id": pl.Series([data.users[users[row]] for row in rows], dtype=pl.String),
            "rank": pl.Series(ranks + 1, dtype=pl.Int32),
            "item_id": pl.Series([data.items[item] for item in best[kept]], dtype=pl.String),
            "score": pl.Series(found[kept].astype(np.float32)),
        }
    )


def _everybody(past: Past) -> np.ndarray:
    return np.arange(len(past.histories.user_keys))


def _parts(past: Past, users: np.ndarray) -> Iterator[tuple[np.ndarray, Past]]:
    for start in range(0, len(users), USERS_A_CALL):
        some = users[start : start + USERS_A_CALL]
        yield some, past.take(some)


def _seen(past: Past) -> sp.csr_matrix:
    every = past.histories
    place = (every.set_user[every.row_set], every.row_item)
    seen = sp.csr_matrix(
        (np.ones(len(every.row_item), dtype=np.float32), place), (len(every.user_keys), len(past.items))
    )
    seen.data[:] = 1
    return seen


def _mean_of_seeds(runs: Sequence[list[Measured]]) -> list[Measured]:
    """Return each user's mean over the training runs."""
    if len(runs) <= 1:
        return runs[0] if runs else []
    return [
        per_user(
            first.protocol,
            first.model,
            first.slice,
            first.metric,
            first.user_keys,
            np.mean([values for run in runs if (values := run[i].values) is not None], axis=0),
        )
        for i, first in enumerate(runs[0])
    ]


def as_dict(config: Any) -> dict[str, Any]:
    """Return a Config as JSON would hold it."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {name: as_dict(v) if dataclasses.is_dataclass(v) else v for name, v in values.items()}


def _table(cell: Cell, dataset: str, data: Sequences) -> Metrics:
    if not cell.measured:
        return METRICS.empty()
    modalities = ["events", *(["text"] if data.words is not None and cell.model in READS_WORDS else [])]
    return evaluate.table(
        cell.measured,
        dataset=dataset,
        modalities=modalities,
        fusion="decision" if cell.model == "blend" else None,
        seeds=cell.seeds,
        cpu_s=cell.cpu_s,
        peak_mb=_peak_mb(),
    )


def _peak_mb() -> float:
    """Return the process's peak memory so far; Linux counts kilobytes, macOS bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)
