"""Will this visit end in a purchase? From how the visitor moved, with and without a column that knows too much."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
import threadpoolctl  # comes with scikit-learn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from habitue.apply.heldout import Bools, Forecast, deal, one, yes_no
from habitue.apply.wording import percent
from habitue.core import metrics
from habitue.core.errors import ModelError
from habitue.core.metrics import Floats, Ints
from habitue.core.runtime import Runtime
from habitue.core.schemas import EXAMPLES, Examples, Metrics, check

TITLE = "Visits to a shop: will this one buy?"
SOURCE = "Online Shoppers Purchasing Intention"
LICENCE = "CC BY 4.0"
YES, NO = "bought", "left"
SUSPECT = "PageValues"
Fit = Callable[[Floats, Bools, Floats], Floats]  # columns [n, C], bought [n], columns asked [m, C] -> probability [m]
WHY = (
    "PageValues is money that web analytics books on the visited pages from transactions, which may be this very "
    "visit's: part of the answer may stand in the question, so the numbers without it are the ones to expect while a "
    "visit still runs."
)


@dataclass(frozen=True)
class Config:
    """Settings of the trees: small and slow, because 12,330 visits hold 1,908 purchases."""

    folds: int = 5
    trees: int = 200
    learning_rate: float = 0.03
    leaves: int = 15
    min_rows: int = 40  # visits in a leaf
    columns: float = 0.7  # share of the columns a tree may use
    rows: float = 0.8  # share of the visits a tree sees


@dataclass(frozen=True)
class Sessions:
    """The answer: what the report shows."""

    title: str
    source: str
    licence: str
    verdict: str
    note: str
    metrics: Metrics  # models trees and logistic, and each "without_..." the suspect column
    gains: pl.DataFrame  # model, share_of_visits, share_of_purchases
    importance: pl.DataFrame  # column, share; of the trees without the suspect column


def read(path: Path) -> Examples:
    """Bring the published file (Parquet) to EXAMPLES: columns = the visit's measures, label = bought or left."""
    frame = pl.read_parquet(path)
    return EXAMPLES.shape(
        frame.select(
            pl.row_index().cast(pl.String).alias("example_id"),
            pl.struct(pl.exclude("Revenue")).struct.json_encode().alias("columns"),
            pl.when(pl.col("Revenue") == 1).then(pl.lit(YES)).otherwise(pl.lit(NO)).alias("label"),
            pl.lit(SOURCE).alias("source"),
        )
    )


def run(
    examples: Examples, config: Config | None = None, *, suspect: str = SUSPECT, runtime: Runtime | None = None
) -> Sessions:
    """Forecast every visit from models that have not seen it: boosted trees and a logistic regression.

    Both with and without the column `suspect`. AUC and F1 are of the purchases. About 6 CPU-seconds for 12,330 visits.
    Raises ModelError for labels other than the two, fewer visits of a label than folds, no or different columns,
    and when the suspect column is not there.
    """
    check(examples, EXAMPLES, at="apply.sessions")
    config, runtime = config or Config(), runtime or Runtime()
    bought, columns = _columns(examples, suspect)
    fold = deal(bought, config.folds, seed=runtime.seed, where="apply.sessions")
    rest = columns.select(pl.exclude(suspect))
    without = "_without_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", suspect).lower()
    trees, logistic = _trees(config, runtime), _logistic
    forecasts = [
        _forecast("trees", columns, bought, fold, trees),
        _forecast("logistic", columns, bought, fold, logistic),
        _forecast("trees" + without, rest, bought, fold, trees),
        _forecast("logistic" + without, rest, bought, fold, logistic),
    ]
    table = yes_no(bought, fold, forecasts, dataset=SOURCE, seed=runtime.seed)
    return Sessions(
        title=TITLE,
        source=SOURCE,
        licence=LICENCE,
        verdict=_verdict(table, bought, suspect, without),
        note=WHY if suspect == SUSPECT else "",
        metrics=table,
        gains=_gains(bought, [forecasts[0], forecasts[2]]),
        importance=_importance(rest, bought, config, runtime),
    )


