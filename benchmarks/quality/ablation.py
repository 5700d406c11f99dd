"""What each part of the flagship is worth: one thing changed at a time, all else as shipped.

    python benchmarks/quality/ablation.py [beauty] [online-retail]

Beauty (leave-one-out, words): content, loss, prefixes, blocks, teacher. Online Retail (the next order within 92 days of
2011-09-09, and who orders none): clock, repeat term, words, prefixes, blocks; and the blend without each of its views,
the other weights as they were found. One seed; intervals over users, and paired differences from what is shipped.
Beauty needs $HABITUE_DATA (docs/data.md); the ledger is bundled.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue import collect, evaluate, pipeline, prepare
from habitue.bench import protocols, sequences
from habitue.bench.ranking import scored
from habitue.collect import bundled
from habitue.core import workspace
from habitue.core.runtime import detect, forget_peak, peak_mb
from habitue.demonstration import CUT
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured, per_user
from habitue.evaluate.ranking import values
from habitue.model import behaviour, blend, lessons, objective
from habitue.model.past import Past, histories, next_sets, reads
from habitue.plan import Plan

HERE = Path(__file__).parent
WHOLE = "as shipped"


@contextmanager
def only_the_last_purchase() -> Iterator[None]:
    """Every user's last purchase is the only lesson."""
    collect_all = vars(behaviour)["lessons"]

    def last(*asked: Any, **more: Any) -> lessons.Lessons:
        every = collect_all(*asked, **more)
        kept = np.flatnonzero(np.r_[every.user[1:] != every.user[:-1], True])
        parts = {n: getattr(every, n)[kept] for n in ("user", "target", "key", "since", "after")}
        weight = np.ones(len(kept), dtype=np.float32)
        return dataclasses.replace(every, **parts, weight=weight)

    with replaced(behaviour, lessons=last):
        yield


@contextmanager
def replaced(module: Any, **values_: Any) -> Iterator[None]:
    """Other values of a module's names inside the block."""
    before = {name: getattr(module, name) for name in values_}
    for name, value in values_.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


@contextmanager
def nothing() -> Iterator[None]:
    """Change nothing but the settings."""
    yield


Change = tuple[Mapping[str, Any], Callable[[], Any]]

BEAUTY: Mapping[str, Change] = {
    WHOLE: ({}, nothing),
    "ids only": ({"content": 0}, nothing),
    "sampled softmax": ({}, lambda: replaced(objective, FULL=0)),
    "last purchase only": ({}, only_the_last_purchase),
    "gated attention": ({"mixer": "gated"}, nothing),
    "linear recurrence": ({"mixer": "recurrent"}, nothing),
    "one block": ({"blocks": 1}, nothing),
    "not taught by SLIST": ({"taught": 0.0}, nothing),
    "gBCE": ({"loss": "gbce"}, nothing),
}
LEDGER: Mapping[str, Change] = {
    WHOLE: ({}, nothing),
    "ids only": ({"content": 0}, nothing),
    "no clock": ({"clock": False}, nothing),
    "no repeat term": ({}, lambda: replaced(lessons, LEAST_REPEATS=2.0)),
    "gated attention": ({"mixer": "gated"}, nothing),
    "linear recurrence": ({"mixer": "recurrent"}, nothing),
    "last purchase only": ({}, only_the_last_purchase),
}


def beauty() -> None:
    """Leave-one-out with words; the last event."""
    folder = Path(os.environ["HABITUE_DATA"]) / "amazon_s3rec"
    events, items = (pl.read_parquet(folder / f"Beauty_{part}.parquet") for part in ("sequences", "items"))
    task = protocols.leave_one_out(sequences.read(events, items), protocols.Settings())
    question = task.test
    relevant, had = question.slices["all"]
    users = question.asked

    def judged(name: str, state: behaviour.State) -> list[Measured]:
        parts = [
            values(scores, relevant[some], None if had is None else had[some], cutoffs=(10,))
            for some, scores, _ in scored("behaviour", behaviour, state, question.ask, users)
        ]
        keys = question.ask.histories.user_keys[users]
        return [per_user(task.name, name, "all", m, keys, np.concatenate([p[m] for p in parts])) for m in parts[0]]

    write("Beauty", [variant(*one, behaviour.SEQUENCE, question.fit, judged) for one in BEAUTY.items()])


