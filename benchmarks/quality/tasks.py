"""Q6 to Q9, Q12, Q13 and emotion: models on public labelled tables, by `habitue bench tasks` and nothing else.

    python benchmarks/quality/tasks.py [q6 q6-without ... emotion] [--out benchmarks/quality]

Reads the tables from $HABITUE_DATA (docs/data.md says where each is published) and the weights of encoders from the
models' folder (`habitue models fetch text-use-multilingual text-minilm-en image-efficientnet-lite0
speech-whisper-tiny-en audio-aisfx`). One JSON document a task. Of q13 and emotion every speaker is answered by models
that never heard them; encoders and models were chosen on four of the six speakers of each (LOG.md), so two were never
looked at before.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue.bench.tasks import Columns, Plan, run, running
from habitue.core import runtime
from habitue.evaluate import bench

NAMES = ("OperatingSystems", "Browser", "Region", "TrafficType")  # numbers that are only names
REVIEW = ("Title", "Review Text")
ROW = ("row", "Clothing ID")
CLIP = ("id", "index", "sr", "seconds")
SPOKEN = ("id", "text_code", "version", "sr", "seconds")


@dataclass(frozen=True)
class Task:
    """One table of the benchmark."""

    data: str
    plan: Plan
    test: str | None = None
    tenth: bool = False  # the table has no split of its own: a stratified tenth is answered


DIGITS, EMOTIONS = "fsdd/fsdd.parquet", "emodb/emodb_16k.parquet"
PRODUCTS = "fashion_small/fashion_products.parquet"
PRODUCT = ("ProductId", "Gender", "Category", "SubCategory", "ProductType", "Colour", "Usage", "ProductTitle")
PRODUCT += ("Image", "ImageURL", "folder", "w", "h")
VISITS = "online_shoppers/online_shoppers.parquet"
REVIEWS = "womens_clothing/reviews.parquet"
TASKS = {
    "q6": Task(VISITS, Plan("purchase", Columns("Revenue", categories=NAMES), folds=5)),
    "q6-without": Task(VISITS, Plan("purchase", Columns("Revenue", categories=NAMES, drop=("PageValues",)), folds=5)),
    # exit and bounce rates of pages are counted over all their visits, this one among them: they end where it ends
    "q6-moves": Task(
        VISITS,
        Plan(
            "purchase",
            Columns("Revenue", categories=NAMES, drop=("PageValues", "ExitRates", "BounceRates")),
            folds=5,
        ),
    ),
    "q7": Task(
        REVIEWS,
        Plan(
            "recommended",
            # the stars are the answer in another form; how many found a review helpful comes after it
            Columns("Recommended IND", texts=REVIEW, drop=("Rating", "Positive Feedback Count", *ROW)),
            folds=3,
            models=("linear", "svm", "tree", "forest", "boosting", "voting", "stacking"),
            cpu_hours=0.1,
        ),
    ),
    "q7-rating": Task(
        REVIEWS,
        Plan(
            "rating",
            Columns("Rating", texts=REVIEW, drop=("Recommended IND", "Positive Feedback Count", *ROW)),
            folds=3,
            models=("linear", "svm", "tree", "forest", "boosting"),
            cpu_hours=0.1,
        ),
    ),
    "q9": Task(
        "banking77/train.parquet",
        Plan(
            "intent",
            Columns("category", texts=("text",)),
            models=("linear", "svm", "profile", "voting", "stacking"),
            encoders=("sentence", "minilm-en"),
            cpu_hours=0.3,
        ),
        test="banking77/test.parquet",
    ),
    "q8": Task(
        "zh_reviews/online_shopping_10_cats.parquet",
        Plan(
            "sentiment",
            Columns("label", texts=("review",), drop=("cat",)),
            models=("linear", "svm"),
        ),
        tenth=True,
    ),
    **{
        f"q12-{what}{'-probe' * (len(encoders) == 1)}": Task(
            PRODUCTS,
            Plan(
                f"{what} of a product from {' and '.join(encoders)}",
                # only the picture: titles and categories name the type and often the colour
                Columns(label, pictures=("jpg",), drop=tuple(name for name in PRODUCT if name != label)),
                models=("linear",),
                encoders=encoders,
            ),
        )
        for what, label in (("type", "ProductType"), ("colour", "Colour"))
        for encoders in (("picture",), ("picture", "colour", "texture", "photo"))
    },
    "q13": Task(
        DIGITS,
        Plan(
            "spoken digit",
            Columns("digit", sounds=("flac",), drop=CLIP, group="speaker"),
            models=("linear", "svm"),
            encoders=("speech-en",),
            folds=6,
        ),
    ),
    "q13-logmel": Task(
        DIGITS,
        Plan(
            "spoken digit from log-mel",
            Columns("digit", sounds=("flac",), drop=CLIP, group="speaker"),
            models=("linear",),
            encoders=("spectrogram",),
            folds=6,
        ),
    ),
    "emotion": Task(
        EMOTIONS,
        Plan(
            "emotion from voice",
            Columns("emotion", sounds=("flac",), drop=SPOKEN, group="speaker"),
            models=("linear", "svm"),
            encoders=("acoustics", "speech-en", "sound"),
            folds=6,
        ),
    ),
    "emotion-logmel": Task(
        EMOTIONS,
        Plan(
            "emotion from log-mel",
            Columns("emotion", sounds=("flac",), drop=SPOKEN, group="speaker"),
            models=("linear",),
            encoders=("spectrogram",),
            folds=6,
        ),
    ),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("tasks", nargs="*", help="names of tasks; none = all")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked.add_argument("--cache", type=Path, help="folder where the encoder's vectors are kept")
    asked.add_argument("--models", help="only these, with commas, beside the two baselines")
    options = asked.parse_args()
    home = ground.tables()
    for name in options.tasks or TASKS:
        task = TASKS[name]
        data, test = Path(home, task.data), Path(home, task.test) if task.test else None
        models = tuple(options.models.split(",")) if options.models else task.plan.models
        plan = replace(task.plan, cache=options.cache, models=models)
        with tempfile.TemporaryDirectory() as folder:
            if task.tenth:
                data, test = tenth(data, plan.columns.label, Path(folder))
            outcome = run(data, plan, test=test, runtime=runtime.detect())
        document = running.document(outcome, commit=ground.commit())
        print(name, bench.save(document, options.out / f"tasks-{name}.json"))
        print(outcome.judged.verdict, flush=True)
        with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True):
            shown = pl.col("metric").is_in(["auc", "f1", "accuracy", "macro_f1"])
            print(outcome.judged.table.filter(shown).select("model", "metric", "mean", "low", "high", "cpu_s"))


def tenth(table: Path, label: str, folder: Path) -> tuple[Path, Path]:
    """Write a stratified tenth of the rows, drawn with seed 0, and the rest; return the rest and the tenth."""
    rows = pl.read_parquet(table)
    rng = np.random.default_rng(0)
    drawn = rows.select(label).with_columns(chance=pl.Series(rng.random(rows.height)))
    held = drawn.select((pl.col("chance").rank() <= pl.len() / 10).over(label)).to_series()
    parts = folder / table.name, folder / f"tenth-{table.name}"
    rows.filter(~held).write_parquet(parts[0])
    rows.filter(held).write_parquet(parts[1])
    return parts


if __name__ == "__main__":
    main()
