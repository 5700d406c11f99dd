"""What each placement costs in a catalogue of a million: CPU of one answer, and how much of the exact list it has.

    python benchmarks/speed/placements.py [--items 1000000] [--customers 100] [--out FOLDER]

A small shop is trained (answer.py); then its catalogue is filled up with made-up products around the trained ones, half
taste and half noise, and with orders of three products each, some of which are bought often. One thread answers 100
products: home, similar, bought together, a cart of 5 and of 20, a visit of 5 and of 20; once with every product
scored, once with a shortlist (`habitue.serve.shortlist`). Recall: of `home`, `cart` and `session`, as a server measures
it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from answer import build, commit, memory_mb

from habitue import serving
from habitue.core import runtime
from habitue.core.schemas import EVENTS, METRICS, PURCHASE
from habitue.evaluate import bench
from habitue.model import quick
from habitue.serve import counts, personal, scorer, shortlist
from habitue.serve import shop as shops
from habitue.serve.events import mapped
from habitue.serve.scorer import Question
from habitue.serve.shop import Shop
from habitue.serve.state import Shopper

TRAINED, USERS, STEPS = 2_000, 4_000, 60
LIST = 100


def grown(folder: Path, items: int) -> tuple[Shop, Shop, list[Shopper]]:
    """Return the shop of so many products, exact and with a shortlist, and its customers."""
    space = build(folder, items=TRAINED, users=USERS, steps=STEPS).space
    read = serving.reading(space)
    small = shops.opened(serving.read(space), models=space.models)
    rng = np.random.default_rng(0)
    names = (*small.items, *(f"x{n:07d}" for n in range(items - len(small.items))))
    assert small.reader is not None and read.state is not None
    known = np.asarray(small.reader.products)
    noise = known.std(axis=0) * rng.standard_normal((items - len(known), known.shape[1]), dtype=np.float32)
    table = np.concatenate([known, known[rng.integers(0, len(known), len(noise))] + noise], dtype=np.float32)
    orders = items // 2
    bought = rng.permutation(items)[rng.zipf(1.3, size=3 * orders) % items]
    number = np.repeat(np.arange(orders), 3)
    lines = pl.DataFrame({"number": number, "item_id": pl.Series(names)[bought], "line": np.arange(3 * orders) % 3})
    lines = lines.with_columns(
        event_id=pl.format("made-{}", "number"),
        order_id=pl.format("made-{}", "number"),
        user_key=pl.col("number"),
        at=pl.lit(read.at - dt.timedelta(days=3)),
        received_at=pl.lit(None),
        kind=pl.lit(PURCHASE),
        source=pl.lit("made"),
        import_id=pl.lit("made"),
    )
    told = ("event_id", "order_id", "item_id", "user_key", "at", "kind")
    every = pl.concat([read.events.select(told), EVENTS.shape(lines.drop("number")).select(told)])
    there = folder / "large"
    there.mkdir()
    counts.write(every, names, there, as_of=read.trained, window=read.window_days)
    index = {name: place for place, name in enumerate(names)}
    counted = counts.Counts(there, index, np.ones(items, dtype=np.float32))
    width = small.reader.state.config.width
    vectors = table[:, :width] / np.linalg.norm(table[:, :width], axis=1, keepdims=True)
    views = {name: quick.ready(name, view, names) for name, view in read.state.views.items()}
    views["popular"] = quick.popularity(read.state.views["popular"], counted)
    shortlist.write(table, there, before=None)
    exact = replace(
        small,
        past=replace(small.past, items=names, words=None),
        index=index,
        titles=(None,) * items,
        category=(None,) * items,
        brand=(None,) * items,
        price=np.full(items, np.nan),
        in_stock=np.ones(items, dtype=bool),
        reader=replace(small.reader, products=table),
        vectors=vectors.astype(np.float32),
        views={name: view for name, view in views.items() if view is not None},
        counts=counted,
        masks={},
    )
    short = replace(exact, shortlist=shortlist.opened(there, counted.trend))
    base = mapped(max(space.state.glob(f"{shops.FOLDER}*")))
    recall = personal.measured(short, base, now=read.at)
    assert short.shortlist is not None
    short = replace(short, shortlist=replace(short.shortlist, recall=recall, probes=recall.probes))
    exact = replace(exact, reader=replace(small.reader, products=np.asfortranarray(table)))
    people = [Shopper(person=key, read=partial(base.of, key), first=base.of(key)) for key in base.keys]
    return exact, short, people


def timed(ask: Callable[[int], object], times: int) -> np.ndarray:
    """Return CPU milliseconds of each answer; the first is not counted."""
    ask(0)
    spent = []
    for number in range(1, times + 1):
        began = time.process_time()
        ask(number)
        spent.append(1_000 * (time.process_time() - began))
    return np.array(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=100)
    parser.add_argument("--out", type=Path, help="folder for the JSON document")
    args = parser.parse_args()
    runtime.modest()
    rows: list[dict[str, object]] = []

    def row(model: str, what: str, metric: str, mean: float) -> None:
        about = {"dataset": f"planted {args.items:,} products", "protocol": "placements", "model": model}
        about |= {"modalities": [], "slice": what, "metric": metric, "mean": mean, "n": args.customers, "seeds": 1}
        rows.append(about | {"peak_mb": memory_mb(os.getpid(), "VmHWM")})
        print(f"{model:<10} {what:<16} {metric:<12} {mean:8.3f}", flush=True)

    with tempfile.TemporaryDirectory() as lost:
        exact, short, people = grown(Path(lost), args.items)
        rng = np.random.default_rng(1)
        sold = rng.permutation(np.flatnonzero(exact.counts.orders > 0))
        often = np.argsort(-exact.counts.orders)
        now = exact.snapshot.at

        def some(number: int, count: int) -> list[int]:
            return [*sold[number * count : (number + 1) * count - 1].tolist(), int(often[number])]

        def visit(shop: Shop, number: int, count: int) -> Shopper:
            seen = some(number, count)
            kept = [
                {
                    "event_id": f"s{k}",
                    "line": 0,
                    "at": now - dt.timedelta(minutes=1, seconds=k),
                    "kind": "Product Viewed",
                }
                | {"item_id": shop.items[item], "quantity": None, "value": None}
                for k, item in enumerate(seen)
            ]
            one = people[number % len(people)]
            return Shopper(person=one.person, read=one.read, first=one.first, kept=kept[::-1])

        def answers(shop: Shop) -> dict[str, Callable[[int], object]]:
            def ask(shopper: Shopper | None, **more: object) -> object:
                return scorer.recommend(shop, shopper, Question(n=LIST, **more), (), now=now)  # type: ignore[arg-type]

            def item(number: int) -> str:
                return shop.items[some(number, 1)[0]]

            def cart(number: int, count: int) -> object:
                ids = tuple(shop.items[one] for one in some(number, count))
                return ask(people[number % len(people)], placement="cart", item_ids=ids)

            return {
                "home": lambda number: ask(people[number % len(people)]),
                "similar": lambda number: ask(None, placement="similar", item_id=item(number)),
                "bought together": lambda number: ask(None, placement="bought_together", item_id=item(number)),
                "cart of 5": lambda number: cart(number, 5),
                "cart of 20": lambda number: cart(number, 20),
                "visit of 5": lambda number: ask(visit(shop, number, 5), placement="session"),
                "visit of 20": lambda number: ask(visit(shop, number, 20), placement="session"),
            }

        for model, shop in (("every product", exact), ("shortlist", short)):
            for what, ask in answers(shop).items():
                spent = timed(ask, args.customers)
                row(model, what, "CPU ms, p50", float(np.median(spent)))
                row(model, what, "CPU ms, p99", float(np.percentile(spent, 99)))
        for name, share in short.retrieval.items():
            if isinstance(share, float):
                row("shortlist", name.partition("recall_at_")[2].partition("_")[2] or "home", name, share)
    if args.out is not None:
        bench.write(METRICS.shape(pl.DataFrame(rows, infer_schema_length=None)), args.out, commit=commit())


if __name__ == "__main__":
    main()
