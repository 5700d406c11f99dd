"""The inbox -> the lake, exactly once: whatever is killed at whatever moment, a repeat adds what is not there yet.

A segment's rows are told by their keys, and REFUSED's by (source, import_id, row), where the import is the segment. The
lake's transaction is all or nothing; a segment is deleted after it, and after its ids are kept (`met`). So a crash
between them leaves a segment whose rows the lake has, and the next turn adds none of them. Only files that can hold
such a row are looked into: an event that comes again has the same moment, give or take `SLACK`. Rows of somebody who
was erased meanwhile are dropped.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from habitue.collect import log, met, refusals, store
from habitue.collect.entry import SCHEMAS, tables
from habitue.core import lock
from habitue.core.errors import LakeError
from habitue.core.lake import Lake
from habitue.core.schemas import CONSENT, EVENTS, EXPOSURES, ITEMS, MEDIA, REFUSED, SIGNALS, USERS, Table
from habitue.core.workspace import Workspace
from habitue.protect import identities, sent

ASIDE = ".aside"
LOCK = ".compacting"  # in the workspace's state: one process and thread at a time; who is late finds segments gone
WAIT_S = 120.0
MERGED = 60  # turns after which the lake's small files are merged
_log = logging.getLogger("habitue.collect")
SLACK = dt.timedelta(days=1)  # clients correct their clocks between two attempts


def into_lake(workspace: Workspace, segments: list[Path]) -> int:
    """Bring closed segments of the inbox into the lake and remove them; returns how many lines were new.

    One transaction a segment, memory about four times its size. Raises LakeError: then what is not in the lake is
    still in the inbox. A segment that is gone is in the lake: another process brought it there.
    """
    if not segments:
        return 0
    with lock.exclusive(workspace.state / LOCK, wait_s=WAIT_S):
        return sum(_store(workspace, path) for path in segments if path.exists())


class Storing:
    """Brings segments into one lake, turn after turn; each turn leaves a small file a bucket, so they are merged."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._turns = workspace, 0
        self.merged = 0  # times the lake's files were merged

    def __call__(self, segments: list[Path]) -> int:
        """Return how many lines were new to the lake. Raises LakeError."""
        stored = into_lake(self._workspace, segments)
        self._turns += stored > 0
        if self._turns >= MERGED:
            self._workspace.lake.compact(EVENTS)
            self._turns, self.merged = 0, self.merged + 1
        return stored


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
        known = living(workspace)
        events = EVENTS.shape(read["events"]).unique(list(EVENTS.key), keep="first", maintain_order=True)
        gone = events.join(known, on="user_key", how="anti")["event_id"]
        events = unknown(lake, EVENTS, events.join(known, on="user_key", how="semi", maintain_order="left"))
        exposures = EXPOSURES.shape(read["exposures"]).join(known, on="user_key", how="semi")
        signals = SIGNALS.shape(read["signals"]).join(known, on="user_key", how="semi")
        sent_in = MEDIA.shape(read["media"]).unique(list(MEDIA.key), keep="first", maintain_order=True)
        media = sent_in.filter(pl.col("user_key").is_null() | pl.col("user_key").is_in(known["user_key"].implode()))
        media = media.filter((pl.col("owner") != "event") | ~pl.col("owner_id").is_in(gone.implode()))
        listed = lake.read(ITEMS)
        items = store.news(ITEMS.shape(read["items"]), listed, of="item_id")
        known_by = [c for c in ITEMS.schema if c not in WHENCE]
        titles = store.unsaid(store.titles(events), pl.concat([listed, items]), known_by)
        users = USERS.shape(read["users"]).join(known, on="user_key", how="semi")
        consents = CONSENT.shape(read["consents"]).join(known, on="user_key", how="semi")
        new = {
            EVENTS: events.sort("at", "event_id", "line"),
            ITEMS: pl.concat([items, titles]),
            USERS: store.news(users, lake.read(USERS), of="user_key"),
            CONSENT: _changed(consents, lake),
            EXPOSURES: unknown(lake, EXPOSURES, exposures.unique(list(EXPOSURES.key), keep="first")).sort("at"),
            SIGNALS: unknown(lake, SIGNALS, signals.unique(list(SIGNALS.key), keep="first")).sort("at"),
            MEDIA: media.join(lake.read(MEDIA, columns=list(MEDIA.key)), on=list(MEDIA.key), how="anti"),
            REFUSED: _unrefused(lake, _refused(read["refused"])),
        }
        new = {table: frame for table, frame in new.items() if frame.height}
        if new:
            with lake.transaction(*new):
                for table, frame in new.items():
                    lake.append(table, frame)
        _remember(workspace, read["events"]["event_id"], path)
        dropped = sent_in.join(media, on="media_id", how="anti")["path"]
        named = lake.read(MEDIA, columns=["path"])["path"] if len(dropped) else dropped
    try:
        sent.remove(workspace.root, sorted({*dropped} - {*named}), done=path)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LakeError(
            str(path),
            found=f"the file, or one of a medium it names, cannot be removed ({error.strerror})",
            consequence="Its events are in the lake; they will be looked at again, and not stored twice",
            remedy="Give yourself the right to write in that folder",
        ) from error
    return events.height


def _remember(workspace: Workspace, event_ids: pl.Series, path: Path) -> None:
    """Keep the ids of a segment, so that the segment may go: a repeat is known by them."""
    with identities.reading(workspace.identities) as connection:
        secret = identities.event_secret(connection)
    folder = met.folder_of(workspace.state, secret)
    if folder.is_dir():  # else the next server makes it from the lake
        met.add(folder, met.numbers(event_ids, secret), at=int(path.stem))


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
WHENCE = ("valid_from", "source", "import_id")


def living(workspace: Workspace) -> pl.DataFrame:
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


def unknown(lake: Lake, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Leave out the rows the lake has."""
    if rows.is_empty():
        return rows
    low, high = rows["at"].min(), rows["at"].max()
    assert isinstance(low, dt.datetime) and isinstance(high, dt.datetime)
    for path in lake.files(table, after=low - SLACK, before=high + SLACK):
        there = pl.read_parquet(path, columns=list(table.key), hive_partitioning=False)
        rows = rows.join(there, on=list(table.key), how="anti", maintain_order="left")
    return rows


def _unrefused(lake: Lake, refused: pl.DataFrame) -> pl.DataFrame:
    if refused.is_empty():
        return refused
    key = list(REFUSED.key)
    return refused.join(lake.read(REFUSED, columns=key), on=key, how="anti", maintain_order="left")
