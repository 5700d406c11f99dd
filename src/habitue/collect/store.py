"""Staged rows -> the lake: all of it in one transaction, part by part, only what is not there yet.

Each part gets its ids, leaves out the ids the lake has, gives its people their keys and is appended. The lake's
transaction surrounds the one of the identities: after a crash between the two there may be keys without rows, which a
repeat uses, and never rows without a person.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from habitue.collect.ids import event_ids, keyed
from habitue.collect.mapping import Mapping
from habitue.collect.staging import Staging
from habitue.collect.typed import BESIDE, USER_ATTRIBUTE
from habitue.core.lake import Lake
from habitue.core.schemas import EVENTS, ITEMS, MEDIA, REFUND, REFUSED, USERS, Events, Items, Refused, Users
from habitue.core.workspace import Workspace
from habitue.protect import identities, mask
from habitue.protect.people import claim

_IDS = {"exposures": "exposure_id", "outside": "outside_id", "signals": "signal_id", "examples": "example_id"}
_SAID = ("consent", "users")  # keyed by the person, who is known only after the ids
_WHOSE = ("owner", "owner_id", "user", "sha256", "start_s")
_Origin = dict[str, pl.Expr]


def _none(dtype: pl.DataType) -> pl.Series:
    return field(default_factory=lambda: pl.Series([], dtype=dtype))


@dataclass
class Counts:
    """What was stored; orders and people are counted over all parts."""

    import_id: str = ""
    new: int = 0
    money: dict[str, list[float]] = field(default_factory=dict)  # currency -> net, part by part
    orders: pl.Series = _none(pl.UInt64())  # their hashes: 64 bits, so two of 10 million agree once in 370,000 files
    users: pl.Series = _none(pl.Int64())
    guests: pl.Series = _none(pl.Int64())
    first: dt.datetime | None = None
    last: dt.datetime | None = None

    def span(self, moments: pl.Series) -> None:
        """Widen the span of time to these moments."""
        low, high = moments.min(), moments.max()
        assert isinstance(low, dt.datetime | None) and isinstance(high, dt.datetime | None)
        self.first = min((m for m in (self.first, low) if m), default=None)
        self.last = max((m for m in (self.last, high) if m), default=None)


def write(workspace: Workspace, staged: Staging, mapping: Mapping, *, seed: int | None) -> Counts:
    """Store what is staged. Raises LakeError; nothing is changed then, nor when it is interrupted."""
    lake, table = workspace.lake, mapping.rows.table
    counts = Counts()
    if mapping.rows.person == "none":  # no person, no secret: the ids are no hashes over one
        with lake.transaction(table, REFUSED):
            _write(lake, staged, mapping, counts, people=None, secret=b"", seed=seed, currency=workspace.currency)
        return counts
    tables = (EVENTS, ITEMS, USERS, REFUSED) if mapping.what == "events" else (table, REFUSED)
    with lake.transaction(*tables), identities.book(workspace.identities) as people:
        secret = identities.event_secret(people, seed=seed)
        _write(lake, staged, mapping, counts, people=people, secret=secret, seed=seed, currency=workspace.currency)
    return counts


def _write(
    lake: Lake,
    staged: Staging,
    mapping: Mapping,
    counts: Counts,
    *,
    people: sqlite3.Connection | None,
    secret: bytes,
    seed: int | None,
    currency: str,
) -> None:
    counts.import_id = _import_id(staged, secret)
    origin: _Origin = {"source": pl.lit(mapping.source), "import_id": pl.lit(counts.import_id)}
    money = pl.lit(mapping.currency or currency)
    stored = _Stored(lake, mapping)
    words, attributes = ITEMS.empty(), USERS.empty()
    keys = _keys(staged, mapping, people, seed) if people is not None else None
    for part in staged.parts():
        rows = stored.new(part, mapping, secret)
        if rows.is_empty():
            continue
        if keys is not None:
            rows = _with_people(rows, mapping, keys)
        if mapping.what in _SAID:  # the same word of one person again, by whatever id of theirs, is known
            rows = stored.first(rows, list(mapping.rows.table.key))
        told = pl.col("currency") if "currency" in rows.columns else pl.lit(None, dtype=pl.String)
        rows = rows.with_columns(**origin, currency=pl.coalesce(told, money))
        if mapping.what == "events":
            rows = _events_of(rows, mapping, counts)
            words = _earliest(pl.concat([words, titles(EVENTS.shape(rows))]), ["item_id", "title"])
            attributes = _earliest(pl.concat([attributes, _attributes(rows)]), ["user_key", "attributes"])
            lake.append(EVENTS, EVENTS.shape(rows).sort("at", "event_id", "line"))
        else:
            frame = mapping.rows.table.shape(_shaped(rows, mapping))
            lake.append(mapping.rows.table, frame)
            if mapping.rows.moment is not None:
                counts.span(frame[mapping.rows.moment])
        counts.new += rows.height
    if mapping.what == "events":
        lake.append(ITEMS, _earlier(words, lake.read(ITEMS), ["item_id", "title"]))
        attributes = attributes.sort("user_key", "valid_from", "attributes")
        attributes = attributes.unique(["user_key", "valid_from"], keep="first", maintain_order=True)
        lake.append(USERS, _earlier(attributes, lake.read(USERS), ["user_key", "attributes"]))
    for refused in staged.refused():
        lake.append(REFUSED, _unseen(refused.with_columns(**origin), lake))


class _Stored:
    """What the lake holds of one table, as far as it tells new rows from known ones."""

    def __init__(self, lake: Lake, mapping: Mapping) -> None:
        self._files = lake.files(mapping.rows.table)

    def new(self, part: pl.DataFrame, mapping: Mapping, secret: bytes) -> pl.DataFrame:
        """Return the rows of a part that are not there yet, with their ids; of a key that repeats, the first row."""
        if mapping.what == "items":
            title = pl.col("title") if "title" in part.columns else pl.lit(None, pl.String())
            return self.first(part.with_columns(title=title), list(ITEMS.key))
        if mapping.what == "media":
            return self.first(part.with_columns(media_id=_media_ids(part, mapping)), ["media_id"])
        if "event_id" in part.columns:
            line = pl.col("line").cast(pl.Int32).fill_null(0) if "line" in part.columns else pl.lit(0, pl.Int32())
            part = part.with_columns(line=line)
            if part["event_id"].str.starts_with("ga4:").all():
                part = part.with_columns(keyed(part["event_id"], source=mapping.source, secret=secret))
            return self.first(part, ["event_id", "line"])
        if mapping.what in _SAID:
            return part
        name = _IDS.get(mapping.what, "event_id")
        ids = event_ids(part, source=mapping.source, secret=secret).alias(name)
        return self._unknown(part.with_columns(ids), [name])

    def first(self, rows: pl.DataFrame, key: list[str]) -> pl.DataFrame:
        """Return the rows whose key is not there yet; of a key that repeats, the first row."""
        return self._unknown(rows.unique(key, keep="first", maintain_order=True), key)

    def _unknown(self, rows: pl.DataFrame, key: list[str]) -> pl.DataFrame:
        """Leave out the rows whose key a stored file holds; memory holds one file's key columns."""
        for path in self._files:
            if rows.is_empty():
                break
            there = pl.read_parquet(path, columns=key, hive_partitioning=False)
            rows = rows.join(there, on=key, how="anti", nulls_equal=True, maintain_order="left")
        return rows


