"""One block of raw columns -> typed columns under the contract's names, and the first reason to refuse each row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl

from habitue.collect import values
from habitue.collect.mapping import FREE, MOMENT, NUMBERS, OWNERS, Mapping
from habitue.collect.sources import media
from habitue.core.errors import InputError
from habitue.core.schemas import ITEMS
from habitue.protect import mask

USER_ATTRIBUTE = "user."  # before the names of a person's attributes, until they are written as JSON
BESIDE = "visitor_id"  # the anonymous id of a row that names its user as well
_WHOLE = ("position", "line")


def readable(raw: pl.DataFrame, where: str) -> None:
    """Refuse columns that hold no plain values. Raises InputError."""
    for name, dtype in raw.schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise InputError(
                where,
                found=f"column '{name}' holds {dtype}, not plain values",
                consequence="Its rows cannot be read as ids, numbers or times",
                remedy="Export it as text, or map another column",
            )


def read(raw: pl.DataFrame, mapping: Mapping, folder: Path | None = None) -> tuple[pl.DataFrame, pl.Series]:
    """Read every mapped column of a block; also returns the reason code of each row that is refused, else null.

    A mapped column that the block lacks is null; the block has rows. `folder`: where paths of media start.
    """
    height = raw.height
    nothing = pl.repeat(None, height, dtype=pl.String, eager=True)
    columns: dict[str, pl.Series] = {}
    reasons: list[tuple[str, pl.Series]] = []  # code, rows it fits; the first that fits counts

    def column(name: str) -> pl.Series:
        return raw[name] if name in raw.columns else nothing

    for name, source in mapping.columns.items():
        told = column(source)
        if name in MOMENT:
            assert mapping.time_zone is not None  # the mapping is refused without one
            columns[name] = values.moments(
                told, zone=mapping.time_zone, time_format=mapping.time_format, others=mapping.time_formats
            )
            blank = values.words(told).is_null()
            if mapping.what != "media":  # when a picture was made may be unknown
                reasons.append(("missing_time", blank))
            reasons.append(("bad_time", columns[name].is_null() & ~blank))
        elif name in NUMBERS:
            columns[name], bad = values.numbers(told, decimal=mapping.decimal)
            if name in _WHOLE:
                bad = bad | (columns[name] != columns[name].floor()) | (columns[name].abs() >= 2**31)
                columns[name] = columns[name].set(bad.fill_null(False), None)
            reasons.append((f"bad_{name}", bad))
        elif name == "granted":
            columns[name], bad = values.truths(told)
            reasons.append(("bad_granted", bad))
        elif name == "currency":
            columns[name] = values.currencies(told)
            alone = values.words(told).str.contains(r"^\s*[A-Za-z]{3}\s*$")
            reasons.append(("bad_currency", columns[name].is_null() & alone))
        elif name in FREE:
            columns[name] = mask.masked(values.words(told))
        else:
            columns[name] = values.words(told)
    for name, text in mapping.fixed.items():
        columns[name] = pl.repeat(text, height, dtype=pl.String, eager=True)
    if mapping.rows.moment == "valid_from" and "valid_from" not in columns:
        columns["valid_from"] = pl.repeat(mapping.valid_from, height, dtype=ITEMS.schema["valid_from"], eager=True)
    if mapping.extra:
        columns["extra"] = _extra({name: column(c) for name, c in mapping.extra.items()})
    reasons += _missing(columns, mapping)
    reasons += _people(columns, mapping, column)
    if mapping.what == "media":
        reasons += _media(columns, folder or Path())
    if {"price", "quantity"} <= columns.keys():
        reasons.append(("bad_value", (columns["price"] * columns["quantity"]).abs() >= values.MONEY_LIMIT))
    frame = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    flags = [pl.when(fits.fill_null(False)).then(pl.lit(code)) for code, fits in reasons]
    return frame, frame.select(pl.coalesce(flags).alias("code"))["code"]


def _missing(columns: dict[str, pl.Series], mapping: Mapping) -> list[tuple[str, pl.Series]]:
    """Rows without a field that their table must have."""
    must = {
        "items": ("item_id",),
        "consent": ("purpose",),
        "exposures": ("what", "arm"),
        "outside": ("kind",),
        "signals": ("signal",),
    }
    found = [(f"missing_{name}", columns[name].is_null()) for name in must.get(mapping.what, ())]
    found = [("missing_item" if code == "missing_item_id" else code, fits) for code, fits in found]
    if mapping.what == "signals":
        found.append(("missing_value", columns["value"].is_null()))
    if "event_id" in columns:
        found.append(("missing_event_id", columns["event_id"].is_null()))
    if mapping.what == "exposures" and "propensity" in columns:
        share = columns["propensity"]
        found.append(("bad_share", (share <= 0) | (share > 1)))
    if mapping.what == "examples":
        empty = [columns[name].is_null() for name in ("text", "extra") if name in columns]
        found.append(("empty_example", pl.DataFrame(empty).select(pl.all_horizontal(pl.all())).to_series()))
    return found


def _people(
    columns: dict[str, pl.Series], mapping: Mapping, column: Callable[[str], pl.Series]
) -> list[tuple[str, pl.Series]]:
    """Put who a row is about into `user`, and whether that is a visitor's anonymous id into `visitor`."""
    if mapping.rows.person == "none":
        return []
    nothing = pl.repeat(None, len(next(iter(columns.values()))), dtype=pl.String, eager=True)
    user = values.words(column(mapping.user.column)) if mapping.user else nothing
    reasons: list[tuple[str, pl.Series]] = []
    if mapping.user is not None and mapping.user.nobody:
        user = user.set(user.is_in(list(mapping.user.nobody)), None)
    if mapping.user is not None and mapping.user.anonymous is not None:
        visitor = values.words(column(mapping.user.anonymous))
        columns["visitor"] = user.is_null() & visitor.is_not_null()
        columns[BESIDE] = visitor.zip_with(user.is_not_null(), nothing)
        user = user.fill_null(visitor)
    columns["user"] = user
    if mapping.rows.person == "must" or (mapping.user is not None and mapping.user.guest == "refuse"):
        reasons.append(("missing_user", user.is_null()))
    if mapping.what == "events":
        reasons.append(("missing_user_and_order", user.is_null() & columns.get("order_id", nothing).is_null()))
        for name, source in mapping.user_attributes.items():
            columns[f"{USER_ATTRIBUTE}{name}"] = values.words(column(source))
    if mapping.what == "users":
        told = _extra({name: column(source) for name, source in mapping.user_attributes.items()})
        columns["attributes"] = told.fill_null("{}")  # two ids joined, and nothing said
    return reasons


