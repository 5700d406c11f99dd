"""A file and its mapping -> EVENTS (or ITEMS), USERS, REFUSED, IDENTITIES: all of it, or nothing.

Read the mapped columns, read their values as the contract's types, refuse what cannot be read row by row, give every
row its id, leave out the ids the lake has, give the people of the rest their keys, store. The lake's transaction
surrounds the one of the identities: after a crash between the two there may be keys without rows, which a repeat uses,
and never rows without a person.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from habitue.collect import refusals, sources, values
from habitue.collect.ids import event_ids
from habitue.collect.mapping import MOMENT, NUMBERS, Mapping, read_mapping
from habitue.core.errors import InputError, UsageError
from habitue.core.lake import Lake
from habitue.core.progress import stage
from habitue.core.schemas import EVENTS, ITEMS, REFUND, REFUSED, USERS, Events, Items, Refused, Users
from habitue.core.workspace import Workspace
from habitue.protect import identities


@dataclass(frozen=True)
class Imported:
    """What an import did; money, orders, users, guests, first and last are those of the new rows."""

    source: str
    import_id: str  # the same rows in any order have the same
    read: int  # rows looked at = new + known + refused
    new: int
    known: int  # in the lake before
    refused: int  # kept in REFUSED with their reason
    money: float  # net, refunds subtracted; major units of `currency`
    currency: str
    orders: int
    users: int  # known customers
    guests: int  # orders without a customer
    first: dt.datetime | None  # UTC
    last: dt.datetime | None


def import_file(
    workspace: Workspace,
    file: Path | str,
    mapping: Mapping | Path | str | None = None,
    *,
    seed: int | None = None,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
) -> Imported:
    """Bring a CSV or Parquet file in; the same rows again, in any order or file format, add nothing.

    `mapping` None: the TOML file beside it, of the same name. `since`, `before` (UTC): only rows with
    since <= at < before; rows without a readable time are always refused. `seed`: keys of people and ids that repeat,
    for demonstrations only. Needs about 1 kB of memory a row. Raises InputError, SettingsError, LakeError; nothing is
    changed then, nor when it is interrupted.
    """
    path = Path(file)
    meaning = _mapping(mapping, path)
    with stage(f"Reading {path.name}"):
        raw = sources.read(path, meaning.wanted, delimiter=meaning.delimiter)
    return import_frame(workspace, raw, meaning, seed=seed, since=since, before=before, where=path.name)


def import_frame(
    workspace: Workspace,
    raw: pl.DataFrame,
    mapping: Mapping,
    *,
    seed: int | None = None,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
    where: str = "frame",
) -> Imported:
    """Bring a frame in as `import_file` does with a file; `where` names it in messages."""
    sources.require(raw.columns, mapping.wanted, where=where)
    with stage(f"Reading the values of {where}"):
        raw = raw.select(mapping.wanted)
        _readable(raw, where)
        there = ~raw.select(pl.all_horizontal(pl.all().is_null())).to_series()  # an empty line is no row
        if not there.any():
            raise _no_row(where)
        numbers, raw = pl.int_range(1, raw.height + 1, eager=True).filter(there), raw.filter(there)
        typed, reason = _typed(raw, mapping)
        bad = reason.is_not_null()
        if bad.all():
            raise _all_refused(reason, mapping, where)
        refused = refusals.table(raw.filter(bad), numbers.filter(bad), reason.filter(bad), mapping)
        accepted = _between(typed.filter(~bad), mapping, since, before)
    write = _write_events if mapping.what == "events" else _write_items
    with stage(f"Storing the rows of {where}"), workspace.lake.exclusive():
        return write(workspace, accepted, refused, mapping, seed)


def _mapping(mapping: Mapping | Path | str | None, file: Path) -> Mapping:
    if isinstance(mapping, Mapping):
        return mapping
    if mapping is not None:
        return read_mapping(Path(mapping))
    beside = file.with_suffix(".toml")
    if not beside.exists():
        raise UsageError(
            file.name,
            found="no mapping is given, and no TOML file of the same name lies beside it",
            consequence="What its columns mean is unknown",
            remedy=f"Write {beside.name} (docs/mapping.md shows one), or name it with --mapping",
        )
    return read_mapping(beside)


def _typed(raw: pl.DataFrame, mapping: Mapping) -> tuple[pl.DataFrame, pl.Series]:
    """Read every mapped column; also returns the first reason to refuse each row, or null."""
    columns: dict[str, pl.Series] = {}
    reasons: list[tuple[str, pl.Series]] = []  # code, rows it fits; the first that fits counts
    for name, column in mapping.columns.items():
        if name in MOMENT:
            columns[name] = values.moments(raw[column], zone=mapping.time_zone, time_format=mapping.time_format)
            reasons.append(("missing_time", values.words(raw[column]).is_null()))
            reasons.append(("bad_time", columns[name].is_null()))
        elif name in NUMBERS:
            columns[name], bad = values.numbers(raw[column])
            reasons.append((f"bad_{name}", bad))
        else:
            columns[name] = values.words(raw[column])
    if mapping.what == "items":
        reasons.append(("missing_item", columns["item_id"].is_null()))
        if "valid_from" not in columns:
            columns["valid_from"] = pl.repeat(
                mapping.valid_from, raw.height, dtype=ITEMS.schema["valid_from"], eager=True
            )
    else:
        nothing = pl.repeat(None, raw.height, dtype=pl.String, eager=True)
        columns["user"] = values.words(raw[mapping.user.column]) if mapping.user else nothing
        no_order = columns.get("order_id", nothing).is_null()
        if mapping.user is not None and mapping.user.guest == "refuse":
            reasons.append(("missing_user", columns["user"].is_null()))
        reasons.append(("missing_user_and_order", columns["user"].is_null() & no_order))
        for name, column in mapping.user_attributes.items():
            columns[f"user.{name}"] = values.words(raw[column])
        if {"price", "quantity"} <= columns.keys():
            reasons.append(("bad_value", (columns["price"] * columns["quantity"]).abs() >= values.MONEY_LIMIT))
    frame = pl.DataFrame([series.alias(name) for name, series in columns.items()])
    flags = [pl.when(fits.fill_null(False)).then(pl.lit(code)) for code, fits in reasons]
    return frame, frame.select(pl.coalesce(flags).alias("code"))["code"]


def _between(
    rows: pl.DataFrame, mapping: Mapping, since: dt.datetime | None, before: dt.datetime | None
) -> pl.DataFrame:
    moment = pl.col("at" if mapping.what == "events" else "valid_from")
    if since is not None:
        rows = rows.filter(moment >= since)
    return rows.filter(moment < before) if before is not None else rows


def _write_events(
    workspace: Workspace, rows: pl.DataFrame, refused: pl.DataFrame, mapping: Mapping, seed: int | None
) -> Imported:
    lake, currency = workspace.lake, mapping.currency or workspace.currency
    with lake.transaction(EVENTS, ITEMS, USERS, REFUSED), identities.book(workspace.identities) as people:
        secret = identities.event_secret(people, seed=seed)
        ids = event_ids(rows, source=mapping.source, secret=secret)
        import_id = _import_id(ids, refused)
        stored = lake.read(EVENTS, columns=["event_id"])
        new = rows.with_columns(ids).join(stored, on="event_id", how="anti", maintain_order="left")
        new = _with_people(new, mapping, people, seed)
        origin = {"source": pl.lit(mapping.source), "import_id": pl.lit(import_id), "currency": pl.lit(currency)}
        events = _events(new.with_columns(**origin), mapping)
        lake.append(ITEMS, _titles(events, lake))
        lake.append(USERS, _attributes(new.with_columns(**origin), mapping, lake))
        lake.append(REFUSED, _unseen(refused.with_columns(**origin), lake))
        lake.append(EVENTS, events)
    return Imported(
        source=mapping.source,
        import_id=import_id,
        read=rows.height + refused.height,
        new=new.height,
        known=rows.height - new.height,
        refused=refused.height,
        money=round(math.fsum(events["value"].drop_nulls()), 2),
        currency=currency,
        orders=events["order_id"].drop_nulls().n_unique(),
        users=new.filter(~pl.col("guest"))["user_key"].n_unique(),
        guests=new.filter(pl.col("guest"))["user_key"].n_unique(),
        **_span(events["at"]),
    )


def _write_items(
    workspace: Workspace, rows: pl.DataFrame, refused: pl.DataFrame, mapping: Mapping, seed: int | None
) -> Imported:
    del seed  # a catalogue holds no person
    lake, currency = workspace.lake, mapping.currency or workspace.currency
    import_id = _import_id(pl.Series(rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()), refused)
    origin = {"source": pl.lit(mapping.source), "import_id": pl.lit(import_id), "currency": pl.lit(currency)}
    items = ITEMS.shape(rows.with_columns(**origin)).unique(ITEMS.key, keep="first", maintain_order=True)
    new = items.join(lake.read(ITEMS), on=list(ITEMS.key), how="anti", nulls_equal=True, maintain_order="left")
    with lake.transaction(ITEMS, REFUSED):
        lake.append(ITEMS, new)
        lake.append(REFUSED, _unseen(refused.with_columns(**origin), lake))
    return Imported(
        source=mapping.source,
        import_id=import_id,
        read=rows.height + refused.height,
        new=new.height,
        known=rows.height - new.height,
        refused=refused.height,
        money=0.0,
        currency=currency,
        orders=0,
        users=0,
        guests=0,
        **_span(new["valid_from"]),
    )


def _with_people(rows: pl.DataFrame, mapping: Mapping, people: sqlite3.Connection, seed: int | None) -> pl.DataFrame:
    """Add `guest` (bool) and `user_key`; a guest is a person of one order."""
    rows = rows.with_columns(guest=pl.col("user").is_null(), user_key=pl.lit(None, dtype=pl.Int64))
    kind = mapping.user.alias_kind if mapping.user else "anonymous_id"
    order = pl.concat_str(pl.lit(identities.GUEST), "order_id") if "order_id" in rows.columns else pl.lit(None)
    parts = [rows.clear()]
    for guest, alias_kind, alias in ((False, kind, pl.col("user")), (True, "anonymous_id", order)):
        part = rows.filter(pl.col("guest") == guest)
        keys = identities.keys_for(
            people,
            alias_kind,
            part.with_columns(alias=alias.cast(pl.String))["alias"],
            linked_at=part["at"],
            source=mapping.source,
            seed=seed,
        )
        parts.append(part.with_columns(user_key=keys))
    return pl.concat(parts)


def _events(rows: pl.DataFrame, mapping: Mapping) -> Events:
    """Shape typed rows as EVENTS; a refund counts against the shop whatever sign its file writes."""
    names = rows.columns
    if "kind" not in names:
        rules = [pl.when(pl.col(r.field).str.starts_with(r.prefix)).then(pl.lit(r.kind)) for r in mapping.kind.rules]
        rows = rows.with_columns(kind=pl.coalesce(*rules, pl.lit(mapping.kind.default)))
    rows = rows.with_columns(pl.col("kind").fill_null(mapping.kind.default), line=pl.lit(0, dtype=pl.Int32))
    if "value" not in names and "price" in names:
        rows = rows.with_columns(value=pl.col("price") * (pl.col("quantity") if "quantity" in names else 1.0))
    refund = pl.col("kind") == REFUND
    signed = [
        pl.when(refund).then(-pl.col(name).abs()).otherwise(pl.col(name)).alias(name)
        for name in ("quantity", "value")
        if name in rows.columns
    ]
    return EVENTS.shape(rows.with_columns(signed)).sort("at", "event_id")


def _titles(events: Events, lake: Lake) -> Items:
    """Return each product's words as of their first moment, where the lake does not know them as early."""
    named = events.filter(pl.col("item_id").is_not_null())
    found = named.group_by("item_id", "title").agg(
        pl.col("at").min().alias("valid_from"), pl.col("source", "import_id").first()
    )
    return _earlier(ITEMS.shape(found), lake.read(ITEMS), ["item_id", "title"])


