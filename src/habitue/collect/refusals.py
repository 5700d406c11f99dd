"""Why a row was not accepted, and the row itself with nothing of a person in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import polars as pl

from habitue.collect.mapping import MOMENT, NUMBERS, Mapping, User
from habitue.collect.values import EPOCHS

_WIRE = Mapping("wire", "UTC", {"at": "at"}, user=User("user_id", anonymous="anonymous_id"))
_IDS = ("order_id", "item_id", "kind", "event_id", "currency", "owner", "signal", "unit", "line", "purpose", "granted")
_NUMBER = re.compile(r"[\d\s.,:/+\-TZeE%]*|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_ID = re.compile(r"[\w\-./]{0,24}")


def table(raw: pl.DataFrame, numbers: pl.Series, codes: pl.Series, mapping: Mapping) -> pl.DataFrame:
    """Return row, raw, code and sentence of the rows that were not accepted."""
    sentences = [sentence(code, mapping) for code in codes]
    return pl.DataFrame(
        [
            numbers.cast(pl.Int64).alias("row"),
            masked(raw, mapping),
            codes.alias("code"),
            pl.Series("sentence", sentences, dtype=pl.String),
        ]
    )


def broken(codes: dict[int, str], mapping: Mapping) -> pl.DataFrame:
    """Return row, raw, code and sentence of records that could not be read at all: nothing of them is kept."""
    return pl.DataFrame(
        {
            "row": pl.Series(list(codes), dtype=pl.Int64),
            "raw": pl.Series(["{}"] * len(codes), dtype=pl.String),
            "code": pl.Series(list(codes.values()), dtype=pl.String),
            "sentence": pl.Series([sentence(code, mapping) for code in codes.values()], dtype=pl.String),
        }
    )


def sentence(code: str, mapping: Mapping) -> str:
    """Say a reason code in words; no value of the row is in them."""
    if code.startswith("bad_") and (name := code.removeprefix("bad_")) in NUMBERS:
        whole = "a whole number" if name in ("position", "line") else "a finite number of fewer than fifteen digits"
        return f"The {name} is not {whole}."
    if code == "bad_time":
        forms = [_form(f) for f in (mapping.time_format, *mapping.time_formats)]
        skipped = f", or lies in an hour that the clocks of {mapping.time_zone} skipped"
        return f"The time is not {' or '.join(forms)}{skipped * (mapping.time_zone != 'UTC')}."
    return _SENTENCES[code]


def said(code: str) -> str:
    """Say in words the reason code of a message that came over a wire, where times are ISO 8601 in UTC."""
    return sentence(code, _WIRE)


_SENTENCES = {
    "missing_time": "The row has no time.",
    "missing_user": "The row names no customer.",
    "missing_user_and_order": "The row names neither a customer nor an order.",
    "missing_item": "The row names no product.",
    "missing_event_id": "The row has no id, where the others have one.",
    "missing_what": "The row names no campaign, experiment or slot.",
    "missing_arm": "The row does not say what was shown.",
    "missing_kind": "The row does not say of what kind it is.",
    "missing_signal": "The row does not say what was sensed.",
    "missing_value": "The row has no value.",
    "missing_purpose": "The row does not say for what consent was given or withdrawn.",
    "bad_granted": "The row does not say yes or no.",
    "missing_owner": "The row does not say what it shows: a product, an event or a person.",
    "bad_currency": "The currency is none of ISO 4217.",
    "bad_owner": "The owner is not item, event or user.",
    "bad_share": "The probability is not above 0 and at most 1.",
    "empty_example": "The row holds nothing to learn from.",
    "too_many_fields": "The row has more fields than the header.",
    "bad_record": "The record cannot be read: it is cut off, nested too deep, or no object.",
    "no_event": 'The message tells who somebody is, not what they did: a mapping with reader = "identify" reads it.',
    "no_item": "The row names no product.",
    "path_outside": "The path leads out of the folder.",
    "no_such_file": "There is no such file.",
    "unreadable": "A record of the inbox could not be read; it lies aside and is tried again when the server starts.",
    "too_long": "An id, a name or a text is longer than may be stored.",
    "far_time": "The time lies before 1970, or more than a day after the moment of receiving.",
    "no_medium": "The file is no picture, sound, video or text that is known.",
}


def _form(time_format: str | None) -> str:
    if time_format is None or time_format == "iso":
        return "in ISO 8601 (2011-09-09 12:30:00)"
    return f"in {time_format} since 1970" if time_format in EPOCHS else f"in the form {time_format}"


def masked(raw: pl.DataFrame, mapping: Mapping) -> pl.Series:
    """Write each raw row as JSON of its mapped columns.

    Columns about the person and product words are left out behind ***; of other values, what does not look like a
    number, a time or an id is reduced to its shape (letters x, digits 9), for a shifted row can hold anything anywhere.
    """
    fields = {column: name for name, column in mapping.columns.items()}
    user = [c for c in (mapping.user.column, mapping.user.anonymous) if c] if mapping.user else []
    person = {*mapping.user_attributes.values(), *mapping.extra.values(), *user}
    rows: Sequence[dict[str, object]] = raw.to_dicts()
    written = [
        json.dumps({c: "***" if c in person and v is not None else _shown(fields.get(c), v) for c, v in row.items()})
        for row in rows
    ]
    return pl.Series("raw", written, dtype=pl.String)


def _shown(field: str | None, value: object) -> str | None:
    if value is None:
        return None
    text = str(value)
    if field in (*NUMBERS, *MOMENT):
        return text if _NUMBER.fullmatch(text) else _shape(text)
    if field in _IDS:
        return text if _ID.fullmatch(text) else _shape(text)
    return "***"


def _shape(text: str) -> str:
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", text))[:40]