def online_retail() -> None:
    """The next order and who orders none, 92 days from the cut."""
    with tempfile.TemporaryDirectory() as folder:
        space = workspace.init(Path(folder) / "shop", currency="GBP")
        ledger = bundled.ledger()
        collect.import_file(space, ledger.file, ledger.mapping, seed=0)
        tables = pipeline.read(space, Plan())
    past, _ = pipeline.look_back(tables, as_of=CUT, plan=Plan())
    asked = past.take(np.flatnonzero(past.known))
    keys, until = asked.histories.user_keys, past.day + past.horizon_days
    after = histories(prepare.timeline(tables.events), past.items, users=keys)
    target = next_sets(after, after=past.day, until=until)
    labels = prepare.labels(tables.events, as_of=CUT, horizon_days=past.horizon_days, users=keys)

    def judged(name: str, state: Any, module: Any = behaviour) -> list[Measured]:
        found = evaluate.basket(module.score(state, asked), asked, target, model=name)
        if not getattr(state, "labelled", True):
            return found
        return found + evaluate.churn(module.predict(state, asked), labels, keys, model=name)

    found = [variant(*one, behaviour.Config(), past, judged) for one in LEDGER.items()]
    write("Online Retail", found)
    begun = time.process_time()
    forget_peak()
    whole = blend.fit(past, blend.Config(), runtime=detect(seed=0))
    cost = time.process_time() - begun
    found = [Part(WHOLE, tuple(judged(WHOLE, whole, blend)), cost, peak_mb(), whole)]
    for view in whole.views:
        less = {name: {**getattr(whole, name)} for name in ("weights", "churn", "value")}
        less = {name: {v: w for v, w in weights.items() if v != view} for name, weights in less.items()}
        # The rest of the weights of churn and value add up to 1 again.
        for name in ("churn", "value"):
            left = sum(less[name].values()) or 1.0
            less[name] = {v: w / left for v, w in less[name].items()}
        name, state = f"without {view}", dataclasses.replace(whole, **less)
        found.append(Part(name, tuple(judged(name, state, blend)), cost, peak_mb(), state))
    write("Online Retail", found, protocol="views")


@dataclasses.dataclass(frozen=True)
class Part:
    """What was changed, and what came of it."""

    name: str
    measured: tuple[Measured, ...]
    cpu_s: float
    peak_mb: float
    state: Any


def variant(
    name: str, change: Change, config: behaviour.Config, past: Past, judged: Callable[[str, Any], list[Measured]]
) -> Part:
    """Fit the flagship with one thing changed, and judge it."""
    settings, around = change
    print(f"{name} ...", end=" ", flush=True)
    forget_peak()
    begun = time.process_time()
    with around():
        state = behaviour.fit(past, dataclasses.replace(config, **settings), runtime=detect(seed=0))
    cost = time.process_time() - begun
    found = judged(name, state)
    main = next(float(np.mean(one.values)) for one in found if one.metric == "ndcg@10" and one.values is not None)
    print(f"NDCG@10 {main:.4f}, {cost:,.0f} CPU-seconds", flush=True)
    return Part(name, tuple(found), cost, peak_mb(), state)


def write(dataset: str, found: list[Part], protocol: str = "parts") -> None:
    """Save one document of the benchmarks' schema, with the paired differences from what is shipped beside the rows."""
    protocol = f"ablation-{protocol}"
    measured = [
        [
            dataclasses.replace(one, protocol=protocol)
            for one in part.measured
            if one.metric in ("ndcg@10", "hit@10", "auc")
        ]
        for part in found
    ]
    tables = [
        evaluate.table(
            rows,
            dataset=dataset,
            modalities=reads(part.state.config) if isinstance(part.state, behaviour.State) else ["events", "text"],
            fusion=None if isinstance(part.state, behaviour.State) else "decision",
            cpu_s=round(part.cpu_s, 2),
            peak_mb=part.peak_mb,
        )
        for part, rows in zip(found, measured, strict=True)
    ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    document = bench.document(pl.concat(tables), commit=commit.stdout.strip())
    shared = {(one.slice, one.metric) for one in measured[0]}
    every = [one for rows in measured for one in rows if (one.slice, one.metric) in shared]
    document["paired"] = evaluate.compare(every, against=WHOLE).to_dicts()
    name = f"ablation-{dataset.lower().replace(' ', '-')}{'-views' if protocol.endswith('views') else ''}.json"
    print(f"Written: {bench.save(document, HERE / name).name}")


def main(names: list[str]) -> int:
    tables = {"beauty": beauty, "online-retail": online_retail}
    unknown = [name for name in names if name not in tables]
    if unknown:
        print(f"No table '{unknown[0]}'. Known: {', '.join(tables)}.")
        return 2
    for name in names or tables:
        if name == "beauty" and "HABITUE_DATA" not in os.environ:
            print("Beauty is not measured: HABITUE_DATA is not set, and these data may not ship.")
            continue
        tables[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
