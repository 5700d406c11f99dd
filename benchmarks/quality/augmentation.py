"""What each way of altering copies buys, one at a time, on a real task of its modality, against no copies at all.

    python benchmarks/quality/augmentation.py [pictures texts sounds mixing behaviour] [--out benchmarks/quality]

pictures   the type of 300 fashion products, linear on the picture encoder's vectors, 5 folds (fashion_small)
texts      the intent of 500 questions, 25 of each of the first 20, linear on n-grams, 5 folds (banking77)
sounds     emotion from voice, linear on `acoustics`, every speaker by models of the others (emodb)
mixing     the type of 1,000 products, the small network of `bench.probe` on vectors, 5 folds, pairs mixed in; beside
           it the same rows twice, which are as many steps of training
behaviour  the last film of 943 people of their last 20, `gru`, altered histories added as those of further people; as
           many steps of training for all (ml100k)

Every method makes one copy of each row of training; answered rows are never altered. $HABITUE_DATA, and perhaps
$HABITUE_VECTORS, a folder where vectors are kept; weights: image-efficientnet-lite0. One document a task:
augmentation-<task>.json. Intervals of the differences are over rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue import evaluate
from habitue.bench import probe, sequences
from habitue.bench.tasks import Columns, reading
from habitue.bench.tasks import folds as cuts
from habitue.bench.tasks.augmenting import METHODS, Augment
from habitue.core import runtime
from habitue.core.runtime import Runtime
from habitue.evaluate import bench, measured
from habitue.evaluate.measured import Measured
from habitue.model import gru
from habitue.model.tabular import Clock, Target, deal, linear
from habitue.prepare.augment import behaviour, mixing

NONE = "none"
TWICE = "the same rows twice"
PRODUCTS = 300
LONGEST = 20  # films of a history that are read
CACHE = Path(os.environ["HABITUE_VECTORS"]) if "HABITUE_VECTORS" in os.environ else None
PRODUCT = ("ProductId", "Gender", "Category", "SubCategory", "Colour", "Usage", "ProductTitle", "Image", "ImageURL")
PRODUCT += ("folder", "w", "h")
CLIP = ("id", "text_code", "version", "sr", "seconds")
Result = tuple[list[Measured], dict[str, float], str]  # measured, CPU-seconds by model, modality


def pictures(home: Path, run: Runtime) -> Result:
    shop = pl.read_parquet(home / "fashion_small/fashion_products.parquet")
    some = shop[np.sort(np.random.default_rng(0).permutation(shop.height)[:PRODUCTS])]
    columns = Columns("ProductType", pictures=("jpg",), drop=PRODUCT)
    return each(some, columns, "picture", 5, run)


def texts(home: Path, run: Runtime) -> Result:
    asked = pl.read_parquet(home / "banking77/train.parquet")
    mixed = asked[np.random.default_rng(0).permutation(asked.height)]
    first = sorted(asked["category"].unique())[:20]
    some = mixed.filter(pl.col("category").is_in(first)).group_by("category", maintain_order=True).head(25)
    return each(some, Columns("category", texts=("text",)), "text", 5, run)


def sounds(home: Path, run: Runtime) -> Result:
    clips = pl.read_parquet(home / "emodb/emodb_16k.parquet")
    return each(clips, Columns("emotion", sounds=("flac",), drop=CLIP, group="speaker"), "sound", 6, run)


def each(frame: pl.DataFrame, columns: Columns, modality: str, folds: int, run: Runtime) -> Result:
    """Measure the linear model without copies, then with those of every method of the modality."""
    told, spent = [], {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        frame.write_parquet(path)
        for method in (NONE, *METHODS[modality]):
            began = time.process_time()
            augment = None if method == NONE else Augment((method,))
            data = reading.read(path, columns, task="task", kind="classes", augment=augment)
            right = np.zeros(data.table.height)
            for fold in cuts.split(data, folds, seed=0):
                state = linear.fit(*data.lesson(fold.learn), linear.Config(), runtime=run, clock=Clock())
                said = linear.answer(state, data.table.take(fold.held)).argmax(axis=1)
                right[fold.held] = said == data.target.values[fold.held]
            spent[method] = time.process_time() - began
            told.append(of(modality, method, right))
    return told, spent, modality


def behaviour_(home: Path, run: Runtime) -> Result:
    views = pl.read_parquet(home / "ml100k/interactions.parquet").sort("user_id", "timestamp", maintain_order=True)
    lists = views.group_by("user_id", maintain_order=True).agg(pl.col("item_id").cast(pl.Int64).tail(LONGEST))
    names, every = lists["user_id"].to_list(), [np.array(row) for row in lists["item_id"]]
    asked, known = np.array([row[-1] for row in every]), [row[:-1] for row in every]
    told, spent = [], {}
    methods: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {**behaviour.METHODS}
    methods["substitute"] = behaviour.substitute(alike(known))
    for method in (NONE, *methods):
        began = time.process_time()
        rng = np.random.default_rng(0)
        more = [] if method == NONE else [methods[method](row, rng) for row in known]
        frame = pl.DataFrame(
            {
                "user": [f"{n:05}" for n in names] + [f"{n:05} copy" for n in names[: len(more)]],
                "items": [row.tolist() for row in (*known, *more)],
            }
        )
        read = sequences.read(frame, pl.DataFrame({"item": sorted({*views["item_id"]})}))
        past = read.past(horizon_days=1)
        state = gru.fit(past, gru.Config(passes=3 if more else 6), runtime=run)
        people = [n for n, user in enumerate(read.users) if not user.endswith("copy")]
        scores = gru.score(state, past.take(people))
        place = {item: n for n, item in enumerate(read.items)}
        for row, seen in zip(scores, known, strict=True):
            row[[place[str(item)] for item in seen]] = -np.inf
        wanted = scores[np.arange(len(asked)), [place[str(item)] for item in asked]]
        rank = 1 + (scores > wanted[:, None]).sum(axis=1)
        gain = np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)
        spent[method] = time.process_time() - began
        told.append(measured.per_user("augmentation, behaviour", method, "all", "ndcg@10", np.arange(rank.size), gain))
    return told, spent, "behaviour"


def alike(known: list[np.ndarray]) -> np.ndarray:
    """Return for each film the one that most often stands in the same histories, by cosine."""
    seen = np.zeros((len(known), 1 + max(row.max() for row in known)), dtype=np.float32)
    for n, row in enumerate(known):
        seen[n, row] = 1
    length = np.linalg.norm(seen, axis=0)
    likeness = (seen.T @ seen) / np.maximum(np.outer(length, length), 1)
    np.fill_diagonal(likeness, -1)
    return likeness.argmax(axis=1)


def mixing_(home: Path, run: Runtime) -> Result:
    from habitue import encode

    shop = pl.read_parquet(home / "fashion_small/fashion_products.parquet")
    seen = encode.run("picture", shop.select(id=pl.col("ProductId").cast(pl.String), bytes="jpg"), cache=CACHE).dense
    seen = seen * np.sqrt(seen.shape[1])
    some = np.sort(np.random.default_rng(0).permutation(shop.height)[:1000])
    seen, shop = seen[some], shop[some]
    kind = shop["ProductType"].rank("dense").to_numpy().astype(np.int64) - 1
    wanted = np.eye(kind.max() + 1, dtype=np.float32)[kind]
    fold = deal(Target("classes", kind, ()), 5, seed=0)
    told, spent = [], {}
    for method in (NONE, TWICE, "mixed .2"):
        began, right = time.process_time(), np.zeros(kind.size)
        for k in range(5):
            rows, answers = seen[fold != k], wanted[fold != k]
            if method != NONE:
                alpha = float(method.removeprefix("mixed ")) if method != TWICE else 0.0
                rng = np.random.default_rng(k)
                more = mixing.mixed(rows, answers, rng, alpha=alpha) if alpha else (rows, answers)
                rows, answers = np.concatenate([rows, more[0]]), np.concatenate([answers, more[1]])
            said = probe.answer(rows, answers, seen[fold == k], probe.Config(), runtime=run)
            right[fold == k] = said.argmax(axis=1) == kind[fold == k]
        spent[method] = time.process_time() - began
        told.append(of("vectors", method, right))
    return told, spent, "picture"


def of(modality: str, method: str, right: np.ndarray) -> Measured:
    return measured.per_user(f"augmentation, {modality}", method, "all", "accuracy", np.arange(right.size), right)


TASKS: dict[str, tuple[str, Callable[[Path, Runtime], Result]]] = {
    "pictures": ("fashion products, type", pictures),
    "texts": ("Banking77, 20 intents", texts),
    "sounds": ("EmoDB, emotion", sounds),
    "behaviour": ("MovieLens-100k", behaviour_),
    "mixing": ("fashion products, type, network", mixing_),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("tasks", nargs="*", help="names of tasks; none = all")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    home = ground.tables()
    for name in options.tasks or TASKS:
        dataset, task = TASKS[name]
        told, spent, modality = task(home, runtime.detect())
        tables = [
            evaluate.table(
                [one], dataset=dataset, modalities=(modality,), cpu_s=spent[one.model], peak_mb=runtime.peak_mb()
            )
            for one in told
        ]
        gaps = evaluate.compare(told, against=NONE)
        helps = gaps.filter(pl.col("low") > 0)["model"].to_list()
        document = bench.document(pl.concat(tables), commit=ground.commit())
        document["sentence"] = f"Clearly better than no copies: {', '.join(helps) or 'none'}."
        document["differences"] = gaps.drop("protocol", "slice").to_dicts()
        print(bench.save(document, options.out / f"augmentation-{name}.json"), document["sentence"])
        with pl.Config(tbl_rows=-1):
            print(gaps.select("model", "mean", "low", "high"), flush=True)


if __name__ == "__main__":
    main()
