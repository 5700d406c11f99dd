"""Every model through every fold: fitted, calibrated, asked; what it cost, and where its budget ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from habitue.bench.tasks import calibrate
from habitue.bench.tasks import folds as cuts
from habitue.bench.tasks.folds import Fold
from habitue.bench.tasks.preparing import Prepared
from habitue.bench.tasks.reading import Data
from habitue.core import metrics, plugins
from habitue.core.errors import UsageError
from habitue.core.metrics import Floats, Ints
from habitue.core.progress import steps
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.model.tabular import Clock, Table, Target
from habitue.prepare.recipe import Recipe

EVERY = ("constant", "linear", "svm", "tree", "forest", "boosting", "profile", "bagging", "voting", "stacking")
ALWAYS = ("constant", "linear")  # what the others are held against
CONTRACT = ("KINDS", "Config", "fit", "answer")
SHUFFLES = 3
ASKED_ROWS = 2000  # held-out rows that permutation importance is told on


@dataclass
class Answers:
    """What one model said, row by row (by seed, then row), and what it cost."""

    model: str
    seed: Ints  # [n] of each answered row
    fold: Ints
    row: Ints  # index into the data
    said: Floats  # [n, classes] or [n]
    calibrated: Floats
    guess: Ints  # [n] class said; two classes: by the threshold of the best F1. Empty for a number
    cpu_s: float
    peak_mb: float
    stopped: str = ""  # where its budget ended, in words
    manners: tuple[str, ...] = ()  # of calibration
    first: tuple[Any, Fold] | None = field(default=None, repr=False)  # the state of the first fold
    recipe: Recipe | None = None  # what was done to the rows before


def chosen(names: Sequence[str] | None, data: Data) -> tuple[list[str], list[str]]:
    """Return the models to run, constant and linear always among them, and notes on those that do not apply.

    Raises UsageError for a model that is named and cannot do it, PluginError for one that is not there.
    """
    wanted = list(names) if names else list(EVERY)
    run, notes = [], []
    for name in dict.fromkeys((*ALWAYS, *wanted)):
        why = _cannot(load(name), data)
        if why is None:
            run.append(name)
        elif names and name in names:
            raise UsageError(
                f"--models {name}", found=why, consequence="It cannot be measured", remedy="Leave it out of --models"
            )
        else:
            notes.append(f"'{name}' is not measured: {why}")
    return run, notes


def load(name: str) -> ModuleType:
    """Import a model by its file's name, or a dotted one of your own."""
    return plugins.load("model.tabular", name, contract=CONTRACT)


def after(name: str, recipe: Recipe | None) -> ModuleType | Prepared:
    """Return a model that reads its rows after `recipe`; None = as they are."""
    return load(name) if recipe is None else Prepared(load(name), recipe)


def every(
    data: Data,
    models: Sequence[str],
    splits: Sequence[Sequence[Fold]],
    *,
    runtime: Runtime,
    cpu_hours: float | None,
    recipe: Recipe | None = None,
) -> list[Answers]:
    """Run the models over `splits` [seeds][folds].

    Each may use `cpu_hours`, then it stops at what it has finished; those of ALWAYS, which the others are held against,
    run whole.
    """
    total = len(models) * sum(len(folds) for folds in splits)
    done = 0
    found = []
    with steps("Fit and answer") as advance:
        for name in models:
            parts = []
            clock = Clock.after(None if cpu_hours is None or name in ALWAYS else cpu_hours * 3600)
            began, stopped, first = time.process_time(), "", None
            forget_peak()
            for seed, folds in enumerate(splits):
                for k, fold in enumerate(folds):
                    if not stopped:
                        state, part = _fold(
                            after(name, recipe), data, fold, k, replace(runtime, seed=runtime.seed + seed), clock
                        )
                        parts.append((seed, k, fold, *part))
                        first = first or (state, fold)
                        last = seed == len(splits) - 1 and k == len(folds) - 1
                        if clock.over:
                            stopped = _ended(k, len(folds), seed, len(splits), whole=last)
                    done += 1
                    advance(done, total)
            spent = time.process_time() - began
            found.append(replace(_gathered(name, parts, spent, peak_mb(), stopped, first), recipe=recipe))
    return found


