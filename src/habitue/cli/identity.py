"""habitue identity: who is one person with whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table

if TYPE_CHECKING:
    import datetime as dt

    from habitue.core.workspace import Workspace as Space

app = typer.Typer(help="Who is one person with whom: conflicts, merges, their undoing, history.", no_args_is_help=True)

Who = Annotated[str, typer.Argument(help="An id as in your own files, KIND:ID (email:a@b.example), or key:NUMBER.")]
At = Annotated[str | None, typer.Option("--at", help="From this moment on.", show_default="now")]


@app.command("conflicts")
def conflicts(workspace: Workspace = Path(), json: Json = False) -> None:
    """List the ids that two people claim: a cookie on a shared computer, one e-mail in two accounts.

    The first claim holds until you undo it; ids are shown as keys, never as they are.

    Example: habitue identity conflicts
    """
    from habitue.core.workspace import open_workspace
    from habitue.protect import people

    rows = people.conflicts(open_workspace(workspace).identities).to_dicts()
    if json:
        print_json(rows)
    elif not rows:
        typer.echo("No id is claimed by two people.")
    for row in rows if not json else []:
        typer.echo(
            f"The {row['alias_kind']} of key {row['user_key']} belongs to person {row['holder']} (join "
            f"{row['holds']}), and person {row['claimant']} claims it since {row['at']:%Y-%m-%d} (join "
            f"{row['number']}). Undo the one that is wrong: habitue identity undo {row['number']}"
        )


@app.command("merge")
def merge(
    who: Who,
    into: Annotated[str, typer.Option("--into", help="The person who stays; named in the same ways.")],
    at: At = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Say that two people are one. What is read as of an earlier moment stays as it was; a merge can be undone.

    Example: habitue identity merge 17850 --into email:ann@shop.example --at 2011-09-09
    """
    from habitue.protect import people

    space, moment = _opened(workspace), _moment(at)
    with space.lake.exclusive():
        one, other = (people.find(space.identities, name) for name in (who, into))
        number = people.merge(space.identities, one, into=other, at=moment, source="operator")
    if json:
        print_json({"join": number, "user_key": one, "became": other, "at": moment})
    else:
        typer.echo(
            f"They are one person from {moment:%Y-%m-%d %H:%M} UTC on. To take it back: habitue identity undo {number}"
        )


@app.command("undo")
def undo(
    number: Annotated[int, typer.Argument(metavar="JOIN", help="The join's number, as conflicts and history show it.")],
    at: At = None,
    never: Annotated[bool, typer.Option("--never", help="It never held, also not in what is read as of then.")] = False,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Take a join of two people back, from now on, from --at on, or as if it had never been (--never).

    Example: habitue identity undo 7 --never
    """
    import datetime as dt

    from habitue.protect import people

    space = _opened(workspace)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) if never else _moment(at)
    with space.lake.exclusive():
        people.undo(space.identities, number, at=moment)
    if json:
        print_json({"join": number, "undone": True})
    else:
        typer.echo(f"Join {number} is undone.")


@app.command("history")
def history(
    who: Annotated[
        str | None, typer.Argument(help="Only of this person, named as for merge.", show_default="all")
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """List every join that was ever made: by what, from when, and until when.

    Example: habitue identity history 17850
    """
    from habitue.protect import people

    path = _opened(workspace).identities
    rows = people.history(path, None if who is None else [people.find(path, who)]).to_dicts()
    if json:
        print_json(rows)
        return
    print_table(
        f"{len(rows):,} joins",
        {
            "join": "right",
            "key": "right",
            "became": "right",
            "by": "left",
            "source": "left",
            "from": "left",
            "to": "left",
        },
        [
            [
                str(r["number"]),
                str(r["user_key"]),
                str(r["became"]),
                r["made_by"],
                r["source"],
                f"{r['joined_at']:%Y-%m-%d %H:%M}",
                "" if r["undone_at"] is None else f"{r['undone_at']:%Y-%m-%d %H:%M}",
            ]
            for r in rows
        ],
    )


def _opened(workspace: Path) -> Space:
    from habitue.core.workspace import open_workspace

    return open_workspace(workspace)


def _moment(at: str | None) -> dt.datetime:
    import datetime as dt

    from habitue.core import settings

    return dt.datetime.now(dt.UTC) if at is None else settings.moment(at)
