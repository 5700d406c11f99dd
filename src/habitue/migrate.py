"""A workspace of an older layout brought to the present one, step by step.

Every step looks first whether it is done already, and the layout's number is written last: a migration that was
interrupted anywhere goes on when it is run again, and until its end the workspace refuses other work. What a step
does is whole or not at all (one transaction of SQLite, one commit of Delta, one rename).

| layout | what changed |
|---|---|
| 1 to 2 | joins of people stand beside their aliases and can be undone; the log of a table keeps no key of a person; the manifest of a model names the tables it reads only |
"""  # noqa: E501  a row of a table

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from habitue.core import workspace
from habitue.core.errors import ModelError
from habitue.core.schemas import IDENTITIES, TABLES
from habitue.core.workspace import Workspace
from habitue.protect.upgrade import upgrade


def migrate(folder: Path | str, *, say: Callable[[str], object]) -> int:
    """Bring the workspace up to date and return how many things were changed; `say` gets a sentence for each.

    Models that only training can bring up to date stay as they are and are named. Raises UsageError when `folder` is
    no workspace, LakeError when a newer Habitue made it or another process is at work in it.
    """
    space = workspace.open_workspace(folder, older=True)
    done = 0
    with space.lake.exclusive():
        for step in (_identities, _tables, _models, _plan):
            for sentence in step(space):
                say(sentence)
                done += 1
    return done


def _identities(space: Workspace) -> list[str]:
    changed = upgrade(space.identities)
    return ["Identities: joins stand beside the aliases now, and can be undone."] if changed else []


def _tables(space: Workspace) -> list[str]:
    tables = [table for table in TABLES if table is not IDENTITIES and (space.lake.root / table.name).is_dir()]
    changed = [table.name for table in tables if space.lake.set_statistics(table)]
    return [f"Tables: the log of {', '.join(changed)} keeps no key of a person any more."] if changed else []


def _models(space: Workspace) -> list[str]:
    from habitue.model import artifact

    told = []
    for path in sorted(space.models.glob(f"*/[!.]*/{artifact.MANIFEST}")):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        try:
            if artifact.upgrade(path.parent):
                told.append(f"Model {name}: its manifest is of version {artifact.VERSION} now.")
        except ModelError as error:
            told.append(f"Model {name} stays as it was. {error}")
    return told


def _plan(space: Workspace) -> list[str]:
    changed = workspace.set_layout(space.plan)
    return [f"habitue.toml: layout {workspace.VERSION}."] if changed else []
