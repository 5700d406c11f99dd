"""Personas on three shops: do they come back, do they foretell money, do they know more than RFM does?

    HABITUE_DATA=... python benchmarks/quality/personas.py [--only online-retail] [--out benchmarks/quality]

Personas are made 92 days before the cut and customers are given one at the cut by the same rule; so is every baseline.
What a group spent in the 92 days before the cut foretells what its customers spend in the 92 days after it, so nothing
later is read. Models: `personas` (the choice of `auto`), `kmeans` (k-means with as many groups on recency, frequency
and money), `rfm` (quintiles of the three, each with its own effect), `rfm+personas` (both), `profile` (ridge on the
whole profile).

Stability: see habitue.apply.personas.clusters; of rfm, the 125 cells. Silhouettes are all measured at the cut, in the
space of the profiles. Complete Journey (simulated, its publisher says): Cramer's V (corrected, Bergsma 2013) of the
personas with demographics that they never saw, beside that of the other groupings and of shuffled customers.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import RidgeCV
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from habitue import collect, pipeline, prepare, quality
from habitue.apply import personas
from habitue.apply.personas import clusters, profile
from habitue.apply.personas.answer import place
from habitue.collect import bundled
from habitue.core import metrics, runtime, workspace
from habitue.core.schemas import EVENTS, ITEMS, METRICS, REFUSED, USERS, Metrics
from habitue.demonstration import CUT
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured, per_user, table
from habitue.evaluate.paired import compare
from habitue.model.past import Past
from habitue.plan import Plan
from habitue.tables import Tables

HORIZON = dt.timedelta(days=92)
PROTOCOL = "personas-92d"
DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "kids_count")
LISTS = {"modalities": pl.List(pl.String), "low": pl.Float64, "high": pl.Float64}
DRAWN = 3000  # customers whose silhouette is measured


@dataclass(frozen=True)
class Shop:
    """A shop and the moment that splits it."""

    name: str
    tables: Tables
    cut: dt.datetime
    traits: pl.DataFrame | None = None  # user_key and columns that personas never see


@dataclass(frozen=True)
class Moment:
    """What is known of the customers at one moment, and what they then spent."""

    past: Past
    features: pl.DataFrame
    money: np.ndarray  # net, in the 92 days after it


def online_retail(_: Path) -> Shop:
    """The bundled ledger."""
    with tempfile.TemporaryDirectory() as folder:
        space = workspace.init(Path(folder) / "shop", currency="GBP")
        ledger = bundled.ledger()
        collect.import_file(space, ledger.file, ledger.mapping, seed=0)
        return Shop("Online Retail", pipeline.read(space, Plan()), CUT)


def cdnow(data: Path) -> Shop:
    """CDNOW's sample: one product, the CD."""
    names = ["master", "customer", "date", "cds", "dollars"]
    text = (data / "cdnow/cdnow_sample.txt").read_text(encoding="utf-8")
    rows = pl.DataFrame([line.split() for line in text.splitlines()], schema=names, orient="row").with_row_index("row")
    events = rows.select(
        at=pl.col("date").str.to_datetime("%Y%m%d", time_unit="us", time_zone="UTC"),
        user_key=pl.col("customer").cast(pl.Int64),
        item_id=pl.lit("CD"),
        title=pl.lit("CD"),
        order_id=pl.col("row").cast(pl.String),
        quantity=pl.col("cds").cast(pl.Float64),
        value=pl.col("dollars").cast(pl.Float64),
    )
    events = events.with_columns(price=_price())
    return Shop("CDNOW", _tables(events, ITEMS.empty()), dt.datetime(1997, 10, 1, tzinfo=dt.UTC))


