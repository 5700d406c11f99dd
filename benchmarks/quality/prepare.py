"""What each preparation of a table buys, on real tasks; every one learnt inside the folds.

    HABITUE_DATA=... python benchmarks/quality/prepare.py [visits gaps reviews churn series] [--out benchmarks/quality]

visits   Online Shoppers: did the visit buy? 3 folds of `habitue bench tasks`, models linear, tree, boosting
gaps     the same, a fifth of the numbers taken away at random: what imputation is worth
reviews  Women's Clothing, the words of 5,000 reviews: was the product recommended? 3 folds; balance only: no numbers
churn    Complete Journey (simulated by its publisher): no order in the 28 days after the last moment, from the declared
         features; learnt at earlier moments whose horizon had closed. Logistic regression and LightGBM, weights too
series   Walmart, weekly sales of seven departments, a fifth of the weeks before 2012 taken away: how far from what was
         sold is what fills them, and how good is next week's forecast (ridge on the sales of 1, 2 and 52 weeks before)

"as it is" is the table without a preparation, which the models fill and scale as they do by themselves.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
import time
from pathlib import Path
from typing import Any

import ground
import numpy as np
import polars as pl

from habitue import prepare
from habitue.bench.tasks import Columns, folds, measuring, reading
from habitue.core import metrics, runtime
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench
from habitue.prepare import balance, impute, recipe

AS_IT_IS = "as it is"
NAMES = ("OperatingSystems", "Browser", "Region", "TrafficType")
VISITS = "online_shoppers/online_shoppers.parquet"
NUMBERS = (
    *(AS_IT_IS, "outliers=winsorise", "outliers=iqr", "outliers=isolation", "impute=mean,scale=quantile"),
    *(
        "impute=median,scale=robust",
        "impute=median,scale=standard,reduce=pca",
        "impute=median,scale=standard,reduce=lda",
    ),
    *("balance=over", "balance=under"),
)
GAPS = (AS_IT_IS, "impute=constant", "impute=mean", "impute=median", "impute=model")
BALANCED = (AS_IT_IS, "balance=over", "balance=under")
DATASETS = {
    "visits": "Online Shoppers",
    "gaps": "Online Shoppers",
    "reviews": "Women's Clothing",
    "churn": "Complete Journey",
    "series": "Walmart weekly",
}
DRAWS = 300
REVIEWS = 5_000  # of 23,486: what balancing does is seen in them


def tasks(home: Path, name: str) -> pl.DataFrame:
    """Return METRICS of every preparation and model on the folds of `habitue bench tasks --prepare`."""
    told = []
    with tempfile.TemporaryDirectory() as folder:
        path, columns, count, models, ways = _task(home, name, Path(folder))
        data = reading.read(path, columns, task=name)
    splits = [folds.split(data, count, seed=0)]
    plain: dict[str, np.ndarray] = {}
    for way in ways:
        prepared = None if way == AS_IT_IS else recipe.parse(way)
        every = measuring.every(data, models, splits, runtime=runtime.detect(), cpu_hours=None, recipe=prepared)
        for one in every:
            truth, said = data.target.values[one.row], one.said[:, 1]
            common = {"dataset": DATASETS[name], "protocol": f"prepare, {name}", "model": way, "slice": one.model}
            common |= {"cpu_s": one.cpu_s, "peak_mb": one.peak_mb}
            told += _measured(common, truth, said, one.calibrated[:, 1], plain.setdefault(one.model, said))
    return _table(told)


def _task(home: Path, name: str, folder: Path) -> tuple[Path, Columns, int, tuple[str, ...], tuple[str, ...]]:
    """Return file, columns, folds, models and preparations."""
    visits = Columns("Revenue", categories=NAMES)
    if name == "visits":
        return home / VISITS, visits, 3, ("linear", "tree", "boosting"), NUMBERS
    if name == "gaps":
        frame = pl.read_parquet(home / VISITS)
        rng = np.random.default_rng(0)
        holes = [c for c, t in frame.schema.items() if t.is_numeric() and c not in (*NAMES, "Revenue")]
        gone = [
            pl.when(pl.Series(rng.random(frame.height) < 0.2)).then(None).otherwise(pl.col(c)).alias(c) for c in holes
        ]
        frame.with_columns(gone).write_parquet(folder / "gaps.parquet")
        return folder / "gaps.parquet", visits, 3, ("linear", "boosting"), GAPS
    drop = ("Rating", "Positive Feedback Count", "row", "Clothing ID")
    reviews = pl.read_parquet(home / "womens_clothing/reviews.parquet")
    reviews.sample(REVIEWS, seed=0).write_parquet(folder / "reviews.parquet")
    columns = Columns("Recommended IND", texts=("Title", "Review Text"), drop=drop)
    return folder / "reviews.parquet", columns, 3, ("linear",), BALANCED


CHURN = (
    *(
        AS_IT_IS,
        "impute=constant",
        "impute=mean",
        "impute=median",
        "impute=model",
        "outliers=winsorise",
        "outliers=iqr",
    ),
    *("outliers=isolation", "scale=robust", "scale=quantile", "reduce=pca", "reduce=lda"),
    *("balance=over", "balance=under", "weights"),
)
HORIZON = 28


def churn(home: Path) -> pl.DataFrame:
    """Return METRICS of churn 28 days ahead; for logistic regression "as it is" is median, standard."""
    events = _journey(home)
    last = dt.datetime(2017, 12, 3, tzinfo=dt.UTC)
    moments = [last - dt.timedelta(days=HORIZON * i) for i in range(1, 8)]
    features = prepare.features(events, as_of=[*moments, last])
    labels = prepare.labels(events, as_of=[*moments, last], horizon_days=HORIZON)
    rows = features.join(labels.select("user_key", "as_of", "churned"), on=["user_key", "as_of"])
    past = rows.filter(pl.col("as_of") < last)
    asked = rows.filter(pl.col("as_of") == last)
    print("churn", past.height, asked.height, asked["churned"].mean(), flush=True)
    told, plain = [], {}
    for way in CHURN:
        for name in ("linear", "boosting"):
            began = time.process_time()
            said = _answers(way, name, past, asked, last)
            common = {
                "dataset": DATASETS["churn"],
                "protocol": f"prepare, churn-{HORIZON}d",
                "model": way,
                "slice": name,
            }
            common |= {"cpu_s": round(time.process_time() - began, 2), "peak_mb": runtime.peak_mb()}
            truth = asked["churned"].to_numpy().astype(int)
            told += _measured(common, truth, said, said, plain.setdefault(name, said))
    return _table(told)


FILLED = ("constant", "mean", "median", "interpolate", "model")
LAGS = (1, 2, 52)  # weeks
SERIES_CUT = dt.datetime(2012, 1, 1, tzinfo=dt.UTC)


def series(home: Path) -> pl.DataFrame:
    """Return METRICS: mean absolute error, in dollars, of what fills the gaps and of the forecasts after the cut."""
    raw = pl.read_parquet(home / "walmart_weekly/walmart_sales_weekly.parquet").sort("Dept", "Date")
    at = pl.col("Date").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
    departments = {f"d{n}": (pl.col("Dept") == n).cast(pl.Float64) for n in raw["Dept"].unique()}
    rows = raw.select(
        "Dept", "Temperature", "Fuel_Price", "CPI", "Unemployment", at=at, sales="Weekly_Sales", **departments
    )
    truth, before = rows["sales"].to_numpy(), (rows["at"] < SERIES_CUT).to_numpy()
    gone = before & (np.random.default_rng(0).random(rows.height) < 0.2)
    known = rows.with_columns(sales=pl.when(pl.Series(gone)).then(None).otherwise("sales"))
    told = []
    for method in FILLED:
        began = time.process_time()
        more = {"time": "at", "group": "Dept"} if method == "interpolate" else {}
        state = impute.fit(known.filter(before), impute.Config(method, flags=False, **more), until=SERIES_CUT)
        filled = pl.concat([impute.apply(state, known.filter(before)), known.filter(~before)]).sort("Dept", "at")
        said = _forecasts(filled, truth, before & ~gone, ~before)
        common = {"dataset": DATASETS["series"], "protocol": "prepare, series", "model": f"impute={method}"}
        common |= {
            "cpu_s": round(time.process_time() - began, 2),
            "peak_mb": runtime.peak_mb(),
            "modalities": ["table"],
        }
        for name, off in (
            ("the gaps", np.abs(filled["sales"].to_numpy() - truth)[gone]),
            ("next week", np.abs(said - truth[~before])),
        ):
            drawn = np.random.default_rng(0).choice(off, (DRAWS, off.size)).mean(axis=1)
            low, high = (float(q) for q in np.quantile(drawn, [0.025, 0.975]))
            ends = {"slice": name, "metric": "mae", "mean": float(off.mean()), "low": low, "high": high}
            told.append(common | ends | {"n": off.size, "seeds": 1})
            print(method, name, f"{off.mean():.0f} ({low:.0f} to {high:.0f})", off.size, flush=True)
    return _table(told)


def _forecasts(filled: pl.DataFrame, truth: np.ndarray, learn: np.ndarray, ask: np.ndarray) -> np.ndarray:
    """Return next week's sales where `ask`; learnt where `learn`, from weeks that have every lag."""
    from sklearn.linear_model import Ridge

    lags = filled.select(pl.col("sales").shift(n).over("Dept").alias(f"{n}") for n in LAGS).to_numpy()
    whole = np.isfinite(lags).all(axis=1)
    past = pl.col("sales").filter(pl.col("at") < SERIES_CUT)
    size = filled.select(past.mean().over("Dept")).to_numpy()  # departments differ tenfold
    model = Ridge(alpha=1e-3).fit((lags / size)[learn & whole], (truth[:, None] / size)[learn & whole, 0])
    return np.asarray(model.predict((lags / size)[ask]) * size[ask, 0])


