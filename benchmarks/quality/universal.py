"""Q14: does one frozen vector a customer serve churn, category and item propensity better than hand aggregates?

    HABITUE_DATA=... python benchmarks/quality/universal.py [--only NAME] [--no-ablation] [--out benchmarks/quality]
    HABITUE_DATA=... python benchmarks/quality/universal.py --validation     28 days earlier

Everything is fitted before the cut; the probe learns from the 14 days after it and is tested on the 14 days after those
(habitue.bench.universal). Parts of the profile, their weight and the probe's settings were chosen with --validation,
whose windows end where the test's begin. Online Retail: all of it; categories are groups of like words. Complete
Journey (simulated, its publisher says): all households, the 2,000 products of most lines before the validation (47 % of
the lines); categories are the publisher's product categories.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl

from habitue import quality
from habitue.bench import universal, universal_report
from habitue.core import runtime
from habitue.core.schemas import EVENTS, ITEMS, REFUSED, USERS
from habitue.demonstration import CUT
from habitue.evaluate import bench
from habitue.model import behaviour, profile
from habitue.plan import Plan
from habitue.tables import Tables

EARLIER = dt.timedelta(days=28)  # both windows
PRODUCTS = 2_000


@dataclasses.dataclass(frozen=True)
class Shop:
    """A shop, the moment that splits it, and the flagship's training."""

    tables: Tables
    cut: dt.datetime
    passes: float


def online_retail(_: Path) -> Shop:
    """The bundled ledger."""
    return Shop(universal.opened(None)[1], CUT, behaviour.Config().passes)


def complete_journey(data: Path) -> Shop:
    """Grocery baskets: six times the sets of Online Retail, so a tenth of the passes."""
    cut = dt.datetime(2017, 10, 1, tzinfo=dt.UTC)
    folder = data / "complete_journey"
    lines = pl.read_parquet(folder / "transactions.parquet").select(
        at=pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        user_key=pl.col("household_id").cast(pl.Int64),
        item_id=pl.col("product_id").cast(pl.String),
        order_id=pl.col("basket_id").cast(pl.String),
        quantity=pl.col("quantity").cast(pl.Float64),
        value=pl.col("sales_value").cast(pl.Float64),
    )
    seen = lines.filter(pl.col("at") < cut - EARLIER)
    kept = seen.group_by("item_id").len().sort("len", "item_id", descending=[True, False]).head(PRODUCTS)["item_id"]
    products = pl.read_parquet(folder / "products.parquet").select(
        item_id=pl.col("product_id").cast(pl.String),
        title=pl.concat_str("product_category", "product_type", separator=" ", ignore_nulls=True),
        category=pl.coalesce("product_category", "department"),
    )
    products = products.filter(pl.col("item_id").is_in(kept.implode()))
    events = lines.filter(pl.col("item_id").is_in(kept.implode())).join(
        products.select("item_id", "title"), on="item_id", how="left", maintain_order="left"
    )
    events = EVENTS.shape(
        events.with_row_index("event_id").with_columns(
            line=0, kind=pl.lit("Order Completed"), currency=pl.lit("USD"), source=pl.lit("cj"), import_id=pl.lit("cj"),
            price=pl.when(pl.col("quantity") > 0).then(pl.col("value") / pl.col("quantity")),
        )
    )  # fmt: skip
    items = ITEMS.shape(
        products.with_columns(valid_from=pl.lit(events["at"].min()), source=pl.lit("cj"), import_id=pl.lit("cj"))
    )
    clean, dropped = quality.clean(events, Plan().quality)
    known = events.select("user_key").unique().sort("user_key").with_columns(known=pl.lit(True))
    return Shop(Tables(events, clean, dropped, items, USERS.empty(), REFUSED.empty(), known), cut, 2.0)


SHOPS: dict[str, tuple[str, Callable[[Path], Shop]]] = {
    "online-retail": ("Online Retail", online_retail),
    "complete-journey": ("Complete Journey", complete_journey),
}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", choices=SHOPS)
    asked.add_argument("--validation", action="store_true")
    asked.add_argument("--no-ablation", action="store_true")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    folder = os.environ.get("HABITUE_DATA")
    if folder is None and options.only != "online-retail":
        print("HABITUE_DATA is not set: only the bundled ledger is measured (docs/data.md says where the others are).")
        options.only = "online-retail"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for name in [options.only] if options.only else SHOPS:
        title, read = SHOPS[name]
        shop = read(Path(folder or ""))
        flagship = dataclasses.replace(behaviour.Config(), passes=shop.passes)
        result = universal.run(
            shop.tables,
            cut=shop.cut - EARLIER if options.validation else shop.cut,
            config=universal.Config(
                profile=profile.Config(behaviour=flagship), ablation=not (options.validation or options.no_ablation)
            ),
            dataset=title,
            runtime=runtime.detect(seed=0),
        )
        print("\n".join([result.sentence, *result.case.notes]))
        with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_width_chars=160):
            print(result.metrics.select("model", "slice", "mean", "low", "high", "n", "cpu_s"))
            print(result.paired.select("model", "against", "slice", "mean", "low", "high"))
        if not options.validation:
            told = universal_report.document(result, commit=commit.stdout.strip())
            print(bench.save(told, options.out / f"profile-{name}.json"))


if __name__ == "__main__":
    main()