def _media(columns: dict[str, pl.Series], folder: Path) -> list[tuple[str, pl.Series]]:
    """Look at each file: its modality and sha256; `path` becomes absolute."""
    looked = [media.describe(folder, path) if path else "no_such_file" for path in columns["path"]]
    fine = [found if isinstance(found, dict) else {} for found in looked]
    columns["modality"] = pl.Series([found.get("modality") for found in fine], dtype=pl.String)
    columns["sha256"] = pl.Series([found.get("sha256") for found in fine], dtype=pl.String)
    paths = [
        str((folder / path).resolve()) if found else path for path, found in zip(columns["path"], fine, strict=True)
    ]
    columns["path"] = pl.Series(paths, dtype=pl.String)
    codes = pl.Series([found if isinstance(found, str) else None for found in looked], dtype=pl.String)
    reasons = [(code, codes == code) for code in ("path_outside", "no_such_file", "no_medium")]
    reasons.append(("bad_owner", ~columns["owner"].is_in(OWNERS).fill_null(False)))
    owned = columns["owner_id"].is_not_null() if "owner_id" in columns else pl.repeat(False, len(codes), eager=True)
    person = columns["owner"] == "user"
    reasons.append(("missing_owner", (person & columns["user"].is_null()) | (~person & ~owned)))
    return reasons


def _extra(columns: dict[str, pl.Series]) -> pl.Series:
    """Write further columns as JSON, masked; a row without any is null."""
    texts = {name: mask.masked(values.words(column)) for name, column in columns.items()}
    rows = pl.DataFrame([column.alias(name) for name, column in texts.items()]).to_dicts()
    written = [json.dumps({n: v for n, v in row.items() if v is not None}, ensure_ascii=False) for row in rows]
    return pl.Series([text if text != "{}" else None for text in written], dtype=pl.String)
