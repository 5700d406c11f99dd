"""What messages say beside events: a person's attributes and consents, what a product is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from habitue.collect import lines, profiles
from habitue.collect.wires.body import Described
from habitue.core.schemas import ITEMS
from habitue.protect.consent import ANALYTICS, MARKETING, PERSONALISATION

MOST = 64  # attributes of one person or product
PURPOSES = {  # what consent tools call them -> ours; any other is kept under its own name, and unused
    **dict.fromkeys(("analytics", "statistics", "performance"), ANALYTICS),
    **dict.fromkeys(
        ("personalisation", "personalization", "functional", "functionality", "preferences"), PERSONALISATION
    ),
    **dict.fromkeys(("marketing", "advertising", "ads", "targeting"), MARKETING),
}


def attributes(said: Mapping[str, Any]) -> str | None:
    """Write a person's attributes as JSON of words, or None when nothing may be kept.

    Left out: names that may hold a name, an address, a number of theirs (`profiles.names_a_person`), and what is no
    plain value. What is kept is masked.
    """
    kept: dict[str, str] = {}
    for name, value in said.items():
        if profiles.names_a_person(name) or isinstance(value, dict | list) or len(kept) >= MOST:
            continue
        told = lines.word(value)
        if told is not None and len(told) <= lines.LONGEST_NAME and len(name) <= lines.LONGEST_NAME:
            kept[name] = lines.masked(told)
    return json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else None


def consents(said: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return (purpose, granted) of a message's consent; an answer that is neither yes nor no says nothing."""
    found: dict[str, bool] = {}
    for name, value in said.items():
        if isinstance(value, bool) and name and len(name) <= lines.LONGEST_NAME and len(found) < MOST:
            purpose = PURPOSES.get(name.lower(), name)
            found[purpose] = value and found.get(purpose, True)  # of two answers to one purpose the no counts
    return sorted(found.items())


def item(said: Described, *, source: str, received: dt.datetime, currency: str) -> dict[str, Any] | str:
    """Return a row of ITEMS without its import, or a reason code."""
    item_id, at = lines.word(said.item_id), lines.moment(said.at)
    if item_id is None:
        return "missing_item"
    if at is None:
        return "bad_time"
    if not lines.FIRST <= at <= received + lines.AHEAD:
        return "far_time"
    known = {name: lines.word(value) for name, value in said.known.items()}
    if len(item_id) > lines.LONGEST_NAME or any(len(told) > lines.LONGEST_TEXT for told in known.values() if told):
        return "too_long"
    row: dict[str, Any] = dict.fromkeys(ITEMS.schema) | known
    if known.get("price") is not None:
        row["price"] = lines.measure(known["price"])
        if row["price"] is None:
            return "bad_price"
        row["currency"] = lines.currency_of(known.get("currency") or currency) or currency
    more = lines.beyond(said.attributes)
    if more is not None and len(more) > lines.LONGEST_EXTRA:
        return "too_long"
    return row | {"item_id": item_id, "valid_from": at, "attributes": more, "source": source}
