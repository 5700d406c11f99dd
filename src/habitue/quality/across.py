"""What no table shows alone: rows that point at nothing, prices that contradict, moments in the wrong order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping

import polars as pl

from habitue.core.schemas import PURCHASE, Items
from habitue.quality.contents import imported
from habitue.quality.ledger import Finding, Ledger, plain

FAR = 5.0  # a price above so many times the catalogue's, or below one so-manieth of it
WILD = 20.0  # the same against what the product usually costs
USUAL_LINES = 5  # purchase lines from which a product has a usual price


def across(ledger: Ledger, tables: Mapping[str, pl.DataFrame], *, people: pl.Series, now: dt.datetime) -> list[Finding]:
    """Return the findings between tables; `people`: every user_key the identities know. O(n log n)."""
    items = tables["items"]
    found = [
        *_orphans(ledger, tables, people),
        *_prices(ledger, items),
        *_times(ledger, items, now),
        *_orders(ledger),
    ]
    return [one for one in found if one is not None]


def known_from(items: Items) -> pl.DataFrame:
    """Return item_id, first: the first moment each product of the catalogue is known to be there."""
    return items.group_by("item_id").agg(first=pl.col("valid_from").min())


def _orphans(ledger: Ledger, tables: Mapping[str, pl.DataFrame], people: pl.Series) -> Iterator[Finding | None]:
    listed = tables["items"]["item_id"].unique().implode()
    yield ledger.finding(
        "orphan_item",
        "consistency",
        pl.col("item_id").is_not_null() & ~pl.col("item_id").is_in(listed),
        "{rows} rows name a product that is in no catalogue: {money}.",
        "kept; import the catalogue that holds them",
    )
    yield ledger.finding(
        "orphan_user",
        "consistency",
        ~pl.col("user_key").is_in(people.implode()),
        "{rows} rows belong to a key that the identities do not hold: {money}.",
        "kept; the file of identities was changed from outside",
    )
    met = pl.concat([tables["items"]["item_id"], ledger.lines["item_id"].drop_nulls()]).unique().implode()
    for table in imported():
        frame = tables.get(table.name)
        if frame is None or frame.is_empty() or table.name in ("events", "items"):
            continue
        for column, there, what in (
            ("item_id", met, "a product nobody sells"),
            ("user_key", people.implode(), "nobody we know"),
        ):
            if column in frame.columns:
                rows = frame.filter(pl.col(column).is_not_null() & ~pl.col(column).is_in(there)).height
                code = "orphan_item" if column == "item_id" else "orphan_user"
                words = f"{rows:,} of {frame.height:,} rows of {table.name.upper()} point at {what}."
                yield (
                    plain(code, table.name, "consistency", words, rows, "kept; they join to nothing") if rows else None
                )

    yield from _ownerless(tables, met, ledger.lines["event_id"].unique().implode())


def _ownerless(tables: Mapping[str, pl.DataFrame], items: pl.Series, events: pl.Series) -> Iterator[Finding]:
    """Media of a product or an event that is not there."""
    media = tables.get("media")
    if media is None or "owner_id" not in media.columns:
        return
    for owner, there in (("item", items), ("event", events)):
        mine = media.filter(pl.col("owner") == owner, pl.col("owner_id").is_not_null())
        rows = mine.filter(~pl.col("owner_id").is_in(there)).height
        if rows:
            whose = "a product" if owner == "item" else "an event"
            words = f"{rows:,} of {media.height:,} media belong to {whose} that is not there."
            yield plain(f"orphan_{owner}", "media", "consistency", words, rows, "kept; they describe nothing")


def _prices(ledger: Ledger, items: Items) -> Iterator[Finding | None]:
    bought = (pl.col("kind") == PURCHASE) & (pl.col("price") > 0)
    listed = (
        items.filter(pl.col("price") > 0)
        .select("item_id", since="valid_from", listed="price", listed_in="currency")
        .sort("since")
    )
    lines = ledger.lines.select("item_id", "at", "price", "currency", "kind").with_row_index("row").sort("at")
    priced = lines.filter(bought).join_asof(
        listed, left_on="at", right_on="since", by="item_id", check_sortedness=False
    )
    one_money = (pl.col("currency") == pl.col("listed_in")).fill_null(True)
    off = priced.filter(one_money, _apart(pl.col("listed"), FAR))["row"]
    yield ledger.finding(
        "price_off_catalogue",
        "accuracy",
        _rows(ledger, off),
        f"{{rows}} purchase lines cost more than {FAR:g} times the catalogue's price of that moment, or less than a "
        f"{FAR:g}th: {{money}}.",
        "kept; the line's own price counts",
    )
    usual = pl.col("price").median().over("item_id", "currency")
    enough = pl.len().over("item_id", "currency") >= USUAL_LINES
    wild = lines.filter(bought).filter(enough & _apart(usual, WILD))["row"]
    yield ledger.finding(
        "price_off_usual",
        "accuracy",
        _rows(ledger, wild),
        f"{{rows}} purchase lines cost {WILD:g} times what the product usually costs, or a {WILD:g}th: {{money}}; "
        "a factor of 100 would be cents taken for whole units.",
        "kept; the line's own price counts",
    )


def _times(ledger: Ledger, items: Items, now: dt.datetime) -> Iterator[Finding | None]:
    yield ledger.finding(
        "future",
        "accuracy",
        pl.col("at") > now,
        f"{{rows}} rows happened after {now:%Y-%m-%d %H:%M} UTC, which is later than now: {{money}}.",
        "kept; the repairs clamp_clock and drop_future say what may be done",
    )
    yield ledger.finding(
        "received_before",
        "accuracy",
        (pl.col("received_at") < pl.col("at")).fill_null(False),
        "{rows} rows were received before they happened: {money}.",
        "kept; the repair clamp_clock takes the moment they were received",
    )
    first = ledger.lines.select("item_id", "at").join(
        known_from(items), on="item_id", how="left", maintain_order="left"
    )
    yield ledger.finding(
        "before_catalogue",
        "consistency",
        first.select((pl.col("at") < pl.col("first")).fill_null(False)).to_series(),
        "{rows} rows are about a product before the catalogue had it: {money}.",
        "kept; words and price of the product are unknown at that moment",
    )


def _orders(ledger: Ledger) -> Iterator[Finding | None]:
    several = (pl.col("user_key").n_unique().over("order_id") > 1) & pl.col("order_id").is_not_null()
    yield ledger.finding(
        "order_of_many",
        "consistency",
        several,
        "{orders} orders belong to more than one customer, {rows} rows: {money}.",
        "kept; each row counts for its own customer",
    )


def _apart(other: pl.Expr, factor: float) -> pl.Expr:
    return ((pl.col("price") > factor * other) | (pl.col("price") * factor < other)).fill_null(False)


def _rows(ledger: Ledger, rows: pl.Series) -> pl.Series:
    return pl.select(pl.int_range(ledger.lines.height, dtype=pl.UInt32).is_in(rows.implode())).to_series()
