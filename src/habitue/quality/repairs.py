"""What could be mended, done only when asked, and undone: a repair is a list of rows and what happens to each.

EVENTS and ITEMS in the lake stay as they were imported. The table REPAIRS says which row is left out or which of its
columns is set, and `mend` does so whenever the tables are read; without those rows everything is as before, whatever
was imported in between. The same file imported again brings nothing back: its ids are still there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from habitue.core.errors import UsageError, did_you_mean
from habitue.core.schemas import EVENTS, ITEMS, REPAIRS, Events, Items, Repairs, check
from habitue.quality import rows, traffic
from habitue.quality.alike import same_items

SIGNS = {"£": "GBP", "€": "EUR", "US$": "USD", "₹": "INR", "₩": "KRW", "RMB": "CNY"}  # of one currency only
SAID = {
    "drop_exact_repeats": "Leave out {rows} rows that repeat an earlier row exactly, {money}; the first of each stays.",
    "drop_bots": "Leave out {rows} rows of users who behave like programs, {money}.",
    "clamp_clock": "Set {rows} rows that happened after they were received to the moment they were received, {money}.",
    "drop_future": "Leave out {rows} rows that are later than now and were received by nobody, {money}.",
    "fix_currency": "Name the currency of {rows} rows as ISO 4217 does, {money}; where there is none, the shop's own.",
    "merge_items": "Join codes that are one product written twice: {rows} rows get the code with more rows, {money}.",
}
NAMES = tuple(SAID)


@dataclass(frozen=True)
class Proposal:
    """One repair that could be made now."""

    name: str
    rows: int  # rows of EVENTS it touches
    money: float  # their net money, major units
    sentence: str
    journal: pl.DataFrame  # REPAIRS without repair_id and applied_at


def propose(
    events: Events, items: Items, *, now: dt.datetime, currency: str, bots: traffic.Config | None = None
) -> list[Proposal]:
    """Return the repairs that would touch a row, of tables after those already in force; O(n log n).

    `currency`: the shop's own, for money that names none. `now`: later than this is the future.
    """
    check(events, EVENTS, at="quality.repairs")
    check(items, ITEMS, at="quality.repairs")
    return list(_proposals(events, items, now, currency, bots))


def applied(proposal: Proposal, *, at: dt.datetime) -> Repairs:
    """Return the rows to append to REPAIRS when a proposal is accepted at the moment `at`."""
    stamp = f"{at:%Y%m%dT%H%M%S%f}Z-{proposal.name}"
    return REPAIRS.shape(
        proposal.journal.with_columns(
            repair_id=pl.lit(stamp), repair=pl.lit(proposal.name), applied_at=pl.lit(at, dtype=pl.Datetime("us", "UTC"))
        )
    )


def undone(repairs: Repairs, name: str) -> Repairs:
    """Return REPAIRS without every application of `name`. Raises UsageError when none is in force."""
    kept = repairs.filter(pl.col("repair") != name)
    if kept.height == repairs.height:
        there = repairs["repair"].unique().to_list()
        raise UsageError(
            f"repair '{name}'",
            found="it is not in force" if name in NAMES else "there is no repair of that name",
            consequence="There is nothing to undo",
            remedy=did_you_mean(name, there) if there else "No repair is in force",
        )
    return kept


def in_force(repairs: Repairs) -> pl.DataFrame:
    """Return repair, applied_at, rows, money of every application, in their order."""
    told = repairs.group_by("repair_id", "repair", "applied_at").agg(
        rows=pl.len().cast(pl.Int64), money=pl.col("money").sum().round(2) + 0.0
    )
    return told.sort("applied_at", "repair_id").drop("repair_id")


def mend(events: Events, items: Items, repairs: Repairs) -> tuple[Events, Items]:
    """Return EVENTS and ITEMS with every repair done, in the order they were asked for; row order kept."""
    if repairs.is_empty():
        return events, items
    for (_, _), part in repairs.sort("applied_at", "repair_id").group_by(
        ["applied_at", "repair_id"], maintain_order=True
    ):
        events = _events(events, part.filter(pl.col("table") == "events"))
        codes = part.filter(pl.col("table") == "items").select("item_id", became="value").unique("item_id")
        if codes.height:
            events, items = _recoded(events, codes), _recoded(items, codes)
    return events, items.unique(ITEMS.key, keep="first", maintain_order=True)


def _proposals(
    events: Events, items: Items, now: dt.datetime, currency: str, bots: traffic.Config | None
) -> Iterator[Proposal]:
    yield from _dropping("drop_exact_repeats", events.filter(rows.is_repeat(events)))
    programs = traffic.bots(events, bots)["user_key"]
    yield from _dropping("drop_bots", events.filter(pl.col("user_key").is_in(programs.implode())))
    early = (pl.col("received_at") < pl.col("at")).fill_null(False)
    moment = pl.col("received_at").dt.epoch("us").cast(pl.String)
    yield from _setting("clamp_clock", events.filter(early), "at", moment)
    nobody = (pl.col("at") > now) & ~early & (pl.col("received_at").is_null() | (pl.col("received_at") > now))
    yield from _dropping("drop_future", events.filter(nobody))
    right = _iso(currency)
    wrong = pl.col("value").is_not_null() & rows.paid() & right.is_not_null() & right.ne_missing(pl.col("currency"))
    yield from _setting("fix_currency", events.filter(wrong), "currency", right)
    codes = same_items(items, events.drop_nulls("item_id"))
    if codes.height:
        touched = events.join(codes, on="item_id", how="inner")
        money = touched.group_by("item_id").agg(money=rows.money().sum())
        journal = codes.join(money, on="item_id", how="left").select(
            "item_id",
            table=pl.lit("items"),
            column=pl.lit("item_id"),
            value="keep",
            money=pl.col("money").fill_null(0.0),
        )
        yield _proposal("merge_items", touched, journal)


def _dropping(name: str, touched: pl.DataFrame) -> Iterator[Proposal]:
    if touched.height:
        yield _proposal(name, touched, _journal(touched, None, pl.lit(None, dtype=pl.String)))


def _setting(name: str, touched: pl.DataFrame, column: str, value: pl.Expr) -> Iterator[Proposal]:
    if touched.height:
        yield _proposal(name, touched, _journal(touched, column, value))


def _journal(touched: pl.DataFrame, column: str | None, value: pl.Expr) -> pl.DataFrame:
    return touched.select(
        "event_id",
        "line",
        "user_key",
        "item_id",
        table=pl.lit("events"),
        column=pl.lit(column, dtype=pl.String),
        value=value,
        money=rows.money(),
    )


def _proposal(name: str, touched: pl.DataFrame, journal: pl.DataFrame) -> Proposal:
    money = round(float(touched.select(rows.money().sum()).item()), 2) + 0.0
    sentence = SAID[name].format(rows=f"{touched.height:,}", money=f"{money:,.2f} of net money")
    return Proposal(name, touched.height, money, sentence, journal)


def _events(events: Events, journal: pl.DataFrame) -> Events:
    key = ["event_id", "line"]
    out = journal.filter(pl.col("column").is_null())
    if out.height:
        events = events.join(out.select(key), on=key, how="anti", maintain_order="left")
    for (column,), part in journal.drop_nulls("column").group_by(["column"], maintain_order=True):
        kind = events.schema[str(column)]
        value = pl.col("value").cast(pl.Int64).cast(kind) if kind.is_temporal() else pl.col("value").cast(kind)
        news = part.select(*key, value.alias("new"))
        events = events.join(news, on=key, how="left", maintain_order="left")
        events = events.with_columns(pl.coalesce("new", str(column)).alias(str(column))).drop("new")
    return events


def _recoded(frame: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    joined = frame.join(codes, on="item_id", how="left", maintain_order="left")
    return joined.with_columns(item_id=pl.coalesce("became", "item_id")).drop("became").select(frame.columns)


def _iso(own: str) -> pl.Expr:
    """The ISO 4217 code a row means: its letters in capitals, a sign's currency, the shop's own where there is none."""
    written = pl.col("currency").str.strip_chars().str.to_uppercase()
    named = written.replace_strict(list(SIGNS), list(SIGNS.values()), default=written, return_dtype=pl.String)
    told = pl.when(pl.col("currency").is_null() | (written == "")).then(pl.lit(own)).otherwise(named)
    return pl.when(told.str.contains(r"^[A-Z]{3}$")).then(told)  # what cannot be told stays as it is
