"""One thing the doctor found."""

from __future__ import annotations

from dataclasses import dataclass

from habitue.core.errors import HabitueError

BROKEN, NOTICE, FINE = "broken", "notice", "fine"


@dataclass(frozen=True)
class Finding:
    """What was found where, in words, and what to do; `level` broken, notice or fine."""

    level: str
    where: str
    found: str
    remedy: str = ""


def of(error: HabitueError) -> Finding:
    """Return an error as a finding."""
    return Finding(BROKEN, error.where, f"{error.found.rstrip('.')}. {error.consequence.rstrip('.')}.", error.remedy)
