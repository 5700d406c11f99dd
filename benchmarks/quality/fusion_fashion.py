"""Fashion: the type of a product (31) from its title and its photo, in every fusion, with part of either lost.

    python benchmarks/quality/fusion_fashion.py

Data: $HABITUE_DATA/fashion_small (docs/data.md), and perhaps $HABITUE_VECTORS, a folder where vectors are kept. Titles
as `text` (TF-IDF; they often name the type), photos by `picture`. Three folds, every class spread evenly, three
networks each; nothing was chosen on them. There is no behaviour, so nothing is warm or cold here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue.bench import fusion, fusion_labels, modalities
from habitue.bench.fusion_report import named
from habitue.core.runtime import detect
from habitue.evaluate import bench

HERE = Path(__file__).parent
CACHE = Path(os.environ["HABITUE_VECTORS"]) if "HABITUE_VECTORS" in os.environ else None
FOLDS, SEEDS = 3, 3


def dealt(truth: list[str]) -> np.ndarray:
    """Return the fold of each product: those of one type are spread evenly."""
    rng, fold = np.random.default_rng(0), np.zeros(len(truth), dtype=np.int64)
    for name in sorted(set(truth)):
        mine = np.flatnonzero(np.array(truth) == name)
        fold[rng.permutation(mine)] = (np.arange(len(mine)) + rng.integers(FOLDS)) % FOLDS
    return fold


def main() -> int:
    shop = pl.read_parquet(ground.tables() / "fashion_small/fashion_products.parquet")
    catalogue = shop.select(pl.col("ProductId").cast(pl.String).alias("item"), title="ProductTitle", photo="jpg")
    ids = tuple(catalogue["item"])
    content = {
        name: fusion.narrow(rows)
        for name, rows in modalities.matrices(
            catalogue, ids, (modalities.TEXT, modalities.PICTURE), cache=CACHE
        ).items()
    }
    truth = shop["ProductType"].to_list()
    fold = dealt(truth)
    cells = fusion_labels.run(content, truth, ids=ids, fold=fold, seeds=SEEDS, runtime=detect())
    table = fusion.table(cells, dataset="Fashion, type of product")
    told = bench.header("Fashion, type of product", "fusion") | {"rows": table.drop("dataset", "protocol").to_dicts()}
    print(bench.save(told, HERE / "fusion-fashion.json"))
    for row in told["rows"]:
        print(f"{named(row):50} {row['slice']:18} {row['mean']:.4f} {row['low']:.4f} {row['high']:.4f} {row['cpu_s']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
