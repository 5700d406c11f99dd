"""Which settings do best: a search that can be stopped, goes on where it stopped, and gives every model equal trials.

    study = search(objective, settings.space(Config), trials=40, seed=0, store=path, name="ease", first={"ridge": 100})

An objective takes settings and returns a number, higher = better. It may tell how it stands on the way,
report(step, value): a trial that stands below the median of the earlier ones at that step is stopped there ("pruned",
Golovin et al., KDD 2017, "median stopping"), kept and shown. Trial 0 is the defaults, so that the best is never worse.

Every trial is drawn by its own seed from the finished trials before it; therefore a search that was killed and goes on
gives the same trials as one that was not, and one asked for more trials begins with those it has.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl

from habitue.core.errors import HabitueError, InputError, ModelError, SettingsError, UsageError
from habitue.core.extras import need
from habitue.core.lock import exclusive
from habitue.core.progress import track
from habitue.core.settings import Choice

Settings = dict[str, Any]
Report = Callable[[int, float], None]
Objective = Callable[[Settings, Report], float]
Sampler = Literal["tpe", "random", "grid"]
Fold = TypeVar("Fold")

SAMPLERS = ("tpe", "random", "grid")
GRID = 5  # places of a range in a grid
STARTUP = 5  # complete trials before one is stopped: the median of fewer says little
LEAST = 4  # complete trials before an importance is told
DIGITS = 5  # of a number drawn from a range
LETTERS = 500  # kept of an error's sentence


@dataclass(frozen=True)
class Study:
    """A finished search."""

    name: str
    settings: Settings  # of the best complete trial; of equals the earliest
    value: float
    default: float | None  # the value of trial 0; None = it failed
    trials: pl.DataFrame  # trial, state (complete, pruned, failed), value, step, cpu_s, why, settings (struct)
    importance: dict[str, float]  # share of the differences that each setting explains (fANOVA); {} = too few trials
    stopped: str | None  # why it ended before its trials were done


def search(
    objective: Objective,
    space: Mapping[str, Choice],
    *,
    trials: int,
    seed: int,
    sampler: Sampler = "tpe",
    store: Path | None = None,
    name: str = "study",
    first: Mapping[str, Any] | None = None,
    budget_s: float | None = None,
) -> Study:
    """Try `trials` settings of `space`, `first` (the defaults) included, and return the best.

    `store` is an SQLite file that keeps the study by its `name`; with None it is forgotten. Trials that are in it are
    not done again. After `budget_s` CPU-seconds of this call no trial is begun. An empty space has one trial. A trial
    whose objective fails is kept with its sentence. Cost: the objective's, and some 50 ms a trial.

    Raises MissingExtraError without optuna; UsageError for a grid larger than `trials`, and for a stored study of
    another space, seed, sampler or defaults; SettingsError for a range or a default that cannot be; InputError when
    `store` is no study; ModelError when no trial is complete.
    """
    optuna = need("optuna", extra="tune", purpose="evaluate.tune")
    choices, start = dict(space), dict(first or {})
    _check(choices, start, trials, sampler)
    grid = _grid(choices, start, trials) if sampler == "grid" and choices else []
    count = (len(grid) if grid else trials) if choices else 1
    asked = {"space": _hash(choices), "first": _hash(start), "sampler": sampler, "seed": seed}
    lock = nullcontext(True) if store is None else exclusive(store.with_name(f"{store.name}.lock"), wait_s=1)
    with lock, _quiet(optuna), _opened(optuna, store, name) as study:
        _same(study, asked, store, name)
        for stale in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            _tell(optuna, study, stale.number, stale.user_attrs.get("ended"))
        spent, stopped = time.process_time(), None
        for number in track(range(len(_counted(study)), count), f"Trials of {name}"):
            if number and budget_s is not None and time.process_time() - spent > budget_s:
                stopped = f"the budget of {budget_s:,.0f} CPU-seconds ended after {number} of {count} trials"
                break
            fixed = grid[number] if grid else start if number == 0 else None
            _try(optuna, study, objective, choices, fixed, sampler=_sampler(optuna, sampler, seed, number))
        return _told(optuna, study, choices, name=name, seed=seed, stopped=stopped)


def folded(score: Callable[[Settings, Fold], float], folds: Sequence[Fold]) -> Objective:
    """Return the objective that averages `score` over folds and tells the mean so far after each but the last."""

    def objective(settings: Settings, report: Report) -> float:
        total = 0.0
        for i, fold in enumerate(folds):
            total += score(settings, fold)
            if i + 1 < len(folds):
                report(i, total / (i + 1))
        return total / len(folds)

    return objective


def compare_tuned(
    models: Mapping[str, tuple[Objective, Mapping[str, Choice], Mapping[str, Any]]],
    *,
    trials: int,
    seed: int,
    sampler: Sampler = "tpe",
    store: Path | None = None,
    budget_s: float | None = None,
) -> dict[str, Study]:
    """Search every model, name -> (objective, space, defaults), with the same trials, sampler, seed and budget each.

    A model without a setting to tune has one trial. Raises as `search` does.
    """
    return {
        name: search(
            objective,
            space,
            trials=trials,
            seed=seed,
            sampler=sampler,
            store=store,
            name=name,
            first=first,
            budget_s=budget_s,
        )
        for name, (objective, space, first) in models.items()
    }


def _try(
    optuna: ModuleType,
    study: Any,
    objective: Objective,
    choices: Mapping[str, Choice],
    fixed: Mapping[str, Any] | None,
    *,
    sampler: Any,
) -> None:
    """Ask for one trial's settings, run it, and tell how it ended. Ctrl-C leaves it to be done again."""
    study.sampler = sampler
    waiting = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.WAITING])
    if fixed is not None and not waiting:  # one left by a killed process is this very one
        study.enqueue_trial({key: _stored(choices[key], fixed[key]) for key in choices})
    trial = study.ask({key: _distribution(optuna, choice) for key, choice in choices.items()})
    settings = {key: _value(choice, trial.params[key]) for key, choice in choices.items()}
    started, states = time.process_time(), optuna.trial.TrialState

    def report(step: int, value: float) -> None:
        trial.report(float(value), step)
        if trial.should_prune():
            raise optuna.TrialPruned

    value, why = None, None
    try:
        value, state = float(objective(settings, report)), states.COMPLETE
        if not math.isfinite(value):
            value, state, why = None, states.FAIL, f"the objective is {value}"
    except optuna.TrialPruned:
        state = states.PRUNED
    except HabitueError as error:
        state, why = states.FAIL, str(error)
    except Exception as error:  # told with its name: one impossible setting must not cost the others
        state, why = states.FAIL, f"{type(error).__name__}: {error}"
    cpu_s, why = round(time.process_time() - started, 3), why and why[:LETTERS]
    ended = {"state": state.name, "value": value, "cpu_s": cpu_s, "why": why}
    trial.set_user_attr("ended", ended)  # before it is told: a kill between the two loses nothing
    _tell(optuna, study, trial.number, ended)


