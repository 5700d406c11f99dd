"""What the scripts of this folder stand on: where the public tables lie, and which commit is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def tables() -> Path:
    """Return the folder of the public tables; without one the script ends in one line."""
    home = os.environ.get("HABITUE_DATA")
    if not home:
        sys.exit("Set HABITUE_DATA to the folder of the public tables (docs/data.md).")
    return Path(home)


def commit() -> str:
    """Return the short name of the commit that is measured."""
    head = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(head, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout.strip()


def edits(said: Sequence[str], meant: Sequence[str]) -> int:
    """Return the fewest words, or signs, put in, left out or changed."""
    row = list(range(len(meant) + 1))
    for n, one in enumerate(said, 1):
        before, row = row, [n]
        for m, other in enumerate(meant, 1):
            row.append(min(before[m] + 1, row[-1] + 1, before[m - 1] + (one != other)))
    return row[-1]
