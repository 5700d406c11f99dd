"""What is learnt from and what is asked: by a moment, a user's last moment, new products, new users, baskets, folds."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl

from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS, PURCHASE, Events, check


def split(events: Events, cut: dt.datetime) -> tuple[Events, Events]:
    """Return (events strictly before `cut`, events at or after it), row order kept.

    Raises UsageError for a `cut` without a time zone.
    """
    check(events, EVENTS, at="prepare.split")
    cut = aware(cut, at="prepare.split")
    return events.filter(pl.col("at") < cut), events.filter(pl.col("at") >= cut)


def leave_one_out(events: Events) -> tuple[Events, Events]:
    """Return (all but each user's last moment, that moment's rows); a user with one moment is all past.

    Rows of one moment stay together: which of them came last would be invented. The last moments of different users
    are not one moment, so the past of one holds rows later than another's future; `split` has no such rows.
    """
    check(events, EVENTS, at="prepare.leave_one_out")
    last = (pl.col("at") == pl.col("at").max().over("user_key")) & (pl.col("at").n_unique().over("user_key") > 1)
    return events.filter(~last), events.filter(last)


def cold_items(events: Events, cut: dt.datetime) -> tuple[Events, Events]:
    """Return (events before `cut`, later ones about products that no event before it names)."""
    past, future = split(events, cut)
    met = past["item_id"].drop_nulls().unique().implode()
    return past, future.filter(pl.col("item_id").is_not_null() & ~pl.col("item_id").is_in(met))


def new_users(events: Events, cut: dt.datetime) -> tuple[Events, Events]:
    """Return (events before `cut`, later ones of users who have none before it)."""
    past, future = split(events, cut)
    return past, future.join(past.select("user_key").unique(), on="user_key", how="anti", maintain_order="left")


def basket(events: Events, cut: dt.datetime, *, horizon_days: float) -> tuple[Events, Events]:
    """Return (events before `cut`, each user's first moment of purchase within `horizon_days` from it).

    Only users with an event before `cut` are asked about. Raises UsageError for a horizon that is not positive.
    """
    past, future = split(events, cut)
    if horizon_days <= 0:
        raise UsageError(
            "prepare.basket",
            found=f"the horizon is {horizon_days:g} days",
            consequence="Nothing can be bought in it",
            remedy="Give a number of days above 0",
        )
    until = aware(cut, at="prepare.basket") + dt.timedelta(days=horizon_days)
    bought = future.filter(pl.col("kind") == PURCHASE, pl.col("at") < until)
    known = bought.join(past.select("user_key").unique(), on="user_key", how="semi", maintain_order="left")
    return past, known.filter(pl.col("at") == pl.col("at").min().over("user_key"))


def k_fold(events: Events, folds: int, *, seed: int = 0) -> list[tuple[Events, Events]]:
    """Return `folds` pairs (events of the other users, events of a part of the users); each user is held once.

    Users are dealt at random, equally many a fold. Time is not looked at: for a question about the future use `split`.
    Raises UsageError for fewer than 2 folds or fewer users than folds.
    """
    check(events, EVENTS, at="prepare.k_fold")
    users = events["user_key"].unique().sort().to_numpy()
    if folds < 2 or users.size < folds:
        raise UsageError(
            "prepare.k_fold",
            found=f"{folds} folds of {users.size:,} users",
            consequence="A fold would have nobody to learn from, or nobody to ask",
            remedy="Give 2 folds or more, and at least as many users",
        )
    mixed = np.random.default_rng(seed).permutation(users)
    made = []
    for k in range(folds):
        held = pl.col("user_key").is_in(pl.Series(mixed[k::folds], dtype=pl.Int64).implode())
        made.append((events.filter(~held), events.filter(held)))
    return made


def aware(moment: dt.datetime, *, at: str) -> dt.datetime:
    """Return `moment` in UTC. Raises UsageError when it has no time zone; `at` is the function that asks."""
    if moment.tzinfo is None:
        raise UsageError(
            at,
            found=f"the moment {moment.isoformat()} has no time zone",
            consequence="What lies before it would depend on the machine's clock",
            remedy="Give a UTC datetime, e.g. datetime(2011, 9, 9, tzinfo=UTC)",
        )
    return moment.astimezone(dt.UTC)
