"""What each modality of the items buys: every subset of them, on warm items, on cold ones, and with part of them lost.

A condition is a past made poorer, and the same question asked of it:

    as it is     nothing taken away
    cold         one item of every five of like sales, drawn by a hash, loses every event before the moment
    missing p    every modality is taken from a share p of the items, each drawn by a hash of its own

Slices: `all` = the next set among all items, as protocol `time` asks. `warm` and `cold` = everything later among the
items that condition `cold` leaves and takes, each ranked among its own; they are asked under `as it is` too, so that
cold / warm of the same items tells what the missing events cost. Fusion `concat` joins the modalities before a model is
fitted; `decision` is the mean of the standardised scores of that model fitted with each modality alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue import evaluate
from habitue.bench import modalities, protocols
from habitue.bench.protocols import Question, Settings, Task
from habitue.bench.ranking import CUTOFFS, mean_of_seeds, module_named, presets, scored
from habitue.bench.sequences import Sequences
from habitue.core import progress
from habitue.core.errors import UsageError
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.core.schemas import METRICS, Metrics
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import values
from habitue.model.blend import standard
from habitue.model.past import Floats, Past, bought, reads

COLD = 5  # items, of which one is taken
AS_IT_IS, COLD_ITEMS = "as it is", "cold"
CONDITIONS = (AS_IT_IS, COLD_ITEMS, "missing 30", "missing 50", "missing 70", "missing 100")


@dataclass(frozen=True)
class Cell:
    """One model with one subset under one condition: each user's metrics, a mean over seeds."""

    model: str
    subset: tuple[str, ...]
    fusion: str | None  # None = at most one modality
    condition: str
    measured: tuple[Measured, ...]
    cpu_s: float  # a seed; of `decision` that of all its models
    peak_mb: float


def run(
    data: Sequences,
    *,
    models: Sequence[str],
    conditions: Sequence[str] = (AS_IT_IS, COLD_ITEMS, "missing 50"),
    seeds: int = 1,
    runtime: Runtime,
    settings: Settings | None = None,
) -> list[Cell]:
    """Fit every model with every subset of `data.content` under every condition; the cost is that of the fits.

    A model that reads no content is fitted once a condition. Raises UsageError for an unknown condition, for a model
    that does not rank, and what `protocols.time` raises.
    """
    for condition in conditions:
        _lost(condition)
    task = protocols.time(dataclasses.replace(data, content={}), settings or Settings())
    held = cold_items(task.test.fit)
    jobs = list(_jobs(data, models, conditions, task))
    cells = []
    for name, subset, condition in progress.track(jobs, "Fits", total=len(jobs)):
        cells += _cells(name, subset, condition, data, task, held, seeds, runtime)
    return cells


def cold_items(past: Past) -> npt.NDArray[np.bool_]:
    """Return [I], the items that condition `cold` takes: of every COLD next to each other in sales one, by a hash."""
    sold = np.bincount(past.histories.row_item, minlength=len(past.items))
    luck = _hashes(past.items, "cold")
    order = np.lexsort((luck, sold))
    held = np.zeros(len(order), dtype=bool)
    for start in range(0, len(order) - COLD + 1, COLD):
        some = order[start : start + COLD]
        held[some[np.argmin(_hashes([past.items[i] for i in some], "which"))]] = True
    return held


def missing(content: Mapping[str, sp.csr_matrix], items: Sequence[str], share: float) -> dict[str, sp.csr_matrix]:
    """Return the content without a modality of `share` of the items, for each modality others."""
    kept = {name: (_hashes(items, name) >= share).astype(np.float32) for name in content}
    return {name: sp.csr_matrix(sp.diags_array(kept[name]) @ rows) for name, rows in content.items()}


