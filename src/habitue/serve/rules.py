"""What the shop itself wants in its lists: pin, boost, bury, exclude, and how many are in stock.

    pin        one product at a place of the list (1 = the first)
    boost      scores raised by so many spreads (a standard deviation of the customer's scores); below 0 = lowered
    bury       after everything that is not buried
    exclude    never shown
    stock      units left; 0 = out of stock, which overrules what the catalogue says

A rule is about products by item_id, category or brand, and may hold for one placement only. They lie in
`state/rules.json`; a running server reads the file again when it has changed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from habitue.core.errors import SettingsError, UsageError, did_you_mean
from habitue.core.settings import fill

FILE = "rules.json"
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
    _write(state, (*listed(state), rule))
    return rule


def remove(state: Path, name: str) -> Rule:
    """Take a rule away and return it. Raises UsageError for one there is not."""
    rules = listed(state)
    for rule in rules:
        if rule.id == name:
            _write(state, [other for other in rules if other.id != name])
            return rule
    raise UsageError(
        "rules",
        found=f"there is no rule '{name}'",
        consequence="Nothing was changed",
        remedy="See them with: habitue rules list",
    )


def listed(state: Path) -> tuple[Rule, ...]:
    """Return the rules in the order they were made. Raises SettingsError for a file that holds none."""
    path = state / FILE
    if not path.exists():
        return ()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ValueError("no list of rules")
    except (OSError, ValueError) as error:
        raise SettingsError(
            FILE,
            found=f"the rules cannot be read ({error})",
            consequence="Something the shop does not want to show could be shown",
            remedy="Mend the file, or delete it and make the rules again: habitue rules add",
        ) from error
    return tuple(fill(Rule, one, where=f"{FILE}, rule {place}") for place, one in enumerate(found, 1))


@dataclass
class Book:
    """The rules as a running server reads them: again when the file has changed."""

    state: Path
    version: int = 0  # counts the readings
    _seen: object = field(default=0)
    _rules: tuple[Rule, ...] = ()

    def now(self) -> tuple[Rule, ...]:
        """Return the rules in force. Raises SettingsError."""
        try:
            stat = (self.state / FILE).stat()
            seen: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._rules = listed(self.state)
            self._seen, self.version = seen, self.version + 1
        return self._rules


def _write(state: Path, rules: Sequence[Rule]) -> None:
    state.mkdir(parents=True, exist_ok=True)
    draft = state / f".{FILE}.draft"
    draft.write_text(json.dumps([asdict(rule) for rule in rules], ensure_ascii=False, indent=1), encoding="utf-8")
    draft.replace(state / FILE)
