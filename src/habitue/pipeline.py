"""The table of contents: the whole offline run, from EVENTS to verdicts, each step one call.

tables   = read(workspace, plan)                 the lake -> EVENTS after cleaning, ITEMS, who is known
past     = look_back(tables, as_of=..., ...)     what may be known at that moment
forecast = foresee(past, ...)                    every model's answers; sealed before anything later is read
outcome  = judge(forecast, later, ...)           the same answers against what happened
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import evaluate, prepare, quality
from habitue.core import plugins
from habitue.core.errors import ModelError
from habitue.core.progress import steps
from habitue.core.runtime import Runtime, peak_mb
from habitue.core.schemas import (
    CONSENT,
    EVENTS,
    ITEMS,
    REFUSED,
    REPAIRS,
    USERS,
    Events,
    Items,
    Labels,
    Metrics,
    Refused,
    Users,
)
from habitue.core.workspace import Workspace
from habitue.encode import text
from habitue.evaluate.measured import Measured
from habitue.model import blend, popular
from habitue.model.past import Floats, Past, histories, next_sets, reads
from habitue.plan import Plan
from habitue.prepare import leakage
from habitue.protect import consent, people
from habitue.protect.consent import Register
from habitue.quality.repairs import mend

TRAIN_EVERY_DAYS = 7  # a moment of training for churn and value each week; LOG.md, "trees"
TRAIN_HISTORY_DAYS = 60  # a shop known for a shorter time has no past to learn from


@dataclass(frozen=True)
class Tables:
    """A shop as it stands in the lake, joined people under one key."""

    raw: Events  # as imported, the repairs somebody asked for done
    events: Events  # after quality.clean
    dropped: pl.DataFrame  # code, rows, money
    items: Items
    users: Users
    refused: Refused
    known: pl.DataFrame  # user_key, known: False = seen as a guest order only
    consents: Register = field(default_factory=Register)

    def withheld(self, purpose: str) -> pl.Series:
        """Return the keys (i64, ascending) of people who may not be used for a purpose."""
        return self.consents.withheld(pl.concat([self.known["user_key"], self.raw["user_key"]]), purpose)


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


def read(workspace: Workspace, plan: Plan, *, as_of: dt.datetime | None = None) -> Tables:
    """Read the lake, put joined people under one key, do the repairs in force, and clean.

    Rows of people who may not be counted are left out of `events`. `as_of`: who is who and who agrees to what at that
    moment, with rows after it all the same (default: now).
    """
    lake, ids = workspace.lake, workspace.identities
    raw, users = (people.joined(lake.read(table), ids, as_of=as_of) for table in (EVENTS, USERS))
    consents = consent.register(ids, lake.read(CONSENT), plan.consent, as_of=as_of)
    raw, items = mend(raw, lake.read(ITEMS), lake.read(REPAIRS))
    events, dropped = quality.clean(raw, plan.quality)
    known = people.known_keys(ids, as_of=as_of)
    tables = Tables(raw, events, dropped, items, users, lake.read(REFUSED), known, consents)
    counted = consent.without(events, tables.withheld(consent.ANALYTICS))
    return dataclasses.replace(tables, events=counted)


def look_back(
    tables: Tables, *, as_of: dt.datetime, plan: Plan, train: bool = True, purpose: str = consent.PERSONALISATION
) -> tuple[Past, dict[str, str]]:
    """Return what may be known at `as_of`, and the products' words. `train` False leaves the training rows out.

    People who may not be used for `purpose` are in none of it; a training row of an earlier moment needs their consent
    of that moment as well. Raises LeakageError when a feature knows what comes after its moment, ModelError when
    nobody may be used.
    """
    seen, _ = prepare.split(tables.events, as_of)
    catalogue = prepare.catalogue(seen, tables.items, as_of=as_of)
    products = quality.products(catalogue, plan.quality.products)
    catalogue = catalogue.filter(pl.col("item_id").is_in(list(products)))
    keys = _usable(seen, tables, purpose)
    known = tables.known.filter("known")["user_key"]
    people = keys.filter(keys.is_in(known.implode()))
    moments = _training_moments(seen, as_of, plan.horizon_days) if train else []
    features = prepare.features(seen, as_of=[*moments, as_of], users=people)
    labels = prepare.labels(seen, as_of=moments, horizon_days=plan.horizon_days, users=people, until=as_of)
    asked, learnt = features.filter(pl.col("as_of") == as_of), features.filter(pl.col("as_of") < as_of)
    leakage.guard(seen, learnt, labels, cut=as_of)
    for agreed in {consent.ANALYTICS, purpose}:
        learnt, labels = (rows.filter(tables.consents.granted(rows, agreed)) for rows in (learnt, labels))
    items = tuple(catalogue["item_id"])
    past = Past(
        as_of=as_of,
        horizon_days=plan.horizon_days,
        items=items,
        histories=histories(prepare.timeline(seen), items, users=keys),
        known=keys.is_in(known.implode()).to_numpy(),
        words=text.encode(catalogue, plan.words).matrix,
        features=asked,
        train_features=learnt,
        train_labels=labels,
    )
    return past, dict(catalogue.drop_nulls("title").iter_rows())


def _usable(seen: Events, tables: Tables, purpose: str) -> pl.Series:
    """Return the keys of everybody seen who may be used for the purpose, ascending."""
    every = seen["user_key"].unique().sort()
    keys = every.filter(~every.is_in(tables.withheld(purpose).implode()))
    if keys.is_empty() and not every.is_empty():
        raise ModelError(
            "consent",
            found=f"0 of {len(every):,} customers may be used for {purpose}",
            consequence="There is nobody to learn from and nobody to answer about",
            remedy=f"Import who granted it (docs/privacy.md), or say in habitue.toml what silence means: [consent] "
            f"{purpose} = true",
        )
    return keys


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


def data_version(tables: Tables, plan: Plan, as_of: dt.datetime) -> str:
    """Return a sha256 over what training reads: the clean events before `as_of`, the catalogue and the plan."""
    digest = hashlib.sha256(repr((plan, as_of)).encode())
    seen, _ = prepare.split(tables.events, as_of)
    listed = tables.items.filter(pl.col("valid_from") < as_of).select("item_id", "title")
    for frame in (seen.select("event_id", "line", "user_key"), listed, tables.known, tables.consents.now):
        digest.update(frame.write_csv().encode())
    return digest.hexdigest()


def _modalities(name: str, plan: Plan) -> list[str]:
    """Return what a model of the plan reads."""
    own = {"blend": plan.blend, "popularity": plan.blend.popular}.get(name) or getattr(plan.blend, name, None)
    return reads(own or model_named(name).Config())


def _training_moments(seen: Events, as_of: dt.datetime, horizon_days: int) -> list[dt.datetime]:
    """Return the moments, latest first, whose horizon closes by `as_of`; none when the shop is too young."""
    first = seen["at"].min()
    if not isinstance(first, dt.datetime):
        return []
    earliest = first + dt.timedelta(days=TRAIN_HISTORY_DAYS)
    latest = as_of - dt.timedelta(days=horizon_days)
    count = max(0, (latest - earliest).days // TRAIN_EVERY_DAYS + 1)
    return [latest - dt.timedelta(days=TRAIN_EVERY_DAYS * i) for i in range(count)]


def popularity(state: popular.State, past: Past) -> Floats:
    """Return the count nobody is personal in: the orders of the last 30 days, the same for everyone."""
    nobody = dataclasses.replace(past, histories=past.histories.before(-np.inf))
    return popular.score(state, nobody)


@contextmanager
def _cpu(spent: dict[str, float], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    spent[name] = round(spent.get(name, 0.0) + time.process_time() - start, 2)
