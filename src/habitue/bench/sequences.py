"""Any file with a user, an item and an order -> the histories every model reads.

A file is one row an event (user, item, and a time or an order), or one row a user with the list of items in order.
Rows of one user at one moment are a set. A file without times has no clock: each event is then one "day" after the
one before it, and everybody's last event is one day before the question, so that a model's half-lives count steps and
rewinding by a day takes away exactly each user's last event.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.bench import modalities
from habitue.core.errors import SchemaError, UsageError, did_you_mean
from habitue.core.schemas import FEATURES, LABELS
from habitue.encode import modality as sense
from habitue.encode.content import joined
from habitue.model.past import Floats, Histories, Past

NAMES = {
    "user": ("user_id", "user", "customer_id", "customer", "userid", "uid", "visitorid", "session_id", "session"),
    "item": ("item_id", "item", "product_id", "product", "itemid", "sku", "asin", "movie_id", "stockcode"),
    "items": ("items", "item_ids", "sequence"),
    "time": ("at", "timestamp", "time", "date", "datetime", "ts", "invoicedate", "event_time", "created_at"),
    "order": ("order", "position", "step", "rank", "seq", "sequence_number"),
}
NO_CLOCK = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)  # the moment of the question where a file has no times
EPOCH_UNITS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (0, "s"))  # a time as an integer: by its size
LEAST_USERS, LEAST_ITEMS = 2, 2


@dataclass(frozen=True)
class Sequences:
    """Everybody's events in order. User b of `histories` is `users[b]` in the file."""

    histories: Histories
    users: tuple[str, ...]  # [B] ascending
    items: tuple[str, ...]  # [I] ascending: of the events, and of the catalogue where one was given
    as_of: dt.datetime  # just after the last event
    clock: bool  # False = an order only; "days" are steps
    ties: float  # share of rows that share user and moment with another row
    repeats: float  # share of rows whose user had the item before
    content: Mapping[str, sp.csr_matrix] = field(default_factory=dict)  # modality -> [I, V], unit rows
    dropped: Mapping[str, int] = field(default_factory=dict)  # why -> rows that were left out
    traits: Floats | None = None  # [B, U] what is known of the users

    @property
    def words(self) -> sp.csr_matrix | None:
        """[I, V] every modality side by side, unit rows; None without any."""
        return joined(self.content)

    def past(self, *, horizon_days: int) -> Past:
        """Return everything as a Past as of the end; nobody is a guest, and there is nothing about churn."""
        return Past(
            as_of=self.as_of,
            horizon_days=horizon_days,
            items=self.items,
            histories=self.histories,
            known=np.ones(len(self.users), dtype=bool),
            words=self.words,
            parts=tuple((name, rows.shape[1]) for name, rows in self.content.items()),
            traits=self.traits,
            features=FEATURES.empty(),
            train_features=FEATURES.empty(),
            train_labels=LABELS.empty(),
        )


def read(
    events: pl.DataFrame,
    items: pl.DataFrame | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    wanted: Sequence[str] = (modalities.TEXT,),
    people: pl.DataFrame | None = None,
    cache: Path | None = None,
) -> Sequences:
    """Build Sequences from a table; O(rows log rows).

    `columns` says which column is the user, item, items, time or order where the name does not (NAMES); `items` has
    an item column, and its texts, lists of words, pictures and vectors become the items' content, those modalities of
    it that are `wanted` (bench/modalities.py); `people` has a user column, and its other columns become the users'
    traits; `cache`: where encoded pictures are kept. A row without user, item or time is left out and counted.
    Raises UsageError when a column is not there or holds no plain values, SchemaError when too little is left.
    """
    named = _columns(events, columns or {}, what="--events")
    if "items" in named and "item" not in named:
        rows, clock = _exploded(events, named), False
    else:
        rows, clock = _rows(events, named)
    kept = rows.drop_nulls()
    dropped = {why: count for why, count in _dropped(events, rows, named).items() if count}
    users = tuple(kept["user"].unique().sort())
    catalogue = None if items is None else _catalogue(items, columns or {})
    met = kept["item"].unique()
    every = tuple((met if catalogue is None else pl.concat([met, catalogue["item"]]).unique()).sort())
    if len(users) < LEAST_USERS or len(met) < LEAST_ITEMS:
        raise SchemaError(
            "--events",
            found=f"{len(users):,} users and {len(met):,} items are left of {rows.height:,} rows"
            + "".join(f"; {count:,} left out: {why}" for why, count in dropped.items()),
            consequence="A ranking of one item, or for one user, compares nothing",
            remedy="Give a file with two users and two items or more, and see what is read: --user, --item, --time",
        )
    made, ties, repeats = _histories(kept, users, every, clock)
    content = {} if catalogue is None else modalities.matrices(catalogue, every, wanted, cache=cache)
    return Sequences(
        histories=made,
        users=users,
        items=every,
        as_of=_after(made) if clock else NO_CLOCK,
        clock=clock,
        ties=ties,
        repeats=repeats,
        content=content,
        dropped=dropped,
        traits=None if people is None else _traits(people, users, columns or {}),
    )


