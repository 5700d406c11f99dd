"""The whole examination, in an order in which the first finding is often the reason of the next."""

from __future__ import annotations

from pathlib import Path

from habitue.core.errors import HabitueError
from habitue.core.workspace import open_workspace
from habitue.doctor import data, environment, folder, models
from habitue.doctor.finding import BROKEN, Finding, of


def examine(path: Path | str) -> list[Finding]:
    """Return what was found of the machine, the workspace in `path` and its data; nothing is changed.

    Where the workspace cannot be opened, the rest of it is not looked at: everything in it would look broken.
    """
    path = Path(path)
    found = environment.findings(path)
    try:
        space = open_workspace(path)
        plan = folder.plan(space)
    except HabitueError as error:
        return [*found, of(error)]
    found += folder.findings(space, plan)
    found += models.findings(space)
    if not any(one.level == BROKEN and one.where.startswith(("lake", "identities")) for one in found):
        found += data.findings(space, plan)
    return found
