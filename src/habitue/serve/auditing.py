"""The audit log while a server runs: who was refused is counted and noted once a minute, what is old is taken away.

Whoever sends wrong keys a thousand times a second adds as many lines as who sends one: one a minute for each key that
there is and each reason, and one of all keys that there are not. Nothing of what was sent is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from habitue.core.errors import LakeError
from habitue.serve import operational
from habitue.serve.keys import Door

NOTE_S = 60.0
TRIM_S = 3_600.0
_log = logging.getLogger("habitue.serve")


@asynccontextmanager
async def kept(door: Door) -> AsyncIterator[None]:
    """Keep the audit log while the block runs; what was counted until its end is written then."""
    await _trim(door)
    stopped = asyncio.Event()
    task = asyncio.create_task(_now_and_then(door, stopped))
    try:
        yield
    finally:
        stopped.set()
        await task


async def _now_and_then(door: Door, stopped: asyncio.Event) -> None:
    trimmed = time.monotonic()
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), NOTE_S)
        await _note(door)
        if stopped.is_set():
            return
        if time.monotonic() - trimmed >= TRIM_S:
            trimmed = time.monotonic()
            await _trim(door)


async def _note(door: Door) -> None:
    counts, door.refused = door.refused, Counter()
    try:
        await asyncio.to_thread(door.note_refused, counts)
    except LakeError as error:  # the store is away: they are counted on
        door.refused.update(counts)
        _log.warning("the audit log waits: %s", error)


async def _trim(door: Door) -> None:
    try:
        await asyncio.to_thread(operational.trim, door.state)
    except LakeError as error:  # in an hour again
        _log.warning("the audit log was not trimmed: %s", error)
