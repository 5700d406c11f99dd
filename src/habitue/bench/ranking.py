"""Every model on anybody's file under one protocol: settings chosen on validation, one test, costs beside quality.

A model is a file of `model/` that ranks. It is tried with the settings its file names (Config(), and SEQUENCE for
data in which nothing is bought twice), then, when more trials are asked for, with settings drawn from the ranges that
stand at its Config; every model gets the same number of trials. The best on validation is asked the test once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from habitue import evaluate
from habitue.bench.modalities import TEXT
from habitue.bench.protocols import Question, Task, fingerprint
from habitue.bench.sequences import Sequences
from habitue.core import plugins, progress
from habitue.core.errors import HabitueError, ModelError, UsageError
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.core.schemas import METRICS, Metrics
from habitue.core.settings import fill, space
from habitue.evaluate import paired, topk, tune
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import values
from habitue.model.past import Floats, Ints, Past, bought, reads

MODELS = ("popular", "neighbours", "rules", "ease", "slist", "als", "behaviour", "blend")
AGAINST = "popular"  # the others are compared with it where it is in the table, else with the first
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
    top: int = TOP  # products a list
    study: Path | None = None  # where trials are kept, and gone on from


@dataclass(frozen=True)
class Trial:
    """One try of a model's settings on validation."""

    settings: dict[str, Any]
    validation: float | None  # NDCG@10; None = it failed or was given up
    cpu_s: float  # fit, score and measure
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
    peak_mb: float  # while this model was at work
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

    A model that cannot be fitted is named in `failed` and the others go on. Raises ModelError when none can and when
    nobody is asked, UsageError for a model that is not known or does not rank.
    """
    _somebody(task.test, "Nothing could be measured")
    modules = {name: module_named(name) for name in options.models}
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
    compared, sentence = pl.DataFrame(schema=paired.SCHEMA), "Nothing was measured: the lists are made from everything."
    if measured and len(cells) > 1:
        against = next((cell.model for cell in cells if cell.model == AGAINST), cells[0].model)
        compared = evaluate.compare(measured, against=against, seed=runtime.seed)
        sentence = paired.verdict(measured, metric=MAIN, seed=runtime.seed).sentence
    elif measured:
        sentence = f"{cells[0].model} was measured alone: there is nothing to compare it with."
    return Result(pl.concat(tables), compared, sentence, tuple(cells), failed)


def presets(module: ModuleType, task: Task) -> list[Any]:
    """Return the settings the file of a model names, those for a clock or those for steps first."""
    named = [module.Config(), *([module.SEQUENCE] if hasattr(module, "SEQUENCE") else [])]
    return named if task.clock else named[::-1]


def module_named(name: str) -> ModuleType:
    """Return the file of a model. Raises UsageError when it does not rank."""
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
    forget_peak()
    budget = None if options.cpu_hours is None else options.cpu_hours * 3600
    notes: list[str] = []
    chosen = _choose(name, module, task, options, runtime, notes)
    spent = sum(trial.cpu_s for trial in chosen.trials)
    seeds = options.seeds if getattr(module, "SEEDED", False) else 1
    runs: list[list[Measured]] = []
    lists, cost = pl.DataFrame(), 0.0
    for seed in range(runtime.seed, runtime.seed + seeds):
        left = None if budget is None else max(budget - spent - cost, 0) / (seeds - len(runs))
        state = chosen.state if seed == runtime.seed else None
        if state is None:
            begun = time.process_time()
            state = _fit(module, task.test.fit, chosen.config, replace(runtime, seed=seed, budget_s=left), notes)
            cost += time.process_time() - begun
        told = _asked(name, module, state, task, data, options.top)
        cost += told.cpu_s
        runs.append(told.measured)
        lists = told.lists if seed == runtime.seed else lists
        chosen, state = replace(chosen, state=None), None
    if chosen.reused:  # the fit of the trial is that of the first seed
        cost, spent = cost + chosen.reused, spent - chosen.reused
    if budget is not None and cost + spent > budget * 1.05:
        notes.append(f"took {cost + spent:,.0f} CPU-seconds of a budget of {budget:,.0f}: it cannot stop half-way")
    return Cell(
        model=name,
        config=chosen.config,
        trials=chosen.trials,
        measured=tuple(mean_of_seeds(runs)),
        lists=lists,
        cpu_s=round(cost / seeds, 2),
        tuning_cpu_s=round(spent, 2),
        peak_mb=peak_mb(),
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


def _choose(name: str, module: ModuleType, task: Task, options: Options, runtime: Runtime, notes: list[str]) -> _Chosen:
    """Try the settings the file names, then settings drawn around the better one of them.

    With one trial and a test that is fitted anew nothing has to be chosen, and validation is not looked at.
    """
    named, wanted = presets(module, task), options.trials
    if name in options.settings:
        where = f"--settings, {name}"
        named, wanted = [fill(module.Config, {**asdict(named[0]), **options.settings[name]}, where=where)], 1
    if wanted == 1 and task.refit:
        return _Chosen(named[0])
    _somebody(task.validation, "There would be nothing to choose settings by")
    budget = None if options.cpu_hours is None else options.cpu_hours * 3600
    started = time.process_time()
    tried: dict[str, Trial] = {}
    found: dict[str, float] = {}
    best: tuple[float, Any, Any, float] | None = None  # NDCG@10, settings, state, CPU-seconds of its fit

    def left(share: float = 1.0) -> float | None:
        return None if budget is None else max(budget * share - (time.process_time() - started), 0.0)

    def attempt(config: Any) -> float:
        nonlocal best
        key = repr(asdict(config))
        if key not in tried:
            begun = time.process_time()
            state = _fit(module, task.validation.fit, config, replace(runtime, budget_s=left()), notes)
            fitted = time.process_time() - begun
            found[key] = value = _validated(name, module, state, task.validation)
            tried[key] = Trial(asdict(config), value, round(time.process_time() - begun, 2))
            if best is None or value > best[0]:
                best = (value, config, None if task.refit else state, fitted)
        return found[key]

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
            name=f"{name} {task.name} {fingerprint(task)}",
            first={key: getattr(base, key) for key in choices},
            budget_s=left(0.5),
        )
        config = replace(base, **study.settings)
        if repr(asdict(config)) not in tried or study.value > best[0]:  # gone on from a stored study
            best = (study.value, config, None, 0.0)
        for row in study.trials.iter_rows(named=True):
            settings = asdict(replace(base, **row["settings"]))
            tried.setdefault(repr(settings), Trial(settings, row["value"], row["cpu_s"], row["why"] or ""))
    if len(tried) < wanted:
        why = "it has no settings with a range" if not choices else "that is what fitted into the budget"
        notes.append(f"{len(tried)} of {wanted} trials: {why}")
    return _Chosen(best[1], tuple(tried.values()), best[2], best[3] if best[2] is not None else 0.0)


def _fit(module: ModuleType, past: Past, config: Any, runtime: Runtime, notes: list[str]) -> Any:
    state = module.fit(past, config, runtime=runtime)
    views = getattr(state, "views", {})
    for asked, part in ((config, state), *((getattr(config, view, None), views[view]) for view in views)):
        planned, done = getattr(part, "planned", getattr(asked, "steps", 0)), getattr(part, "steps", None)
        if done is not None and done < planned:
            notes.append(f"the budget ended training after {done:,} of {planned:,} steps")
    for part in (state, *views.values()):
        if (held := len(getattr(part, "items", past.items))) < len(past.items):
            notes.append(f"a closed form's table holds the {held:,} of {len(past.items):,} items bought most")
    return state


def _validated(name: str, module: ModuleType, state: Any, question: Question) -> float:
    """Return NDCG@10 on the slice `all` of the validation."""
    relevant, masked = question.slices["all"]
    gains = [
        values(scores, relevant[users], None if masked is None else masked[users], cutoffs=(10,))[MAIN]
        for users, scores, _ in scored(name, module, state, question.ask, np.flatnonzero(np.diff(relevant.indptr)))
    ]
    return float(np.concatenate(gains).mean())


@dataclass(frozen=True)
class _Told:
    """What one fitted model answered to the test."""

    measured: list[Measured]
    lists: pl.DataFrame  # of everybody asked
    cpu_s: float  # of the scores alone


def _asked(name: str, module: ModuleType, state: Any, task: Task, data: Sequences, top: int) -> _Told:
    """Score everybody asked once, for every slice and for the lists."""
    past, spent = task.test.ask, 0.0
    keys: dict[str, list[Ints]] = {}
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    lists = []
    for users, scores, cpu_s in scored(name, module, state, past, task.test.asked):
        spent += cpu_s
        for slice_, (relevant, masked) in task.test.slices.items():
            rows = np.flatnonzero(np.diff(relevant[users].indptr))
            if not rows.size:
                continue
            some = users[rows]
            told = values(scores[rows], relevant[some], None if masked is None else masked[some], cutoffs=CUTOFFS)
            keys.setdefault(slice_, []).append(past.histories.user_keys[some])
            for metric, part in told.items():
                found.setdefault((slice_, metric), []).append(part)
        lists.append(_listed(scores, past.take(users), data, users, task.repeats, top))
    measured = [
        per_user(task.name, name, slice_, metric, np.concatenate(keys[slice_]), np.concatenate(parts))
        for (slice_, metric), parts in found.items()
    ]
    return _Told(measured, pl.concat(lists).with_columns(model=pl.lit(name)), spent)


def scored(name: str, module: ModuleType, state: Any, past: Past, users: Ints) -> Iterator[tuple[Ints, Floats, float]]:
    """Yield (users, their scores [b, I], CPU-seconds of these), USERS_A_CALL at a time.

    Raises ModelError, naming the model, for scores of the wrong shape, NaN or infinite.
    """
    for start in range(0, len(users), USERS_A_CALL):
        some = users[start : start + USERS_A_CALL]
        part = past.take(some)
        begun = time.process_time()
        scores = module.score(state, part)
        spent = time.process_time() - begun
        wrong = ""
        if scores.shape != (len(some), len(past.items)):
            wrong = f"{len(some):,} users and {len(past.items):,} items have scores of the shape {scores.shape}"
        elif not np.isfinite(scores).all():
            wrong = f"{int((~np.isfinite(scores)).sum()):,} scores are NaN or infinite"
        if wrong:
            raise ModelError(
                f"bench ranking, model '{name}'",
                found=wrong,
                consequence="A ranking metric over them would mean nothing",
                remedy="Mend the model's score function",
            )
        yield some, scores, spent


def _listed(scores: Floats, past: Past, data: Sequences, users: Ints, repeats: bool, top: int) -> pl.DataFrame:
    """Return the `top` best of each user: user_id, rank from 1, item_id, score. Equal scores: the earlier item."""
    had = None if repeats else bought(past.histories, len(past.items))
    best, worth = topk.best(scores.copy(), count=top, seen=had)  # a model may hand out what it keeps
    kept = best >= 0
    rows, ranks = np.nonzero(kept)
    return pl.DataFrame(
        {
            "user_id": pl.Series([data.users[users[row]] for row in rows], dtype=pl.String),
            "rank": pl.Series(ranks + 1, dtype=pl.Int32),
            "item_id": pl.Series([data.items[item] for item in best[kept]], dtype=pl.String),
            "score": pl.Series(worth[kept].astype(np.float32)),
        }
    )


def _somebody(question: Question, consequence: str) -> None:
    """Refuse a question to nobody before anything is fitted; the slice `all` decides, it names the winner."""
    if not (question.slices["all"][0].nnz if question.slices else question.asked.size):
        raise ModelError(
            "bench ranking",
            found="no user has a past and then an event to be asked for",
            consequence=consequence,
            remedy="Give a file in which users have at least three events, or another --cut",
        )


def mean_of_seeds(runs: Sequence[list[Measured]]) -> list[Measured]:
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
            np.mean([one for run in runs if (one := run[i].values) is not None], axis=0),
        )
        for i, first in enumerate(runs[0])
    ]


def _table(cell: Cell, dataset: str, data: Sequences) -> Metrics:
    if not cell.measured:
        return METRICS.empty()
    return evaluate.table(
        cell.measured,
        dataset=dataset,
        modalities=["events", *(data.content if TEXT in reads(cell.config) else ())],
        fusion="decision" if cell.model == "blend" else None,
        seeds=cell.seeds,
        cpu_s=cell.cpu_s,
        peak_mb=cell.peak_mb,
    )
