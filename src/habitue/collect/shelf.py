"""Media that were sent, kept as files under the hash of their content: what MEDIA's `path` names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from habitue.core import durable
from habitue.core.errors import LakeError
from habitue.protect.sent import SENT

FOLDER = SENT  # of the workspace


def keep(folder: Path, content: bytes) -> tuple[str, Path]:
    """Return the SHA-256 of a content and its file, which is on the disk then; the same content is kept once.

    Raises LakeError when it cannot be written.
    """
    name = hashlib.sha256(content).hexdigest()
    path = folder.resolve() / name[:2] / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists() or path.stat().st_size != len(content):
            durable.write(path, content)
        for one in (path.parent, folder):  # one that was there may be another thread's, renamed this moment
            durable.sync(one)
    except OSError as error:
        raise LakeError(
            str(folder),
            found=f"what was sent cannot be put on the disk ({error.strerror})",
            consequence="It was not accepted; whoever sent it is told to send it again",
            remedy="Check the disk's space and the folder's rights",
        ) from error
    return name, path
