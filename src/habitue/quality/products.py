"""Which codes of a ledger are products, and which are postage, discounts, bank charges and the like.

No list of codes: a code is held against the shapes most of the shop's codes have ('85123A' has shape '9a', 'POST' has
'a'), and its words against words for services. See docs/quality.md, "Codes that are no products".
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from habitue.core.errors import SchemaError


@dataclass(frozen=True)
class Rule:
    """How a code that is no product is told from a product."""

    usual_share: float = 0.95  # the most common shapes that together hold this share of the codes are the usual ones
    service: tuple[str, ...] = (
        *("postage", "shipping", "carriage", "delivery", "freight", "handling", "packing", "insurance"),
        *("charge", "surcharge", "fee", "commission", "tax", "discount", "rebate", "refund", "voucher", "deposit"),
        *("adjust", "adjustment", "debt", "manual", "sample", "donation"),
    )  # singular; a plural in -s is understood
    qualifier: tuple[str, ...] = ("bank", "bad", "next", "day", "express", "standard", "free", "credit", "card", "gift")
    always: tuple[str, ...] = ()  # codes that are products whatever the rule says
    never: tuple[str, ...] = ()  # codes that are none whatever the rule says


def titles(lines: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, title: each item's most frequent title (the alphabetically first on a tie), null if it has none.

    `lines` needs item_id and title; sorted by item_id. O(n log n).
    """
    counted = lines.filter(pl.col("item_id").is_not_null()).group_by("item_id", "title").len()
    return (
        counted.sort("item_id", pl.col("title").is_null(), -pl.col("len").cast(pl.Int64), "title")
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("title").first())
    )


def judge(lines: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Return item_id, title, shape, product (bool) of every item in `lines`, sorted by item_id.

    A code is no product when (a) its shape is unusual in this shop and its title holds a service word, or (b) every
    word of its title is a service word or qualifies one, with at least one service word.
    """
    named = titles(lines).with_columns(
        shape=pl.col("item_id").str.replace_all(r"[0-9]+", "9").str.replace_all(r"\p{L}+", "a"),
        words=pl.col("title").str.to_lowercase().str.extract_all(r"\p{L}+").fill_null([]),
    )
    sizes = named.group_by("shape").len("codes")
    larger = (
        sizes.sort("codes", descending=True)
        .group_by("codes", maintain_order=True)
        .agg(pl.col("codes").sum().alias("held"))
    )
    larger = larger.with_columns(before=(pl.col("held").cum_sum() - pl.col("held")) / max(named.height, 1))
    usual = sizes.join(larger, on="codes").filter(pl.col("before") < rule.usual_share)["shape"]
    word = pl.element().str.strip_suffix("s")
    service = word.is_in(list(rule.service))
    kin = service | word.is_in(list(rule.qualifier))
    some = pl.col("words").list.eval(service).list.any()
    every = pl.col("words").list.eval(kin).list.all()
    odd = ~pl.col("shape").is_in(usual.to_list())
    no_product = (some & (odd | every)) | pl.col("item_id").is_in(list(rule.never))
    product = ~no_product | pl.col("item_id").is_in(list(rule.always))
    return named.with_columns(product=product).select("item_id", "title", "shape", "product")


def products(lines: pl.DataFrame, rule: Rule | None = None) -> frozenset[str]:
    """Return the item_ids that are products; the rest are services (postage, discounts, bank charges).

    `lines`: EVENTS after `clean`, or any frame with item_id and title; nothing outside it is looked at, so the answer
    is as of the last line given. Raises SchemaError when a column is missing.
    """
    for name in ("item_id", "title"):
        if name not in lines.columns:
            raise SchemaError(
                "quality.products",
                found=f"column '{name}' is missing",
                consequence="A product is told from a service by its code and its words",
                remedy="Give EVENTS, or a frame with item_id and title",
            )
    judged = judge(lines, rule or Rule())
    return frozenset(judged.filter("product")["item_id"])
