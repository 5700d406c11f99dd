"""Work of one user at a time over a whole lake, a bucket of users after the other: memory is one bucket.

Each function gives what its namesake gives on all events at once, row for row; `engine` may be any that keeps a user's
rows together. More buckets (habitue.toml [workspace]) = less memory. `joins` and `consents` say who is one person with
whom (protect.people.joins) and who agrees to what (protect.consent.register): who may not be counted, or not be used
for `purpose`, is in no row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import polars as pl

from habitue.core import engine as seam
from habitue.core.engine import Engine, Step
from habitue.core.engines.local import LocalEngine
from habitue.core.lake import Lake
from habitue.core.progress import track
from habitue.core.schemas import EVENTS, FEATURES, TIMELINE, Features, Timeline
from habitue.prepare import activity as users
from habitue.prepare.declared import LEDGER, Feature
from habitue.prepare.features import features as features_of
from habitue.prepare.timeline import timeline as timeline_of
from habitue.protect import consent
from habitue.protect.consent import ANALYTICS, Register


def parts(
    lake: Lake,
    *,
    columns: Sequence[str] | None = None,
    joins: pl.DataFrame | None = None,
    consents: Register | None = None,
    purpose: str = ANALYTICS,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of EVENTS, no user in two parts: a bucket after the other, rows in any order.

    `joins` (user_key, became): people whose keys were joined lie in several buckets; their rows, under the key they
    became, are one part of their own at the end. `columns` must hold user_key then, and with `consents`.
    """
    for rows in _people(lake, columns, joins):
        if consents is not None:
            for agreed in sorted({ANALYTICS, purpose}):
                rows = consent.without(rows, consents.withheld(rows["user_key"], agreed))
        if rows.height:
            yield rows


def _people(lake: Lake, columns: Sequence[str] | None, joins: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
    """Yield the rows of EVENTS bucket by bucket, joined people at the end."""
    moved = None if joins is None or joins.is_empty() else pl.concat([joins["user_key"], joins["became"]]).unique()
    apart = []
    for rows in track(lake.parts(EVENTS, columns=columns), "Users, bucket by bucket", total=lake.buckets):
        if moved is not None and joins is not None:
            theirs = pl.col("user_key").is_in(moved.implode())
            apart.append(rows.filter(theirs))
            rows = rows.filter(~theirs)
        yield rows
    if apart and joins is not None:
        rows = pl.concat(apart).join(joins, on="user_key", how="left", maintain_order="left")
        yield rows.with_columns(user_key=pl.coalesce("became", "user_key")).drop("became")


def activity(
    lake: Lake,
    *,
    gap: dt.timedelta,
    engine: Engine | None = None,
    joins: pl.DataFrame | None = None,
    consents: Register | None = None,
    purpose: str = ANALYTICS,
) -> pl.DataFrame:
    """Return what `prepare.activity` gives on all events: one row a user, by user_key."""
    step = Step("prepare.activity", lambda rows: users.activity(rows, gap=gap), "one_user")
    rows = parts(lake, columns=users.COLUMNS, joins=joins, consents=consents, purpose=purpose)
    nobody = users.activity(EVENTS.empty(), gap=gap)
    return pl.concat([nobody, *seam.map(step, rows, engine=engine or LocalEngine())]).sort("user_key")


def timeline(
    lake: Lake,
    *,
    engine: Engine | None = None,
    joins: pl.DataFrame | None = None,
    consents: Register | None = None,
    purpose: str = ANALYTICS,
) -> Iterator[Timeline]:
    """Yield TIMELINE, a part after the other; each user's steps stand in one part."""
    step = Step("prepare.timeline", lambda rows: timeline_of(EVENTS.shape(rows)), "one_user")
    rows = parts(lake, joins=joins, consents=consents, purpose=purpose)
    return seam.map(step, rows, engine=engine or LocalEngine())


def features(
    lake: Lake,
    *,
    as_of: dt.datetime | Sequence[dt.datetime],
    declared: Sequence[Feature] = LEDGER,
    engine: Engine | None = None,
    joins: pl.DataFrame | None = None,
    consents: Register | None = None,
    purpose: str = ANALYTICS,
) -> Features:
    """Return what `prepare.features` gives on all events, sorted alike; memory is a bucket and the answer.

    With `consents` a row needs the person's agreement of its own moment as well.
    """

    def of_a_part(rows: pl.DataFrame) -> pl.DataFrame:
        found = features_of(EVENTS.shape(rows), as_of=as_of, declared=declared)
        if consents is not None:
            for agreed in sorted({ANALYTICS, purpose}):
                found = found.filter(consents.granted(found, agreed))
        return found

    step = Step("prepare.features", of_a_part, "one_user")
    rows = parts(lake, joins=joins, consents=consents, purpose=purpose)
    told = list(seam.map(step, rows, engine=engine or LocalEngine()))
    nobody = features_of(EVENTS.empty(), as_of=as_of, declared=declared)
    return FEATURES.shape(pl.concat([nobody, *told]).sort("as_of", "user_key"))


def whole(parts: Iterator[Timeline]) -> Timeline:
    """Put the parts of a timeline together, in the order of the whole."""
    return pl.concat([TIMELINE.empty(), *parts]).sort("user_key", "step")
