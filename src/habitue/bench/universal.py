"""Does one frozen vector a customer serve every task? As in the RecSys Challenge 2025, on a shop of one's own.

A moment T splits the shop. Everything is fitted on what is before T; vectors are made as of T and, by the same frozen
models, as of T + 14 days. A small network (probe.py), the same for every task and every representation, learns from
the 14 days after T and is asked about the 14 days after those:

    churn      a customer with an order before the window has none in it
    category   which categories the customer buys in it: area under the ROC curve, mean over categories
    item       which of the products that sold most in the 90 days before T, likewise

`profile` is model/profile.py; `aggregates` is what an analyst would count by hand: recency, frequency, money, and
purchases by category and by item over several windows, of the very categories and items that are asked. `both` is the
two side by side.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.utils.extmath import randomized_svd

from habitue import collect, evaluate, pipeline, prepare
from habitue.bench import probe
from habitue.collect import bundled
from habitue.core import workspace
from habitue.core.errors import ModelError, UsageError
from habitue.core.progress import stage, track
from habitue.core.runtime import Runtime, peak_mb
from habitue.core.schemas import Items, Metrics
from habitue.evaluate.measured import Measured
from habitue.model import profile
from habitue.model.past import FOR_EVER, PURCHASE, REFUND, Floats, Histories, Ints, Past, histories, places
from habitue.plan import Plan
from habitue.tables import Tables

TASKS = ("churn", "category", "item")
AGGREGATES, PROFILE, BOTH = "aggregates", "profile", "profile+aggregates"
WINDOWS = (7.0, 30.0, 90.0, FOR_EVER)  # days
BOUND = 6.0  # spreads; an aggregate lies within, as a number of a profile does
POPULAR_DAYS = 90.0  # in which the items asked about sold most
DRAWS, FEWER_DRAWS = 1000, 200  # of the bootstrap; fewer where parts are compared


@dataclass(frozen=True)
class Config:
    """How the profile is measured."""

    days: int = 14  # of each of the two windows
    items: int = 100
    categories: int = 30  # groups of like words, where the catalogue names no categories; else at most 100 named ones
    least: int = 10  # customers with a yes and with a no in both windows; else an item or category is not asked about
    ablation: bool = True
    profile: profile.Config = field(default_factory=profile.Config)
    probe: probe.Config = field(default_factory=probe.Config)


@dataclass(frozen=True)
class Window:
    """Customers at one moment, what is known of them, and what they then did."""

    user_keys: Ints  # [B]
    vectors: Mapping[str, Floats]  # representation -> [B, P]
    targets: Mapping[str, Floats]  # task -> [B, answers] 0 and 1


@dataclass(frozen=True)
class Case:
    """Both windows of one moment, and how they were made."""

    cut: dt.datetime
    learn: Window
    test: Window
    parts: tuple[str, ...]  # [P] the part of each number of a profile
    notes: tuple[str, ...]
    cpu_s: Mapping[str, float]  # representation -> CPU-seconds of fit and vectors
    peak_mb: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """Everything that was found."""

    config: Config
    dataset: str
    case: Case
    metrics: Metrics
    paired: pl.DataFrame  # minus the aggregates; of a profile with parts left out, minus the whole profile
    sentence: str


def run(tables: Tables, *, cut: dt.datetime, config: Config, dataset: str, runtime: Runtime) -> Result:
    """Make the vectors, teach the probes, judge. The cost is that of `profile.fit` and some 50 probes a task.

    Raises ModelError where one of the windows holds too little to be told, and where a model does.
    """
    made = case(tables, cut=cut, config=config, runtime=runtime)
    named = ["events", "text"] if any(part == "content" for part in made.parts) else ["events"]
    protocol = f"profile-{config.days}d"
    whole: list[Measured] = []
    tables_, costs = [], {}
    for name in track([AGGREGATES, PROFILE, BOTH], "Probes"):
        started = time.process_time()
        measured = list(_probed(made, name, slice(None), protocol, config, runtime))
        costs[name] = made.cpu_s[name] + time.process_time() - started
        tables_.append(_table(measured, dataset, [] if name == AGGREGATES else named, costs[name], made, name, runtime))
        whole += measured
    paired = [evaluate.compare(whole, against=AGGREGATES, draws=DRAWS, seed=runtime.seed)]
    if config.ablation:
        parts: list[Measured] = [m for m in whole if m.model == PROFILE]
        for name, columns in track(list(_ablation(made.parts)), "Parts"):
            started = time.process_time()
            measured = list(_probed(made, PROFILE, columns, protocol, config, runtime, called=name))
            cost = made.cpu_s[PROFILE] + time.process_time() - started
            tables_.append(_table(measured, dataset, named, cost, made, PROFILE, runtime, draws=FEWER_DRAWS))
            parts += measured
        paired.append(evaluate.compare(parts, against=PROFILE, draws=FEWER_DRAWS, seed=runtime.seed))
    metrics = pl.concat(tables_)
    return Result(config, dataset, made, metrics, pl.concat(paired), _sentence(metrics, paired[0]))


def opened(folder: Path | None) -> tuple[str, Tables]:
    """Return a workspace's name and tables; None = the bundled ledger, imported into a folder that goes again."""
    if folder is not None:
        space = workspace.open_workspace(folder)
        return folder.resolve().name, pipeline.read(space, Plan())
    with tempfile.TemporaryDirectory() as temporary, stage("Import the bundled ledger"):
        space = workspace.init(Path(temporary) / "shop", currency="GBP")
        ledger = bundled.ledger()
        collect.import_file(space, ledger.file, ledger.mapping, seed=0)
        return "Online Retail", pipeline.read(space, Plan())