def _answers(way: str, name: str, past: pl.DataFrame, asked: pl.DataFrame, last: dt.datetime) -> np.ndarray:
    chosen = {"impute": "median", "scale": "standard"} if name == "linear" or way.startswith("reduce") else {}
    chosen |= dict([way.split("=")]) if "=" in way else {}
    text = ",".join(f"{step}={method}" for step, method in chosen.items())
    frames = [rows.drop("user_key", "churned", *(["as_of"] if rows is asked else [])) for rows in (past, asked)]
    classes = past["churned"].to_numpy().astype(int)
    state = recipe.fit(
        frames[0], recipe.parse(text), classes=classes, until=last
    )  # learnt before the moment asked about
    learn = recipe.learnt_from(state, frames[0], classes)
    ready, question = (recipe.apply(state, rows).drop("as_of", strict=False).to_numpy() for rows in frames)
    heavy = balance.weights(classes[learn]) if way == "weights" else None
    if name == "linear":
        from sklearn.linear_model import LogisticRegression

        model: Any = LogisticRegression(max_iter=500, C=0.1)  # robust scaling leaves tails in which it stops early
    else:
        from lightgbm import LGBMClassifier

        model = LGBMClassifier(n_estimators=80, num_leaves=8, learning_rate=0.05, verbose=-1, n_jobs=1, random_state=0)
    return np.asarray(model.fit(ready[learn], classes[learn], sample_weight=heavy).predict_proba(question)[:, 1])


