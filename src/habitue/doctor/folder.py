"""The workspace as files: the plan, what was interrupted, tables, identities."""

from __future__ import annotations

import os
import stat

import polars as pl

from habitue.core import journal, lock
from habitue.core.errors import HabitueError, LakeError
from habitue.core.schemas import EVENTS, IDENTITIES, TABLES
from habitue.core.workspace import Workspace
from habitue.doctor.finding import BROKEN, FINE, NOTICE, Finding, of
from habitue.plan import Plan, load
from habitue.protect import erase, identities, people


def plan(space: Workspace) -> Plan:
    """Return the plan. Raises SettingsError."""
    return load(space.plan)


def findings(space: Workspace, plan: Plan) -> list[Finding]:
    """Return what is broken or left over in the folder."""
    return [*_sources(space, plan), *_rights(space), *_interrupted(space), *_tables(space), *_identities(space)]


def _sources(space: Workspace, plan: Plan) -> list[Finding]:
    return [
        Finding(
            BROKEN,
            "habitue.toml [[source]]",
            f"There is no file '{name}', which the plan names.",
            "Put it there, or mend the path: it is read from the workspace's folder",
        )
        for source in plan.source
        for name in (source.file, source.mapping)
        if not (space.root / name).is_file()
    ]


def _rights(space: Workspace) -> list[Finding]:
    closed = [p for p in (space.root, space.lake.root, space.models, space.reports) if p.exists() and not _writable(p)]
    return [
        Finding(BROKEN, str(p), "The folder cannot be written; it can be read.", "Give yourself the right to write")
        for p in closed
    ]


def _writable(path: os.PathLike[str]) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _interrupted(space: Workspace) -> list[Finding]:
    lake = space.lake
    if not lake.root.exists():
        return [Finding(NOTICE, "lake", "There is no folder lake: nothing was imported yet.", "habitue import FILE")]
    try:
        with lock.exclusive(lake.root / ".lock", wait_s=0):
            pass
    except LakeError as error:
        if "another writer" in error.found:
            return [Finding(NOTICE, "lake", f"{error.found[0].upper()}{error.found[1:]}.", "Look again when it ended")]
        return []  # a folder that cannot be written was said
    found = []
    if any((space.root / "state").glob(erase.IMPORTS)):
        words = "An import was interrupted; the rows it had read lie in state/, ids of people included."
        found.append(
            Finding(NOTICE, "state", words, "Import the same file again: it goes on; any other import removes them")
        )
    if (lake.root / journal.NAME).exists():
        found.append(
            Finding(
                BROKEN,
                f"lake/{journal.NAME}",
                "A change of several tables was interrupted; its rows are not read.",
                "Do it again, or any other change: the next one takes the half-done rows away. At once: "
                "habitue lake compact",
            )
        )
    if (lake.root / erase.NOTE).exists():
        found.append(
            Finding(BROKEN, f"lake/{erase.NOTE}", "An erasure was interrupted.", "Finish it: habitue erase --resume")
        )
    return found


def _tables(space: Workspace) -> list[Finding]:
    """Read the key of every table: its log, each file's length, its footer."""
    lake, found, rows = space.lake, [], {}
    names = {table.name: table for table in TABLES if table is not IDENTITIES}
    folders = sorted(p.name for p in lake.root.iterdir() if p.is_dir()) if lake.root.exists() else []
    for name in folders:
        if name not in names:
            words = f"The folder is no table of this Habitue ({len(names)} tables are known)."
            found.append(Finding(NOTICE, f"lake/{name}", words, "Take it away if you put it there"))
            continue
        try:
            rows[name] = lake.read(names[name], columns=[names[name].key[0]]).height
        except HabitueError as error:
            found.append(of(error))
    counted = ", ".join(f"{name} {count:,}" for name, count in rows.items()) or "none"
    return [*found, Finding(FINE, "tables", f"Rows: {counted}.")]


def _identities(space: Workspace) -> list[Finding]:
    path, found = space.identities, []
    try:
        keys = space.lake.read(EVENTS, columns=["user_key"])["user_key"].unique()
    except HabitueError:
        return []  # said with the tables
    if not path.exists():
        if keys.is_empty():
            return []
        words = f"The file is missing, and {len(keys):,} customers have rows: nobody can be told who they are."
        return [Finding(BROKEN, path.name, words, "Restore it from a copy of the workspace")]
    try:
        known = identities.aliases(path)["user_key"]
        conflicts = people.conflicts(path).height
    except HabitueError as error:
        return [of(error)]
    if path.with_name(f"{path.name}-journal").exists():
        words = "A change of the identities was interrupted."
        found.append(Finding(NOTICE, path.name, words, "SQLite takes it back at the next change; leave the file"))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        words = "Others on this machine may read the raw ids of people."
        found.append(Finding(BROKEN, path.name, words, f"Run: chmod 600 {path}"))
    lost = keys.filter(~keys.is_in(known.implode()))
    if len(lost):
        words = f"{len(lost):,} of {len(keys):,} customers with rows have no id here."
        remedy = "Restore identities.sqlite and lake/ from the same copy"
        found.append(Finding(BROKEN, path.name, words, remedy))
    if conflicts:
        words = f"{conflicts:,} ids are claimed by two people; the first claim holds."
        found.append(Finding(NOTICE, path.name, words, "Settle them: habitue identity conflicts"))
    guests = people.known_keys(path).filter(~pl.col("known")).height
    return [*found, Finding(FINE, path.name, f"{len(known):,} ids; {guests:,} people are guests of one order.")]
