"""What was just seen beside what comes next: the placement `session`, measured on the click sessions of a shop.

    HABITUE_DATA=... python benchmarks/quality/session.py --earlier    every share, on sessions held out of the training
    HABITUE_DATA=... python benchmarks/quality/session.py              the published questions, the server's share

Diginetica (CIKM Cup 2016): sessions of clicks, nobody's other visits. A session is a visitor, a click a set of one
product, the question is the next click. What comes next is the flagship's answer to the visit, which is all that the
server knows of a visitor without a purchase; what was just seen is likeness by its vectors to the newest
SESSION_ITEMS products, the k-th newest counted 1 / k, as `serve.scorer` adds it. The flagship is trained on the newest
TRAINED sessions but for the last HELD, whose last clicks are the validation.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue import evaluate
from habitue.bench import sequences
from habitue.core import runtime
from habitue.core.schemas import METRICS
from habitue.evaluate import bench
from habitue.evaluate.measured import per_user
from habitue.evaluate.ranking import values
from habitue.model import behaviour, blend
from habitue.model.fuse import standard
from habitue.model.past import Floats, Histories, Past
from habitue.serve.scorer import SESSION_ITEMS, SESSION_SHARE

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of what was just seen in the score
TRAINED, HELD, ASKED = 30_000, 1_000, 2_000  # sessions, the newest; of them held out; published questions, drawn
TOGETHER = 250  # questions scored at once
CONFIG = dataclasses.replace(behaviour.SEQUENCE, content=0, taught=0.0, loss="gbce", window=20, passes=4.0)

Question = tuple[list[str], str]  # the products seen, the newest last, and the next


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--earlier", action="store_true", help="every share, where settings are chosen")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        print("Diginetica is not measured: HABITUE_DATA is not set, and these data may not ship.")
        return
    folder = Path(os.environ["HABITUE_DATA"]) / "sessions_diginetica"
    sessions = pl.read_parquet(folder / "train_sessions.parquet").sort("session").tail(TRAINED)
    past, state = trained(sessions.head(sessions.height - HELD))
    if options.earlier:
        visits = sessions.tail(HELD)["items"].to_list()
        told = measured([([str(i) for i in one[:-1]], str(one[-1])) for one in visits if len(one) > 1], past, state)
        for metric in ("ndcg@10", "hit@20", "mrr"):
            print(metric, {share: round(float(told[share][metric].mean()), 4) for share in SHARES}, flush=True)
        return
    cases = pl.read_parquet(folder / "test_cases.parquet").sample(ASKED, seed=0)
    questions = [([str(i) for i in prefix], str(target)) for prefix, target in cases.iter_rows()]
    told = measured(questions, past, state, shares=(0.0, SESSION_SHARE, 0.5, 1.0))
    names = {0.0: "behaviour", 0.5: "alike", 1.0: "seen", SESSION_SHARE: f"seen {SESSION_SHARE:.0%}"}
    found = [
        per_user("SESSION", names[share], "all", metric, np.arange(len(each)), each)
        for share, metrics in told.items()
        for metric, each in metrics.items()
    ]
    table = evaluate.table(found, dataset="Diginetica")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    bench.write(METRICS.shape(table), options.out, commit=commit.stdout.strip())
    paired = evaluate.compare([one for one in found if one.metric == "ndcg@10"], against="alike", seed=0)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True):
        print(table.select("model", "metric", "mean", "low", "high", "n"), paired)


def trained(sessions: pl.DataFrame) -> tuple[Past, behaviour.State]:
    """Train the flagship on sessions; returns the past it was trained on too."""
    past = sequences.read(sessions).past(horizon_days=1)
    return past, behaviour.fit(past, CONFIG, runtime=runtime.detect(seed=0))


def measured(
    questions: Sequence[Question], past: Past, state: behaviour.State, *, shares: Sequence[float] = SHARES
) -> dict[float, dict[str, Floats]]:
    """Return share -> metric -> value of each question; 0 where the next product was not trained on."""
    place = {item: at for at, item in enumerate(past.items)}
    visits = [[place[i] for i in seen if i in place] for seen, _ in questions]
    target = np.array([place.get(wanted, -1) for _, wanted in questions])
    found: dict[float, dict[str, Floats]] = {share: {} for share in shares}
    for some, own, around in scored(visits, past, state):
        known = np.flatnonzero(target[some] >= 0)
        column = target[some][known]
        wanted = sp.csr_matrix((np.ones(len(known)), (np.arange(len(known)), column)), shape=(len(known), own.shape[1]))
        for share in shares:
            mixed = np.float32(share) * around[known] + np.float32(1 - share) * own[known]
            for name, each in values(mixed, wanted, None, cutoffs=(10, 20)).items():
                found[share].setdefault(name, np.zeros(len(questions)))[some.start + known] = each
    return found


def scored(visits: Sequence[list[int]], past: Past, state: behaviour.State) -> Iterator[tuple[slice, Floats, Floats]]:
    """Score visits TOGETHER at a time: what comes next and what was just seen, [B, I] each of mean 0 and spread 1."""
    _, products = behaviour.opened(state, past)
    vectors = products[:, : state.config.width]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    for start in range(0, len(visits), TOGETHER):
        some = slice(start, start + TOGETHER)
        asked = dataclasses.replace(
            past, histories=_histories(visits[some], past), known=np.ones(len(visits[some]), bool)
        )
        own = blend.comparable("behaviour", behaviour.score(state, asked))
        yield some, own, standard(np.stack([just_seen(visit, vectors) for visit in visits[some]]))


def just_seen(visit: Sequence[int], vectors: Floats) -> Floats:
    """Return [I] how alike products are to those of a visit, as `serve.scorer` adds it for the placement `session`."""
    total = np.zeros(len(vectors), dtype=np.float32)
    for k, item in enumerate(list(dict.fromkeys(reversed(visit)))[:SESSION_ITEMS]):
        near = vectors @ vectors[item]
        near[item] = near.min()
        total += near / np.float32(1 + k)
    return total


def _histories(visits: Sequence[list[int]], past: Past) -> Histories:
    """Return visits as histories of one click a step, the newest one step before the question."""
    size = np.array([len(visit) for visit in visits])
    start = np.concatenate([[0], np.cumsum(size)])
    back = np.concatenate([np.arange(count, 0, -1) for count in size])
    ones = np.ones(start[-1], dtype=np.float32)
    return dataclasses.replace(
        past.histories,
        user_keys=np.arange(len(visits)),
        set_start=start,
        set_at=past.day - back.astype(np.float64),
        set_kind=np.zeros(start[-1], dtype=np.int8),
        row_start=np.arange(start[-1] + 1),
        row_item=np.concatenate([np.array(visit, dtype=np.int32) for visit in visits]),
        row_quantity=ones,
        row_value=ones,
    )


if __name__ == "__main__":
    main()