def latest_cut(tables: Tables, days: int) -> dt.datetime:
    """Return the midnight, UTC, from which both windows still close before the last event."""
    last = tables.events["at"].max()
    if not isinstance(last, dt.datetime):
        raise _no_event()
    return last.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=2 * days)


def case(tables: Tables, *, cut: dt.datetime, config: Config, runtime: Runtime) -> Case:
    """Fit on what is before `cut`, make every vector of both windows, and look up what happened in them."""
    later = cut + dt.timedelta(days=config.days)
    end = later + dt.timedelta(days=config.days)
    _check_ends(tables, end)
    plan = Plan(horizon_days=config.days)
    with stage("Look back"):
        pasts = [pipeline.look_back(tables, as_of=at, plan=plan, train=at == cut)[0] for at in (cut, later)]
        asked = [past.take(np.flatnonzero(_active(past))) for past in pasts]
        topics = _topics(pasts[0], tables.items, config, runtime.seed)
        happened = [_happened(tables, past, topics, config.days) for past in asked]
    started = time.process_time()
    with stage("Fit the profile"):
        state = profile.fit(pasts[0], config.profile, runtime=runtime)
    with stage("Profiles"):
        vectors = [profile.vectors(state, past).astype(np.float32) for past in asked]
    spent, held = time.process_time() - started, peak_mb()
    started = time.process_time()
    counted = _scaled([_aggregates(past, topics) for past in asked])
    counting = time.process_time() - started
    kept = _told(happened, topics, config.least)
    windows = [
        Window(
            past.histories.user_keys,
            {PROFILE: own, AGGREGATES: count, BOTH: np.concatenate([own, count], axis=1)},
            {task: targets[:, kept[task]] for task, targets in happening.items()},
        )
        for past, own, count, happening in zip(asked, vectors, counted, happened, strict=True)
    ]
    notes = (
        f"fitted on {len(pasts[0].histories.set_at):,} sets of {len(pasts[0].known):,} customers and "
        f"{len(pasts[0].items):,} products before {cut:%Y-%m-%d %H:%M} UTC",
        f"a profile is {len(state.names):,} numbers, the aggregates are {counted[0].shape[1]:,}",
        f"{kept['category'].sum()} of {len(topics.categories)} categories ({topics.how}) and {kept['item'].sum()} of "
        f"{len(topics.items)} items had at least {config.least} buyers in both windows",
        *(f"{name} is not in: {why}" for name, why in state.absent.items()),
    )
    return Case(
        cut=cut,
        learn=windows[0],
        test=windows[1],
        parts=tuple(name.partition(".")[0] for name in state.names),
        notes=notes,
        cpu_s={PROFILE: spent, AGGREGATES: counting, BOTH: spent + counting},
        peak_mb=dict.fromkeys((PROFILE, AGGREGATES, BOTH), held),
    )


