"""What each modality buys, and how it is best fused: every subset, on warm items, on cold ones, and with part lost.

The modalities are `events` (what the user did before), `traits` (what is known of the person) and what the table of
items holds (modalities.py). The flagship is asked with every subset of them: without `events` everybody is a stranger
to it. Models of other files read events always, and traits never. A condition is a past made poorer:

    as it is     nothing taken away
    cold         one item of every five of like sales, drawn by a hash, loses every event before the moment
    missing p    every modality but events is taken from a share p of the items or users, each by a hash of its own

Slices: `all` = the next set among all items, as protocol `time` asks. `warm` and `cold` = everything later among the
items that condition `cold` leaves and takes, each ranked among its own; they are asked under `as it is` too, so that
cold / warm of the same items tells what the missing events cost.

Fusion: `concat`, `gate`, `attention`, `model` are the flagship's (model/fuse.py); other models have `concat`: joined
before the fit. `decision` joins the scores of one model a modality, each beside events, by vote, by average or
stacked with weights found on validation.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd

from habitue import evaluate
from habitue.bench import modalities, protocols
from habitue.bench.fusion_fits import (
    AS_IT_IS,
    COLD_ITEMS,
    CONDITIONS,
    EVENTS,
    Bools,
    Fit,
    Job,
    Shelf,
    cold_items,
    fitted,
    hash_of,
    less,
    lost,
    poorer,
)
from habitue.bench.protocols import Question, Settings, Task
from habitue.bench.ranking import mean_of_seeds, module_named, presets
from habitue.bench.sequences import Sequences
from habitue.core import progress
from habitue.core.errors import HabitueError, UsageError
from habitue.core.runtime import Runtime
from habitue.core.schemas import METRICS, Metrics
from habitue.core.settings import fill
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import values
from habitue.model import fuse
from habitue.model.blend import comparable, found_weights
from habitue.model.past import TRAITS, Floats, Ints, reads

FUSIONS = (*fuse.WAYS, "decision")
NARROW = 128  # directions
CUTOFFS, METRIC = (10,), ("ndcg@10", "hit@10")


@dataclass(frozen=True)
class Options:
    """What a person may set beside the data."""

    models: tuple[str, ...] = ("popular", "ease", "slist", "behaviour")
    fusions: tuple[str, ...] = FUSIONS
    conditions: tuple[str, ...] = CONDITIONS
    seeds: int = 1  # of every subset; every cell has its first before any has a second
    whole_seeds: int = 1  # of the subset of all modalities, at least `seeds`
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # model -> fixed settings
    folder: Path | None = None  # where fits are kept, and gone on from
    budget_s: float | None = None  # CPU-seconds of this run; fits that would begin after it are left out and named


@dataclass(frozen=True)
class Cell:
    """One model with one subset in one fusion under one condition: each user's metrics, a mean over seeds."""

    model: str
    subset: tuple[str, ...]
    fusion: str | None  # None = there is nothing to fuse
    how: str  # of `decision`, else nothing
    condition: str
    measured: tuple[Measured, ...]
    seeds: int
    cpu_s: float  # a seed; of `decision` that of all its models
    peak_mb: float


@dataclass(frozen=True)
class Result:
    """All cells, and what was not measured."""

    cells: tuple[Cell, ...]
    left_out: Mapping[str, str]  # cell -> why


@dataclass(frozen=True)
class _Asked:
    """Everything a cell is made of."""

    task: Task
    held: Bools
    modules: Mapping[str, ModuleType]
    configs: Mapping[str, Any]
    shelf: Shelf
    options: Options
    runtime: Runtime
    ends: float | None  # CPU time of the process


_Wanted = tuple[str, tuple[str, ...], str | None, str, int]  # model, subset, way, condition and seeds of a cell
_Runs = tuple[list[list[Measured]], float, float]  # of one cell: metrics a seed, CPU-seconds of all, highest peak


class _Over(Exception):
    """The budget is spent."""


def run(data: Sequences, *, options: Options, runtime: Runtime, settings: Settings | None = None) -> Result:
    """Measure every cell; the cost is that of the fits, each made once whoever needs it.

    Every cell has its first seed before any has its second: a run that its budget ends has fewer seeds in some cells,
    which say how many. A fit that fails is named in `left_out` and the others go on. Raises UsageError for an unknown
    condition or fusion and for a model that does not rank, SettingsError for settings there are not, and what
    `protocols.time` raises.
    """
    for condition in options.conditions:
        lost(condition)
    for fusion in options.fusions:
        if fusion not in FUSIONS:
            raise UsageError(
                "--fusions",
                found=f"'{fusion}' is not known",
                consequence="Nothing was measured",
                remedy=f"Choose among {', '.join(FUSIONS)}",
            )
    data = dataclasses.replace(data, content={name: narrow(rows) for name, rows in data.content.items()})
    task = protocols.time(data, settings or Settings())
    modules = {name: module_named(name) for name in options.models}
    configs = {name: _config(name, module, task, options) for name, module in modules.items()}
    ends = None if options.budget_s is None else time.process_time() + options.budget_s
    about = (protocols.fingerprint(task), None if data.traits is None else hash_of(data.traits))
    shelf = Shelf(options.folder, {name: repr((about, config)) for name, config in configs.items()}, {})
    asked = _Asked(task, cold_items(task.test.fit), modules, configs, shelf, options, runtime, ends)
    wanted = list(_wanted(data, asked))
    largest = {name: max(len(cell[1]) for cell in wanted if cell[0] == name) for name in modules}
    wanted.sort(key=lambda cell: _turn(cell[1], cell[3], largest[cell[0]]))
    measured, left_out = _rounds(asked, wanted)
    cells = [
        Cell(name, subset, *_named(way), condition, tuple(mean_of_seeds(told)), len(told), spent / len(told), peak)
        for (name, subset, way, condition, _), (told, spent, peak) in measured.items()
    ]
    return Result(tuple(cells), left_out)


