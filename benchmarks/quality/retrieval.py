"""Words find pictures and pictures find words: two ways to one space, on photos and titles of a fashion shop.

    python benchmarks/quality/retrieval.py [--cache FOLDER] [--out benchmarks/quality]

$HABITUE_DATA/fashion_small: 2,906 products, dealt by seed 0 into 60 % to learn from, 20 % on which `space.Config` was
chosen (LOG.md) and 20 % that are asked here. Among those every title asks for its own photo, and every photo for its
own title; titles that several products share count half a place each. Weights: text-use-multilingual,
image-efficientnet-lite0.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue import encode, evaluate
from habitue.core import runtime
from habitue.encode import space
from habitue.evaluate import bench, measured

DATASET, PROTOCOL = "Fashion photos and titles", "retrieval"
METHODS = ("cca", "contrastive")


def parts(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows to learn from, to choose on and to ask."""
    order = np.random.default_rng(0).permutation(count)
    learn, choose, ask = np.split(order, [int(0.6 * count), int(0.8 * count)])
    return learn, choose, ask


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked.add_argument("--cache", type=Path, help="folder where vectors are kept")
    options = asked.parse_args()
    home = ground.tables()
    shop = pl.read_parquet(Path(home, "fashion_small/fashion_products.parquet"))
    ids = pl.col("ProductId").cast(pl.String)
    words = encode.run("sentence", shop.select(id=ids, text="ProductTitle"), cache=options.cache)
    photos = encode.run("picture", shop.select(id=ids, bytes="jpg"), cache=options.cache)
    there = np.flatnonzero(words.encoded & photos.encoded)
    left, right = words.dense[there], photos.dense[there]
    learn, _, ask = parts(there.size)
    run, tables = runtime.detect(), []
    for method in METHODS:
        began = time.process_time()
        learnt = space.fit(left[learn], right[learn], space.Config(method=method), runtime=run)
        texts, pictures = space.place(learnt.left, left[ask]), space.place(learnt.right, right[ask])
        found = {"text -> picture": space.ranks(texts, pictures), "picture -> text": space.ranks(pictures, texts)}
        rows = [
            measured.per_user(PROTOCOL, method, slice_, name, there[ask], of(ranks))
            for slice_, ranks in found.items()
            for name, of in (
                ("recall@1", lambda r: (r <= 1).astype(float)),
                ("recall@10", lambda r: (r <= 10).astype(float)),
                ("mrr", lambda r: 1 / r),
            )
        ]
        spent = time.process_time() - began
        tables.append(
            evaluate.table(
                rows, dataset=DATASET, modalities=("text", "picture"), cpu_s=spent, peak_mb=runtime.peak_mb()
            )
        )
    print(bench.save(bench.document(pl.concat(tables), commit=ground.commit()), options.out / "retrieval-fashion.json"))
    with pl.Config(tbl_rows=-1):
        print(pl.concat(tables).select("model", "slice", "metric", "mean", "low", "high", "cpu_s"))


if __name__ == "__main__":
    main()
