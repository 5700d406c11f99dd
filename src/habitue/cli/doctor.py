"""habitue doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from habitue.cli.options import Json, Workspace, print_json


def doctor(workspace: Workspace = Path(), json: Json = False) -> None:
    """Say what is broken and why something is empty: the machine, the workspace, its data. Changes nothing.

    Exit code 1 when something is broken; notices alone are fine.

    Examples: habitue doctor -w my-shop        habitue doctor --json
    """
    from habitue.doctor import examine

    found = examine(workspace)
    broken = sum(one.level == "broken" for one in found)
    if json:
        print_json({"ok": not broken, "broken": broken, "findings": [asdict(one) for one in found]})
    else:
        for one in found:
            typer.echo(f"{one.level:<7} {one.where}: {one.found}")
            if one.remedy:
                typer.echo(f"        -> {one.remedy}")
        typer.echo(f"\n{broken} broken." if broken else "\nNothing is broken.")
    if broken:
        raise typer.Exit(1)
