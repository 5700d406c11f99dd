"""Rules about one row of EVENTS, as Polars expressions: what `clean` drops and `inspect` counts."""

from __future__ import annotations

import polars as pl

from habitue.core.schemas import PURCHASE, REFUND, Events

# What differs between two copies of one row: how it was numbered and how it came.
NUMBERING = ("event_id", "line", "received_at", "import_id")


def is_repeat(events: Events) -> pl.Series:
    """Say of each row whether an earlier row of the table equals it in everything but its numbering (bool)."""
    telling = [c for c in events.columns if c not in NUMBERING and events[c].null_count() < events.height]
    return (
        ~events.select(pl.struct(telling).is_first_distinct()).to_series()
        if telling
        else pl.repeat(False, events.height, eager=True)
    )


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