def complete_journey(data: Path) -> Shop:
    """Complete Journey: grocery baskets, departments as categories, demographics of 801 of the households."""
    folder = data / "complete_journey"
    products = pl.read_parquet(folder / "products.parquet").with_columns(item_id=pl.col("product_id").cast(pl.String))
    lines = pl.read_parquet(folder / "transactions.parquet")
    words = products.select("item_id", title=pl.coalesce("product_type", "product_category", "department"))
    events = lines.select(
        at=pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        user_key=pl.col("household_id").cast(pl.Int64),
        item_id=pl.col("product_id").cast(pl.String),
        order_id=pl.col("basket_id").cast(pl.String),
        quantity=pl.col("quantity").cast(pl.Float64),
        value=pl.col("sales_value").cast(pl.Float64),
    ).join(words, on="item_id", how="left", maintain_order="left")
    events = events.with_columns(price=_price())
    first = events["at"].min()
    items = products.select("item_id", title=None, category="department").with_columns(
        valid_from=pl.lit(first), title=pl.lit(None, dtype=pl.String), source=pl.lit("cj"), import_id=pl.lit("cj")
    )
    traits = pl.read_parquet(folder / "demographics.parquet")
    traits = traits.select(pl.col("household_id").cast(pl.Int64).alias("user_key"), *DEMOGRAPHICS)
    cut = dt.datetime(2017, 10, 1, tzinfo=dt.UTC)
    return Shop("Complete Journey", _tables(events, ITEMS.shape(items)), cut, traits)


SHOPS: dict[str, Callable[[Path], Shop]] = {
    "online-retail": online_retail,
    "cdnow": cdnow,
    "complete-journey": complete_journey,
}


def measure(shop: Shop, *, seed: int = 0) -> tuple[Metrics, list[str]]:
    """Return METRICS, and what the personas say of themselves."""
    past, titles = pipeline.look_back(shop.tables, as_of=shop.cut, plan=Plan(seed=seed), train=False)
    learnt, asked = (_moment(past, shop.tables, shop.cut - HORIZON), _moment(past, shop.tables, shop.cut))
    started = time.process_time()
    found = personas.find(learnt.past, titles, items=shop.tables.items, seed=seed)
    cost = round(time.process_time() - started, 2)
    frames, named = zip(*(place(found.rule, m.past, m.features) for m in (learnt, asked)), strict=True)
    count = len(found.rule.names) - 1
    persona = [pl.Series(members["name"]).to_list() for members in named]
    number = {name: i for i, name in enumerate(found.rule.names)}
    code = [np.array([number[name] for name in names]) for names in persona]
    rfm = [_rfm(frame) for frame in frames]
    simple = clusters.fit(clusters.Candidate("kmeans", count=count), _scaled(rfm[0], rfm[0]), seed=seed)
    near = [clusters.assign(simple, _scaled(values, rfm[0])).labels for values in rfm]
    fifths = [_fifths(values, rfm[0]) for values in rfm]
    dense = [profile.points(found.rule.scale, frame) for frame in frames]
    spent = [np.log1p(np.maximum(m.money, 0)) for m in (learnt, asked)]
    inputs = {
        "personas": [_dummies(c, count + 1) for c in code],
        "kmeans": [_dummies(c, count) for c in near],
        "rfm": [np.hstack([_dummies(f[:, i], 5) for i in range(3)]) for f in fifths],
        "profile": dense,
    }
    inputs["rfm+personas"] = [np.hstack(pair) for pair in zip(inputs["rfm"], inputs["personas"], strict=True)]
    keys = frames[1]["user_key"].to_numpy()
    cells = [f @ np.array([25, 5, 1]) for f in fifths]
    measured: dict[str, list[Measured]] = {}
    rows: list[dict[str, object]] = []
    for model, (then, now) in inputs.items():
        told = RidgeCV(alphas=np.logspace(-2, 3, 11)).fit(then, spent[0]).predict(now)
        measured[model] = list(_foretold(model, keys, spent[1], told))
    for model, labels in (("personas", code[1]), ("kmeans", near[1]), ("rfm", cells[1])):
        measured[model] += list(_apart(model, keys, dense[1], labels, seed))
        if shop.traits is not None:
            rows += _demographics(shop.name, model, keys, labels, shop.traits, seed)
    pair = [one for model in ("rfm", "rfm+personas") for one in measured[model] if one.metric.endswith("_money")]
    beyond = compare(pair, against="rfm", seed=seed).to_dicts()
    tables = [
        table(rows, dataset=shop.name, cpu_s=cost if model == "personas" else None, peak_mb=_peak(), seed=seed)
        for model, rows in measured.items()
    ]
    taken = found.tried.filter("taken").row(0, named=True)
    stable = [("personas", taken["stability"], taken["error"])]
    grid = [clusters.Candidate("kmeans", count=count)]
    row = next(clusters.compare(_scaled(rfm[0], rfm[0]), grid, draws=5, rows=3000, least=10, seed=seed))
    stable.append(("kmeans", float(str(row["stability"])), float(str(row["error"]))))
    stable.append(("rfm", *_cells_again(rfm[0], seed)))
    n = len(frames[0])
    rows += [_row(shop.name, model, "stability", mean, error, n) for model, mean, error in stable]
    said = [f"{shop.name}: {found.verdict}", *(f"  {c['name']}: {c['size']:,}" for c in found.cards.to_dicts())]
    said += [f"  {r['metric']}, beyond rfm: {r['mean']:+.4f} ({r['low']:+.4f} to {r['high']:+.4f})" for r in beyond]
    frame = pl.concat([*tables, METRICS.shape(pl.DataFrame(rows, schema_overrides=LISTS))])
    return frame.with_columns(modalities=pl.lit(["events", "text"] if shop.name != "CDNOW" else ["events"])), said


