"""What may be known of a shop at a moment: the tables as they stood then -> the Past that models are fitted on."""

from __future__ import annotations

import datetime as dt

import polars as pl

from habitue import prepare, quality
from habitue.core.errors import ModelError
from habitue.core.schemas import Events
from habitue.encode import content, search, table
from habitue.encode import traits as attributes
from habitue.model import knowledge
from habitue.model.past import Past, histories
from habitue.plan import Plan
from habitue.prepare import leakage
from habitue.protect import consent
from habitue.tables import Tables

TRAIN_EVERY_DAYS = 7  # a moment of training for churn and value each week; LOG.md, "trees"
TRAIN_HISTORY_DAYS = 60  # a shop known for a shorter time has no past to learn from


def look_back(
    tables: Tables,
    *,
    as_of: dt.datetime,
    plan: Plan,
    train: bool = True,
    purpose: str = consent.PERSONALISATION,
    listed: dt.datetime | None = None,
    traits: table.Fitted | None = None,
) -> tuple[Past, dict[str, str]]:
    """Return what may be known at `as_of`, and the products' words. `train` False leaves the training rows out.

    `traits`: which of the customers' attributes are read, and as which numbers: `traits_learnt`, or of a trained model.
    `listed`: the catalogue of that moment (default: of `as_of`). A later one is for answers about now, when the events
    end before today; a forecast that is judged must not have it.

    People who may not be used for `purpose` are in none of it; a training row of an earlier moment needs their consent
    of that moment as well. Raises LeakageError when a feature knows what comes after its moment, ModelError when
    nobody may be used.
    """
    seen, _ = prepare.split(tables.events, as_of)
    listed = listed or as_of
    catalogue = prepare.catalogue(seen, tables.items, as_of=listed)
    products = quality.products(catalogue, plan.quality.products)
    catalogue = catalogue.filter(pl.col("item_id").is_in(list(products)))
    keys = _usable(seen, tables, purpose)
    known = tables.known.filter("known")["user_key"]
    people = keys.filter(keys.is_in(known.implode()))
    moments = _training_moments(seen, as_of, plan.horizon_days) if train else []
    features = prepare.features(seen, as_of=[*moments, as_of], users=people)
    labels = prepare.labels(seen, as_of=moments, horizon_days=plan.horizon_days, users=people, until=as_of)
    asked, learnt = features.filter(pl.col("as_of") == as_of), features.filter(pl.col("as_of") < as_of)
    leakage.guard(seen, learnt, labels, cut=as_of)
    for agreed in {consent.ANALYTICS, purpose}:
        learnt, labels = (rows.filter(tables.consents.granted(rows, agreed)) for rows in (learnt, labels))
    items, told = tuple(catalogue["item_id"]), describe(tables, catalogue, as_of=listed, plan=plan)
    said, about = search.meant(seen, search.index(told.words)), prepare.attributes(tables.items, as_of=listed)
    past = Past(
        as_of=as_of,
        horizon_days=plan.horizon_days,
        items=items,
        histories=histories(prepare.timeline(said), items, users=keys),
        known=keys.is_in(known.implode()).to_numpy(),
        words=told.matrix,
        parts=told.parts,
        traits=None if traits is None else attributes.rows(tables.users, traits, keys.to_numpy(), as_of=as_of),
        features=asked,
        train_features=learnt,
        train_labels=labels,
        knowledge=knowledge.about(
            plan.knowledge, catalogue.join(about, on="item_id", how="left", maintain_order="left")
        ),
        facts=prepare.facts(tables.items, catalogue=catalogue, as_of=listed),
    )
    return past, dict(catalogue.drop_nulls("title").iter_rows())


def traits_learnt(
    tables: Tables, plan: Plan, *, as_of: dt.datetime, purpose: str = consent.PERSONALISATION
) -> table.Fitted | None:
    """Return what the attributes that the plan names become as numbers, learnt from who may be used at `as_of`.

    None where the plan names none, and where none is said of people enough (`encode.traits`).
    """
    if not plan.traits:
        return None
    keys = _usable(prepare.split(tables.events, as_of)[0], tables, purpose)
    usable = tables.users.filter(pl.col("user_key").is_in(keys.implode()))
    return attributes.learn(usable, plan.traits, as_of=as_of)


def describe(tables: Tables, catalogue: pl.DataFrame, *, as_of: dt.datetime, plan: Plan) -> content.Content:
    """Return what was known of the products of a catalogue at `as_of`: words, and the senses the plan names."""
    return content.about(
        catalogue, tables.media, as_of=as_of, words=plan.words, config=plan.content, cache=tables.vectors
    )


def _usable(seen: Events, tables: Tables, purpose: str) -> pl.Series:
    """Return the keys of everybody seen who may be used for the purpose, ascending."""
    every = seen["user_key"].unique().sort()
    keys = every.filter(~every.is_in(tables.withheld(purpose).implode()))
    if keys.is_empty() and not every.is_empty():
        raise ModelError(
            "consent",
            found=f"0 of {len(every):,} customers may be used for {purpose}",
            consequence="There is nobody to learn from and nobody to answer about",
            remedy=f"Import who granted it (docs/privacy.md), or say in habitue.toml what silence means: [consent] "
            f"{purpose} = true",
        )
    return keys


def _training_moments(seen: Events, as_of: dt.datetime, horizon_days: int) -> list[dt.datetime]:
    """Return the moments, latest first, whose horizon closes by `as_of`; none when the shop is too young."""
    first = seen["at"].min()
    if not isinstance(first, dt.datetime):
        return []
    earliest = first + dt.timedelta(days=TRAIN_HISTORY_DAYS)
    latest = as_of - dt.timedelta(days=horizon_days)
    count = max(0, (latest - earliest).days // TRAIN_EVERY_DAYS + 1)
    return [latest - dt.timedelta(days=TRAIN_EVERY_DAYS * i) for i in range(count)]
