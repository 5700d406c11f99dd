"""Rules about one row of EVENTS, as Polars expressions: what `clean` drops and `inspect` counts."""

from __future__ import annotations

import polars as pl

from habitue.core.schemas import PURCHASE, REFUND, Events

HALF_CENT = 0.005  # money that rounds to the same cent
# What differs between two copies of one row: how it was numbered and how it came.
NUMBERING = ("event_id", "line", "received_at", "import_id")


def is_repeat(events: Events) -> pl.Series:
    """Say of each row whether an earlier row of the table equals it in everything but its numbering (bool)."""
    rows = events.drop(*NUMBERING).with_row_index("row")
    alike = rows.filter(pl.struct("user_key", "at", "item_id").is_duplicated())  # few: the costly look is at these
    first = alike.unique([c for c in alike.columns if c != "row"], keep="first", maintain_order=True)
    repeats = alike.join(first.select("row"), on="row", how="anti")["row"]
    return rows.select(pl.col("row").is_in(repeats.implode())).to_series().alias("repeat")


def paid() -> pl.Expr:
    """Lines of a purchase or a refund."""
    return pl.col("kind").is_in([PURCHASE, REFUND])


def negative_quantity() -> pl.Expr:
    """Lines of fewer than 0 units that no refund explains."""
    return ((pl.col("kind") == PURCHASE) & (pl.col("quantity") < 0)).fill_null(False)


def zero_quantity() -> pl.Expr:
    """Purchase or refund lines of 0 units."""
    return (paid() & (pl.col("quantity") == 0)).fill_null(False)


def negative_price() -> pl.Expr:
    """Purchase or refund lines with a price below 0."""
    return (paid() & (pl.col("price") < 0)).fill_null(False)


def zero_price() -> pl.Expr:
    """Purchase or refund lines with a price of 0."""
    return (paid() & (pl.col("price") == 0)).fill_null(False)


def money() -> pl.Expr:
    """Net money of a line: its value when it is a purchase or a refund, else 0."""
    return pl.when(paid()).then(pl.col("value")).otherwise(0.0).fill_null(0.0)
