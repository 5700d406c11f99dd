"""Events that a wire refused -> EVENTS, after what was wrong is put right: a new version, a change of the operator's.

REFUSED keeps of such an event what may be kept (`lines.refused`): its person as a key, its words masked. So it can be
read again as it was, or with a field set or left out. What is accepted goes into EVENTS, then out of REFUSED; an event
that is in EVENTS already, since it came again or a replay was killed between the two, is not added. Rows that a file
import refused are not looked at: import the file again.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from habitue.collect import compaction, lines, store
from habitue.collect.lines import Event
from habitue.collect.sources.blocks import Record
from habitue.collect.sources.trackers import ROW
from habitue.core.errors import UsageError, did_you_mean
from habitue.core.schemas import EVENTS, ITEMS, REFUSED
from habitue.core.workspace import Workspace
from habitue.protect import identities
from habitue.protect.identities import GUEST

INBOX = "inbox-"  # begins the import of what came over a wire; behind it the moment its segment was begun
CHANGEABLE = tuple(name for name in ROW if name not in ("event_id", "line", *lines.PERSON))
_KEY = ["source", "import_id", "row"]


@dataclass(frozen=True)
class Replayed:
    """What became of the refused rows."""

    read: int
    new: int
    known: int  # the lake had them already
    refused: int  # still, with their reason as it was
    cut: int  # not all of them was kept (too long, or no event that could be read): they cannot be read again


def replay(
    workspace: Workspace,
    *,
    source: str | None = None,
    code: str | None = None,
    changes: Mapping[str, str | None] | None = None,
) -> Replayed:
    """Read refused events of wires again; `source` and `code` choose which, `changes` sets fields (None: left out).

    Doing it again changes nothing. Rows of somebody who was erased meanwhile are taken out of REFUSED. O(rows refused +
    the files of the lake that can hold them). Raises UsageError for a field that there is not, LakeError.
    """
    changes = changes or {}
    for name in changes:
        if name not in CHANGEABLE:
            raise UsageError(
                "replay",
                found=f"a refused event has no field '{name}' that can be changed",
                consequence="Nothing was read again",
                remedy=did_you_mean(name, CHANGEABLE),
            )
    lake = workspace.lake
    with lake.exclusive():
        chosen = lake.read(REFUSED).filter(pl.col("import_id").str.starts_with(INBOX), pl.col("source") != "inbox")
        for column, wanted in (("source", source), ("code", code)):
            if wanted is not None:
                chosen = chosen.filter(pl.col(column) == wanted)
        read = {tuple(row[name] for name in _KEY): _read(row, changes, workspace) for row in chosen.to_dicts()}
        events = [event for event in read.values() if not isinstance(event, str)]
        frame = EVENTS.shape(pl.DataFrame(events, schema=EVENTS.schema))
        frame = frame.join(compaction.living(workspace), on="user_key", how="semi", maintain_order="left")
        new = compaction.unknown(lake, EVENTS, frame.unique(list(EVENTS.key), keep="first", maintain_order=True))
        done = [key for key, event in read.items() if not isinstance(event, str)]
        if done:
            same = [name for name in ITEMS.schema if name not in compaction.WHENCE]
            items = store.unsaid(store.titles(new), lake.read(ITEMS), same)
            words = pl.concat_str(_KEY, separator="\x1f")
            with lake.transaction(EVENTS, ITEMS):
                lake.append(EVENTS, new.sort("at", "event_id", "line"))
                lake.append(ITEMS, items)
            lake.delete_rows(REFUSED, words.is_in(["\x1f".join(map(str, key)) for key in done]))
    cut = sum(event == "cut" for event in read.values())
    return Replayed(len(read), new.height, len(done) - new.height, len(read) - len(done) - cut, cut)


def _read(row: Record, changes: Mapping[str, str | None], workspace: Workspace) -> Event | str:
    """Return the event of a refused row; "cut" where not all of it was kept, else the reason it is refused for."""
    said: Record = json.loads(row["raw"])
    if row["code"] == "too_long" or said.keys() <= {"user_key"} or _cut(said):
        return "cut"
    received = identities.EPOCH + dt.timedelta(microseconds=int(row["import_id"].removeprefix(INBOX)))
    key = said.pop("user_key", None)
    said = {**said, "line": int(said.get("line", 0)), **changes}
    if key is not None:
        said["user_id"] = "known by a key"
    found = lines.read(said, source=row["source"], received=received, currency=workspace.currency)
    if isinstance(found, str):
        return found
    event, _ = found
    if key is None:  # a guest, known by the order
        names = pl.Series([f"{GUEST}{event['order_id']}"])
        key = identities.keys_for(
            workspace.identities, "anonymous_id", names, linked_at=event["at"], source=row["source"]
        )[0]
    return event | {"user_key": key, "import_id": row["import_id"]}


def _cut(said: Record) -> bool:
    """Whether a word is as long as the longest that is kept."""
    words = [word for value in said.values() for word in (value.values() if isinstance(value, dict) else [value])]
    return any(isinstance(word, str) and len(word) >= lines.LONGEST_NAME for word in words)
