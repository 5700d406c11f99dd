"""The note of a change of several tables under way: the version each had before it. Its removal is the commit."""

from __future__ import annotations

import json
from pathlib import Path

from habitue.core import durable
from habitue.core.errors import LakeError

NAME = ".journal"


def entries(root: Path) -> dict[str, int]:
    """Return the versions from before an unfinished change; none when there is none. Raises LakeError."""
    path = root / NAME
    try:
        found: dict[str, int] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LakeError(
            str(path),
            found=f"the journal of an unfinished change cannot be read ({error})",
            consequence="Which rows belong to it is unknown, so nothing is read or written",
            remedy="Restore the file from a copy, or import the source files into a new workspace",
        ) from error
    return found


def write(root: Path, versions: dict[str, int]) -> None:
    """Note the versions, on the disk before anything is changed. Raises LakeError."""
    try:
        durable.write(root / NAME, json.dumps(versions).encode())
    except OSError as error:
        raise LakeError(
            str(root),
            found=f"the journal of the change cannot be written ({error.strerror})",
            consequence="Nothing was changed",
            remedy="Check the disk's space and the folder's rights, then do it again",
        ) from error
