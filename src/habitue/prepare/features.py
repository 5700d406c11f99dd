"""Declared features as of many moments.

Every kind but a window is a running total along each user's events (compiled.py), so one pass serves every moment: the
value at t is read off the user's last event before t.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import polars as pl

from habitue.core.schemas import EVENTS, FEATURES, Events, Features, check
from habitue.prepare import compiled
from habitue.prepare.declared import LEDGER, Feature, check_declared
from habitue.prepare.labels import distinct

USER = "user_key"


def features(
    events: Events,
    *,
    as_of: dt.datetime | Sequence[dt.datetime],
    users: Iterable[int] | None = None,
    declared: Sequence[Feature] = LEDGER,
) -> Features:
    """Return FEATURES of every user with an event before `as_of`, for each moment; sorted by as_of, user_key.

    Only events strictly before a moment count: cutting `events` at t leaves the rows at t as they were, bit for bit.
    `users`: keys to hold (default everyone). What nothing is known about is null (declared.py says where it is 0).
    O(rows x features + rows in windows x moments). Raises UsageError for a naive moment, SettingsError for
    declarations that do not fit together.
    """
    check(events, EVENTS, at="prepare.features")
    check_declared(declared)
    moments = distinct(as_of, at="prepare.features")
    if users is not None:
        events = events.filter(pl.col(USER).is_in(pl.Series(users, dtype=pl.Int64).implode()))
    lines = compiled.lines(events, declared)
    running = [f for f in declared if f.kind not in ("ratio", "calendar") and f.window_days is None]
    found = _last_before(lines, moments)
    states = compiled.states(lines, running)[found["row"]]
    table = pl.concat([found.drop("row"), states], how="horizontal")
    table = table.select(USER, "as_of", *(compiled.value(f).alias(f.name) for f in running))
    recent = [f for f in declared if f.window_days is not None]
    for days in sorted({f.window_days for f in recent if f.window_days is not None}):
        window = compiled.window(lines, moments, [f for f in recent if f.window_days == days], dt.timedelta(days))
        table = table.join(window, on=[USER, "as_of"], how="left", maintain_order="left")
    table = table.with_columns(pl.col(f.name).fill_null(0) for f in recent)
    for feature in declared:
        if feature.kind in ("ratio", "calendar"):
            table = table.with_columns(compiled.value(feature).alias(feature.name))
    columns = (pl.col(f.name).cast(pl.Float64) for f in declared)
    return FEATURES.shape(table.select(USER, "as_of", *columns))


def _last_before(lines: pl.DataFrame, moments: Sequence[dt.datetime]) -> pl.DataFrame:
    """Return as_of, user_key, row: the index of each user's last line before each moment, where there is one."""
    places = lines.select(USER, "at").with_row_index("row")
    as_of = pl.DataFrame({"as_of": moments}, schema={"as_of": pl.Datetime("us", "UTC")})
    asked = as_of.join(places.select(USER).unique(maintain_order=True), how="cross").sort("as_of", USER)
    met = asked.join_asof(
        places.sort("at", maintain_order=True),
        left_on="as_of",
        right_on="at",
        by=USER,
        allow_exact_matches=False,
        check_sortedness=False,  # both are sorted by time above; Polars cannot see it through `by`
    )
    return met.drop_nulls("row").select("as_of", USER, "row").sort("as_of", USER)