def _tell(optuna: ModuleType, study: Any, number: int, ended: Mapping[str, Any] | None) -> None:
    """Close a trial; one whose process was killed on the way (None) is closed as well, and not counted."""
    states = optuna.trial.TrialState
    if ended is None:
        study.tell(number, state=states.FAIL)
    else:
        study.tell(number, ended["value"], state=states[ended["state"]])


def _told(
    optuna: ModuleType,
    study: Any,
    choices: Mapping[str, Choice],
    *,
    name: str,
    seed: int,
    stopped: str | None,
) -> Study:
    done = _counted(study)
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    rows = [
        {
            "trial": i,
            "state": words[t.state.name],
            "value": t.value if t.value is None or math.isfinite(t.value) else None,
            "step": max(t.intermediate_values, default=None),
            "cpu_s": t.user_attrs["ended"]["cpu_s"],
            "why": t.user_attrs["ended"]["why"],
        }
        for i, t in enumerate(done)
    ]
    schema = {"trial": pl.Int64, "state": pl.String, "value": pl.Float64, "step": pl.Int64, "cpu_s": pl.Float64}
    frame = pl.DataFrame(rows, schema={**schema, "why": pl.String})
    tried = [{key: _value(choice, t.params[key]) for key, choice in choices.items()} for t in done]
    if choices:
        columns = [_column(key, [settings[key] for settings in tried]) for key in choices]
        frame = frame.with_columns(settings=pl.DataFrame(columns).to_struct())
    complete = frame.filter(pl.col("state") == "complete")
    if complete.is_empty():
        reasons = frame["why"].drop_nulls().to_list()
        raise ModelError(
            f"evaluate.tune, study '{name}'",
            found=f"none of {frame.height} trials is complete" + (f"; the first says: {reasons[0]}" if reasons else ""),
            consequence="There are no settings to choose",
            remedy="Mend what the trials say, or give them more time",
        )
    best = int(complete.sort("value", "trial", descending=[True, False])["trial"][0])
    default = complete.filter(pl.col("trial") == 0)["value"]
    importance = _importance(optuna, study, complete, len(choices), seed)
    return Study(
        name, tried[best], float(frame["value"][best]), default[0] if len(default) else None, frame, importance, stopped
    )


