"""Hand-made lines of a shop, and the bundled ledger as EVENTS."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from habitue.collect import bundled
from habitue.core.schemas import EVENTS, ITEMS

Lines = Callable[..., pl.DataFrame]


@dataclass(frozen=True)
class Ledger:
    events: pl.DataFrame
    items: pl.DataFrame
    known: pl.DataFrame


@pytest.fixture(scope="session")
def lines() -> Lines:
    def make(*rows: dict[str, Any]) -> pl.DataFrame:
        """EVENTS with one row a dict; what a dict leaves out is an ordinary purchase of one P1 for 2.00 on day 0."""
        ordinary = {"user_key": 1, "kind": "Order Completed", "item_id": "10001", "title": "red mug", "day": 0.0}
        ordinary |= {"order_id": "o1", "price": 2.0, "quantity": 1.0, "currency": "EUR"}
        full = [{"event_id": f"e{i:03d}", **ordinary, **row} for i, row in enumerate(rows)]
        for row in full:
            row["at"] = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=row.pop("day"))
            if "value" not in row:
                row["value"] = None if None in (row["price"], row["quantity"]) else row["price"] * row["quantity"]
        schema = {c.name: c.dtype for c in EVENTS.columns}
        named = [{"line": 0, "source": "test", "import_id": "test", **row} for row in full]
        return EVENTS.shape(pl.DataFrame([{n: r.get(n) for n in schema} for r in named], schema=schema))

    return make


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """Online Retail read without the importer: an independent road to the same table."""
    raw = pl.read_parquet(bundled.ledger().file).with_row_index("row")
    raw = raw.with_columns(
        at=pl.col("InvoiceDate").dt.replace_time_zone("Europe/London").dt.convert_time_zone("UTC"),
        user=pl.coalesce(pl.col("CustomerID").cast(pl.String), "order:" + pl.col("InvoiceNo")),
    )
    raw = raw.with_columns(user_key=pl.col("user").rank("dense").cast(pl.Int64))
    cancelled = pl.col("InvoiceNo").str.starts_with("C")
    events = raw.select(
        event_id=pl.col("row").cast(pl.String),
        line=0,
        at="at",
        user_key="user_key",
        kind=pl.when(cancelled).then(pl.lit("Order Refunded")).otherwise(pl.lit("Order Completed")),
        item_id="StockCode",
        title="Description",
        order_id="InvoiceNo",
        price="UnitPrice",
        quantity="Quantity",
        currency=pl.lit("GBP"),
        value=pl.col("UnitPrice") * pl.col("Quantity"),
        source=pl.lit("online_retail"),
        import_id=pl.lit("test"),
        extra="Country",
    )
    named = raw.group_by(item_id="StockCode", title="Description").agg(valid_from=pl.col("at").min())
    known = raw.group_by("user_key").agg(known=pl.col("CustomerID").is_not_null().any())
    origin = {"source": pl.lit("online_retail"), "import_id": pl.lit("test")}
    return Ledger(EVENTS.shape(events), ITEMS.shape(named.with_columns(**origin)), known)