def table(cells: Sequence[Cell], *, dataset: str, seeds: int, seed: int = 0) -> Metrics:
    """Return METRICS; the slice of a row names the condition too: `all`, `all, missing 50`, `cold, trained`, ..."""
    if not cells:
        return METRICS.empty()
    return pl.concat(
        evaluate.table(
            [dataclasses.replace(one, slice=slice_of(one.slice, cell.condition)) for one in cell.measured],
            dataset=dataset,
            modalities=["events", *cell.subset],
            fusion=cell.fusion,
            seeds=seeds,
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


def _jobs(
    data: Sequences, models: Sequence[str], conditions: Sequence[str], task: Task
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    subsets = [s for size in range(len(data.content) + 1) for s in itertools.combinations(data.content, size)]
    for name in models:
        reads_content = modalities.TEXT in reads(presets(module_named(name), task)[0])
        for subset in subsets if reads_content else subsets[:1]:
            for condition in conditions:
                if subset or not condition.startswith("missing"):
                    yield name, subset, condition


def _cells(
    name: str,
    subset: tuple[str, ...],
    condition: str,
    data: Sequences,
    task: Task,
    held: npt.NDArray[np.bool_],
    seeds: int,
    runtime: Runtime,
) -> list[Cell]:
    """Return `concat` (or what needs no fusion), and `decision` where there are several modalities."""
    module = module_named(name)
    config = presets(module, task)[0]
    lost = _lost(condition)
    question = _poorer(task.test, held, cold=condition == COLD_ITEMS, asks_cold=lost == 0)
    content = {key: data.content[key] for key in subset}
    content = missing(content, data.items, lost) if lost else content
    ways: list[tuple[str | None, list[dict[str, sp.csr_matrix]]]] = [("concat" if len(subset) > 1 else None, [content])]
    if len(subset) > 1:
        ways.append(("decision", [{key: rows} for key, rows in content.items()]))
    told = []
    for fusion, parts in ways:
        forget_peak()
        started = time.process_time()
        runs = []
        for seed in range(runtime.seed, runtime.seed + (seeds if getattr(module, "SEEDED", False) else 1)):
            machine = dataclasses.replace(runtime, seed=seed)
            runs.append(_measure(name, module, config, question, [modalities.joined(p) for p in parts], machine))
        cost = (time.process_time() - started) / len(runs)
        told.append(Cell(name, subset, fusion, condition, tuple(mean_of_seeds(runs)), round(cost, 2), peak_mb()))
    return told


def _measure(
    name: str,
    module: ModuleType,
    config: Any,
    question: Question,
    contents: list[sp.csr_matrix | None],
    runtime: Runtime,
) -> list[Measured]:
    """Fit once a content, and measure the mean of the standardised scores; of one content its scores as they are."""
    whole: Floats | None = None
    for words in contents:
        fit, ask = (dataclasses.replace(past, words=words) for past in (question.fit, question.ask))
        state = module.fit(fit, config, runtime=runtime)
        scores = np.concatenate([part for _, part, _ in scored(name, module, state, ask, question.asked)])
        one = scores if len(contents) == 1 else standard(scores)
        whole = one if whole is None else np.add(whole, one)
    assert whole is not None
    keys, found = question.ask.histories.user_keys[question.asked], []
    for slice_, (relevant, masked) in question.slices.items():
        mine = relevant[question.asked]
        rows = np.flatnonzero(np.diff(mine.indptr))
        if rows.size:
            hidden = None if masked is None else masked[question.asked][rows]
            told = values(whole[rows], mine[rows], hidden, cutoffs=CUTOFFS)
            found += [per_user("fusion", name, slice_, metric, keys[rows], part) for metric, part in told.items()]
    return found


def _poorer(question: Question, held: npt.NDArray[np.bool_], *, cold: bool, asks_cold: bool) -> Question:
    """Take the held items' events away when `cold`, and ask of them apart when `asks_cold`."""
    fit, ask = question.fit, question.ask
    slices = dict(question.slices)
    later, _ = slices.pop("later")
    if asks_cold:
        had = bought(ask.histories, len(ask.items)).toarray() > 0
        for name, asked in (("cold", held), ("warm", ~held)):
            relevant = sp.csr_matrix(later @ sp.diags_array(asked.astype(np.float32)))
            relevant.eliminate_zeros()
            slices[name] = (relevant, sp.csr_matrix((had | ~asked).astype(np.float32)))
    if cold:
        fit, ask = (
            dataclasses.replace(past, histories=past.histories.keep_rows(~held[past.histories.row_item]))
            for past in (fit, ask)
        )
        del slices["all"]
    return Question(fit, ask, slices)


def _lost(condition: str) -> float:
    """Return the share of the items that lose each modality. Raises UsageError for an unknown condition."""
    if condition not in CONDITIONS:
        raise UsageError(
            "--conditions",
            found=f"'{condition}' is not known",
            consequence="Nothing was measured",
            remedy=f"Choose among {', '.join(CONDITIONS)}",
        )
    return int(condition.removeprefix("missing ")) / 100 if condition.startswith("missing") else 0.0


def _hashes(items: Sequence[str], salt: str) -> npt.NDArray[np.float64]:
    """Return a number from 0 to 1 of each item, the same wherever it is drawn."""
    digests = [hashlib.sha256(f"{salt}:{item}".encode()).digest()[:7] for item in items]
    return np.array([int.from_bytes(d, "big") for d in digests], dtype=np.float64) / 2.0**56
