"""The same models under every split of prepare/split.py: what each split answers, on Online Retail.

    python benchmarks/quality/splits.py [--out benchmarks/quality]

Lines of purchases of the bundled ledger; cut 2011-09-09, horizon 92 days. Asked of known customers, in the full
catalogue, with what they had before as candidates too (but for cold items):

time           fitted before the cut, asked then: everything bought in the horizon
basket         the same, asked for: the first order in the horizon
leave-one-out  fitted on all but each customer's last order, asked for it: other customers' later orders are known
cold items     fitted before the cut; which of the products nobody bought before it will be bought: only these compete
new users      fitted before the cut; customers who came after it, asked with all but their last order, for the last
k-fold         fitted on two thirds of the customers, of all months; the others asked as the new users are

Closed forms with their shipped settings; nothing is chosen here.
"""

from __future__ import annotations

import argparse
import datetime as dt
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import collect, evaluate, pipeline, prepare, quality
from habitue.collect import bundled
from habitue.core import plugins, workspace
from habitue.core.runtime import Runtime, detect, peak_mb
from habitue.core.schemas import FEATURES, LABELS, PURCHASE
from habitue.demonstration import CUT
from habitue.encode import text
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import values
from habitue.model.past import Past, bought, histories
from habitue.plan import Plan
from habitue.prepare.split import basket, cold_items, k_fold, leave_one_out, new_users, split

MODELS = ("popular", "neighbours", "ease", "slist")
HORIZON, FOLDS = 92, 3
PROTOCOL = "splits"


@dataclass(frozen=True)
class Question:
    """What is learnt from, what is known of whom, and what they bought then."""

    name: str
    learnt: pl.DataFrame  # EVENTS
    known: pl.DataFrame  # EVENTS of those who are asked
    told: pl.DataFrame  # EVENTS: the answers
    as_of: dt.datetime
    among: frozenset[str] | None = None  # the only candidates; None = every product


def questions(orders: pl.DataFrame, cut: dt.datetime) -> Iterator[Question]:
    """Yield one question a split, k_fold one a fold."""
    end = orders["at"].max() + dt.timedelta(microseconds=1)  # type: ignore[operator]
    until = cut + dt.timedelta(days=HORIZON)
    past, future = split(orders, cut)
    future = future.filter(pl.col("at") < until)
    yield Question("time", past, past, future, cut)
    yield Question("basket", past, past, basket(orders, cut, horizon_days=HORIZON)[1], cut)
    before, last = leave_one_out(orders)
    yield Question("leave-one-out", before, before, last, end)
    cold = cold_items(orders.filter(pl.col("at") < until), cut)[1]
    yield Question("cold items", past, past, cold, cut, frozenset(cold["item_id"]))
    before, last = leave_one_out(new_users(orders, cut)[1])
    yield Question("new users", past, before, last, end)
    for others, held in k_fold(orders, FOLDS):
        yield Question("k-fold", others, *leave_one_out(held), end)


Told = tuple[str, str, np.ndarray, np.ndarray, float]


def measure(question: Question, words: tuple[tuple[str, ...], sp.csr_matrix], runtime: Runtime) -> list[Told]:
    """Return model, metric, user_keys, values, CPU-seconds."""
    items, matrix = words
    users = np.intersect1d(question.known["user_key"].unique(), question.told["user_key"].unique())
    fit = _past(question.learnt, None, items, matrix, question.as_of)
    ask = _past(question.known, users, items, matrix, question.as_of)
    target = bought(_past(question.told, users, items, matrix, question.as_of).histories, len(items))
    masked = None
    if question.among is not None:
        others = np.array([item not in question.among for item in items], dtype=np.float32)
        masked = sp.csr_matrix(np.tile(others, (len(users), 1)))
    asked = np.flatnonzero(np.diff(target.indptr) > 0)
    found = []
    for name in MODELS:
        module = plugins.load("model", name, contract=("Config", "ANSWERS", "fit"))
        started = time.process_time()
        scores = module.score(module.fit(fit, module.Config(), runtime=runtime), ask)
        spent = time.process_time() - started
        measured = values(scores[asked], target[asked], None if masked is None else masked[asked], cutoffs=(10,))
        found += [(name, metric, users[asked], one, spent) for metric, one in measured.items() if metric != "recall@10"]
        print(question.name, name, len(asked), f"{measured['ndcg@10'].mean():.4f}", f"{spent:.1f} s", flush=True)
    return found


def _past(
    events: pl.DataFrame, users: np.ndarray | None, items: tuple[str, ...], words: sp.csr_matrix, as_of: dt.datetime
) -> Past:
    every = histories(prepare.timeline(events), items, users=users)
    known = np.ones(len(every.user_keys), dtype=bool)
    return Past(as_of, HORIZON, items, every, known, words, FEATURES.empty(), FEATURES.empty(), LABELS.empty())


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    runtime, plan = detect(), Plan()
    with tempfile.TemporaryDirectory() as folder:
        space = workspace.init(Path(folder) / "shop", currency="GBP")
        ledger = bundled.ledger()
        collect.import_file(space, ledger.file, ledger.mapping, seed=0)
        tables = pipeline.read(space, plan)
    end = tables.events["at"].max()
    assert isinstance(end, dt.datetime)
    words = prepare.catalogue(tables.events, tables.items, as_of=end + dt.timedelta(days=1))
    words = words.filter(pl.col("item_id").is_in(list(quality.products(words, plan.quality.products))))
    customers = tables.known.filter("known")["user_key"].implode()
    orders = tables.events.filter(
        pl.col("kind") == PURCHASE,
        pl.col("item_id").is_in(words["item_id"].implode()),
        pl.col("user_key").is_in(customers),
    )
    catalogue = (tuple(words["item_id"]), text.encode(words, plan.words).matrix)
    cells: dict[tuple[str, str, str], list[tuple[np.ndarray, np.ndarray, float]]] = {}
    for question in questions(orders, CUT):
        for model, metric, keys, told, spent in measure(question, catalogue, runtime):
            cells.setdefault((model, question.name, metric), []).append((keys, told, spent))
    rows = []
    for model in MODELS:
        measured: dict[str, list[Measured]] = {}
        for (name, slice_, metric), parts in cells.items():
            if name == model:
                keys, each = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
                measured.setdefault(slice_, []).append(per_user(PROTOCOL, model, slice_, metric, keys, each))
        for slice_, some in measured.items():
            spent = sum(part[2] for part in cells[model, slice_, "ndcg@10"])
            reads = ["events"] if model == "popular" else ["events", "text"]
            told = evaluate.table(
                some, dataset="Online Retail", modalities=reads, cpu_s=round(spent, 1), peak_mb=peak_mb()
            )
            rows.append(told)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for path in bench.write(pl.concat(rows), options.out, commit=commit):
        print(path)


if __name__ == "__main__":
    main()
