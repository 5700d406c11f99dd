"""What a workspace holds, read for the server: the lake, the promoted model, who may be answered in person."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue import pipeline, prepare, quality
from habitue.core.schemas import EVENTS
from habitue.core.workspace import Workspace
from habitue.encode import text
from habitue.model import artifact
from habitue.plan import load
from habitue.protect import consent
from habitue.serve import registry
from habitue.serve.shop import Snapshot


def snapshot(space: Workspace, *, since: dt.datetime) -> Snapshot:
    """Read the workspace as it is now; `since`: when the server began, whose events it has beside the lake.

    Reads EVENTS whole, as training does. Raises HabitueError for a workspace that cannot be read.
    """
    plan = load(space.plan)
    stored = space.lake.read(EVENTS).filter(pl.col("received_at") >= since)["event_id"]
    tables = pipeline.read(space, plan)
    now = dt.datetime.now(dt.UTC)
    catalogue = prepare.catalogue(tables.events, tables.items, as_of=now)
    catalogue = catalogue.filter(pl.col("item_id").is_in(list(quality.products(catalogue, plan.quality.products))))
    folder = registry.current(space.models)
    loaded = None if folder is None else artifact.load(folder)
    withheld = {key for name in (consent.ANALYTICS, consent.PERSONALISATION) for key in tables.withheld(name)}
    return Snapshot(
        at=now,
        version=None if folder is None else folder.name,
        state=None if loaded is None else loaded.state,
        horizon_days=plan.horizon_days if loaded is None else loaded.manifest["horizon_days"],
        catalogue=catalogue,
        words=text.encode(catalogue, plan.words).matrix if catalogue.height else None,
        details=_details(tables.items, tables.events, now),
        events=tables.events,
        withheld=frozenset(withheld),
        stored=frozenset(stored),
    )


def _details(items: pl.DataFrame, events: pl.DataFrame, now: dt.datetime) -> pl.DataFrame:
    """Return item_id, category, brand, price, attributes: of each what was said last; a price also as it was paid."""

    told = ("category", "brand", "price", "attributes")
    listed = items.filter(pl.col("valid_from") < now).sort("item_id", "valid_from")
    listed = listed.group_by("item_id", maintain_order=True).agg(pl.col(c).drop_nulls().last() for c in told)
    paid = events.filter(pl.col("price") > 0, pl.col("item_id").is_not_null()).sort("at", "event_id", "line")
    paid = paid.group_by("item_id").agg(paid=pl.col("price").last())
    every = listed.join(paid, on="item_id", how="full", coalesce=True)
    return every.with_columns(price=pl.coalesce("price", "paid")).drop("paid").sort("item_id")
