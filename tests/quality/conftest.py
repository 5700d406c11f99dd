"""The bundled ledger as EVENTS."""

from dataclasses import dataclass

import polars as pl
import pytest

from habitue.collect import bundled
from habitue.core.schemas import EVENTS, ITEMS


@dataclass(frozen=True)
class Ledger:
    events: pl.DataFrame
    items: pl.DataFrame
    known: pl.DataFrame


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
