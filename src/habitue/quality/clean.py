"""EVENTS without the rows that say nothing true about a purchase; each dropped row is counted, with its money."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from habitue.core.schemas import EVENTS, Events, check
from habitue.quality import rows
from habitue.quality.products import Rule


@dataclass(frozen=True)
class Config:
    """What `clean` drops; the rule for products rides along for whoever asks."""

    repeats: bool = True  # exact repeats, the first kept
    negative_quantities: bool = True  # purchase lines of fewer than 0 units
    zero_quantities: bool = True  # purchase and refund lines of 0 units
    negative_prices: bool = True  # purchase and refund lines
    zero_prices: bool = True  # purchase and refund lines
    products: Rule = Rule()


def clean(events: Events, config: Config | None = None) -> tuple[Events, pl.DataFrame]:
    """Return (EVENTS that may be believed, what was dropped), EVENTS sorted by at, event_id, line.

    The second frame is code, rows, money (net value of the rows, major units); a row that breaks two rules is counted
    once, under the first in this order: exact_repeat, negative_quantity, zero_quantity, negative_price, zero_price.
    Causal: whether a row stays depends on rows of its own moment only, so truncating the events at t changes nothing
    before t. Refunds stay, as events of negative value. O(n log n).
    """
    check(events, EVENTS, at="quality.clean")
    config = config or Config()
    events = events.sort("at", "event_id", "line")
    rules: list[tuple[str, bool, pl.Expr | pl.Series]] = [
        ("exact_repeat", config.repeats, pl.Series("repeat", rows.is_repeat(events))),
        ("negative_quantity", config.negative_quantities, rows.negative_quantity()),
        ("zero_quantity", config.zero_quantities, rows.zero_quantity()),
        ("negative_price", config.negative_prices, rows.negative_price()),
        ("zero_price", config.zero_prices, rows.zero_price()),
    ]
    reason = pl.lit(None, dtype=pl.String)
    for code, wanted, broken in reversed(rules):
        if wanted:
            reason = pl.when(broken).then(pl.lit(code)).otherwise(reason)
    reasons = events.select(reason.alias("code"), "value")
    counted = reasons.drop_nulls("code").group_by("code").agg(rows=pl.len().cast(pl.Int64), money=pl.col("value").sum())
    order = pl.DataFrame({"code": [code for code, wanted, _ in rules if wanted]}, schema={"code": pl.String})
    dropped = order.join(counted, on="code", how="left", maintain_order="left").select(
        "code", pl.col("rows").fill_null(0), pl.col("money").fill_null(0.0).round(2) + 0.0
    )
    return events.filter(reasons["code"].is_null()), dropped
