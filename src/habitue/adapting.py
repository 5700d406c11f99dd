"""The model follows its shop: a short training from the one that answers, held against it, promoted or refused.

    due(space)                  why it is time for another, or None: the schedule, or data that moved (`quality.drift`)
    adapt(space, plan, ...)     train, hold against what customers bought since, promote or try out or refuse, in words

The newest third of the orders that came since the answering model was trained are held out. The candidate knows what
came before them: the closed forms are fitted again, the flagship goes on from the answering model's weights over a few
passes through **all** lessons, old and new alike, so that the new does not push the old out: the lake is the replay
buffer. Then both are asked at that moment for the next order of every customer who made one. What is promoted is the
candidate that was held against it, with nothing learnt from the orders that judged it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue import evaluate, pipeline, prepare
from habitue.core import runtime as machine
from habitue.core import settings
from habitue.core.errors import ModelError
from habitue.core.schemas import EVENTS, PURCHASE
from habitue.core.workspace import Workspace
from habitue.encode import traits
from habitue.evaluate.measured import Measured, per_user
from habitue.model import artifact, blend, newcomers
from habitue.model.past import Past, histories, next_sets
from habitue.plan import Plan
from habitue.quality import drift
from habitue.serve import operational, registry, work
from habitue.serve.registry import Adapt
from habitue.serve.work import Said
from habitue.tables import Tables

KIND = "adapt"
LOOKED = ".drift"  # in state: its time is that of the last look at how the data moved
HELD_OUT = 1 / 3  # of the orders since the answering model was trained
METRIC = "ndcg@10"
SCORES = 5e7  # numbers of one model's answers; customers beyond it are drawn
AT_ONCE = 5e6  # of them


@dataclass(frozen=True)
class Held:
    """The candidate held against the model that answers, on the same customers' next orders."""

    now: float  # mean NDCG@10 of the model that answers
    candidate: float
    difference: float
    low: float  # of the difference, 95 %
    high: float
    customers: int


def due(space: Workspace, plan: Plan, *, now: float | None = None) -> str | None:
    """Return why it is time to adapt, or None. Reads the lake at most once in `drift_hours`.

    The clock counts from the last try, or from the training of the model that answers.
    """
    config, now = plan.adapt, time.time() if now is None else now
    folder = registry.current(space.models)
    if folder is None or not config.every_hours:
        return None
    tried = work.listed(space.state, kind=KIND, newest=1)
    if tried and tried[0].state in (work.WAITING, work.RUNNING):
        return None
    since = max([folder.stat().st_mtime, *(job.submitted_at for job in tried)])
    if now - since >= config.every_hours * 3_600:
        return f"{config.every_hours:g} hours have gone by"
    looked = space.state / LOOKED
    since = max(since, looked.stat().st_mtime if looked.exists() else since)
    if config.drift and now - since >= config.drift_hours * 3_600:
        looked.touch()
        return _moved(space, config)
    return None


def adapt(space: Workspace, plan: Plan, *, said: Said, asked_by: str = operational.BACKGROUND) -> dict[str, Any]:
    """Train a candidate and hold it against the model that answers; returns what came of it, `words` among it.

    A new model is a line of the audit log; `asked_by`: what stands there in the place of a key.

    Raises ModelError when there is no model, or too little came since it was trained.
    """
    config, folder = plan.adapt, registry.current(space.models)
    if folder is None:
        raise _not("there is no trained model", "There is nothing to go on from", "Train one: habitue train")
    said(0, 3, "reading")
    loaded, tables = artifact.load(folder), pipeline.read(space, plan)
    cut = _cut(tables.events, settings.moment(loaded.manifest["as_of"]), config)
    runtime = machine.detect(seed=plan.seed)
    runtime = dataclasses.replace(runtime, budget_s=config.budget_s)
    past, _ = pipeline.look_back(tables, as_of=cut, plan=plan, traits=traits.read(loaded.manifest))
    said(1, 3, "training")
    began = time.monotonic()
    candidate = refitted(loaded.state, past, plan, runtime=runtime)
    train_s = round(time.monotonic() - began, 3)
    said(2, 3, "holding it against the model that answers")
    held = hold_against(loaded.state, candidate, past, tables, seed=plan.seed)
    told = {"against": folder.name, "as_of": cut.isoformat(), **dataclasses.asdict(held)}
    numbers = (
        f"NDCG@10 {held.candidate:.4f} against {held.now:.4f}, difference {held.difference:+.4f} "
        f"({held.low:+.4f} to {held.high:+.4f}) on the next orders of {held.customers:,} customers"
    )
    if held.low < -config.margin * held.now:
        words = f"Refused: it may be worse than the model that answers by more than {config.margin:.0%}. {numbers}"
        return {**told, "version": None, "promoted": False, "words": words}
    version = f"{cut:%Y%m%dT%H%M%SZ}-{int(time.time()):x}"
    manifest = loaded.manifest | {
        "as_of": cut.isoformat(),
        "adapted": {**told, "from": folder.name},
        "train_s": train_s,
    }
    if config.canary:
        registry.try_out(space.models, version, share=config.canary)
        artifact.save(space.models / registry.MODEL / version, registry.MODEL, candidate, manifest)
        with operational.change(space.state) as book:
            book.note(asked_by, "models adapt", f"{version}, tried out")
        words = f"Tried out on {config.canary:.0%} of the customers: habitue models promote {version}. {numbers}"
    else:
        registry.keep(space.models)  # the newest would answer before it is promoted
        artifact.save(space.models / registry.MODEL / version, registry.MODEL, candidate, manifest)
        with operational.change(space.state) as book:
            registry.promote(space.models, version)
            book.note(asked_by, "models adapt", f"{version}, promoted")
        words = f"Promoted. {numbers}"
    return {**told, "version": version, "promoted": not config.canary, "words": words}


