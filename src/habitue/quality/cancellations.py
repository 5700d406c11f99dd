"""Cancelled lines matched back to the purchases they undo."""

from __future__ import annotations

import polars as pl

from habitue.core.schemas import PURCHASE, REFUND, Events


def matched(events: Events, *, whole: bool = True) -> pl.Series:
    """Say of each row whether it is a refund line with its own earlier purchase (bool, in the order of `events`).

    Its own: same user, item and number of units (`whole=False`: at least as many units, bought in one or several
    lines), strictly earlier, and not taken by an earlier refund line. A walk over each (user, item, units) in time,
    +1 for a purchase and -1 for a refund (`whole=False`: their units): a refund finds no purchase left exactly when
    the balance falls below its lowest value so far. O(n log n).
    """
    rows = events.select("user_key", "item_id", "kind", "quantity", "at").with_row_index("row")
    bought = (pl.col("kind") == PURCHASE) & (pl.col("quantity") > 0)
    undone = (pl.col("kind") == REFUND) & (pl.col("quantity") < 0) & pl.col("item_id").is_not_null()
    group = ["user_key", "item_id", "units"] if whole else ["user_key", "item_id"]
    moves = rows.filter(bought | undone).with_columns(
        units=pl.col("quantity").abs(), step=pl.col("quantity").sign() if whole else pl.col("quantity")
    )
    refunded = moves.filter(pl.col("step") < 0).select(group).unique()
    # At one moment the refund comes first: a purchase it undoes is earlier.
    walk = moves.join(refunded, on=group, how="semi").sort(*group, "at", "step", "row")
    walk = walk.with_columns(balance=pl.col("step").cum_sum().over(group))
    lowest = pl.col("balance").cum_min().shift(1).over(group).fill_null(0.0).clip(upper_bound=0.0)
    found = walk.filter(pl.col("step") < 0, pl.col("balance") >= lowest)["row"]
    return rows.select(pl.col("row").is_in(found.implode())).to_series().alias("matched")
