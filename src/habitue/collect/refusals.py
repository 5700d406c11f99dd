"""Why a row was not accepted, and the row itself with nothing of a person in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import polars as pl

from habitue.collect.mapping import MOMENT, NUMBERS, Mapping

_IDS = ("order_id", "item_id", "kind")
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


def sentence(code: str, mapping: Mapping) -> str:
    """Say a reason code in words; no value of the row is in them."""
    if code.startswith("bad_") and (name := code.removeprefix("bad_")) in NUMBERS:
        return f"The {name} is not a finite number of fewer than fifteen digits."
    how = f"in the form {mapping.time_format}" if mapping.time_format else "in ISO 8601 (2011-09-09 12:30:00)"
    return {
        "missing_time": "The row has no time.",
        "bad_time": f"The time is not {how}, or lies in an hour that the clocks of {mapping.time_zone} skipped.",
        "missing_user": "The row names no customer.",
        "missing_user_and_order": "The row names neither a customer nor an order.",
        "missing_item": "The row names no product.",
    }[code]


def masked(raw: pl.DataFrame, mapping: Mapping) -> pl.Series:
    """Write each raw row as JSON of its mapped columns.

    Columns about the person and product words are left out behind ***; of other values, what does not look like a
    number, a time or an id is reduced to its shape (letters x, digits 9), for a shifted row can hold anything anywhere.
    """
    fields = {column: name for name, column in mapping.columns.items()}
    person = {*mapping.user_attributes.values(), *([mapping.user.column] if mapping.user else [])}
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