def _importance(optuna: ModuleType, study: Any, complete: pl.DataFrame, settings: int, seed: int) -> dict[str, float]:
    """Return each setting's share of the variance of the value (Hutter et al., ICML 2014), the largest first."""
    if complete.height < LEAST or complete["value"].n_unique() < 2 or settings == 0:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=seed)
    told = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: round(float(share), 6) for key, share in told.items()}


@contextmanager
def _opened(optuna: ModuleType, store: Path | None, name: str) -> Iterator[Any]:
    """Open a study, made when it is not there, and let its file go at the end."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    if store is None:
        yield optuna.create_study(study_name=name, direction="maximize", pruner=pruner)
        return
    sql = need("sqlalchemy", extra="tune", purpose="evaluate.tune")
    store.parent.mkdir(parents=True, exist_ok=True)
    inner = optuna.exceptions.StorageInternalError
    storage = None
    try:
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{store.resolve()}")
        except RuntimeError as error:  # how optuna says that another version of it wrote the file
            raise inner(str(error)) from error
        yield optuna.create_study(
            study_name=name, storage=storage, direction="maximize", pruner=pruner, load_if_exists=True
        )
    except (sql.exc.SQLAlchemyError, inner) as error:
        raise InputError(
            str(store),
            found="this file is no study, one of another version of optuna, or cannot be written",
            consequence="The trials cannot be kept there",
            remedy="Name another file, or delete this one to begin again",
        ) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Keep optuna's own log off the screen; the table of trials says it all."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _same(study: Any, asked: Mapping[str, Any], store: Path | None, name: str) -> None:
    """Write down what was asked for, or see that a stored study was asked for the same."""
    known = study.user_attrs
    if not known:
        for key, value in asked.items():
            study.set_user_attr(key, value)
        return
    other = [key for key, value in asked.items() if known.get(key) != value]
    if other:
        raise UsageError(
            f"{store}, study '{name}'",
            found=f"it was searched with another {' and '.join(other)}",
            consequence="Its trials and the new ones could not be compared",
            remedy="Ask for the same as before, or begin again under another name or in another file",
        )


def _check(choices: Mapping[str, Choice], start: Mapping[str, Any], trials: int, sampler: str) -> None:
    if trials < 1 or sampler not in SAMPLERS:
        found = f"{trials} trials" if trials < 1 else f"there is no sampler '{sampler}'"
        raise UsageError(
            "evaluate.tune",
            found=found,
            consequence="Nothing can be tried",
            remedy=f"Ask for one trial or more, by one of: {', '.join(SAMPLERS)}",
        )
    for key, choice in choices.items():
        if not choice.values and not (choice.low < choice.high and (choice.low > 0 or not choice.log)):
            raise SettingsError(
                f"evaluate.tune, setting '{key}'",
                found=f"it may vary from {choice.low:g} to {choice.high:g}{' by ratios' * choice.log}",
                consequence="No value can be drawn from that",
                remedy="Give a low end below the high end (above 0 for a range of ratios), or values",
            )
        if key not in start or not _inside(choice, start[key]):
            what = f"its default {start[key]!r} lies outside what it may be" if key in start else "it has no default"
            raise SettingsError(
                f"evaluate.tune, setting '{key}'",
                found=what,
                consequence="Trial 0 could not be the defaults",
                remedy=f"Choose one of {choice.values}"
                if choice.values
                else f"{choice.low:g} to {choice.high:g} is open",
            )


def _inside(choice: Choice, value: Any) -> bool:
    if choice.values:
        return value in choice.values
    if isinstance(value, bool) or not isinstance(value, int | float) or (choice.whole and value != int(value)):
        return False
    return choice.low <= value <= choice.high


def _grid(choices: Mapping[str, Choice], start: Mapping[str, Any], trials: int) -> list[Settings]:
    """Return the defaults and every other combination: all values of a choice, GRID places of a range, in order."""
    places = {key: _places(choice) for key, choice in choices.items()}
    size = math.prod(len(values) for values in places.values())
    if size + 1 > trials:  # the defaults stand beside the grid, unless they are one of its places
        raise UsageError(
            "evaluate.tune",
            found=f"the grid is {' x '.join(str(len(v)) for v in places.values())} = {size:,} places and the defaults, "
            f"but {trials:,} trials were asked for",
            consequence="A part of the grid would be left out in silence",
            remedy=f"Ask for {size + 1:,} trials, or take sampler 'tpe' or 'random'",
        )
    rest = [dict(zip(places, values, strict=True)) for values in itertools.product(*places.values())]
    return [dict(start), *(settings for settings in rest if settings != dict(start))]


def _places(choice: Choice) -> list[Any]:
    if choice.values:
        return list(choice.values)
    spread = np.geomspace if choice.log else np.linspace
    values = [float(v) for v in spread(choice.low, choice.high, GRID)]
    values[0], values[-1] = float(choice.low), float(choice.high)  # rounding must not leave the range
    return sorted({round(v) for v in values}) if choice.whole else values


def _sampler(optuna: ModuleType, sampler: Sampler, seed: int, number: int) -> Any:
    """Return the sampler of one trial, seeded by the search's seed and the trial's place in it."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if sampler == "tpe":
        return optuna.samplers.TPESampler(seed=own)
    return optuna.samplers.RandomSampler(seed=own)


