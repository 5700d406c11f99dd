"""Gorse's REST API: POST and PUT /api/feedback, and what items and users are: /api/item(s), /api/user(s).

Feedback has no id and no time of sending: equal body and equal Timestamp are the same event. What a FeedbackType means
is read from its word ("read", "cart", "purchase", ...); one that is not known is stored as the kind it names.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from habitue.collect.profiles import kind_of
from habitue.collect.sources import trackers
from habitue.collect.sources.blocks import Record
from habitue.collect.wires.body import BodyError, Described, Introduction, Messages, unnamed

SOURCE = "gorse"
LONGEST_BODY = 5 * 2**20
MOST = 10_000  # feedbacks, items or users of a request
_KINDS = {"read": "Product Viewed", "star": "Product Added to Wishlist", "like": "Product Added to Wishlist"}
_HIDDEN, _SHOWN = {"availability": "out_of_stock"}, {"availability": "in_stock"}


def feedback(content: Any, *, received: dt.datetime) -> Messages:
    """Read a list of feedback, or one. Raises BodyError when it is none, or holds too many."""
    for number, said in enumerate(_listed(content), 1):
        told = said.get("Timestamp") or None
        name = said.get("FeedbackType")
        kind = kind_meant(name) if isinstance(name, str) else None
        value = said.get("Value")
        rated = kind == "Product Reviewed"
        yield (
            number,
            {
                "event_id": unnamed(said, timed=told is not None),
                "line": 0,
                "at": received if told is None else told,
                "kind": kind,
                "user_id": said.get("UserId"),
                "item_id": said.get("ItemId"),
                "rating": value if rated else None,
                "text": said.get("Comment"),
                "extra": {} if rated or not value else {"feedback_value": value},
            },
        )


def kind_meant(feedback_type: str) -> str | None:
    """Return the kind of event that a FeedbackType means."""
    return _KINDS.get(feedback_type) or kind_of(feedback_type) or trackers.name_of(feedback_type)


def items(content: Any, *, received: dt.datetime) -> Messages:
    """Read items: what each is from its Timestamp on, else from now on."""
    for number, said in enumerate(_listed(content), 1):
        categories = said.get("Categories")
        path = " > ".join(map(str, categories)) if isinstance(categories, list) else None
        labels = said.get("Labels")
        attributes: Record = labels if isinstance(labels, dict) else {} if labels is None else {"labels": labels}
        if isinstance(hidden := said.get("IsHidden"), bool):  # as every catalogue says it, so that it is not shown
            attributes = {**_SHOWN, **attributes} if not hidden else {**attributes, **_HIDDEN}
        known = {"title": said.get("Comment"), "category": path or None}
        yield number, Described(said.get("ItemId"), said.get("Timestamp") or received, known, attributes)


def users(content: Any, *, received: dt.datetime) -> Messages:
    """Read users: their labels from now on."""
    for number, said in enumerate(_listed(content), 1):
        labels = said.get("Labels")
        attributes: Record = labels if isinstance(labels, dict) else {} if labels is None else {"labels": labels}
        yield number, Introduction(said.get("UserId"), None, received, attributes)


def _listed(content: Any) -> list[Record]:
    found = [content] if isinstance(content, dict) else content
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BodyError("invalid_request", "The body is neither an object nor a list of objects.")
    if len(found) > MOST:
        raise BodyError("too_many", f"The list holds more than {MOST:,}.")
    return found
