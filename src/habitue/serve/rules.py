"""What the shop itself wants in its lists: pin, boost, bury, exclude, and how many are in stock.

    pin        one product at a place of the list (1 = the first)
    boost      scores raised by so many spreads (a standard deviation of the customer's scores); below 0 = lowered
    bury       after everything that is not buried
    exclude    never shown
    stock      units left; 0 = out of stock, which overrules what the catalogue says

A rule is about products by item_id, category or brand, and may hold for one placement only. They lie in the
operational store; a running server reads them again when it has changed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.lake import Lake
from habitue.core.schemas import EVENTS, ITEMS
from habitue.core.settings import fill
from habitue.serve import operational
from habitue.serve.operational import Book, Followed

RULES = "rules"  # documents of the store
BEFORE = "rules.json"  # where they lay before there was a store
ACTIONS = ("pin", "boost", "bury", "exclude", "stock")
PLACEMENTS = ("home", "similar", "bought_together", "cart", "session", "search")


@dataclass(frozen=True)
class Rule:
    """One rule; it is about every product that is named by any of items, category (and below it) and brand."""

    id: str
    action: str
    items: tuple[str, ...] = ()
    category: str = ""
    brand: str = ""
    placement: str = ""  # "" = everywhere
    number: float = 0.0  # pin: the place; boost: spreads; stock: units


def add(
    state: Path,
    action: str,
    *,
    items: Sequence[str] = (),
    category: str = "",
    brand: str = "",
    placement: str = "",
    number: float | None = None,
) -> Rule:
    """Add a rule and return it. Raises UsageError, in words, for one that would do nothing or is not clear."""
    found = ""
    if action not in ACTIONS:
        found, remedy = f"there is no rule '{action}'", did_you_mean(action, ACTIONS)
    elif placement and placement not in PLACEMENTS:
        found, remedy = f"there is no placement '{placement}'", did_you_mean(placement, PLACEMENTS)
    elif not (items or category or brand):
        found, remedy = "it names no product", "Name items, a category or a brand"
    elif action == "pin" and (len(items) != 1 or category or brand or not number or number < 1 or number % 1):
        found, remedy = "a pin is one product at one place", "Name one item and a whole number from 1"
    elif action == "boost" and (not number or not -100 <= number <= 100):
        found, remedy = "a boost without a strength", "Give a number of spreads, e.g. 1 or -0.5, at most 100"
    elif action == "stock" and (number is None or not 0 <= number < float("inf")):
        found, remedy = "stock without a number of units", "Give 0 or more"
    elif action in ("bury", "exclude") and number is not None:
        found, remedy = f"'{action}' takes no number", "Leave it out"
    if found:
        raise UsageError("rules", found=found, consequence="Nothing was changed", remedy=remedy)
    rule = Rule(secrets.token_hex(3), action, tuple(items), category, brand, placement, number or 0.0)
    with operational.change(state) as book:
        _moved(state, book)
        book.put(RULES, rule.id, asdict(rule))
        book.note(operational.COMMAND, "rules add", f"{action} {rule.id}")
        book.changed()
    return rule


def remove(state: Path, name: str) -> Rule:
    """Take a rule away and return it. Raises UsageError for one there is not."""
    with operational.change(state) as book:
        _moved(state, book)
        said = book.document(RULES, name)
        if said is not None:
            book.drop(RULES, name)
            book.note(operational.COMMAND, "rules remove", f"{said.get('action')} {name}")
            book.changed()
            return fill(Rule, said, where=f"rule {name}")
    raise UsageError(
        "rules",
        found=f"there is no rule '{name}'",
        consequence="Nothing was changed",
        remedy="See them with: habitue rules list",
    )


def listed(state: Path) -> tuple[Rule, ...]:
    """Return the rules in the order they were made. Raises LakeError, SettingsError for a file that holds none."""
    with operational.change(state) as book:
        _moved(state, book)
        return tuple(fill(Rule, said, where=f"rule {said.get('id')}") for said in book.documents(RULES))


def unknown(lake: Lake, rule: Rule) -> list[str]:
    """Return in words what a rule names and neither a catalogue nor an event has named yet; O(products + events).

    It does nothing for them until they are met. What a product's earlier versions said counts as well.
    """
    listed = lake.read(ITEMS, columns=["item_id", "category", "brand"])
    items = set(listed["item_id"])
    for part in lake.parts(EVENTS, columns=["item_id"]) if not items.issuperset(rule.items) else ():
        items |= set(part["item_id"].unique())
    found = [f"the product '{item}'" for item in rule.items if item not in items]
    below = (pl.col("category") + " > ").str.starts_with(f"{rule.category} > ")
    if rule.category and listed.filter(below).is_empty():
        found.append(f"the category '{rule.category}'")
    if rule.brand and listed.filter(pl.col("brand") == rule.brand).is_empty():
        found.append(f"the brand '{rule.brand}'")
    return found


@dataclass
class Rules:
    """The rules as a running server reads them: again when the store has changed."""

    state: Path
    followed: Followed
    version: int = 0  # counts the readings
    _seen: object = field(default=0)
    _rules: tuple[Rule, ...] = ()

    def now(self) -> tuple[Rule, ...]:
        """Return the rules in force. Raises LakeError, SettingsError."""
        seen = self.followed.now()
        if seen is None and (self.state / BEFORE).exists():
            seen = BEFORE
        if seen != self._seen:
            self._rules = () if seen is None else listed(self.state)
            self._seen, self.version = seen, self.version + 1
        return self._rules


def _moved(state: Path, book: Book) -> None:
    """Take the rules of an older server's file into the store, once."""
    path = state / BEFORE
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ValueError("no list of rules")
        rules = [fill(Rule, one, where=f"{BEFORE}, rule {place}") for place, one in enumerate(found, 1)]
        for rule in rules:
            book.put(RULES, rule.id, asdict(rule))
        book.changed()
        path.rename(path.with_suffix(".moved"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            BEFORE,
            found=f"the rules cannot be read ({error})",
            consequence="Something the shop does not want to show could be shown",
            remedy="Mend the file, or delete it and make the rules again: habitue rules add",
        ) from error
