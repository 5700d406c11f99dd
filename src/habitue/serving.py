"""What a workspace holds, read for the server: the lake, the promoted model, who may be answered in person."""

from __future__ import annotations

import datetime as dt
import functools
import shutil
import time
from pathlib import Path

import polars as pl

from habitue import pipeline, prepare, quality
from habitue.core import settings
from habitue.core.schemas import CHECKS
from habitue.core.workspace import Workspace
from habitue.encode import traits
from habitue.look_back import describe
from habitue.model import artifact
from habitue.plan import load
from habitue.protect import consent
from habitue.quality import limits
from habitue.serve import personal, registry, shop
from habitue.serve.shop import Reading, Traits


def read(space: Workspace) -> Path:
    """Read the workspace as it is now and write what answers need into a new folder below `state`; returns it.

    Folders of earlier readings go, but for the one before, which may be served still. Raises HabitueError for a
    workspace that cannot be read.
    """
    found = reading(space)
    folder = space.state / f"{shop.FOLDER}{time.time_ns():020d}"
    draft = folder.with_name(f".{folder.name}")
    draft.mkdir(parents=True)
    try:
        shop.write(found, draft)
        personal.measure(draft, found)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # what is left of it when it was cut off
    for older in [*space.state.glob(f".{shop.FOLDER}*"), *sorted(space.state.glob(f"{shop.FOLDER}*"))[:-2]]:
        shutil.rmtree(older, ignore_errors=True)
    return folder


def reading(space: Workspace) -> Reading:
    """Read the workspace as it is now: EVENTS whole, as training does. Raises HabitueError."""
    plan = load(space.plan)
    tables = pipeline.read(space, plan)
    now = dt.datetime.now(dt.UTC)
    catalogue = prepare.catalogue(tables.events, tables.items, as_of=now)
    catalogue = catalogue.filter(pl.col("item_id").is_in(list(quality.products(catalogue, plan.quality.products))))
    folder = registry.current(space.models)
    loaded = None if folder is None else _loaded(folder)
    learnt = None if loaded is None else traits.read(loaded.manifest)
    people = tables.users["user_key"].unique().sort().to_numpy()
    withheld = {key for name in (consent.ANALYTICS, consent.PERSONALISATION) for key in tables.withheld(name)}
    return Reading(
        at=now,
        version=None if folder is None else folder.name,
        state=None if loaded is None else loaded.state,
        horizon_days=plan.horizon_days if loaded is None else loaded.manifest["horizon_days"],
        catalogue=catalogue,
        content=describe(tables, catalogue, as_of=now, plan=plan),
        details=_details(tables.items, tables.events, now),
        events=tables.events,
        withheld=frozenset(withheld),
        traits=None if learnt is None else Traits(people, traits.rows(tables.users, learnt, people, as_of=now)),
        trained=None if loaded is None else settings.moment(loaded.manifest["as_of"]),
        window_days=plan.blend.popular.window_days,
        rules=plan.blend.rules,
        exact_products=plan.serve.exact_products,
        facts=prepare.facts(tables.items, catalogue=catalogue, as_of=now),
        quality=_quality(space.lake.read(CHECKS)),
        train_s=None if loaded is None else loaded.manifest.get("train_s"),  # models of earlier versions have none
    )


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path) -> artifact.Artifact:
    return artifact.load(folder)  # a version never changes


def _quality(checks: pl.DataFrame) -> tuple[tuple[str, str, float], ...]:
    """Return table, dimension and the mean of its measures, as `habitue check` found them last."""
    newest = checks.filter(pl.col("checked_at") == pl.col("checked_at").max())
    return tuple(limits.dimensions(newest).iter_rows())


def _details(items: pl.DataFrame, events: pl.DataFrame, now: dt.datetime) -> pl.DataFrame:
    """Return item_id, category, brand, price, attributes: of each what was said last; a price also as it was paid.

    Of the attributes those that said last whether it can be had: words that say nothing of it leave that as it was.
    """
    says = pl.col("attributes").str.contains('"availability":', literal=True)
    listed = items.filter(pl.col("valid_from") < now).sort("item_id", "valid_from")
    listed = listed.with_columns(attributes=pl.when(says).then("attributes"))
    listed = listed.group_by("item_id", maintain_order=True).agg(
        pl.col("category", "brand", "price", "attributes").drop_nulls().last()
    )
    paid = events.filter(pl.col("price") > 0, pl.col("item_id").is_not_null()).sort("at", "event_id", "line")
    paid = paid.group_by("item_id").agg(paid=pl.col("price").last())
    every = listed.join(paid, on="item_id", how="full", coalesce=True)
    return every.with_columns(price=pl.coalesce("price", "paid")).drop("paid").sort("item_id")