def _columns(examples: Examples, suspect: str) -> tuple[Bools, pl.DataFrame]:
    """Return who bought [n] and the visit's measures as numbers; words become one 0/1 column each."""
    wrong = examples.filter(~pl.col("label").is_in([YES, NO]).fill_null(False)).height
    if wrong or not examples.height:
        raise _refused(
            f"{wrong:,} of {examples.height:,} visits have a label other than '{YES}' or '{NO}'",
            "Give every visit one of the two labels, at least a few of each",
        )
    read = pl.DataFrame([json.loads(text or "{}") for text in examples["columns"]], infer_schema_length=None)
    if suspect not in read.columns:
        raise _refused(
            f"there is no column '{suspect}' among {read.width} columns", "Name the column that may know the answer"
        )
    empty = [name for name in read.columns if read[name].null_count()]
    if empty:
        raise _refused(f"column '{empty[0]}' is missing in some visits", "Give every visit the same columns")
    words = [name for name, dtype in read.schema.items() if dtype == pl.String]
    return (examples["label"] == YES).to_numpy(), read.to_dummies(words, separator="=").cast(pl.Float64)


def _forecast(name: str, columns: pl.DataFrame, bought: Bools, fold: Ints, fit: Fit) -> Forecast:
    """Fit on the other folds, forecast the one left out, for each fold."""
    started = time.process_time()
    x, probability = columns.to_numpy(), np.empty(len(bought))
    for k in np.unique(fold):
        probability[fold == k] = fit(x[fold != k], bought[fold != k], x[fold == k])
    return Forecast(name, ("behaviour",), probability, time.process_time() - started)


def _trees(config: Config, runtime: Runtime) -> Fit:
    def fit(x: Floats, bought: Bools, asked: Floats) -> Floats:
        return np.asarray(_booster(x, bought, config, runtime).predict(asked))

    return fit


def _booster(x: Floats, bought: Bools, config: Config, runtime: Runtime) -> lgb.Booster:
    """Gradient boosting of trees (Ke et al., NeurIPS 2017), log loss."""
    parameters = {
        "objective": "binary",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_rows,
        "feature_fraction": config.columns,
        "bagging_fraction": config.rows,
        "bagging_freq": 1,
        "seed": runtime.seed,
        "num_threads": 1,  # on so few rows a second thread mostly waits, and on a busy machine it spins: 6 s became 60
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    return lgb.train(parameters, lgb.Dataset(x, label=bought.astype(np.float64)), num_boost_round=config.trees)


def _logistic(x: Floats, bought: Bools, asked: Floats) -> Floats:
    """Logistic regression on standardised columns; counts and times by their logarithm, for they are skewed."""
    low = x.min(axis=0)
    x, asked = (np.where(low >= 0, np.log1p(np.maximum(part, 0)), part) for part in (x, asked))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with threadpoolctl.threadpool_limits(1):
        return np.asarray(model.fit(x, bought).predict_proba(asked)[:, 1])


def _gains(bought: Bools, forecasts: Sequence[Forecast]) -> pl.DataFrame:
    """Return which share of the purchases is among the likeliest share of visits, in steps of 2 %."""
    shares = np.linspace(0, 1, 51)
    rows = [(f.model, float(s), float(metrics.gain(bought, f.probability, share=s))) for f in forecasts for s in shares]
    return pl.DataFrame(rows, schema=["model", "share_of_visits", "share_of_purchases"], orient="row")


def _importance(columns: pl.DataFrame, bought: Bools, config: Config, runtime: Runtime) -> pl.DataFrame:
    """Return the share of the fall of training loss that each column's splits bought, the largest first."""
    gain = _booster(columns.to_numpy(), bought, config, runtime).feature_importance("gain")
    table = pl.DataFrame({"column": columns.columns, "share": gain / max(gain.sum(), 1e-12)})
    return table.sort("share", descending=True, maintain_order=True)


def _verdict(table: Metrics, bought: Bools, suspect: str, without: str) -> str:
    full, rest = one(table, "trees", "auc"), one(table, "trees" + without, "auc")
    simple = one(table, "logistic" + without, "auc")
    beats = "more than" if rest["low"] > simple["high"] else "hardly more than"
    return (
        f"A purchase ({percent(bought.mean())} of {len(bought):,} visits) is foretold with AUC {full['mean']:.3f} when "
        f"{suspect} may be read, but {rest['mean']:.3f} ({rest['low']:.3f} to {rest['high']:.3f}) without it; "
        f"that is {beats} the {simple['mean']:.3f} of a logistic regression."
    )


def _refused(found: str, remedy: str) -> ModelError:
    return ModelError(
        "apply.sessions",
        found=found,
        consequence="It cannot be learnt which visits buy",
        remedy=remedy,
    )