def steps(every: Histories) -> Histories:
    """Return the same rows, each a set of its own, on the clock of files without times; file order breaks ties."""
    owner = every.set_user[every.row_set]
    count = np.bincount(owner, minlength=len(every.user_keys))
    start = np.concatenate([[0], np.cumsum(count)])
    back = count[owner] - (np.arange(len(owner)) - start[owner])  # 1 for the last
    return dataclasses.replace(
        every,
        set_start=start.astype(np.int64),
        set_at=NO_CLOCK.timestamp() / 86_400 - back,
        set_kind=every.set_kind[every.row_set],
        row_start=np.arange(len(owner) + 1, dtype=np.int64),
    )


def _columns(frame: pl.DataFrame, given: Mapping[str, str], *, what: str) -> dict[str, str]:
    """Return role -> column, from what was said and else by name."""
    named = {}
    for role, names in NAMES.items():
        if role in given:
            if given[role] not in frame.columns:
                raise UsageError(
                    what,
                    found=f"there is no column '{given[role]}'",
                    consequence=f"The {role} of a row is unknown",
                    remedy=did_you_mean(given[role], frame.columns),
                )
            named[role] = given[role]
            continue
        by_name = {column.lower().replace(" ", "_"): column for column in frame.columns}
        found = next((by_name[name] for name in names if name in by_name), None)
        if found is not None and (role == "items") == isinstance(frame.schema[found], pl.List):
            named[role] = found
    if "user" not in named or not {"item", "items"} & set(named):
        missing = "user" if "user" not in named else "item"
        raise UsageError(
            what,
            found=f"no column looks like the {missing} among: {', '.join(frame.columns[:20])}",
            consequence="Nobody's history can be read",
            remedy=f"Name it: --{missing} COLUMN",
        )
    for role, column in named.items():
        held = frame.schema[column]
        one = held.inner if role == "items" and isinstance(held, pl.List) else held
        if one.is_nested() or one in (pl.Binary, pl.Object):
            raise UsageError(
                f"--{role}",
                found=f"column '{column}' holds {held}",
                consequence=f"The {role} of a row must be plain",
                remedy=f"Name another column: --{role} COLUMN",
            )
    return named


def _dropped(events: pl.DataFrame, rows: pl.DataFrame, named: Mapping[str, str]) -> dict[str, int]:
    """Count the rows that are left out: a time that stands there and is not read is no time that is missing."""
    column = named.get("time") or named.get("order")
    if column is None or events.height != rows.height:
        return {"no user, item or time": int(rows.select(pl.any_horizontal(pl.all().is_null()).sum()).item())}
    there = rows["user"].is_not_null() & rows["item"].is_not_null()
    unread = there & rows["at"].is_null() & events[column].is_not_null()
    missing = rows.select(pl.any_horizontal(pl.all().is_null())).to_series() & ~unread
    form = "a time (one form a file, ISO 8601 at best)" if "time" in named else "a number"
    said = f"'{column}' cannot be read as {form}"
    return {"no user, item or time": int(missing.sum()), said: int(unread.sum())}


def _exploded(events: pl.DataFrame, named: Mapping[str, str]) -> pl.DataFrame:
    lists = events.select(user=pl.col(named["user"]).cast(pl.String), item=named["items"])
    if lists["user"].n_unique() < lists.height:
        raise SchemaError(
            "--events",
            found=f"a user of '{named['user']}' has several rows with a list each",
            consequence="The order between the lists is unknown",
            remedy="Give one row a user, or one row an event with a time",
        )
    listed = lists.explode("item", empty_as_null=True).with_columns(pl.col("item").cast(pl.String))
    return listed.with_columns(at=pl.int_range(pl.len()).over("user").cast(pl.Float64))


def _rows(events: pl.DataFrame, named: Mapping[str, str]) -> tuple[pl.DataFrame, bool]:
    """Return user, item, at (days, or a place in an order) and whether `at` is a clock."""
    chosen = {"user": pl.col(named["user"]).cast(pl.String), "item": pl.col(named["item"]).cast(pl.String)}
    if "time" in named:
        return events.select(**chosen, at=_days(events, named["time"])), True
    if "order" in named:
        return events.select(**chosen, at=pl.col(named["order"]).cast(pl.Float64, strict=False)), False
    raise UsageError(
        "--events",
        found=f"no column looks like a time or an order among: {', '.join(events.columns[:20])}",
        consequence="What came first is unknown",
        remedy="Name it: --time COLUMN or --order COLUMN",
    )