def _distribution(optuna: ModuleType, choice: Choice) -> Any:
    if choice.values:  # by place, for a value may be anything
        return optuna.distributions.CategoricalDistribution(tuple(range(len(choice.values))))
    kind = optuna.distributions.IntDistribution if choice.whole else optuna.distributions.FloatDistribution
    low, high = (int(choice.low), int(choice.high)) if choice.whole else (float(choice.low), float(choice.high))
    return kind(low, high, log=choice.log)


def _stored(choice: Choice, value: Any) -> Any:
    return choice.values.index(value) if choice.values else value


def _value(choice: Choice, stored: Any) -> Any:
    """Return what the objective is given: a number drawn from a range has DIGITS that count, as a person writes it."""
    if choice.values:
        return choice.values[stored]
    if choice.whole:
        return stored
    return min(max(float(f"{stored:.{DIGITS}g}"), float(choice.low)), float(choice.high))


def _counted(study: Any) -> list[Any]:
    """Return the trials that ran to their end, in order; not those whose process was killed."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "ended" in t.user_attrs]


def _column(name: str, values: list[Any]) -> pl.Series:
    """Return the values of one setting; those of several types as words."""
    kinds = {type(v) for v in values if v is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return pl.Series(name, values, strict=False)
    return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)


def _hash(asked: Mapping[str, Any]) -> str:
    text = json.dumps({key: repr(value) for key, value in asked.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
