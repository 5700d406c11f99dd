"""What is wrong in a shop's tables, found without being told, each with the money it touches."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from habitue.core.schemas import (
    EVENTS,
    FINDINGS,
    ITEMS,
    PURCHASE,
    REFUND,
    REFUSED,
    Events,
    Findings,
    Items,
    Refused,
    check,
)
from habitue.quality import rows
from habitue.quality.ledger import Finding, Ledger, ledger, plain, unbraced
from habitue.quality.products import Rule, judge

HUGE = 0.001  # a purchase line above this share of the shop's net money is worth a look
EXAMPLES = 6  # codes named in a sentence


def inspect(
    events: Events, items: Items, *, known: pl.DataFrame, refused: Refused | None = None, rule: Rule | None = None
) -> Findings:
    """Return FINDINGS: one row per thing found, nothing for what is not there.

    `events` as imported, not cleaned. `known`: user_key, known (bool; false = known only by a guest order), one row
    per key; a key it lacks counts as unknown. Findings overlap: a line may be a repeat and free of charge, so their
    money does not add up. Money is in the events' own currency; several currencies are a finding. O(n log n).
    """
    check(events, EVENTS, at="quality.inspect")
    check(items, ITEMS, at="quality.inspect")
    lines = ledger(events, known)
    found = [
        *_people(lines),
        *_lines(lines),
        *_cancelled(lines),
        *_codes(lines, rule or Rule()),
        *_tables(lines, items, refused),
    ]
    return pl.DataFrame([f for f in found if f is not None], schema=FINDINGS.schema)


def _people(ledger: Ledger) -> Iterator[Finding | None]:
    yield ledger.finding(
        "no_customer",
        "completeness",
        ~pl.col("known"),
        "{rows} rows name no customer: {money}, {share} of the net money.",
        "kept; counts for popularity and products, never as a customer",
    )


def _lines(ledger: Ledger) -> Iterator[Finding | None]:
    yield ledger.finding(
        "exact_repeat",
        "consistency",
        pl.col("repeat"),
        "{rows} rows repeat an earlier row exactly: {money}.",
        "dropped; the first is kept",
    )
    yield ledger.finding(
        "negative_quantity",
        "accuracy",
        rows.negative_quantity(),
        "{rows} lines have a negative quantity and are no cancellation: {money}.",
        "dropped",
    )
    yield ledger.finding(
        "zero_quantity", "accuracy", rows.zero_quantity(), "{rows} lines sell 0 units: {money}.", "dropped"
    )
    yield ledger.finding(
        "negative_price", "accuracy", rows.negative_price(), "{rows} lines have a negative price: {money}.", "dropped"
    )
    yield ledger.finding(
        "zero_price", "accuracy", rows.zero_price(), "{rows} lines have a price of 0: {money}.", "dropped"
    )
    yield ledger.finding(
        "huge_line",
        "accuracy",
        (pl.col("kind") == PURCHASE) & (pl.col("value") > HUGE * ledger.net) & (ledger.net > 0),
        f"{{rows}} purchase lines are each above {100 * HUGE:.1f} % of the net money: {{money}} together.",
        "kept; whether they were cancelled is in 'cancelled'",
    )
    off = (pl.col("value") - pl.col("price") * pl.col("quantity")).abs() > rows.HALF_CENT
    yield ledger.finding(
        "value_mismatch",
        "consistency",
        rows.paid() & off,
        "{rows} lines have a value that is not price x quantity: {money}.",
        "kept; the line's own value counts",
    )


def _cancelled(ledger: Ledger) -> Iterator[Finding | None]:
    refund = pl.col("kind") == REFUND
    refunds = ledger.lines.filter(refund)
    whole, part = (int(refunds[name].sum()) for name in ("matched", "covered"))
    of = 100 / max(refunds.height, 1)
    yield ledger.finding(
        "cancelled",
        "consistency",
        refund,
        "{rows} cancelled lines on {orders} invoices: {money}. "
        f"{whole:,} ({of * whole:.1f} %) match an earlier purchase by customer, code and quantity; {part:,} "
        f"({of * part:.1f} %) are covered by earlier purchases of the code by the customer.",
        "kept as refunds of negative value",
    )
    yield ledger.finding(
        "cancelled_uncovered",
        "consistency",
        refund & ~pl.col("covered"),
        "{rows} cancelled lines on {orders} invoices undo more than the customer is known to have bought: {money}.",
        "kept as refunds of negative value",
    )


def _codes(ledger: Ledger, rule: Rule) -> Iterator[Finding | None]:
    lines = ledger.lines.filter(pl.col("item_id").is_not_null())
    titles = lines.group_by("item_id").agg(
        every=pl.col("title").n_unique(), named=pl.col("title").drop_nulls().n_unique()
    )
    several, any_missing = titles.filter(pl.col("named") > 1), titles.filter(pl.col("every") > 1)
    yield ledger.finding(
        "several_titles",
        "consistency",
        pl.col("item_id").is_in(several["item_id"].implode()),
        f"{several.height:,} codes have more than one description ({any_missing.height:,} when a missing description "
        "counts as one): {rows} rows, {money}.",
        "kept; a product's words are its most frequent description so far",
    )
    yield ledger.finding(
        "no_title",
        "completeness",
        pl.col("title").is_null() & pl.col("item_id").is_not_null(),
        "{rows} rows have a code and no description: {money}.",
        "kept; the words come from the code's other lines",
    )
    spellings = titles.with_columns(code=pl.col("item_id").str.to_uppercase()).filter(pl.len().over("code") > 1)
    yield ledger.finding(
        "code_case",
        "consistency",
        pl.col("item_id").is_in(spellings["item_id"].implode()),
        f"{spellings.height:,} codes differ from another only in upper and lower case: {{rows}} rows, {{money}}.",
        "kept apart, as the shop wrote them",
    )
    priced = lines.filter(rows.paid(), ~rows.negative_quantity(), pl.col("price") > 0)
    services = judge(priced, rule).filter(~pl.col("product"))
    here = lines.filter(pl.col("item_id").is_in(services["item_id"].implode()))
    by_money = (
        here.group_by("item_id").agg(pl.col("value").abs().sum()).sort("value", "item_id", descending=[True, False])
    )
    names = services.select("item_id", "title").join(by_money, on="item_id").sort("value", descending=True)
    examples = ", ".join(f"{i} ({t})" for i, t in names.select("item_id", "title").head(EXAMPLES).iter_rows())
    yield ledger.finding(
        "no_product",
        "accuracy",
        pl.col("item_id").is_in(services["item_id"].implode()),
        f"{services.height:,} codes are no products, by the shape of the code and its words: {{rows}} rows, {{money}} "
        f"net; the largest: {unbraced(examples)}.",
        "kept as money; never recommended",
    )


def _tables(ledger: Ledger, items: Items, refused: Refused | None) -> Iterator[Finding | None]:
    currencies = ledger.lines.filter(rows.paid())["currency"].drop_nulls().unique().sort()
    yield ledger.finding(
        "several_currencies",
        "consistency",
        rows.paid() & (currencies.len() > 1),
        f"{currencies.len()} currencies in one table ({', '.join(currencies)}); no sum of money means anything.",
        "kept; convert before import",
    )
    silent = items.group_by("item_id").agg(pl.col("title").is_not_null().any()).filter(~pl.col("title"))["item_id"]
    yield ledger.finding(
        "item_without_words",
        "completeness",
        pl.col("item_id").is_in(silent.implode()),
        f"{silent.len():,} codes never carry a description: {{rows}} rows, {{money}}.",
        "kept; no words to compare them by",
    )
    if refused is not None and refused.height:
        check(refused, REFUSED, at="quality.inspect")
        codes = refused.group_by("code").len().sort("len", "code", descending=[True, False])
        reasons = ", ".join(f"{count:,} {code}" for code, count in codes.iter_rows())
        yield plain(
            "refused",
            "refused",
            "accuracy",
            f"{refused.height:,} rows were refused at the door ({reasons}); their money is unknown.",
            refused.height,
            "kept in REFUSED with the reason",
        )