def _rounds(asked: _Asked, wanted: Sequence[_Wanted]) -> tuple[dict[_Wanted, _Runs], dict[str, str]]:
    """Return the runs of each cell, and each cell without one and why: the first seed of all, then the second."""
    measured: dict[_Wanted, _Runs] = {}
    left_out: dict[str, str] = {}
    jobs = [(cell, seed) for seed in range(max((cell[4] for cell in wanted), default=0)) for cell in wanted]
    jobs = [(cell, seed) for cell, seed in jobs if seed < cell[4]]
    for cell, seed in progress.track(jobs, "Cells", total=len(jobs)):
        name, subset, way, condition, _ = cell
        label = f"{name}: {' + '.join(subset)}{f' ({way})' if way else ''}, {condition}"
        try:
            told, spent, peak = _measured(asked, cell, asked.runtime.seed + seed)
        except _Over:
            if cell not in measured:
                left_out[label] = "it did not fit into the budget"
        except UsageError:
            raise
        except HabitueError as error:
            left_out[label] = str(error)
        else:
            runs, before, highest = measured.get(cell, ([], 0.0, 0.0))
            measured[cell] = [*runs, told], before + spent, max(highest, peak)
    return measured, left_out


def narrow(rows: sp.csr_matrix) -> sp.csr_matrix:
    """Return [I, V] as it is, or when it is wide and dense its first NARROW directions, rows of length 1 again.

    Every fit would else find them anew, for most of its cost: pictures are 1,280 numbers each.
    """
    if rows.shape[1] <= NARROW or rows.nnz < rows.shape[0] * rows.shape[1] / 4:
        return rows
    left, size, _ = randomized_svd(rows, min(NARROW, *rows.shape), random_state=0)
    told = left * size
    length = np.linalg.norm(told, axis=1, keepdims=True)
    there = (rows.getnnz(axis=1) > 0)[:, None]
    return sp.csr_matrix(
        np.divide(told, length, out=np.zeros_like(told), where=there & (length > 0)).astype(np.float32)
    )


def table(cells: Sequence[Cell], *, dataset: str, seed: int = 0) -> Metrics:
    """Return METRICS; the slice of a row names the condition too: `all`, `all, missing 50`, `cold, trained`, ..."""
    if not cells:
        return METRICS.empty()
    return pl.concat(
        evaluate.table(
            [dataclasses.replace(one, slice=slice_of(one.slice, cell.condition)) for one in cell.measured],
            dataset=dataset,
            modalities=cell.subset,
            fusion=cell.fusion,
            seeds=cell.seeds,
            cpu_s=cell.cpu_s,
            peak_mb=cell.peak_mb,
            seed=seed,
        )
        for cell in cells
    )


def slice_of(name: str, condition: str) -> str:
    """Return what a slice is called under a condition."""
    if condition == AS_IT_IS:
        return name if name == "all" else f"{name}, trained"
    return name if condition == COLD_ITEMS else f"{name}, {condition}"


def _config(name: str, module: ModuleType, task: Task, options: Options) -> Any:
    first = presets(module, task)[0]
    if name not in options.settings:
        return first
    given = dataclasses.asdict(first) | dict(options.settings[name])
    return fill(module.Config, given, where=f"--settings, {name}")


def _wanted(data: Sequences, asked: _Asked) -> Iterator[_Wanted]:
    """Yield the cells; what matters most comes first."""
    known = [EVENTS, *([TRAITS] if data.traits is not None else []), *data.content]
    options = asked.options
    for condition in (c for c in CONDITIONS if c in options.conditions):
        for name, config in asked.configs.items():
            own = known if hasattr(config, "fusion") else [m for m in known if m != TRAITS]
            content = modalities.TEXT in reads(config)
            for subset in _subsets(own):
                if EVENTS not in subset and not hasattr(config, "fusion"):
                    continue
                if (not content and len(subset) > 1) or (lost(condition) and set(subset) <= {EVENTS}):
                    continue
                seeds = max(options.whole_seeds, options.seeds) if subset == tuple(known) else options.seeds
                for way in _ways(subset, config, options):
                    yield name, subset, way, condition, seeds if getattr(asked.modules[name], "SEEDED", 0) else 1