def _attributes(rows: pl.DataFrame, mapping: Mapping, lake: Lake) -> Users:
    """Return each person's attributes as of their first moment, where the lake does not know them as early."""
    columns = [f"user.{name}" for name in sorted(mapping.user_attributes)]
    if not columns:
        return USERS.empty()
    told = rows.filter(pl.any_horizontal(pl.col(columns).is_not_null()))
    found = told.group_by("user_key", *columns).agg(
        pl.col("at").min().alias("valid_from"), pl.col("source", "import_id").first()
    )
    texts = [
        json.dumps({c.removeprefix("user."): v for c, v in row.items() if v is not None}, ensure_ascii=False)
        for row in found.select(columns).to_dicts()
    ]
    found = found.drop(columns).with_columns(attributes=pl.Series(texts, dtype=pl.String))
    found = found.sort("user_key", "valid_from", "attributes").unique(["user_key", "valid_from"], keep="first")
    return _earlier(USERS.shape(found), lake.read(USERS), ["user_key", "attributes"])


def _earlier(found: pl.DataFrame, stored: pl.DataFrame, same: list[str]) -> pl.DataFrame:
    """Keep the rows that the lake does not have yet, or has only from a later moment."""
    since = stored.group_by(same).agg(pl.col("valid_from").min().alias("since"))
    joined = found.join(since, on=same, how="left", nulls_equal=True)
    new = joined.filter(pl.col("since").is_null() | (pl.col("valid_from") < pl.col("since")))
    return new.drop("since").sort(same)