def same(mapping: Mapping, columns: Sequence[str]) -> list[str]:
    """The columns in which two rows of a file that may be the same one agree."""
    if "event_id" in columns:
        keys: Sequence[str] = ("event_id", "line")
    else:
        keys = {"items": ITEMS.key, "media": _WHOSE, "users": ("user", "visitor", "valid_from")}.get(
            mapping.what, columns
        )
    return [c for c in keys if c in columns]


def _media_ids(rows: pl.DataFrame, mapping: Mapping) -> pl.Series:
    """Name a medium after its content and whose it is."""
    texts = rows.select(pl.struct(c for c in _WHOSE if c in rows.columns).struct.json_encode()).to_series()
    ids = [hashlib.blake2b(f"{mapping.source}\x1f{text}".encode(), digest_size=16).hexdigest() for text in texts]
    return pl.Series("media_id", ids, dtype=pl.String)


def _import_id(staged: Staging, secret: bytes) -> str:
    """Name an import after its rows, so that the same rows in any order are the same import."""
    told = f"{staged.tally.digest}:{staged.tally.read}:{staged.tally.refused}"
    return hashlib.blake2b(told.encode(), digest_size=8, key=secret).hexdigest()


def _keys(staged: Staging, mapping: Mapping, people: sqlite3.Connection, seed: int | None) -> pl.DataFrame:
    """Return alias_kind, alias, user_key of everybody in the file; who is met for the first time gets a key."""
    columns = [c for c in ("user", "visitor", BESIDE, "order_id", mapping.rows.moment) if c in staged.columns]
    met = pl.DataFrame(schema={"alias_kind": pl.String, "alias": pl.String, "at": pl.Datetime("us", "UTC")})
    for block in staged.blocks(columns):
        aliases = _aliases(_dated(block), mapping).drop_nulls("alias")
        if "at" not in aliases.columns:
            aliases = aliases.with_columns(at=pl.lit(dt.datetime.now(dt.UTC), dtype=pl.Datetime("us", "UTC")))
        if BESIDE in block.columns:
            beside = aliases.drop_nulls(BESIDE).with_columns(pl.lit("anonymous_id").alias("alias_kind"), alias=BESIDE)
            aliases = pl.concat([aliases, beside])
        seen = aliases.group_by("alias_kind", "alias").agg(pl.col("at").min())
        met = pl.concat([met, seen]).group_by("alias_kind", "alias").agg(pl.col("at").min())
    found = []
    for kind in sorted(met["alias_kind"].unique()):
        some = met.filter(pl.col("alias_kind") == kind).sort("alias")
        keys = identities.keys_for(people, kind, some["alias"], linked_at=some["at"], source=mapping.source, seed=seed)
        found.append(some.select("alias_kind", "alias").with_columns(user_key=keys))
    empty = pl.DataFrame(schema={"alias_kind": pl.String, "alias": pl.String, "user_key": pl.Int64})
    everybody = pl.concat([empty, *found])
    _join_visitors(staged, mapping, people, everybody)
    return everybody


