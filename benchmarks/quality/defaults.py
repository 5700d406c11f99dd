"""How far the flagship's default settings are from settings tuned for one shop.

    python benchmarks/quality/defaults.py [ml-100k] [ml-1m] [online-retail] [beauty] [sports] [--trials 10] [--steps N]

Every setting of `behaviour.Config` with a range is searched (`evaluate.tune`, TPE), the defaults being the first trial;
NDCG@10 on validation chooses, and the default and the best are then asked the test, each once, on the same customers.
`--steps` shortens every training alike, the defaults' too. Online Retail: the next order within 92 days, from the
bundled ledger, validation 92 days earlier. ML-100k (by time), MovieLens-1M, Beauty and Sports (last but one, last):
$HABITUE_DATA. A search that was stopped goes on. One document a data set, defaults-<name>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue import collect, evaluate, pipeline, prepare
from habitue.bench import protocols, sequences
from habitue.bench.ranking import scored
from habitue.collect import bundled
from habitue.core import settings, workspace
from habitue.core.runtime import detect, forget_peak, peak_mb
from habitue.demonstration import CUT
from habitue.evaluate import bench, tune
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import slices, values
from habitue.model import behaviour
from habitue.model.past import bought, histories, next_sets, reads
from habitue.plan import Plan

HERE = Path(__file__).parent
DEFAULT, TUNED = "default", "tuned"
CLOSE = 0.03  # share of the tuned one's quality that the defaults may lack
Asked = tuple[protocols.Question, protocols.Question, behaviour.Config]  # validation, test, the defaults there


def ml_100k() -> Asked:
    """By time, ids and words: nine tenths of the rows are the past."""
    folder = Path(os.environ["HABITUE_DATA"]) / "ml100k"
    events, items = (pl.read_parquet(folder / f"{part}.parquet") for part in ("interactions", "items_multimodal"))
    task = protocols.time(sequences.read(events, items), protocols.Settings())
    return task.validation, task.test, behaviour.Config()


def amazon(shop: str) -> Asked:
    """Leave-one-out, with words."""
    folder = Path(os.environ["HABITUE_DATA"]) / "amazon_s3rec"
    events, items = (pl.read_parquet(folder / f"{shop}_{part}.parquet") for part in ("sequences", "items"))
    task = protocols.leave_one_out(sequences.read(events, items), protocols.Settings())
    return task.validation, task.test, behaviour.SEQUENCE


def ml_1m() -> Asked:
    """Leave-one-out, ids only."""
    events = pl.read_parquet(Path(os.environ["HABITUE_DATA"]) / "ml1m/sequences_sasrec_order.parquet")
    task = protocols.leave_one_out(sequences.read(events, None), protocols.Settings())
    return task.validation, task.test, behaviour.SEQUENCE


def online_retail() -> Asked:
    """The next order within 92 days."""
    with tempfile.TemporaryDirectory() as folder:
        space = workspace.init(Path(folder) / "shop", currency="GBP")
        ledger = bundled.ledger()
        collect.import_file(space, ledger.file, ledger.mapping, seed=0)
        tables = pipeline.read(space, Plan())

    def question(cut: dt.datetime) -> protocols.Question:
        past, _ = pipeline.look_back(tables, as_of=cut, plan=Plan())
        until = cut + dt.timedelta(days=past.horizon_days)
        seen, _ = prepare.split(tables.events, until)
        after = histories(prepare.timeline(seen), past.items, users=past.histories.user_keys)
        target = next_sets(after, after=past.day, until=until.timestamp() / 86_400)
        target = target.multiply(past.known[:, None].astype(np.float32)).tocsr()
        return protocols.Question(past, past, {"all": slices(target, bought(past.histories, len(past.items)))["all"]})

    return question(CUT - dt.timedelta(days=Plan().horizon_days)), question(CUT), behaviour.Config()


def measured(name: str, state: behaviour.State, question: protocols.Question) -> list[Measured]:
    """Return what came of one fitted model, over the whole catalogue."""
    relevant, had = question.slices["all"]
    users = question.asked
    parts = [
        values(scores, relevant[some], None if had is None else had[some], cutoffs=(10,))
        for some, scores, _ in scored("behaviour", behaviour, state, question.ask, users)
    ]
    keys = question.ask.histories.user_keys[users]
    told = {metric: np.concatenate([part[metric] for part in parts]) for metric in ("ndcg@10", "hit@10")}
    return [per_user("defaults", name, "all", metric, keys, value) for metric, value in told.items()]


def run(name: str, asked: Callable[[], Asked], *, trials: int, steps: int) -> None:
    """Search, test twice, and write the document."""
    validation, test, plain = asked()
    config = dataclasses.replace(plain, steps=steps)
    space = settings.space(behaviour.Config)
    runtime = detect(seed=0)

    def objective(tried: tune.Settings, _: tune.Report) -> float:
        state = behaviour.fit(validation.fit, dataclasses.replace(config, **tried), runtime=runtime)
        ndcg = measured(name, state, validation)[0].values
        found = float(np.mean(np.zeros(0) if ndcg is None else ndcg))
        print(f"{name}: {found:.4f} {tried}", flush=True)
        return found

    start = {key: getattr(config, key) for key in space}
    slug = name.lower().replace(" ", "-")
    store = Path(tempfile.gettempdir()) / f"habitue-defaults-{slug}.sqlite"
    study = tune.search(objective, space, trials=trials, seed=0, store=store, name=f"{name}-{steps}", first=start)
    found, tables = [], []
    asked_of = {DEFAULT: start} if study.settings == start else {DEFAULT: start, TUNED: study.settings}
    for label, tried in asked_of.items():
        forget_peak()
        begun = time.process_time()
        state = behaviour.fit(test.fit, dataclasses.replace(config, **tried), runtime=runtime)
        rows = measured(label, state, test)
        found += rows
        cost = round(time.process_time() - begun, 2)
        tables.append(evaluate.table(rows, dataset=name, modalities=reads(config), cpu_s=cost, peak_mb=peak_mb()))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    document: dict[str, Any] = bench.document(pl.concat(tables), commit=commit.stdout.strip())
    document["settings"] = asked_of
    document["trials"] = study.trials.select("trial", "state", "value", "cpu_s", "settings").to_dicts()
    trained = f"{trials} trials of at most {steps:,} steps" if steps < plain.steps else f"{trials} trials"
    document["sentence"] = f"Of {trained} none is better on validation than the defaults ({study.value:.4f})."
    if TUNED in asked_of:
        gap = evaluate.compare(found, against=DEFAULT)
        document["paired"] = gap.to_dicts()
        document["sentence"] = (
            f"Of {trained} the best has {study.value:.4f} on validation, the defaults {study.default:.4f}. "
            + _said(gap.filter(metric="ndcg@10").to_dicts()[0], tables[1].filter(metric="ndcg@10")["mean"][0])
        )
    path = HERE / f"defaults-{slug}.json"
    print(f"{document['sentence']} Written: {bench.save(document, path).name}")


def _said(gap: dict[str, float], tuned: float) -> str:
    lacks = gap["mean"] / tuned
    return (
        f"On the test tuning brings {gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f}) NDCG@10: the defaults "
        f"are {1 - lacks:.1%} of the tuned one; reach {1 - CLOSE:.0%} {'met' if lacks <= CLOSE else 'missed'}."
    )


def main() -> int:
    sets: dict[str, tuple[str, Callable[[], Asked], bool]] = {
        "ml-100k": ("ML-100k", ml_100k, True),
        "online-retail": ("Online Retail", online_retail, False),
        "beauty": ("Beauty", lambda: amazon("Beauty"), True),
        "sports": ("Sports", lambda: amazon("Sports_and_Outdoors"), True),
        "ml-1m": ("MovieLens-1M", ml_1m, True),
    }
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("names", nargs="*", choices=[*sets, []], help="none = all")
    asked.add_argument("--trials", type=int, default=10)
    asked.add_argument("--steps", type=int, default=100_000)
    options = asked.parse_args()
    for key in options.names or sets:
        name, question, needs = sets[key]
        if needs and "HABITUE_DATA" not in os.environ:
            print(f"{name} is not measured: HABITUE_DATA is not set, and these data may not ship.")
            continue
        run(name, question, trials=options.trials, steps=options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