def _unseen(refused: pl.DataFrame, lake: Lake) -> Refused:
    """Leave out rows the lake has refused before: as many of each (source, code, raw) as it holds already."""
    same = ["source", "code", "raw"]
    again = pl.int_range(pl.len()).over(same).alias("again")
    before = lake.read(REFUSED).with_columns(again)
    return REFUSED.shape(refused.with_columns(again).join(before, on=[*same, "again"], how="anti"))


def _import_id(ids: pl.Series, refused: pl.DataFrame) -> str:
    """Name an import after its rows, so that the same rows in any order are the same import."""
    rows = [*ids.sort(), *refused.select(pl.concat_str("code", "raw")).to_series().sort()]
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=8).hexdigest()


def _span(moments: pl.Series) -> dict[str, dt.datetime | None]:
    first, last = moments.min(), moments.max()
    assert isinstance(first, dt.datetime | None) and isinstance(last, dt.datetime | None)
    return {"first": first, "last": last}


def _readable(raw: pl.DataFrame, where: str) -> None:
    for column, dtype in raw.schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Time, pl.Duration):
            raise InputError(
                where,
                found=f"column '{column}' holds {dtype}",
                consequence="It is neither text nor a number nor a time",
                remedy="Export it as one of them, or map another column",
            )


def _no_row(where: str) -> InputError:
    return InputError(
        where,
        found="there is a header and no row",
        consequence="There is nothing to import",
        remedy="Export it again",
    )


def _all_refused(reason: pl.Series, mapping: Mapping, where: str) -> InputError:
    most = reason.value_counts(sort=True)[reason.name][0]
    return InputError(
        where,
        found=f"every one of its {len(reason):,} rows would be refused; most: {refusals.sentence(most, mapping)}",
        consequence="Nothing of it could be used",
        remedy="Check the mapping: columns, time_format, delimiter",
    )
