"""Completeness, consistency, accuracy and diversity as numbers from 0 to 1; each formula stands beside its number.

docs/quality.md explains every measure with its value on a real ledger. A measure that cannot be taken (no refund to
match, no price to check) has no row: nothing is scored that was not there to score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from habitue.core.schemas import EVENTS, ITEMS, PURCHASE, QUALITY, REFUND, USERS, Events, Items, Quality, Users, check
from habitue.quality import rows
from habitue.quality.cancellations import matched
from habitue.quality.products import Rule, judge

Measure = tuple[str, str, str, float | None, str]  # table, dimension, measure, score (None = not there), formula


def scores(events: Events, items: Items, users: Users, *, known: pl.DataFrame, rule: Rule | None = None) -> Quality:
    """Return QUALITY, one row a measure, of tables as imported (not cleaned); O(n log n).

    `known`: user_key, known (bool; false = known only by a guest order); a key it lacks counts as unknown.
    """
    check(events, EVENTS, at="quality.scores")
    check(items, ITEMS, at="quality.scores")
    check(users, USERS, at="quality.scores")
    paid = events.filter(rows.paid())
    named = known.filter("known").select("user_key")
    measures = [
        *_completeness(events, paid, items, users, named),
        *_consistency(paid, users),
        *_accuracy(events, paid, rule or Rule()),
        *_diversity(paid, named),
    ]
    return table_of(measures)


def table_of(measures: Iterable[Measure]) -> Quality:
    """Return QUALITY of the measures that could be taken."""
    return pl.DataFrame([m for m in measures if m[3] is not None], schema=QUALITY.schema, orient="row")


def _completeness(
    events: Events, paid: pl.DataFrame, items: Items, users: Users, named: pl.DataFrame
) -> Iterator[Measure]:
    where = "completeness"
    for column, measure in (("item_id", "code"), ("title", "words"), ("price", "price"), ("quantity", "quantity")):
        share = _share(paid[column].is_not_null())
        yield "events", where, f"{measure} present", share, f"purchase and refund lines with {column} / all such lines"
    mine = paid["user_key"].is_in(named["user_key"].implode())
    yield "events", where, "customer named", _share(mine), "lines whose customer is known / purchase and refund lines"
    money = paid["value"].fill_null(0.0).abs()
    total, with_customer = float(money.sum()), float(money.filter(mine).sum())
    by_money = with_customer / total if total else None
    yield "events", where, "money with a customer", by_money, "sum |value| of lines with a known customer / sum |value|"
    worded = items.group_by("item_id").agg(pl.col("title").is_not_null().any())["title"]
    yield "items", where, "words known", _share(worded), "products with a title in at least one row / products"
    buyers = events.select("user_key").unique().join(named, on="user_key", how="semi")
    described = buyers["user_key"].is_in(users.filter(pl.col("attributes") != "{}")["user_key"].implode())
    yield "users", where, "attributes known", _share(described), "known customers with an attribute / known customers"


def _consistency(paid: pl.DataFrame, users: Users) -> Iterator[Measure]:
    where = "consistency"
    coded = paid.drop_nulls("item_id")
    spellings = coded.drop_nulls("title").group_by("item_id").agg(pl.col("title").n_unique())["title"]
    yield "events", where, "one title a code", _share(spellings == 1), "codes with one title / codes with a title"
    codes = coded.select("item_id", code=pl.col("item_id").str.to_uppercase()).unique()
    alike = codes.select(pl.len().over("code") == 1).to_series()
    yield "events", where, "one spelling a code", _share(alike), "codes no other equals but for letter case / codes"
    owners = paid.drop_nulls("order_id").group_by("order_id").agg(pl.col("user_key").n_unique())["user_key"]
    yield "events", where, "one customer an order", _share(owners == 1), "orders with one customer / orders"
    priced = paid.drop_nulls(["value", "price", "quantity"])
    right = (priced["value"] - priced["price"] * priced["quantity"]).abs() <= rows.HALF_CENT
    yield (
        "events",
        where,
        "value adds up",
        _share(right),
        "|value - price x quantity| <= 0.005 / lines that have all three",
    )
    counted = paid.drop_nulls("quantity")
    sign = (counted["quantity"] > 0) == (counted["kind"] == PURCHASE)
    yield "events", where, "sign fits the kind", _share(sign), "purchases above 0 units and refunds not / lines"
    currencies = paid["currency"].drop_nulls()
    first = _share(currencies == currencies.mode().sort()[0]) if currencies.len() else None
    yield "events", where, "one currency", first, "lines in the commonest currency / lines with a currency"
    versions = users.group_by("user_key").agg(pl.col("attributes").n_unique())["attributes"]
    yield "users", where, "attributes stay", _share(versions == 1), "customers with one set of attributes / customers"


def _accuracy(events: Events, paid: pl.DataFrame, rule: Rule) -> Iterator[Measure]:
    where = "accuracy"
    repeats = rows.is_repeat(events)
    yield "events", where, "no exact repeat", _share(~repeats), "1 - exact repeats / rows"
    priced = paid["price"].drop_nulls()
    yield "events", where, "price above 0", _share(priced > 0), "lines with a price above 0 / lines with a price"
    refunds = events.select(matched(events, whole=False), refund=pl.col("kind") == REFUND).filter("refund")["matched"]
    yield (
        "events",
        where,
        "refunds explained",
        _share(refunds),
        "refund lines covered by earlier purchases / refund lines",
    )
    sold = paid.filter(pl.col("price") > 0, pl.col("item_id").is_not_null())
    goods = judge(sold, rule).select("item_id", "product")
    is_good = sold.select("item_id").join(goods, on="item_id", how="left", maintain_order="left")["product"]
    yield "events", where, "lines are products", _share(is_good), "priced lines whose code is a product / priced lines"


def _diversity(paid: pl.DataFrame, named: pl.DataFrame) -> Iterator[Measure]:
    where = "diversity"
    bought = paid.filter(pl.col("kind") == PURCHASE, pl.col("quantity") > 0, pl.col("price") > 0)
    lines = bought.drop_nulls("item_id").group_by("item_id").len()["len"]
    yield "events", where, "products", evenness(lines), "entropy of purchase lines over products / ln products"
    money = bought.join(named, on="user_key", how="semi").group_by("user_key").agg(pl.col("value").sum())["value"]
    yield (
        "events",
        where,
        "customers",
        evenness(money),
        "entropy of purchase money over known customers / ln customers",
    )
    days = bought.select(pl.col("at").dt.date().alias("day"))["day"]
    span = (days.max() - days.min()).days + 1 if days.len() else 0  # type: ignore[operator, union-attr]
    yield "events", where, "days", days.n_unique() / span if span else None, "days (UTC) with a purchase / days spanned"
    hours = bought.group_by(pl.col("at").dt.weekday()).len()["len"]
    yield "events", where, "weekdays", evenness(hours, of=7), "entropy of purchase lines over weekdays (UTC) / ln 7"


def _share(hit: pl.Series) -> float | None:
    return None if hit.is_empty() else float(hit.sum() / hit.len())


def evenness(amounts: pl.Series, of: int | None = None) -> float | None:
    """Shannon entropy of the shares, over the largest there could be (Pielou 1966); 1 = all alike, None below two."""
    amounts = amounts.filter(amounts > 0).sort().cast(pl.Float64)
    count = of or amounts.len()
    if amounts.is_empty() or count < 2:
        return None
    share = amounts / amounts.sum()
    most = pl.select(pl.lit(float(count)).log()).item()
    return float(min(1.0, max(0.0, -(share * share.log()).sum() / most)))
