"""What a server that is gone left in its inbox -> the lake; for whoever must see everything that was received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from habitue.collect import compaction, log
from habitue.collect.receiver import INBOX
from habitue.core import lock
from habitue.core.workspace import Workspace


@contextmanager
def settled(workspace: Workspace) -> Iterator[int]:
    """Empty the inbox into the lake and let no server receive meanwhile; yields how many lines were new to the lake.

    Raises LakeError when a server is receiving: it would go on under keys that are being taken away.
    """
    folder = workspace.root / INBOX
    if not folder.is_dir():
        yield 0
        return
    with lock.exclusive(folder / ".lock", wait_s=0.0):
        yield compaction.into_lake(workspace, log.opened(folder)[0].closed())