# --- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Topics:
    """The categories and items asked about, fixed at T."""

    items: tuple[str, ...]
    categories: tuple[str, ...]
    category_of: Mapping[str, int]  # item -> index into `categories`; an item without is absent
    how: str


def _topics(past: Past, items: Items, config: Config, seed: int) -> _Topics:
    """Take the categories of the catalogue as of `past`; where it names none, groups of products with like words."""
    lately = past.histories.of_kind(PURCHASE)
    lately = lately.keep_sets(lately.set_at >= past.day - POPULAR_DAYS)
    sold = np.bincount(lately.row_item, minlength=len(past.items))
    best = np.argsort(-sold, kind="stable")[: config.items]
    named = items.filter(pl.col("valid_from") <= past.as_of, pl.col("category").is_not_null())
    named = named.sort("valid_from").group_by("item_id", maintain_order=True).agg(pl.col("category").last())
    path = dict(named.iter_rows())
    if path:
        weight: dict[str, int] = {}
        for item, count in zip(past.items, sold.tolist(), strict=True):
            if item in path:
                weight[path[item]] = weight.get(path[item], 0) + count
        names = sorted(weight, key=lambda name: (-weight[name], name))[:100]
        of = {item: names.index(path[item]) for item in past.items if path.get(item) in set(names)}
        return _Topics(tuple(past.items[i] for i in best), tuple(names), of, "the catalogue's own, most sold first")
    if past.words is None or not past.words.nnz:
        raise ModelError(
            "bench.universal",
            found="the catalogue has neither categories nor words",
            consequence="There are no categories to ask about",
            remedy="Import products with a category or a title",
        )
    left, size, _ = randomized_svd(past.words, min(64, *past.words.shape), random_state=seed)
    points = left * size
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    several = min(config.categories, len(np.unique(points, axis=0)))
    found = KMeans(several, n_init=3, random_state=seed).fit_predict(points)
    of = dict(zip(past.items, found.tolist(), strict=True))
    names = [f"group {i}" for i in range(several)]
    return _Topics(tuple(past.items[i] for i in best), tuple(names), of, "groups of like words, by k-means")


def _happened(tables: Tables, past: Past, topics: _Topics, days: int) -> dict[str, Floats]:
    """Return what the users of `past` bought in the `days` after it, task -> [B, answers]."""
    until, _ = prepare.split(tables.events, past.as_of + dt.timedelta(days=days))
    after = prepare.split(until, past.as_of)[1]
    items = tuple(after["item_id"].drop_nulls().unique().sort())
    keys = past.histories.user_keys
    orders = histories(prepare.timeline(after), items, users=keys).of_kind(PURCHASE)
    bought = (_by(orders, np.ones(len(orders.row_item)), index, width) > 0 for index, width in _indices(topics, items))
    category, item = (matrix.toarray().astype(np.float32) for matrix in bought)
    ordered = after.filter(pl.col("kind") == PURCHASE)["user_key"].unique().to_numpy()
    return {"churn": (~np.isin(keys, ordered)).astype(np.float32)[:, None], "category": category, "item": item}


