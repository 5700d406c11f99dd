"""One fit of the bench of fusion: a past made poorer, a model fitted on it, and what it answers to everybody asked.

A fit costs seconds, what is told of it nothing: its scores are kept in a folder, one file each, so that a run that was
stopped goes on where it was, and late fusion joins what others have fitted already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from habitue.bench.protocols import Question
from habitue.bench.ranking import scored
from habitue.core.errors import UsageError
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.model.past import TRAITS, Floats, Ints, Past, bought

COLD = 5  # items, of which one is taken
AS_IT_IS, COLD_ITEMS = "as it is", "cold"
CONDITIONS = (AS_IT_IS, COLD_ITEMS, "missing 50", "missing 30", "missing 70", "missing 100")
EVENTS = "events"  # the modality of what a user did

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Job:
    """What is fitted."""

    model: str
    subset: tuple[str, ...]  # modalities it reads
    kind: str | None  # the way that the flagship fuses them; None = a model of another file
    condition: str
    seed: int
    asked: str = "test"  # or "validation"


@dataclass(frozen=True)
class Fit:
    """What came of it."""

    scores: Floats  # [U, I] of the users asked
    cpu_s: float  # fit and score
    peak_mb: float


@dataclass(frozen=True)
class Shelf:
    """A folder of fits (None = they are kept in memory), and what all of them rest on."""

    folder: Path | None
    rests_on: Mapping[str, str]  # model -> data, protocol and settings
    memory: dict[Job, Fit]

    def read(self, job: Job) -> Fit | None:
        """Return a fit that was kept, or None."""
        if job in self.memory:
            return self.memory[job]
        path = self._path(job)
        if path is None or not path.exists():
            return None
        with np.load(path) as kept:
            return Fit(kept["scores"], float(kept["cpu_s"]), float(kept["peak_mb"]))

    def write(self, job: Job, fit: Fit) -> None:
        """Keep a fit, whole or not at all."""
        path = self._path(job)
        if path is None:
            self.memory[job] = fit
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        with beside.open("wb") as file:
            np.savez(file, scores=fit.scores, cpu_s=fit.cpu_s, peak_mb=fit.peak_mb)
        beside.replace(path)

    def _path(self, job: Job) -> Path | None:
        named = json.dumps([self.rests_on[job.model], *dataclasses.astuple(job)])
        return self.folder and self.folder / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.npz"


def fitted(job: Job, module: ModuleType, config: Any, question: Question, users: Ints, runtime: Runtime) -> Fit:
    """Fit a model on what the job leaves of the past, and score `users`; costs what the fit costs."""
    forget_peak()
    started = time.process_time()
    fit, ask = (told(past, job) for past in (question.fit, question.ask))
    if EVENTS not in job.subset:
        fit, ask = alone(fit), dataclasses.replace(ask, histories=_nothing(ask))
    if job.kind is not None:
        config = dataclasses.replace(config, fusion=dataclasses.replace(config.fusion, kind=job.kind))
    state = module.fit(fit, config, runtime=dataclasses.replace(runtime, seed=job.seed))
    scores = np.concatenate([part for _, part, _ in scored(job.model, module, state, ask, users)])
    return Fit(scores, round(time.process_time() - started, 2), peak_mb())


def told(past: Past, job: Job) -> Past:
    """Return the past with the job's modalities, less what its condition takes: items' content, users' traits."""
    past, share = past.of(job.subset), lost(job.condition)
    if not share:
        return past
    names = [name for name, _ in past.parts]
    content = missing(dict(zip(names, split(past), strict=True)), past.items, share)
    users = [str(key) for key in past.histories.user_keys]
    kept = hashes(users, TRAITS) >= share
    return dataclasses.replace(
        past,
        words=sp.csr_matrix(sp.hstack(list(content.values()))) if content else None,
        traits=None if past.traits is None else past.traits * kept[:, None].astype(np.float32),
    )


