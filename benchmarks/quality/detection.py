"""Can it find products it never saw, on backgrounds it never saw, from composites alone? And what is that worth?

    python benchmarks/quality/detection.py [--out benchmarks/quality] [--scenes 1200]

$HABITUE_DATA/fashion_small, dealt in halves of products by seed 0: one half trains the detector, from the other half
400 composites are made on film posters (ml100k) of which none was a background in training. mAP at an overlap of .5,
with intervals over pictures; beside it a box in the middle of every picture, for every kind. The same on 100 real
photos with boxes drawn by hand (boxes/fashion.json), 46 not on white and 54 on white, of which nothing was learnt
either. Then types and colours of the second half are told from the picture encoder's vectors, without and with the
detector's numbers (5 folds, linear, the same rows). Weights: image-efficientnet-lite0.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue import encode, evaluate
from habitue.core import runtime
from habitue.encode import composites, objects
from habitue.encode.pixels import decoded
from habitue.evaluate import bench, detection, measured
from habitue.evaluate.measured import Measured
from habitue.model.tabular import Clock, Table, Target, deal, linear

DATASET, PROTOCOL = "Fashion photos", "finding products"
KINDS = {
    "top": ("Tshirts", "Tops", "Shirts", "Jackets", "Sweatshirts", "Waistcoat", "Blazers", "Kurtas", "Innerwear Vests"),
    "bottom": ("Shorts", "Capris", "Jeans", "Skirts", "Leggings", "Trousers", "Salwar", "Churidar"),
    "dress": ("Dresses", "Rompers", "Clothing Set", "Kurta Sets", "Lehenga Choli"),
    "closed shoe": ("Casual Shoes", "Sports Shoes", "Formal Shoes", "Booties"),
    "heel": ("Heels",),
    "flat": ("Flats",),
    "sandal": ("Sandals", "Sports Sandals", "Flip Flops"),
}
ASKED, DRAWS = 400, 200
SIDES = detection.SIDES
HAND = Path(__file__).parent / "boxes/fashion.json"


def grounds(home: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return middles of posters as backgrounds: half to train on, half to ask on."""
    posters = pl.read_parquet(home / "ml100k/items_multimodal.parquet").drop_nulls("poster_jpg")
    things = posters.select(id=pl.col("item_id").cast(pl.String), bytes="poster_jpg").unique(
        "bytes", maintain_order=True
    )
    seen = decoded(things, np.ascontiguousarray, side=objects.SIDE, largest=10**7, workers=2, square=True)
    squares = [one for _, one in seen if isinstance(one, np.ndarray)]
    order = np.random.default_rng(0).permutation(len(squares))
    half = len(squares) // 2
    return [squares[n] for n in order[:half]], [squares[n] for n in order[half:]]