def refitted(state: blend.State, past: Past, plan: Plan, *, runtime: machine.Runtime) -> blend.State:
    """Return the same blend fitted on a later past; the flagship goes on from its weights."""
    views: dict[str, Any] = {}
    for name, view in state.views.items():
        module = pipeline.model_named(name)
        if name == "behaviour":
            shorter = dataclasses.replace(
                view.config,
                passes=view.config.passes * plan.adapt.passes,
                learning_rate=view.config.learning_rate * plan.adapt.rate,
            )
            views[name] = module.fit(past, shorter, runtime=runtime, start=view, closed_form=views.get("slist"))
            views[name] = dataclasses.replace(views[name], config=view.config)
        else:
            config = getattr(plan.blend, name) if hasattr(plan.blend, name) else module.Config()
            views[name] = module.fit(past, config, runtime=runtime)
    new = state.newcomers
    if new is not None and new.weight:
        config = dataclasses.replace(plan.blend.newcomers, weight=new.weight)  # kept, as the views' weights are
        new = newcomers.fit(past, config, new.judged, runtime=runtime)
    return dataclasses.replace(state, views=views, newcomers=new)


def hold_against(now: blend.State, candidate: blend.State, past: Past, tables: Tables, *, seed: int = 0) -> Held:
    """Ask both models at `past.as_of` for the next order of every known customer who made one since.

    Paired bootstrap over the customers; at most SCORES / products of them. Raises ModelError when nobody ordered.
    """
    keys = past.histories.user_keys
    every = histories(prepare.timeline(tables.events), past.items, users=keys)
    target = next_sets(every, after=past.day, until=np.inf)
    users = np.flatnonzero(past.known & (np.diff(target.indptr) > 0))
    most = max(int(SCORES / max(len(past.items), 1)), 1)
    if len(users) > most:
        users = np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
    measured = [
        _measured(name, state, past, target, users) for name, state in {"now": now, "candidate": candidate}.items()
    ]
    (row,) = evaluate.compare(measured, against="now", seed=seed).iter_rows(named=True)
    before, after = (float(one.statistic(np.ones((1, len(one.user_keys))))[0]) for one in measured)
    return Held(before, after, row["mean"], row["low"], row["high"], row["n"])


def _measured(
    name: str, state: blend.State, past: Past, target: sp.csr_matrix, users: npt.NDArray[np.int64]
) -> Measured:
    """Return METRIC of each user; a few at once, for a catalogue may be large."""
    parts = []
    for some in np.array_split(users, max(int(len(users) * len(past.items) / AT_ONCE), 1)):
        asked = past.take(some)
        told = evaluate.basket(blend.score(state, asked), asked, target[some], model=name)
        parts += [one for one in told if (one.slice, one.metric) == ("all", METRIC)]
    values = np.concatenate([one.values for one in parts if one.values is not None])
    keys = np.concatenate([one.user_keys for one in parts])
    return per_user(parts[0].protocol, name, "all", METRIC, keys, values)


def _cut(events: pl.DataFrame, trained: dt.datetime, config: Adapt) -> dt.datetime:
    """Return the moment from which orders are held out."""
    orders = events.filter(pl.col("kind") == PURCHASE, pl.col("at") > trained)
    moments = orders.group_by(pl.coalesce("order_id", "event_id")).agg(pl.col("at").min())["at"].sort()
    if len(moments) < config.least_orders:
        raise _not(
            f"{len(moments):,} orders came since the model was trained, fewer than {config.least_orders:,}",
            "Which of two models is better could not be told",
            "Wait for more, or lower [adapt] least_orders",
        )
    moment = moments[int(len(moments) * (1 - HELD_OUT))]
    assert isinstance(moment, dt.datetime)
    return moment


def _moved(space: Workspace, config: Adapt) -> str | None:
    events = space.lake.read(EVENTS)
    newest = events["at"].max()
    if not isinstance(newest, dt.datetime):
        return None
    before, after = drift.periods(newest, drift.Config(days=config.drift_days))
    found = drift.between({EVENTS.name: events}, before, after).filter(
        pl.col("verdict") == "much", pl.col("psi") >= config.drift
    )
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    return f"the column {row['column']} of the events moved (PSI {row['psi']:.2f})"


def _not(found: str, consequence: str, remedy: str) -> ModelError:
    return ModelError("adapt", found=found, consequence=consequence, remedy=remedy)