def _told(happened: list[dict[str, Floats]], topics: _Topics, least: int) -> dict[str, np.ndarray]:
    """Return which answers of each task hold enough of yes and of no in both windows."""
    kept = {}
    for task in TASKS:
        fewest = [np.minimum(t[task].sum(axis=0), (1 - t[task]).sum(axis=0)) for t in happened]
        kept[task] = np.minimum(*fewest) >= least
        if not kept[task].any():
            raise ModelError(
                "bench.universal",
                found=f"no answer of task '{task}' has {least} customers with a yes and {least} with a no in each of "
                f"the two windows ({len(topics.categories)} categories, {len(topics.items)} items)",
                consequence="An area under the curve of so few would mean nothing",
                remedy="Choose another cut, longer windows (--days), or a shop with more customers",
            )
    return kept


# --- aggregates -------------------------------------------------------------------------------------------------------


def _aggregates(past: Past, topics: _Topics) -> Floats:
    """Return what one would count by hand [B, A]: logarithms of days, counts and money over several windows."""
    orders, refunds = past.histories.of_kind(PURCHASE), past.histories.of_kind(REFUND)
    n_users, user = len(past.known), orders.set_user
    ago = past.day - orders.set_at
    counted: list[np.ndarray] = [
        np.minimum.reduceat(np.r_[ago, np.inf], orders.set_start[:-1])[:, None],  # days since the last order
        np.maximum.reduceat(np.r_[ago, 0.0], orders.set_start[:-1])[:, None],  # and since the first
        np.bincount(refunds.set_user, minlength=n_users)[:, None],
    ]
    for days in WINDOWS:
        some = orders.keep_sets(orders.set_at >= past.day - days)
        user, rows = some.set_user, some.set_user[some.row_set]
        counted.append(np.bincount(user, minlength=n_users)[:, None])
        for weight in (np.ones(len(rows)), some.row_quantity, some.row_value):
            counted.append(np.bincount(rows, weights=weight, minlength=n_users)[:, None])
        for index, width in _indices(topics, past.items):
            counted.append(_by(some, np.ones(len(rows)), index, width).toarray())
    logs: Floats = np.log1p(np.maximum(np.concatenate(counted, axis=1), 0)).astype(np.float32)
    return logs


def _scaled(windows: list[Floats]) -> list[Floats]:
    """Bring every column to mean 0 and spread 1 of the first window."""
    centre, spread = windows[0].mean(axis=0), windows[0].std(axis=0)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6)
    return [np.clip((values - centre) * scale, -BOUND, BOUND).astype(np.float32) for values in windows]


def _indices(topics: _Topics, items: tuple[str, ...]) -> Iterator[tuple[Ints, int]]:
    """Yield, for categories and then for items, the answer each of `items` belongs to (-1 = none), and how many."""
    yield np.array([topics.category_of.get(item, -1) for item in items], dtype=np.int64), len(topics.categories)
    yield places(topics.items, items), len(topics.items)


def _by(orders: Histories, weight: np.ndarray, index: Ints, width: int) -> sp.csr_matrix:
    """Return [B, width], the rows' weight by user and by what `index` says of their item."""
    column = index[orders.row_item]
    met = column >= 0
    place = (orders.set_user[orders.row_set][met], column[met])
    matrix = sp.csr_matrix((weight[met], place), shape=(len(orders.user_keys), width))
    matrix.sum_duplicates()
    return matrix


def _active(past: Past) -> np.ndarray:
    """Return which users are known and have an order."""
    return np.asarray(past.known & (np.diff(past.histories.of_kind(PURCHASE).set_start) > 0))


def _check_ends(tables: Tables, end: dt.datetime) -> None:
    last = tables.events["at"].max()
    if not isinstance(last, dt.datetime):
        raise _no_event()
    if last < end - dt.timedelta(days=1):
        raise UsageError(
            "bench.universal",
            found=f"the last event is of {last:%Y-%m-%d}, the second window ends on {end:%Y-%m-%d}",
            consequence="Who did not buy could not be told from who was not yet recorded",
            remedy="Choose an earlier cut (--cut), or shorter windows (--days)",
        )


def _no_event() -> ModelError:
    return ModelError(
        "bench.universal",
        found="there is no event",
        consequence="There is nothing to learn from",
        remedy="Import orders first: habitue import",
    )


# --- judging ----------------------------------------------------------------------------------------------------------


