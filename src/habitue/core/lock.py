"""One writer at a time: a lock on a file that the kernel lets go when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from habitue.core.errors import LakeError


@dataclass
class _Held:
    """The lock as this process knows it: which thread has it, how often, through which descriptor."""

    thread: threading.RLock = field(default_factory=threading.RLock)
    depth: int = 0
    descriptor: int = -1


_known: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[bool]:
    """Hold the lock file `path`; yields True when this is the outermost hold of the thread.

    A thread may take it again while it has it. Raises LakeError after `wait_s` seconds when another thread or process
    has it, and at once when the folder cannot be written.
    """
    with _guard:
        held = _known.setdefault(path.resolve(), _Held())
    if not held.thread.acquire(timeout=wait_s):
        raise _busy(path, f"process {os.getpid()}, this one")
    try:
        if held.depth == 0:
            held.descriptor = _take(path, wait_s)
        held.depth += 1
        try:
            yield held.depth == 1
        finally:
            held.depth -= 1
            if held.depth == 0:
                os.close(held.descriptor)
    finally:
        held.thread.release()


def _take(path: Path, wait_s: float) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LakeError(
            str(path.parent),
            found=f"the folder cannot be written ({error.strerror})",
            consequence="Nothing can be stored in it; what is there can still be read",
            remedy="Give yourself the right to write there, or choose another folder",
        ) from error
    until = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(OSError):  # the disk is full: who holds it stays unnamed, the lock holds
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    owner = os.pread(descriptor, 20, 0).decode() or "unknown"
                    raise _busy(path, f"process {owner}") from error
                time.sleep(0.02)
    except BaseException:
        os.close(descriptor)
        raise


def _busy(path: Path, owner: str) -> LakeError:
    return LakeError(
        str(path.parent),
        found=f"another writer ({owner}) is at work",
        consequence="Two writers at once could store the same rows twice",
        remedy="Try again when it has ended; a server writes as long as it runs, so end habitue serve first",
    )