def _moment(past: Past, tables: Tables, at: dt.datetime) -> Moment:
    """Rewind to a moment, with the features at it and the money after it."""
    people = past.histories.user_keys[past.known]
    seen, _ = prepare.split(tables.events, at)
    features = prepare.features(seen, as_of=at, users=people.tolist(), declared=profile.DECLARED)
    ordered = features.filter(pl.col("order_count") > 0).sort("user_key")
    until, _ = prepare.split(tables.events, at + HORIZON)
    labels = prepare.labels(
        until, as_of=at, horizon_days=HORIZON.days, users=ordered["user_key"].to_list(), until=at + HORIZON
    )
    money = ordered.select("user_key").join(labels, on="user_key", how="left", maintain_order="left")["value"]
    then = past if at == past.as_of else past.rewind(at)
    return Moment(dataclasses.replace(then, features=features), features, money.to_numpy())


def _rfm(frame: pl.DataFrame) -> np.ndarray:
    """Return recency, frequency and money as everybody takes them [B, 3]: logarithms."""
    net = (pl.col("spend") + pl.col("refunded")).clip(0)
    return frame.select(-pl.col("days_since_last").log1p(), pl.col("order_count").log1p(), net.log1p()).to_numpy()


def _scaled(values: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    return np.asarray((values - learnt.mean(axis=0)) / np.maximum(learnt.std(axis=0), 1e-9))


def _fifths(values: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """Return the fifth (0-4) of each of the three, by the limits of the earlier moment [B, 3]."""
    limits = np.quantile(learnt, [0.2, 0.4, 0.6, 0.8], axis=0)
    return np.stack([np.searchsorted(limits[:, i], values[:, i], side="right") for i in range(3)], axis=1)


def _cells_again(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the mean adjusted Rand of RFM's cells by the limits of two halves, and its standard error."""
    rng, found = np.random.default_rng(seed), []
    weights = np.array([25, 5, 1])
    for _ in range(5):
        order = rng.permutation(len(values))
        left, right = values[order[: len(order) // 2]], values[order[len(order) // 2 :]]
        found.append(adjusted_rand_score(_fifths(right, right) @ weights, _fifths(right, left) @ weights))
    return float(np.mean(found)), float(np.std(found) / np.sqrt(len(found)))


def _dummies(codes: np.ndarray, groups: int) -> np.ndarray:
    return np.eye(groups)[codes]


def _foretold(model: str, keys: np.ndarray, money: np.ndarray, told: np.ndarray) -> Iterator[Measured]:
    yield Measured(PROTOCOL, model, "all", "r2_log_money", keys, lambda w: metrics.r2(money, told, weight=w), "higher")
    yield Measured(
        PROTOCOL, model, "all", "spearman_money", keys, lambda w: metrics.spearman(money, told, weight=w), "higher"
    )


def _apart(model: str, keys: np.ndarray, places: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[Measured]:
    rows = np.sort(np.random.default_rng(seed).permutation(len(keys))[:DRAWN])
    values = silhouette_samples(places[rows], labels[rows])
    yield per_user(PROTOCOL, model, "all", "silhouette", keys[rows], values)


def _demographics(
    dataset: str, model: str, keys: np.ndarray, labels: np.ndarray, traits: pl.DataFrame, seed: int
) -> Iterator[dict[str, object]]:
    """Yield the V of each trait, and the V that 95 % of 999 shuffles stay below: a bootstrap would flatter it."""
    rng = np.random.default_rng(seed)
    known = pl.DataFrame({"user_key": keys, "group": labels}).join(traits, on="user_key", how="inner")
    for name in DEMOGRAPHICS:
        told = known.drop_nulls(name)
        group, trait = (told[c].rank("dense").to_numpy().astype(np.int64) - 1 for c in ("group", name))
        chance = np.quantile([_cramers_v(rng.permutation(group), trait) for _ in range(999)], 0.95)
        yield _row(dataset, model, "cramers_v", _cramers_v(group, trait), None, told.height, slice_=name)
        yield _row(dataset, model, "cramers_v_chance95", float(chance), None, told.height, slice_=name)


def _cramers_v(one: np.ndarray, two: np.ndarray) -> float:
    """Return the bias-corrected V (Bergsma 2013); 0 = independent, 1 = the same."""
    r, c, n = int(one.max()) + 1, int(two.max()) + 1, len(one)
    counts = np.bincount(one * c + two, minlength=r * c).reshape(r, c)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi = max(0.0, float(((counts - expected) ** 2 / expected).sum()) / n - (r - 1) * (c - 1) / (n - 1))
    low = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(phi / max(low, 1e-9)))


def _row(
    dataset: str, model: str, metric: str, mean: float, error: float | None, n: int, *, slice_: str = "all"
) -> dict[str, object]:
    return {
        "dataset": dataset,
        "protocol": PROTOCOL,
        "model": model,
        "modalities": [],
        "slice": slice_,
        "metric": metric,
        "mean": mean,
        "low": None if error is None else mean - 1.96 * error,
        "high": None if error is None else mean + 1.96 * error,
        "n": n,
        "seeds": 1,
    }


def _price() -> pl.Expr:
    return pl.when(pl.col("quantity") > 0).then(pl.col("value") / pl.col("quantity"))


def _tables(events: pl.DataFrame, items: pl.DataFrame) -> Tables:
    whole = events.with_row_index("row").with_columns(
        event_id=pl.col("row").cast(pl.String),
        line=pl.lit(0, dtype=pl.Int32),
        kind=pl.lit("Order Completed"),
        currency=pl.lit("USD"),
        source=pl.lit("bench"),
        import_id=pl.lit("bench"),
    )
    raw = EVENTS.shape(whole.drop("row"))
    clean, dropped = quality.clean(raw, Plan().quality)
    known = raw.select("user_key").unique().sort("user_key").with_columns(known=pl.lit(True))
    return Tables(raw, clean, dropped, items, USERS.empty(), REFUSED.empty(), known)


def _peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", choices=SHOPS)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    folder = os.environ.get("HABITUE_DATA")
    if folder is None and options.only != "online-retail":
        print("HABITUE_DATA is not set: only the bundled ledger is measured (docs/data.md says where the others are).")
        options.only = "online-retail"
    runtime.detect(seed=0)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for name in [options.only] if options.only else SHOPS:
        told, said = measure(SHOPS[name](Path(folder or "")))
        print("\n".join(said))
        for path in bench.write(told, options.out, commit=commit.stdout.strip()):
            print(path)
        with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_width_chars=160):
            print(told.select("model", "slice", "metric", "mean", "low", "high", "n"))


if __name__ == "__main__":
    main()