def _probed(
    made: Case,
    name: str,
    columns: Any,
    protocol: str,
    config: Config,
    runtime: Runtime,
    called: str | None = None,
) -> Iterator[Measured]:
    """Teach one probe a task on a representation's columns, and hold it against the second window."""
    known, asked = (window.vectors[name][:, columns] for window in (made.learn, made.test))
    for task in TASKS:
        told = probe.answer(known, made.learn.targets[task], asked, config.probe, runtime=runtime)
        statistic = macro_auc(made.test.targets[task], told)
        yield Measured(protocol, called or name, task, "auc", made.test.user_keys, statistic, "higher")


def macro_auc(truth: Floats, score: Floats) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistic weight [draws, n] -> [draws]: the mean over answers of the area under the ROC curve.

    Mann and Whitney (1947): the share of pairs of a yes and a no in which the yes scores higher, an equal pair half.
    An answer without a yes or a no in a draw is left out of it. O(draws x n x all yes).
    """
    pairs = []
    for answer in range(truth.shape[1]):
        yes = np.flatnonzero(truth[:, answer] > 0)
        above = (np.sign(score[yes, answer][None, :] - score[:, [answer]]) + 1) / 2
        above[yes] = 0  # [n, yes], a pair of two yes counts for nothing
        pairs.append((yes, above.astype(np.float32)))

    def statistic(weight: np.ndarray) -> np.ndarray:
        each = np.full((len(pairs), len(weight)), np.nan)
        exact = weight.astype(np.float32)  # counts: whole numbers and halves far below 2^24
        whole = weight.sum(axis=1)
        for row, (yes, above) in enumerate(pairs):
            mine = exact[:, yes]
            won = ((exact @ above) * mine).sum(axis=1, dtype=np.float64)
            known = mine.sum(axis=1, dtype=np.float64)
            of = known * (whole - known)
            np.divide(won, of, out=each[row], where=of > 0)
        told = np.isfinite(each)
        count = told.sum(axis=0)
        middle: np.ndarray = np.divide(
            np.where(told, each, 0).sum(axis=0), count, out=np.full(len(weight), np.nan), where=count > 0
        )
        return middle

    return statistic


def _ablation(parts: tuple[str, ...]) -> Iterable[tuple[str, np.ndarray]]:
    every = np.array(parts)
    for part in dict.fromkeys(parts):
        yield f"only {part}", np.flatnonzero(every == part)
    if len(set(parts)) > 1:
        for part in dict.fromkeys(parts):
            yield f"without {part}", np.flatnonzero(every != part)


def _table(
    measured: list[Measured],
    dataset: str,
    modalities: list[str],
    cpu_s: float,
    made: Case,
    name: str,
    runtime: Runtime,
    *,
    draws: int = DRAWS,
) -> Metrics:
    return evaluate.table(
        measured,
        dataset=dataset,
        modalities=modalities or ["events"],
        fusion="concat" if name != AGGREGATES else None,
        cpu_s=round(cpu_s, 2),
        peak_mb=made.peak_mb[name],
        draws=draws,
        seed=runtime.seed,
    )


def _sentence(metrics: Metrics, paired: pl.DataFrame) -> str:
    """Say where one vector is clearly above the aggregates, where it is not, and by how much."""
    mean = {(r["model"], r["slice"]): r["mean"] for r in metrics.iter_rows(named=True)}
    told, above = [], []
    for row in paired.filter(model=PROFILE).iter_rows(named=True):
        task = row["slice"]
        span = f"{row['low']:+.3f} to {row['high']:+.3f}" if row["low"] is not None else "no interval"
        told.append(f"{task} {mean[PROFILE, task]:.3f} against {mean[AGGREGATES, task]:.3f} ({span})")
        above += [task] if row["low"] is not None and row["low"] > 0 else []
    where = "every task" if len(above) == len(told) else ", ".join(above) if above else "no task"
    return f"One frozen vector is clearly above hand-made aggregates on {where}; AUROC: {'; '.join(told)}."
