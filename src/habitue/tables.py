"""A shop as it stands in the lake: the tables every run begins with, and what tells one state of them from another."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from habitue import prepare, quality
from habitue.core.schemas import (
    CONSENT,
    EVENTS,
    ITEMS,
    MEDIA,
    REFUSED,
    REPAIRS,
    USERS,
    Events,
    Items,
    Media,
    Refused,
    Users,
)
from habitue.core.workspace import Workspace
from habitue.encode import traits
from habitue.plan import Plan
from habitue.protect import consent, people
from habitue.protect.consent import Register
from habitue.quality.repairs import mend


@dataclass(frozen=True)
class Tables:
    """A shop as it stands in the lake, joined people under one key."""

    raw: Events  # as imported, the repairs somebody asked for done
    events: Events  # after quality.clean
    dropped: pl.DataFrame  # code, rows, money
    items: Items
    users: Users
    refused: Refused
    known: pl.DataFrame  # user_key, known: False = seen as a guest order only
    consents: Register = field(default_factory=Register)
    media: Media = field(default_factory=MEDIA.empty)
    vectors: Path | None = None  # where what was encoded once is kept

    def withheld(self, purpose: str) -> pl.Series:
        """Return the keys (i64, ascending) of people who may not be used for a purpose."""
        return self.consents.withheld(pl.concat([self.known["user_key"], self.raw["user_key"]]), purpose)


def read(workspace: Workspace, plan: Plan, *, as_of: dt.datetime | None = None) -> Tables:
    """Read the lake, put joined people under one key, do the repairs in force, and clean.

    Rows of people who may not be counted are left out of `events`. `as_of`: who is who and who agrees to what at that
    moment, with rows after it all the same (default: now).
    """
    lake, ids = workspace.lake, workspace.identities
    raw, users = (people.joined(lake.read(table), ids, as_of=as_of) for table in (EVENTS, USERS))
    consents = consent.register(ids, lake.read(CONSENT), plan.consent, as_of=as_of)
    raw, items = mend(raw, lake.read(ITEMS), lake.read(REPAIRS))
    events, dropped = quality.clean(raw, plan.quality)
    known = people.known_keys(ids, as_of=as_of)
    tables = Tables(raw, events, dropped, items, users, lake.read(REFUSED), known, consents)
    counted = consent.without(events, tables.withheld(consent.ANALYTICS))
    return dataclasses.replace(tables, events=counted, media=lake.read(MEDIA), vectors=workspace.vectors)


def version(tables: Tables, plan: Plan, as_of: dt.datetime, *, listed: dt.datetime | None = None) -> str:
    """Return a sha256 over what training reads: the clean events before `as_of`, the catalogue and the plan."""
    digest = hashlib.sha256(repr((plan, as_of)).encode())
    seen, _ = prepare.split(tables.events, as_of)
    told = ("item_id", "title", *(("category", "brand") if plan.knowledge else ()))
    catalogue = tables.items.filter(pl.col("valid_from") < (listed or as_of)).select(told)
    for frame in (seen.select("event_id", "line", "user_key"), catalogue, tables.known, tables.consents.now):
        digest.update(frame.write_csv().encode())
    if plan.traits:
        digest.update(traits.told(tables.users, plan.traits, as_of=as_of).write_csv().encode())
    if plan.content.senses:
        digest.update(tables.media.select("media_id", "at").sort("media_id").write_csv().encode())
    return digest.hexdigest()
