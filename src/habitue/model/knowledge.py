"""What the shop knows without data: whoever bought this is likely to want that. A soft constraint on training.

A rule holds for a customer from the purchase of any product of its left side on. Where it holds before a lesson, a
share of the lesson's target goes to the products of its right side, each by how often it is bought (one sale more for
each, so that a new product has its part): the rule is a teacher beside the closed form of teacher.py, and what the
customers do may still say otherwise (distillation of logic rules into a network: Hu, Ma, Liu, Hovy and Xing, ACL 2016,
eq. 2, with the rule's own distribution for its projected one).

    target = (1 - sum of shares) next set + sum over rules that hold of share x t,    t_i ~ sales_i + 1 on the right

Rules stand in habitue.toml, one table each:

    [[knowledge]]
    bought = { category = "Printers" }
    wants = { category = "Printers > Ink" }
    share = 0.2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import SettingsError
from habitue.model.past import PURCHASE, Floats, Histories, Ints
from habitue.model.teacher import LESSONS_A_CALL, TOLD, Told, reasons_of

MOST = 0.8  # of a target that all rules together may have


@dataclass(frozen=True)
class Products:
    """Products that any of these name."""

    items: tuple[str, ...] = ()
    category: str = ""  # and everything below it: "Home" has "Home > Kitchen"
    brand: str = ""
    words: str = ""  # all of them stand in the title, in any order; capitals do not count

    @property
    def nothing(self) -> bool:
        """Whether no product could be named."""
        return not (self.items or self.category or self.brand or self.words.strip())


@dataclass(frozen=True)
class Rule:
    """Whoever bought one of these is likely to want one of those. Raises SettingsError for one that says nothing."""

    bought: Products = field(default_factory=Products)
    wants: Products = field(default_factory=Products)
    share: float = 0.2  # of the target of a lesson before which it holds

    def __post_init__(self) -> None:
        """Refuse a rule without a side, and a share that leaves nothing to the data."""
        side = next((name for name in ("bought", "wants") if getattr(self, name).nothing), "")
        if side or not 0 < self.share <= MOST:
            raise SettingsError(
                "knowledge",
                found=f"a rule whose '{side}' names no product" if side else f"a share of {self.share:g}",
                consequence="It would constrain nothing" if side else "What customers do would not be learnt from",
                remedy="Name items, a category, a brand or words" if side else f"Give more than 0 and at most {MOST:g}",
            )


@dataclass(frozen=True)
class Knowledge:
    """The rules about one catalogue of I products."""

    left: sp.csr_matrix  # [R, I] 0/1
    right: sp.csr_matrix  # [R, I] 0/1
    share: Floats  # [R]

    def take(self, items: Ints) -> Knowledge:
        """Return the same about the products at these places, in this order."""
        return Knowledge(self.left[:, items], self.right[:, items], self.share)


def about(rules: Sequence[Rule], catalogue: pl.DataFrame) -> Knowledge | None:
    """Return what the rules say of a catalogue (item_id, title, category, brand); None without a rule."""
    if not rules:
        return None
    left, right = (
        sp.csr_matrix(np.stack([_named(getattr(rule, side), catalogue) for rule in rules]).astype(np.float32))
        for side in ("bought", "wants")
    )
    return Knowledge(left, right, np.array([rule.share for rule in rules], dtype=np.float32))


def check(knowledge: Knowledge | None) -> None:
    """Raise SettingsError, in words, for a rule of which one side names no product there is."""
    if knowledge is None:
        return
    for name, side in (("bought", knowledge.left), ("wants", knowledge.right)):
        empty = np.flatnonzero(np.diff(side.indptr) == 0)
        if len(empty):
            raise SettingsError(
                f"knowledge, rule {empty[0] + 1}",
                found=f"'{name}' names none of the {side.shape[1]:,} products",
                consequence="It would constrain nothing",
                remedy="Write ids, category and brand as the catalogue has them, and words as they stand in titles",
            )


def _named(products: Products, catalogue: pl.DataFrame) -> np.ndarray:
    title, category = pl.col("title").str.to_lowercase(), pl.col("category")
    wanted = [
        pl.col("item_id").is_in(list(products.items)),
        pl.lit(bool(products.category))
        & ((category == products.category) | category.str.starts_with(f"{products.category} > ")),
        pl.lit(bool(products.brand)) & (pl.col("brand") == products.brand),
        *(
            [pl.all_horizontal(title.str.contains(word, literal=True) for word in products.words.lower().split())]
            if products.words.strip()
            else []
        ),
    ]
    found: np.ndarray = (
        catalogue.select(pl.any_horizontal(*(one.fill_null(False) for one in wanted))).to_series().to_numpy()
    )
    return found


def told(every: Histories, target: Ints, knowledge: Knowledge, *, items: int, window: int) -> Told:
    """Return what the rules expect of the sets `target`, told of the `window` sets before each; O(L x I).

    A rule about products the catalogue does not hold expects nothing.
    """
    sold = np.bincount(every.of_kind(PURCHASE).row_item, minlength=items) + 1
    right = sp.csr_matrix(knowledge.right @ sp.diags_array(sold.astype(np.float32)))
    total = np.asarray(right.sum(axis=1)).ravel()
    right = sp.csr_matrix(sp.diags_array(knowledge.share / np.maximum(total, 1)) @ right)
    best = min(TOLD, items)
    item, share = np.zeros((len(target), best), dtype=np.int32), np.zeros((len(target), best), dtype=np.float32)
    for start in range(0, len(target), LESSONS_A_CALL):
        asked = target[start : start + LESSONS_A_CALL]
        met = reasons_of(every, asked, np.arange(items), items=items, window=window)
        holds = (met @ knowledge.left.T) > 0
        expected = (holds.astype(np.float32) @ right).toarray()
        top = np.argpartition(-expected, best - 1, axis=1)[:, :best]
        kept, whole = np.take_along_axis(expected, top, axis=1), expected.sum(axis=1, keepdims=True)
        part = kept.sum(axis=1, keepdims=True)  # a long right side is told by its products sold most
        scale = np.divide(np.minimum(whole, MOST), part, out=np.zeros_like(part), where=part > 0)
        item[start : start + len(asked)], share[start : start + len(asked)] = top, kept * scale
    return Told(item, share)


def beside(teacher: Told | None, rules: Told) -> Told:
    """Return what both expect; the teacher's share is taken of what the rules leave."""
    if teacher is None:
        return rules
    left = 1 - rules.share.sum(axis=1, keepdims=True)
    return Told(np.hstack([teacher.item, rules.item]), np.hstack([teacher.share * left, rules.share]))