def _measured(
    common: dict[str, Any], truth: np.ndarray, said: np.ndarray, calibrated: np.ndarray, plain: np.ndarray
) -> list[dict[str, Any]]:
    """Return AUC, what it gained on `plain` (the same rows drawn for both), and log loss after calibration."""
    counts = np.random.default_rng(0).multinomial(truth.size, np.full(truth.size, 1 / truth.size), DRAWS).astype(float)
    drawn = metrics.auc(truth, said, weight=counts)
    gained = drawn - metrics.auc(truth, plain, weight=counts)
    auc, before = (float(metrics.auc(truth, answers)) for answers in (said, plain))
    loss = metrics.log_loss(truth, np.clip(calibrated, 0, 1), weight=counts)
    told = []
    for metric, mean, draws in (
        ("auc", auc, drawn),
        ("auc gained", auc - before, gained),
        ("log_loss", float(metrics.log_loss(truth, np.clip(calibrated, 0, 1))), loss),
    ):
        low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
        row = {"metric": metric, "mean": mean, "low": low, "high": high, "n": truth.size, "seeds": 1}
        told.append(common | row | {"modalities": ["table"]})
    print(
        *common.values(), f"{auc:.4f} {auc - before:+.4f} ({told[1]['low']:+.4f} to {told[1]['high']:+.4f})", flush=True
    )
    return told


def _table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return METRICS.shape(
        pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"modalities": pl.List(pl.String)})
    )


def _journey(home: Path) -> pl.DataFrame:
    raw = pl.read_parquet(home / JOURNEY)
    return EVENTS.shape(
        raw.select(
            event_id=pl.int_range(pl.len()).cast(pl.String),
            line=pl.lit(0, dtype=pl.Int32),
            at=pl.col("transaction_timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            user_key=pl.col("household_id").cast(pl.Int64),
            kind=pl.lit("Order Completed"),
            item_id=pl.col("product_id").cast(pl.String),
            order_id=pl.col("basket_id").cast(pl.String),
            quantity=pl.col("quantity").cast(pl.Float64),
            value=pl.col("sales_value").cast(pl.Float64),
            source=pl.lit("complete_journey"),
            import_id=pl.lit("bench"),
        )
    )


JOURNEY = "complete_journey/transactions.parquet"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("tasks", nargs="*", help="visits, gaps, reviews, churn, series; none = all")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    home = ground.tables()
    for name in options.tasks or DATASETS:
        found = {"churn": churn, "series": series}[name](home) if name in ("churn", "series") else tasks(home, name)
        for path in bench.write(found, options.out, commit=ground.commit()):
            print(path)


if __name__ == "__main__":
    main()
