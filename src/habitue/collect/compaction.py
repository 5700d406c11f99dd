"""The inbox -> the lake, exactly once: whatever is killed at whatever moment, a repeat adds what is not there yet.

A segment's rows are told by their keys, and REFUSED's by (source, import_id, row), where the import is the segment. The
lake's transaction is all or nothing; a segment is deleted after it. So a crash between the two leaves a segment whose
rows the lake has, and the next turn adds none of them. Only files that can hold such a row are looked into: an event
that comes again has the same moment, give or take `SLACK`. Rows of somebody who was erased meanwhile are dropped.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from habitue.collect import log, refusals, store
from habitue.collect.entry import decoded
from habitue.core.errors import LakeError
from habitue.core.lake import Lake
from habitue.core.schemas import EVENTS, ITEMS, REFUSED, Events
from habitue.core.workspace import Workspace
from habitue.protect import identities

SLACK = dt.timedelta(days=1)  # clients correct their clocks between two attempts
_UTC = pl.Datetime("us", "UTC")


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
    lake, import_id = workspace.lake, f"inbox-{path.stem}"
    events, refused = _read(path, import_id)
    with lake.exclusive():
        events = _unknown(lake, _of_the_living(workspace, events))
        refused = _unrefused(lake, refused)
        if events.height or refused.height:
            with lake.transaction(EVENTS, ITEMS, REFUSED):
                lake.append(EVENTS, events.sort("at", "event_id", "line"))
                lake.append(ITEMS, store.new_titles(events, lake.read(ITEMS)))
                lake.append(REFUSED, refused)
    try:
        path.unlink()
    except OSError as error:
        raise LakeError(
            str(path),
            found=f"the file cannot be removed ({error.strerror})",
            consequence="Its events are in the lake; they will be looked at again, and not stored twice",
            remedy="Give yourself the right to write in that folder",
        ) from error
    return events.height


def _read(path: Path, import_id: str) -> tuple[Events, pl.DataFrame]:
    frames, refused = [EVENTS.empty()], []
    for payload in log.records(path):
        entry = decoded(payload)
        refused += entry.refused
        schema = {name: EVENTS.schema[name] for name in entry.columns} | dict.fromkeys(
            ("at", "received_at"), pl.Int64()
        )
        rows = pl.DataFrame(entry.events, schema=schema, orient="row").with_columns(
            pl.from_epoch("at", time_unit="us").dt.replace_time_zone("UTC"),
            pl.from_epoch("received_at", time_unit="us").dt.replace_time_zone("UTC"),
            import_id=pl.lit(import_id),
        )
        frames.append(EVENTS.shape(rows))
    events = pl.concat(frames).unique(["event_id", "line"], keep="first", maintain_order=True)
    said = {"source": pl.String(), "number": pl.Int64(), "code": pl.String(), "raw": pl.String()}
    table = pl.DataFrame(refused, schema=said, orient="row").with_columns(
        import_id=pl.lit(import_id),
        row=pl.int_range(1, pl.len() + 1),
        sentence=pl.col("code").map_elements(refusals.said, return_dtype=pl.String),
    )
    return events, REFUSED.shape(table.drop("number"))


def _of_the_living(workspace: Workspace, events: Events) -> Events:
    """Leave out rows of people who were erased since they were received."""
    with identities.reading(workspace.identities) as connection:
        known = identities.links(connection).select("user_key").unique()
    return events.join(known, on="user_key", how="semi", maintain_order="left")


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