def importance(data: Data, answers: Answers, *, seed: int) -> pl.DataFrame:
    """Return column, importance, spread: what the main metric loses when a column is mixed among held-out rows.

    Of the first fold's model, on at most ASKED_ROWS rows it did not see, mean and standard deviation over SHUFFLES
    mixes (Breiman 2001; Fisher, Rudin and Dominici 2019). Columns that say the same cover for each other.
    """
    assert answers.first is not None
    state, fold = answers.first
    model = after(answers.model, answers.recipe)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(fold.held)[:ASKED_ROWS])
    table, target = data.table.take(rows), data.target.take(rows)
    whole = _main(target, model.answer(state, table))
    told = []
    for column in table.columns:
        lost = [whole - _main(target, model.answer(state, _mixed(table, column, rng))) for _ in range(SHUFFLES)]
        told.append((column, float(np.mean(lost)), float(np.std(lost))))
    schema = {"column": pl.String, "importance": pl.Float64, "spread": pl.Float64}
    return pl.DataFrame(told, schema=schema, orient="row").sort("importance", descending=True)


def _fold(
    model: ModuleType | Prepared, data: Data, fold: Fold, k: int, runtime: Runtime, clock: Clock
) -> tuple[Any, tuple[Floats, Floats, Ints, str]]:
    """Fit on an inner part for calibration and threshold, then on the whole fold, and answer the held-out rows."""
    table, target = data.table.take(fold.learn), data.target.take(fold.learn)
    rule = calibrate.unchanged()
    rarer = rarer_class(data.target)
    if target.kind != "number":
        time_ = None if data.time is None else data.time[fold.learn]
        inner = cuts.inner(table, target, time_, seed=runtime.seed + 100 + k)
        if inner is not None:
            early = model.fit(*data.lesson(fold.learn[inner.learn]), model.Config(), runtime=runtime, clock=clock)
            rule = calibrate.fit(target.take(inner.held), model.answer(early, table.take(inner.held)), rarer=rarer)
    state = model.fit(*data.lesson(fold.learn), model.Config(), runtime=runtime, clock=clock)
    said = model.answer(state, data.table.take(fold.held))
    if target.kind == "number":
        return state, (said, said, np.zeros(0, dtype=np.int64), rule.manner)
    guess = said.argmax(axis=1)
    if target.kind == "binary":
        guess = np.where(said[:, rarer] >= rule.threshold, rarer, 1 - rarer)
    return state, (said, rule.shares(said), guess, rule.manner)


def rarer_class(target: Target) -> int:
    """Return the index of the rarer of two classes; the yes when they are equal."""
    if target.kind != "binary":
        return 0
    yes = int(target.values.sum())
    return 1 if yes <= target.values.size - yes else 0


def _gathered(
    name: str, parts: list[tuple[Any, ...]], cpu_s: float, peak_mb: float, stopped: str, first: tuple[Any, Fold] | None
) -> Answers:
    sizes = [fold.held.size for _, _, fold, *_ in parts]
    seeds, ks, folds, said, calibrated, guess, manners = zip(*parts, strict=True)
    seed, row = np.repeat(seeds, sizes), np.concatenate([fold.held for fold in folds])
    order = np.lexsort((row, seed))
    guesses = np.concatenate(guess)
    return Answers(
        model=name,
        seed=seed[order],
        fold=np.repeat(ks, sizes)[order],
        row=row[order],
        said=np.concatenate(said)[order],
        calibrated=np.concatenate(calibrated)[order],
        guess=guesses[order] if guesses.size else guesses,
        cpu_s=round(cpu_s, 2),
        peak_mb=peak_mb,
        stopped=stopped,
        manners=tuple(sorted(set(manners))),
        first=first,
    )


def _ended(k: int, folds: int, seed: int, seeds: int, *, whole: bool) -> str:
    of_seed = f" of seed {seed + 1} of {seeds}" if seeds > 1 else ""
    where = f"in fold {k + 1} of {folds}{of_seed}"
    if whole:
        return f"the budget ended {where}: its last fit kept what it had"
    return f"the budget ended {where}: measured on the folds it finished, its last fit kept what it had"


def _cannot(model: ModuleType, data: Data) -> str | None:
    if data.target.kind not in model.KINDS:
        return f"it does not answer {data.target.kind}"
    return model.needs(data.table) if hasattr(model, "needs") else None


def _main(target: Target, said: Floats) -> float:
    """Return AUC, accuracy, or minus the mean error: higher = better."""
    if target.kind == "binary" and np.unique(target.values).size == 2:
        return float(metrics.auc(target.values, said[:, 1]))
    if target.kind == "number":
        return -float(metrics.mae(target.values, said))
    return float(metrics.accuracy(target.values, said.argmax(axis=1)))


def _mixed(table: Table, column: str, rng: np.random.Generator) -> Table:
    return table.shuffled(column, rng.permutation(table.height))