def _turn(subset: tuple[str, ...], condition: str, largest: int) -> int:
    """Return when a cell's turn is: should the budget end, what matters most is there.

    As it is; then cold and half missing of all modalities together, and cold of events alone; then cold of the others,
    and what else is missing.
    """
    whole = len(subset) == largest
    if condition == AS_IT_IS:
        return 0
    if condition == COLD_ITEMS:
        return 1 if whole or subset == (EVENTS,) else 3
    if whole:
        return 2 if condition == "missing 50" else 4
    return 5


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every subset but the empty one, the largest first."""
    for size in range(len(names), 0, -1):
        yield from itertools.combinations(names, size)


def _ways(subset: tuple[str, ...], config: Any, options: Options) -> Sequence[str | None]:
    """Return the ways a subset is fused; `decision` with how its models are joined."""
    if not hasattr(config, "fusion"):
        several = len(subset) > 2  # events are no content to join
        ways = {"concat": "concat", "decision": "decision average"}
        return [ways[f] for f in options.fusions if f in ways] if several else [None]
    if len(subset) < 2:
        return [None]
    early = [f for f in options.fusions if f != "decision"]
    return early + [f"decision {how}" for how in fuse.LATE if "decision" in options.fusions]


def _named(way: str | None) -> tuple[str | None, str]:
    """Return the fusion of a way, and of `decision` how: "decision vote" -> decision, vote."""
    fusion, _, how = (way or "").partition(" ")
    return fusion or None, how


def _measured(asked: _Asked, cell: _Wanted, seed: int) -> tuple[list[Measured], float, float]:
    """Fit what is not fitted yet, and measure one seed of a cell; with CPU-seconds and peak memory."""
    name, subset, way, condition, _ = cell
    fusion, how = _named(way)
    scores, fits = _scores(asked, name, less(subset, condition), fusion or "", how, seed)
    label = f"{name} ({how})" if how else name
    question = poorer(asked.task.test, asked.held, condition)
    told = _measure(label, scores, asked.task.test.asked, question)
    return told, sum(one.cpu_s for one in fits), max(one.peak_mb for one in fits)


def _scores(
    asked: _Asked, name: str, what: tuple[tuple[str, ...], str], fusion: str, how: str, seed: int
) -> tuple[Floats, list[Fit]]:
    """Return the scores of one seed, and the fits they are made of."""
    subset, condition = what
    flagship = hasattr(asked.configs[name], "fusion")
    if fusion != "decision" or len(subset) < 2:
        several = fusion in fuse.WAYS and len(subset) > 1
        kind = (fusion if several else "concat") if flagship else None  # one modality is fused with nothing
        fit = _fit(asked, Job(name, subset, kind, condition, seed))
        return fit.scores, [fit]
    jobs = [Job(name, one, "concat" if flagship else None, condition, seed) for one in _members(subset, flagship)]
    fits = [_fit(asked, job) for job in jobs]
    views = [comparable(name, fit.scores) for fit in fits]
    weights = None
    if how == "stacked":
        before = [_fit(asked, dataclasses.replace(j, condition=AS_IT_IS, asked="validation")) for j in jobs]
        weights = _weights(asked.task.validation, [comparable(name, fit.scores) for fit in before])
        fits += before
    return fuse.decided(views, how, weights), fits


def _members(subset: tuple[str, ...], flagship: bool) -> list[tuple[str, ...]]:
    """Return what the models behind a decision read: one modality each, beside what was done where that is among them.

    The flagship has one that reads events alone, too; the other models read events always.
    """
    others = [name for name in subset if name != EVENTS]
    if EVENTS not in subset:
        return [(name,) for name in others]
    return [(EVENTS,)] * flagship + [(EVENTS, name) for name in others]


def _fit(asked: _Asked, job: Job) -> Fit:
    """Return a fit from the shelf, or make it. Raises _Over when the budget is spent."""
    kept = asked.shelf.read(job)
    if kept is not None:
        return kept
    if asked.ends is not None and time.process_time() > asked.ends:
        raise _Over
    whole = getattr(asked.task, job.asked)
    question = poorer(whole, asked.held, job.condition)
    config = asked.configs[job.model]
    found = fitted(job, asked.modules[job.model], config, question, whole.asked, asked.runtime)
    asked.shelf.write(job, found)
    return found


def _weights(question: Question, views: Sequence[Floats]) -> tuple[float, ...]:
    """Return what each view counts for: found on what came next at the earlier moment."""
    target = question.slices["all"][0][question.asked]
    return tuple(found_weights(np.stack(views), question.ask.take(question.asked), target))


def _measure(label: str, scores: Floats, users: Ints, question: Question) -> list[Measured]:
    """Return the metrics of every slice; scores [U, I] of `users`."""
    keys, found = question.ask.histories.user_keys[users], []
    for slice_, (relevant, masked) in question.slices.items():
        mine = relevant[users]
        rows = np.flatnonzero(np.diff(mine.indptr))
        if rows.size:
            hidden = None if masked is None else masked[users][rows]
            told = values(scores[rows], mine[rows], hidden, cutoffs=CUTOFFS)
            found += [per_user("fusion", label, slice_, metric, keys[rows], told[metric]) for metric in METRIC]
    return found
