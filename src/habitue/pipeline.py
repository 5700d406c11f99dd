"""The table of contents: the whole offline run, from EVENTS to verdicts, each step one call.

tables   = read(workspace, plan)                 the lake -> EVENTS after cleaning, ITEMS, who is known (tables.py)
past     = look_back(tables, as_of=..., ...)     what may be known at that moment (look_back.py)
state    = fit(past, plan, ...)                  every view and the blend of them
forecast = foresee(past, state=...)                   every model's answers; sealed before anything later is read
outcome  = judge(forecast, later, ...)           the same answers against what happened
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import evaluate, prepare
from habitue.core import plugins
from habitue.core.progress import steps
from habitue.core.runtime import Runtime, peak_mb
from habitue.core.schemas import Labels, Metrics
from habitue.evaluate.measured import Measured
from habitue.look_back import look_back
from habitue.model import blend, popular
from habitue.model.past import Floats, Past, histories, next_sets, reads
from habitue.plan import Plan
from habitue.tables import Tables, read

__all__ = ["Forecast", "Outcome", "fit", "foresee", "judge", "look_back", "model_named", "popularity", "read"]


@dataclass(frozen=True)
class Forecast:
    """Every model's answers at one moment, about known users; nothing later was read."""

    past: Past  # B known users, I products
    titles: dict[str, str]  # item_id -> words; a product without words is absent
    state: blend.State
    ranks: Mapping[str, Floats]  # model -> [B, I]
    answers: Mapping[str, pl.DataFrame]  # model -> user_key, churn, value
    cpu_s: Mapping[str, float]  # model -> CPU-seconds of fit and score


@dataclass(frozen=True)
class Outcome:
    """What happened in the horizon, and every model held against it."""

    labels: Labels
    target: sp.csr_matrix  # [B, <= I] each user's next order
    measured: list[Measured]
    metrics: Metrics
    paired: pl.DataFrame  # every model minus personal repeat ('popular')


def fit(
    past: Past, plan: Plan, *, runtime: Runtime, folder: Path | None = None, cost: dict[str, float] | None = None
) -> blend.State:
    """Fit every view and the blend of them; `folder` keeps checkpoints, from which an interrupted fit goes on.

    `cost` gets the CPU-seconds of each.
    """
    with steps("Training") as progress:
        return blend.fit(past, plan.blend, runtime=runtime, folder=folder, progress=progress, cost=cost)


def foresee(past: Past, titles: dict[str, str], *, state: blend.State, cost: Mapping[str, float]) -> Forecast:
    """Ask every model about every known user; `cost`: CPU-seconds of the fits."""
    asked = past.take(np.flatnonzero(past.known))
    ranks: dict[str, Floats] = {"popularity": popularity(state.views["popular"], asked)}
    answers: dict[str, pl.DataFrame] = {}
    cpu_s = {"popularity": cost["popular"]} | dict(cost)
    for name, view in {**state.views, "blend": state}.items():
        module = blend if name == "blend" else model_named(name)
        with _cpu(cpu_s, name):
            if "rank" in module.ANSWERS:
                ranks[name] = module.score(view, asked)
            if "churn" in module.ANSWERS:
                answers[name] = module.predict(view, asked)
    return Forecast(asked, titles, state, ranks, answers, cpu_s)


def judge(forecast: Forecast, later: Tables, *, plan: Plan, dataset: str, runtime: Runtime) -> Outcome:
    """Hold the forecast against what happened in [as_of, as_of + horizon); `later` holds the rows after the cut too."""
    past = forecast.past
    until = past.as_of + dt.timedelta(days=plan.horizon_days)
    seen, _ = prepare.split(later.events, until)
    keys = past.histories.user_keys
    every = histories(prepare.timeline(seen), past.items, users=keys)
    target = next_sets(every, after=past.day, until=until.timestamp() / 86_400)
    labels = prepare.labels(seen, as_of=past.as_of, horizon_days=plan.horizon_days, users=keys, until=until)
    by_model: dict[str, list[Measured]] = {}
    for name, scores in forecast.ranks.items():
        by_model.setdefault(name, []).extend(evaluate.basket(scores, past, target, model=name))
    for name, told in forecast.answers.items():
        factor = plan.season.factor
        by_model.setdefault(name, []).extend(evaluate.churn(told, labels, keys, model=name))
        by_model[name].extend(evaluate.value(told, labels, keys, model=name, factor=factor))
    tables = [
        evaluate.table(
            measured,
            dataset=dataset,
            modalities=_modalities(name, plan),
            fusion="decision" if name == "blend" else None,
            cpu_s=forecast.cpu_s[name],
            peak_mb=peak_mb(),
            seed=runtime.seed,
        )
        for name, measured in by_model.items()
    ]
    measured = [one for rows in by_model.values() for one in rows]
    ranked = [one for one in measured if one.protocol == "BASKET"]
    paired = evaluate.compare(ranked, against="popular", seed=runtime.seed)
    return Outcome(labels, target, measured, pl.concat(tables), paired)


def model_named(name: str) -> ModuleType:
    """Return the file of a model."""
    return plugins.load("model", name, contract=("Config", "ANSWERS", "fit"))


def _modalities(name: str, plan: Plan) -> list[str]:
    """Return what a model of the plan reads."""
    own = {"blend": plan.blend, "popularity": plan.blend.popular}.get(name) or getattr(plan.blend, name, None)
    return reads(own or model_named(name).Config())


def popularity(state: popular.State, past: Past) -> Floats:
    """Return the count nobody is personal in: the orders of the last 30 days, the same for everyone."""
    nobody = dataclasses.replace(past, histories=past.histories.before(-np.inf))
    return popular.score(state, nobody)


@contextmanager
def _cpu(spent: dict[str, float], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    spent[name] = round(spent.get(name, 0.0) + time.process_time() - start, 2)