def split(past: Past) -> list[sp.csr_matrix]:
    """Return the columns of `past.words` of each of its modalities."""
    ends = np.cumsum([0, *(width for _, width in past.parts)])
    assert past.words is not None or not past.parts
    return [sp.csr_matrix(past.words[:, a:b]) for a, b in zip(ends, ends[1:], strict=False)]  # type: ignore[index]


def alone(past: Past) -> Past:
    """Return a past in which every set is that of a stranger: what anybody did before it cannot be read."""
    every, owner = past.histories, past.histories.set_user
    sets = np.arange(len(owner))
    return dataclasses.replace(
        past,
        histories=dataclasses.replace(every, user_keys=sets, set_start=np.append(sets, len(sets))),
        known=np.ones(len(sets), dtype=bool),
        traits=None if past.traits is None else past.traits[owner],
    )


def poorer(question: Question, held: Bools, condition: str) -> Question:
    """Take the held items' events away when `cold`; slices `cold` and `warm`: what came later, each among its own."""
    fit, ask = question.fit, question.ask
    slices = dict(question.slices)
    if "later" not in slices or lost(condition):
        slices.pop("later", None)
        return Question(fit, ask, slices)
    later, _ = slices.pop("later")
    had = bought(ask.histories, len(ask.items)).toarray() > 0
    for name, asked in (("cold", held), ("warm", ~held)):
        relevant = sp.csr_matrix(later @ sp.diags_array(asked.astype(np.float32)))
        relevant.eliminate_zeros()
        slices[name] = (relevant, sp.csr_matrix((had | ~asked).astype(np.float32)))
    if condition == COLD_ITEMS:
        fit, ask = (
            dataclasses.replace(past, histories=past.histories.keep_rows(~held[past.histories.row_item]))
            for past in (fit, ask)
        )
        del slices["all"]
    return Question(fit, ask, slices)


def cold_items(past: Past) -> Bools:
    """Return [I], the items that condition `cold` takes: of every COLD next to each other in sales one, by a hash."""
    sold = np.bincount(past.histories.row_item, minlength=len(past.items))
    luck = hashes(past.items, "cold")
    order = np.lexsort((luck, sold))
    held = np.zeros(len(order), dtype=bool)
    for start in range(0, len(order) - COLD + 1, COLD):
        some = order[start : start + COLD]
        held[some[np.argmin(hashes([past.items[i] for i in some], "which"))]] = True
    return held


def missing(content: Mapping[str, sp.csr_matrix], items: Sequence[str], share: float) -> dict[str, sp.csr_matrix]:
    """Return the content without a modality of `share` of the items, for each modality others."""
    kept = {name: (hashes(items, name) >= share).astype(np.float32) for name in content}
    return {name: sp.csr_matrix(sp.diags_array(kept[name]) @ rows) for name, rows in content.items()}


def lost(condition: str) -> float:
    """Return the share of the items that lose each modality. Raises UsageError for an unknown condition."""
    if condition not in CONDITIONS:
        raise UsageError(
            "--conditions",
            found=f"'{condition}' is not known",
            consequence="Nothing was measured",
            remedy=f"Choose among {', '.join(CONDITIONS)}",
        )
    return int(condition.removeprefix("missing ")) / 100 if condition.startswith("missing") else 0.0


def less(subset: Collection[str], condition: str) -> tuple[tuple[str, ...], str]:
    """Return the subset and condition that ask the same: with all of it missing, content is as if it had never been."""
    if lost(condition) < 1:
        return tuple(subset), condition
    return tuple(name for name in subset if name == EVENTS), AS_IT_IS


def hash_of(numbers: Floats) -> str:
    """Return a short name that changes with any of the numbers."""
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()[:12]


def _nothing(past: Past) -> Any:
    return past.histories.keep_sets(np.zeros(len(past.histories.set_at), dtype=bool))


def hashes(items: Sequence[str], salt: str) -> npt.NDArray[np.float64]:
    """Return a number from 0 to 1 of each item, the same wherever it is drawn."""
    digests = [hashlib.sha256(f"{salt}:{item}".encode()).digest()[:7] for item in items]
    return np.array([int.from_bytes(d, "big") for d in digests], dtype=np.float64) / 2.0**56
