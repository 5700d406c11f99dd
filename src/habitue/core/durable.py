"""Files that are there whole or not at all, after a crash or a power cut too."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Put `content` under `path`, in the place of what was there: it is on the disk when this returns.

    Writes beside the file, renames, and makes the name durable: two fsyncs. When it fails, what was there is there
    still. Two threads may write the same file: one of them wins. Raises OSError.
    """
    draft = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        with draft.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the names in `folder` durable: a new file's, and one that was renamed. One fsync. Raises OSError."""
    there = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(there)
    finally:
        os.close(there)
