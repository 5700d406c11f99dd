"""Files of media that the server was sent (`collect.shelf`): removed once nothing names them any more.

Several rows may name one file: equal content is kept once. A row may be in the lake or still on its way there, in the
inbox; and while this is looked at, a server may take another row that names the file. So a file is first put aside, and
only then the inbox is searched: a row that came before that is found, and whoever brings one later finds no file and
writes it again before its 200 (`serve.sensing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SENT = "media"  # folder of the workspace, each file named after its content
INBOX = "inbox"
_ASIDE = ".gone-"


def remove(root: Path, paths: Iterable[str], *, done: Path | None = None) -> None:
    """Remove the files of `paths` that lie in SENT, unless a row in the inbox names them; other files are not touched.

    `paths`: those that no row of the lake names. `done`: a segment of the inbox whose rows do not count any more.
    Interrupted, the same call does the rest. O(bytes of the inbox) a file. Raises OSError.
    """
    sent = (root / SENT).resolve()
    for path in map(Path, paths):
        if not path.is_relative_to(sent):
            continue
        aside = path.with_name(f"{_ASIDE}{path.name}")
        if path.exists():
            path.replace(aside)
        if _waits(root, path.name, done) and aside.exists():
            aside.replace(path)
        aside.unlink(missing_ok=True)


def _waits(root: Path, name: str, done: Path | None) -> bool:
    """Whether a record of the inbox names a file; names are 64 hex digits, found as they are in a record's bytes."""
    waiting = (path for path in (root / INBOX).glob("[0-9]*") if path != done)
    return any(name.encode() in path.read_bytes() for path in waiting)