def held_out(products: pl.DataFrame, some: list[np.ndarray]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the composites that are asked, (id, bytes), and their boxes."""
    import io

    from PIL import Image

    made = decoded(products.select("id", "bytes"), composites.cut, side=objects.SIDE, largest=10**7, workers=2)
    cutouts = [(products["kind"][n], one) for n, one in made if isinstance(one, composites.Cutout)]
    rng = np.random.default_rng(1)
    of_kind = [[n for n, (kind, _) in enumerate(cutouts) if kind == k] for k in KINDS]
    files, rows = [], []
    for n in range(ASKED):
        drawn = [of_kind[rng.integers(len(of_kind))] for _ in range(rng.integers(1, 4))]
        which = [some_[rng.integers(len(some_))] for some_ in drawn]
        one = composites.scene([c for _, c in cutouts], some[rng.integers(len(some))], rng, which=which)
        file = io.BytesIO()
        Image.fromarray(one.pixels).save(file, "PNG")
        files.append(file.getvalue())
        rows += [(f"c{n}", cutouts[w][0], *map(float, box)) for w, box in zip(one.which, one.boxes, strict=True)]
    true = pl.DataFrame(rows, schema=["picture", "kind", *SIDES], orient="row")
    return pl.DataFrame({"id": [f"c{n}" for n in range(ASKED)], "bytes": files}), true


def judged(true: pl.DataFrame, said: pl.DataFrame, model: str, slice_: str) -> list[Measured]:
    """Return mAP, and the AP of each kind, with intervals over pictures."""
    names = sorted(true["picture"].unique())
    said = said.filter(pl.col("picture").is_in(names))
    rows = np.arange(len(names))
    several = {"map@.5": detection.mean_average_precision(true, said, names)}
    for kind in sorted(true["kind"].unique()) if slice_ == "composites" else ():  # a few of a kind tell nothing
        of_kind = (f.filter(pl.col("kind") == kind) for f in (true, said))
        several[f"ap@.5 {kind}"] = detection.mean_average_precision(*of_kind, names)
    return [Measured(PROTOCOL, model, slice_, name, rows, of, "higher") for name, of in several.items()]


def told(vectors: dict[str, np.ndarray], label: pl.Series, folds: np.ndarray) -> np.ndarray:
    """Return whether each row's class was told by a linear model that did not see it."""
    classes = sorted(label.unique())
    target = Target("classes", np.array([classes.index(v) for v in label]), tuple(classes))
    table, right = Table(pl.DataFrame(), {}, vectors), np.zeros(len(label))
    for k in range(5):
        learn, held = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
        state = linear.fit(
            table.take(learn), target.take(learn), linear.Config(), runtime=runtime.detect(), clock=Clock()
        )
        right[held] = linear.answer(state, table.take(held)).argmax(axis=1) == target.values[held]
    return right


def drawn() -> dict[str, pl.DataFrame]:
    """Return the boxes drawn by hand on real photos: all of them, and of photos not on white and on white."""
    file = json.loads(HAND.read_text(encoding="utf-8"))
    several = {"drawn by hand": file["boxes"] + file["on_white"]}
    several |= {"drawn by hand, not on white": file["boxes"], "drawn by hand, on white": file["on_white"]}
    return {
        name: pl.DataFrame(rows, schema=["picture", "kind", *SIDES], orient="row") for name, rows in several.items()
    }


def by_hand(detector: objects.Detector, shop: pl.DataFrame, several: dict[str, pl.DataFrame]) -> list[Measured]:
    """Return how well the boxes drawn by hand are found."""
    every = several["drawn by hand"]["picture"].unique().to_list()
    photos = shop.filter(pl.col("id").is_in(every)).select("id", "bytes")
    said = objects.boxes(photos, detector, objects.Config(score=0.05)).rename({"id": "picture"})
    return [one for name, true in several.items() for one in judged(true, said, "objects", name)]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked.add_argument("--scenes", type=int, default=objects.Config.scenes)
    asked.add_argument("--detector", type=Path, help="one that --keep wrote, instead of learning again")
    asked.add_argument("--spent", type=float, help="CPU-seconds it was learnt in")
    asked.add_argument("--cache", type=Path, help="folder where vectors are kept")
    asked.add_argument("--keep", type=Path, help="write the detector here")
    options = asked.parse_args()
    home = ground.tables()
    shop = pl.read_parquet(Path(home, "fashion_small/fashion_products.parquet"))
    kind_of = {name: kind for kind, some in KINDS.items() for name in some}
    shop = shop.with_columns(
        id=pl.col("ProductId").cast(pl.String), bytes="jpg", kind=pl.col("ProductType").replace_strict(kind_of)
    )
    order = np.random.default_rng(0).permutation(shop.height)
    first, second = (shop[np.sort(part)] for part in np.array_split(order, 2))
    hand = drawn()
    boxed = hand["drawn by hand"]["picture"].unique().to_list()
    first = first.filter(~pl.col("id").is_in(boxed))  # what is boxed by hand is not learnt from
    known, new = grounds(home)

    began = time.process_time()
    if options.detector:
        detector = objects.load(options.detector)
    else:
        detector = objects.fit(first, objects.Config(scenes=options.scenes), grounds=known)
    spent = options.spent or time.process_time() - began
    print(
        f"learnt from {detector.products} products ({detector.left_out} left out) in {spent:.0f} CPU-seconds",
        flush=True,
    )
    if options.keep:
        objects.save(detector, options.keep)
    pictures, true = held_out(second, new)
    began = time.process_time()
    said = objects.boxes(pictures, detector, objects.Config(score=0.05)).rename({"id": "picture"})
    cost = {"cpu_s": spent + time.process_time() - began, "peak_mb": runtime.peak_mb()}
    middle = [(f"c{n}", kind, 0.25, 0.25, 0.75, 0.75, 1.0) for n in range(ASKED) for kind in KINDS]
    constant = pl.DataFrame(middle, schema=["picture", "kind", *SIDES, "score"], orient="row")
    found = judged(true, said, "objects", "composites") + by_hand(detector, shop, hand)
    tables = [
        evaluate.table(some, dataset=DATASET, modalities=("picture",), draws=DRAWS, **of)
        for some, of in ((found, cost), (judged(true, constant, "constant", "composites"), {}))
    ]
    if options.keep:  # to be held against another implementation
        true.write_parquet(options.keep.with_suffix(".true.parquet"))
        said.write_parquet(options.keep.with_suffix(".said.parquet"))

    things = second.select("id", "bytes")
    seen, numbers = encode.run("picture", things, cache=options.cache), encode.run("objects", things, fitted=detector)
    several = {"picture": seen.dense}, {"picture": seen.dense, "objects": numbers.dense}
    sentences = []
    for label in ("ProductType", "Colour"):
        classes = second[label].rank("dense").to_numpy().astype(np.int64)
        folds = deal(Target("classes", classes, ()), 5, seed=0)
        right = [told(vectors, second[label], folds) for vectors in several]
        rows_of = np.arange(second.height)
        pair = [
            measured.per_user(PROTOCOL, model, f"Q12 {label}", "accuracy", rows_of, values)
            for model, values in zip(("picture", "picture and objects"), right, strict=True)
        ]
        tables.append(evaluate.table(pair, dataset=DATASET, modalities=("picture",)))
        gap = evaluate.compare(pair, against="picture").row(0, named=True)
        sentences.append(f"{label}: {gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})")
        print(sentences[-1], flush=True)
    table = pl.concat(tables)
    document = bench.document(table, commit=ground.commit())
    adds = "What the detector's numbers add to the picture's accuracy, on products it never saw"
    document["sentence"] = f"{adds}: {'; '.join(sentences)}."
    document |= {"products": detector.products, "left_out": detector.left_out, "fit_cpu_s": round(spent, 1)}
    print(bench.save(document, options.out / "detection-fashion.json"))
    with pl.Config(tbl_rows=-1):
        print(table.select("model", "slice", "metric", "mean", "low", "high", "cpu_s"))


if __name__ == "__main__":
    main()