def _join_visitors(staged: Staging, mapping: Mapping, people: sqlite3.Connection, keys: pl.DataFrame) -> None:
    """Claim a visitor's id for the user that the same rows name, from the first of them on."""
    moment = mapping.rows.moment
    if BESIDE not in staged.columns or moment not in staged.columns:
        return
    pair = [BESIDE, "alias_kind", "alias"]
    met = [
        _aliases(_dated(block), mapping).drop_nulls(BESIDE).group_by(pair).agg(pl.col("at").min())
        for block in staged.blocks([c for c in ("user", "visitor", BESIDE, moment) if c in staged.columns])
    ]
    pairs = pl.concat(met).join(keys.rename({"user_key": "became"}), on=["alias_kind", "alias"])
    visitors = keys.filter(pl.col("alias_kind") == "anonymous_id").select(pl.col("alias").alias(BESIDE), "user_key")
    claim(people, pairs.join(visitors, on=BESIDE).select("user_key", "became", "at"), source=mapping.source)


def _dated(rows: pl.DataFrame) -> pl.DataFrame:
    """Call the moment of the rows `at`, whatever their table calls it."""
    return rows.rename({"valid_from": "at"}, strict=False)


def _aliases(rows: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Add guest (bool), alias_kind and alias: a guest is a person of one order."""
    kind = pl.lit(mapping.user.alias_kind if mapping.user else "anonymous_id")
    if "visitor" in rows.columns:
        kind = pl.when("visitor").then(pl.lit("anonymous_id")).otherwise(kind)
    order = pl.lit(identities.GUEST) + pl.col("order_id") if "order_id" in rows.columns else pl.lit(None, pl.String())
    guest = pl.col("user").is_null()
    return rows.with_columns(
        guest=guest,
        alias_kind=pl.when(guest).then(pl.lit("anonymous_id")).otherwise(kind),
        alias=pl.coalesce("user", order),
    )


def _with_people(rows: pl.DataFrame, mapping: Mapping, keys: pl.DataFrame) -> pl.DataFrame:
    """Add `guest` (bool) and `user_key`; null where a row is about nobody."""
    named = _aliases(rows, mapping).join(keys, on=["alias_kind", "alias"], how="left", maintain_order="left")
    return named.drop("alias_kind", "alias")


def _events_of(rows: pl.DataFrame, mapping: Mapping, counts: Counts) -> pl.DataFrame:
    """Complete typed rows for EVENTS; a refund counts against the shop whatever sign its file writes."""
    names = rows.columns
    if "kind" not in names:
        rules = [pl.when(pl.col(r.field).str.starts_with(r.prefix)).then(pl.lit(r.kind)) for r in mapping.kind.rules]
        rows = rows.with_columns(kind=pl.coalesce(*rules, pl.lit(mapping.kind.default)))
    rows = rows.with_columns(pl.col("kind").replace(mapping.kind.names).fill_null(mapping.kind.default))
    if "line" not in names:
        rows = rows.with_columns(line=pl.lit(0, dtype=pl.Int32))
    if "price" in names:
        counted = pl.col("price") * (pl.col("quantity") if "quantity" in names else 1.0)
        # a tracker's own event knows its lines' value only by their price; a ledger's own column wins as it stands
        told = pl.col("value") if "value" in names else None
        value = counted if told is None else pl.coalesce(told, counted) if "event_id" in mapping.columns else told
        rows = rows.with_columns(value=value)
    refund = pl.col("kind") == REFUND
    signed = [
        pl.when(refund).then(-pl.col(name).abs()).otherwise(pl.col(name)).alias(name)
        for name in ("quantity", "value")
        if name in rows.columns
    ]
    rows = rows.with_columns(signed)
    for (currency,), lines in EVENTS.shape(rows).filter(pl.col("value").is_not_null()).group_by("currency"):
        counts.money.setdefault(str(currency), []).append(math.fsum(lines["value"]))
    if "order_id" in names:
        counts.orders = _distinct(counts.orders, rows["order_id"].drop_nulls().hash())
    counts.users = _distinct(counts.users, rows.filter(~pl.col("guest"))["user_key"])
    counts.guests = _distinct(counts.guests, rows.filter(pl.col("guest"))["user_key"])
    counts.span(rows["at"])
    return rows


def _distinct(known: pl.Series, more: pl.Series) -> pl.Series:
    return pl.concat([known, more.rename("")]).unique()


def _shaped(rows: pl.DataFrame, mapping: Mapping) -> pl.DataFrame:
    """Put what a mapping calls extra where the table keeps it."""
    if "extra" in rows.columns and mapping.rows.extra not in (None, "extra"):
        rows = rows.rename({"extra": mapping.rows.extra})
    if mapping.rows.table is MEDIA:
        rows = (
            rows.with_columns(pl.lit(None, pl.String()).alias("owner_id")) if "owner_id" not in rows.columns else rows
        )
    return rows


def titles(events: Events) -> Items:
    """Return each product's words as of their first moment."""
    named = events.filter(pl.col("item_id").is_not_null())
    found = named.group_by("item_id", "title").agg(
        pl.col("at").min().alias("valid_from"), pl.col("source", "import_id").first()
    )
    return ITEMS.shape(found)


def _attributes(rows: pl.DataFrame) -> Users:
    """Return each person's attributes as of their first moment."""
    columns = sorted(c for c in rows.columns if c.startswith(USER_ATTRIBUTE))
    if not columns:
        return USERS.empty()
    told = rows.filter(pl.any_horizontal(pl.col(columns).is_not_null()))
    found = told.group_by("user_key", *columns).agg(
        pl.col("at").min().alias("valid_from"), pl.col("source", "import_id").first()
    )
    found = found.with_columns(mask.masked(found[c]) for c in columns)
    texts = [
        json.dumps({c.removeprefix(USER_ATTRIBUTE): v for c, v in row.items() if v is not None}, ensure_ascii=False)
        for row in found.select(columns).to_dicts()
    ]
    return USERS.shape(found.drop(columns).with_columns(attributes=pl.Series(texts, dtype=pl.String)))


def unsaid(rows: pl.DataFrame, stored: pl.DataFrame, same: list[str]) -> pl.DataFrame:
    """Return of the rows that say the same the earliest, where the lake does not have it from that moment or before."""
    return _earlier(_earliest(rows, same), stored, same)


def news(rows: pl.DataFrame, stored: pl.DataFrame, *, of: str) -> pl.DataFrame:
    """Return of the rows, as they came, those that say something else than what was said before; `of` names whose.

    What was said, unsaid and is said again is news. A row of the very moment of an earlier one contradicts it (a client
    that sends a product's first day each time): it holds from just after what was said last. O(n log n).
    """
    moment, told = pl.col("valid_from"), [c for c in rows.columns if c not in (of, "valid_from", "source", "import_id")]
    stored = stored.filter(pl.col(of).is_in(rows[of].unique().implode()))
    met = stored.group_by(of).agg(latest=moment.max())
    there = stored.select(of, "valid_from", there=pl.lit(True)).unique()
    came = rows.with_row_index("came", offset=1).join(met, on=of, how="left", maintain_order="left")
    came = came.join(there, on=[of, "valid_from"], how="left", maintain_order="left")
    came = came.with_columns(again=pl.col("there").is_not_null() | ~pl.struct(of, "valid_from").is_first_distinct())
    after = pl.max_horizontal("latest", moment.cum_max().over(of)) + pl.duration(
        microseconds=pl.col("again").cum_sum().over(of)
    )
    came = came.with_columns(valid_from=pl.when("again").then(after).otherwise(moment))
    every = pl.concat(
        [stored.with_columns(came=pl.lit(0, dtype=pl.UInt32)), came.select("came", *rows.columns)], how="diagonal"
    )
    every = every.sort(of, "valid_from", "came")
    changed = pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift(1)) for c in (of, *told))
    return every.filter(changed & (pl.col("came") > 0)).select(rows.columns)


def _earliest(rows: pl.DataFrame, same: list[str]) -> pl.DataFrame:
    """Keep of the rows that say the same the earliest."""
    return rows.sort("valid_from").unique(same, keep="first", maintain_order=True)


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


def total(money: Iterable[float]) -> float:
    """Add up, and round to cents."""
    return round(math.fsum(money), 2)


def as_words(counts: Counts) -> dict[str, Any]:
    """The counts as an import reports them."""
    return {
        "import_id": counts.import_id,
        "new": counts.new,
        "sums": {currency: total(parts) for currency, parts in sorted(counts.money.items())},
        "orders": len(counts.orders),
        "users": len(counts.users),
        "guests": len(counts.guests),
        "first": counts.first,
        "last": counts.last,
    }