def _days(events: pl.DataFrame, column: str) -> pl.Series:
    """Return days since 1970 of a column of dates, times, texts or epochs; null where it cannot be read."""
    values = events[column]
    if values.dtype == pl.String:
        values = values.str.to_datetime(strict=False, time_unit="us", time_zone="UTC")
    if values.dtype.is_temporal():
        moments = values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values.dt.cast_time_unit("us")
        return moments.dt.epoch("us").cast(pl.Float64) / 86_400e6
    if values.dtype.is_numeric():
        size = float(values.cast(pl.Float64).drop_nulls().drop_nans().median() or 0)  # type: ignore[arg-type]
        unit = next(unit for least, unit in EPOCH_UNITS if size >= least)
        seconds = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
        return values.cast(pl.Float64).fill_nan(None) / seconds / 86_400
    raise UsageError(
        "--time",
        found=f"column '{column}' holds {values.dtype}",
        consequence="What came first is unknown",
        remedy="Name a column of dates, times or seconds since 1970, or use --order COLUMN",
    )


def _histories(
    rows: pl.DataFrame, users: tuple[str, ...], items: tuple[str, ...], clock: bool
) -> tuple[Histories, float, float]:
    """Return the histories, the share of ties and the share of repeats."""
    coded = rows.select(
        user=pl.col("user").replace_strict(list(users), range(len(users)), return_dtype=pl.Int64),
        item=pl.col("item").replace_strict(list(items), range(len(items)), return_dtype=pl.Int32),
        at="at",
    )
    ties = coded.select((pl.len().over("user", "at") > 1).mean()).item()
    coded = coded.sort("user", "at", maintain_order=True)
    repeats = coded.select((pl.int_range(pl.len()).over("user", "item") > 0).mean()).item()
    coded = coded.unique(["user", "at", "item"], keep="first", maintain_order=True)
    user, at = coded["user"].to_numpy(), coded["at"].to_numpy()
    first = np.r_[True, (user[1:] != user[:-1]) | (at[1:] != at[:-1])]
    place = np.flatnonzero(first)
    owner = user[place]
    set_start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(users)))])
    if not clock:  # the last one a day before the question, each other one a day before the next
        at = NO_CLOCK.timestamp() / 86_400 - (set_start[owner + 1] - np.arange(len(place)))
    else:
        at = at[place]
    made = Histories(
        user_keys=np.arange(len(users), dtype=np.int64),
        set_start=set_start.astype(np.int64),
        set_at=at.astype(np.float64),
        set_kind=np.zeros(len(place), dtype=np.int8),
        row_start=np.r_[place, len(user)].astype(np.int64),
        row_item=coded["item"].to_numpy().astype(np.int32),
        row_quantity=np.ones(len(user), dtype=np.float32),
        row_value=np.zeros(len(user), dtype=np.float32),
    )
    return made, float(ties), float(repeats)


def _traits(people: pl.DataFrame, users: tuple[str, ...], columns: Mapping[str, str]) -> Floats:
    """Return [B, U] of the columns beside the user's: numbers scaled, words as categories; zeros for whom it lacks."""
    by_name = {column.lower(): column for column in people.columns}
    name = columns.get("user") if columns.get("user") in people.columns else None
    name = name or next((by_name[n] for n in NAMES["user"] if n in by_name), None)
    if name is None or people.width < 2:
        raise UsageError(
            "--users",
            found=f"the columns are {', '.join(people.columns[:20])}",
            consequence="Nothing is known of any user",
            remedy="Give a column named as the users of --events are, and at least one column beside it",
        )
    told = people.with_columns(pl.col(name).cast(pl.String).alias("id")).drop_nulls("id").unique("id", keep="first")
    told = told.drop(name) if name != "id" else told
    known = told.filter(pl.col("id").is_in(list(users))).sort("id")
    encoded = sense.run("table", known)
    place = {user: row for row, user in enumerate(users)}
    traits = np.zeros((len(users), encoded.dense.shape[1]), dtype=np.float32)
    traits[[place[i] for i in encoded.ids]] = encoded.dense
    return traits


def _after(every: Histories) -> dt.datetime:
    return dt.datetime.fromtimestamp(float(every.set_at.max()) * 86_400 + 1, tz=dt.UTC)


def _catalogue(items: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """Return item, then every other column; each item once."""
    wanted = {"item": columns["item"]} if columns.get("item") in items.columns else {}
    by_name = {column.lower(): column for column in items.columns}
    name = wanted.get("item") or next((by_name[n] for n in NAMES["item"] if n in by_name), None)
    if name is None:
        raise UsageError(
            "--items",
            found=f"no column looks like the item among: {', '.join(items.columns[:20])}",
            consequence="Words cannot be joined to the events",
            remedy="Name the item's column as in the file of events",
        )
    told = [column for column in items.columns if column not in (name, "item")]
    named = items.select(pl.col(name).cast(pl.String).alias("item"), *told).drop_nulls("item")
    return named.unique("item", keep="first", maintain_order=True)
