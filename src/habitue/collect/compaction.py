"""The inbox -> the lake, exactly once: whatever is killed at whatever moment, a repeat adds what is not there yet.

A segment's rows are told by their keys, and REFUSED's by (source, import_id, row), where the import is the segment. The
lake's transaction is all or nothing; a segment is deleted after it. So a crash between the two leaves a segment whose
rows the lake has, and the next turn adds none of them. Only files that can hold such a row are looked into: an event
that comes again has the same moment, give or take `SLACK`. Rows of somebody who was erased meanwhile are dropped.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from habitue.collect import log, refusals, store
from habitue.collect.entry import SCHEMAS, tables
from habitue.core.errors import LakeError
from habitue.core.lake import Lake
from habitue.core.schemas import CONSENT, EVENTS, ITEMS, REFUSED, USERS, Events
from habitue.core.workspace import Workspace
from habitue.protect import identities

ASIDE = ".aside"
_log = logging.getLogger("habitue.collect")
SLACK = dt.timedelta(days=1)  # clients correct their clocks between two attempts


def into_lake(workspace: Workspace, segments: list[Path]) -> int:
    """Bring closed segments of the inbox into the lake and remove them; returns how many lines were new.

    One transaction a segment, memory about four times its size. Raises LakeError: then what is not in the lake is
    still in the inbox.
    """
    return sum(_store(workspace, path) for path in segments)


def received_since(workspace: Workspace, since: dt.datetime) -> Iterator[tuple[int, list[str]]]:
    """Yield the ids of events received since a moment, with the day (since 1970 UTC), file by file."""
    for path in workspace.lake.files(EVENTS, after=since - SLACK):
        found = pl.read_parquet(path, columns=["event_id", "received_at"], hive_partitioning=False)
        found = found.filter(pl.col("received_at") >= since)
        days = found.with_columns(day=pl.col("received_at").dt.epoch("d")).unique(["event_id", "day"])
        for (day,), ids in days.group_by("day"):
            yield int(str(day)), ids["event_id"].to_list()


def _store(workspace: Workspace, path: Path) -> int:
    lake, import_id = workspace.lake, pl.lit(f"inbox-{path.stem}").alias("import_id")
    read = {name: frame.with_columns(import_id) for name, frame in _read(path).items()}
    with lake.exclusive():
        known = _people(workspace)
        events = EVENTS.shape(read["events"]).unique(list(EVENTS.key), keep="first", maintain_order=True)
        events = _unknown(lake, events.join(known, on="user_key", how="semi", maintain_order="left"))
        items = pl.concat([ITEMS.shape(read["items"]), store.titles(events)])
        users = USERS.shape(read["users"]).join(known, on="user_key", how="semi")
        consents = CONSENT.shape(read["consents"]).join(known, on="user_key", how="semi")
        new = {
            EVENTS: events.sort("at", "event_id", "line"),
            ITEMS: store.unsaid(items, lake.read(ITEMS), [c for c in ITEMS.schema if c not in _WHENCE]),
            USERS: store.unsaid(users, lake.read(USERS), ["user_key", "attributes"]),
            CONSENT: _changed(consents, lake),
            REFUSED: _unrefused(lake, _refused(read["refused"])),
        }
        new = {table: frame for table, frame in new.items() if frame.height}
        if new:
            with lake.transaction(*new):
                for table, frame in new.items():
                    lake.append(table, frame)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LakeError(
            str(path),
            found=f"the file cannot be removed ({error.strerror})",
            consequence="Its events are in the lake; they will be looked at again, and not stored twice",
            remedy="Give yourself the right to write in that folder",
        ) from error
    return events.height


def _read(path: Path) -> dict[str, pl.DataFrame]:
    """Read a segment; a record that cannot be read is put aside, so that it does not keep the others waiting.

    It goes, whole, into a file of the same name that ends in ASIDE, and REFUSED says so. `retried` brings it back.
    """
    try:
        return tables(log.records(path))
    except _UNREADABLE:
        good, bad = [], []
        for payload in log.records(path):
            try:
                good.append(tables([payload]))
            except _UNREADABLE:
                bad.append(payload)
    log.keep_aside(path.with_suffix(ASIDE), bad)
    _log.error("%d records of %s cannot be read; they lie in %s%s", len(bad), path.name, path.stem, ASIDE)
    told = [("inbox", number, "unreadable", "{}") for number in range(len(bad))]
    good.append({"refused": pl.DataFrame(told, schema=SCHEMAS["refused"], orient="row")})
    empty = tables([])
    return {
        name: pl.concat([empty[name], *(one[name] for one in good if name in one)], how="diagonal") for name in empty
    }


def retried(folder: Path) -> None:
    """Let records that were put aside be read again, as after a fix; only while nothing is received."""
    for path in folder.glob(f"*{ASIDE}"):
        path.rename(path.with_suffix(log.SUFFIX))


_UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, pl.exceptions.PolarsError)
_WHENCE = ("valid_from", "source", "import_id")


def _people(workspace: Workspace) -> pl.DataFrame:
    """Return the keys that somebody has: rows of people who were erased since they were received are dropped."""
    with identities.reading(workspace.identities) as connection:
        return identities.links(connection).select("user_key").unique()


def _refused(said: pl.DataFrame) -> pl.DataFrame:
    """Number the refused messages and say why."""
    sentence = pl.col("code").map_elements(refusals.said, return_dtype=pl.String)
    return REFUSED.shape(said.drop("number").with_columns(row=pl.int_range(1, pl.len() + 1), sentence=sentence))


def _changed(consents: pl.DataFrame, lake: Lake) -> pl.DataFrame:
    """Keep the statements that change what their person said before: trackers repeat them with every event."""
    if consents.is_empty():
        return consents
    rows = pl.concat([lake.read(CONSENT).with_columns(new=False), consents.with_columns(new=True)])
    rows = rows.unique(list(CONSENT.key), keep="first", maintain_order=True).sort("at", maintain_order=True)
    before = pl.col("granted").shift().over("user_key", "purpose")
    return rows.filter(pl.col("new") & before.ne_missing(pl.col("granted"))).drop("new")


def _unknown(lake: Lake, events: Events) -> Events:
    """Leave out the rows the lake has."""
    if events.is_empty():
        return events
    low, high = events["at"].min(), events["at"].max()
    assert isinstance(low, dt.datetime) and isinstance(high, dt.datetime)
    for path in lake.files(EVENTS, after=low - SLACK, before=high + SLACK):
        there = pl.read_parquet(path, columns=["event_id", "line"], hive_partitioning=False)
        events = events.join(there, on=["event_id", "line"], how="anti", maintain_order="left")
    return events


def _unrefused(lake: Lake, refused: pl.DataFrame) -> pl.DataFrame:
    if refused.is_empty():
        return refused
    key = list(REFUSED.key)
    return refused.join(lake.read(REFUSED, columns=key), on=key, how="anti", maintain_order="left")
