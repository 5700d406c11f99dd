"""`habitue keys`: who may ask the server for what."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, minute, print_json, print_table

app = typer.Typer(help="The server's keys: create, list, revoke, rotate, token, audit.", no_args_is_help=True)


@app.command()
def create(
    kind: Annotated[str, typer.Argument(help="write (stands in pages) or secret (your own servers).")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="Only these; several times.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests a second.", show_default="1000")] = None,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    workspace: Workspace = Path(),
    as_json: Json = False,
) -> None:
    """Make a key and print it: this is the only time it is shown.

    Example: habitue keys create write --note "the shop's pages"
    """
    import habitue
    from habitue.serve import keys

    key, text = keys.create(habitue.open(workspace).space.state, kind, scopes=tuple(scope or ()), rate=rate, note=note)
    _shown(key.id, key.kind, text, as_json)


@app.command("list")
def list_(workspace: Workspace = Path(), as_json: Json = False) -> None:
    """List every key ever made, without its text, which nobody keeps."""
    import time

    import habitue
    from habitue.serve import keys

    now = time.time()
    rows = [
        {
            "id": key.id,
            "kind": key.kind,
            "scopes": list(key.scopes),
            "rate": key.rate,
            "made_at": _moment(key.made_at),
            "ends_at": None if key.ends_at is None else _moment(key.ends_at),
            "in_force": not key.ended(now),
            "note": key.note,
        }
        for key in keys.listed(habitue.open(workspace).space.state)
    ]
    if as_json:
        print_json(rows)
        return
    columns = dict.fromkeys(("id", "kind", "scopes", "made (UTC)", "ends", "note"), "left")
    print_table(
        "Keys",
        columns,
        [
            [r["id"], r["kind"], ", ".join(r["scopes"]), minute(r["made_at"]), minute(r["ends_at"]), r["note"]]  # type: ignore[list-item, arg-type]
            for r in rows
        ],
    )


@app.command()
def revoke(name: Annotated[str, typer.Argument(metavar="ID")], workspace: Workspace = Path()) -> None:
    """End a key; a running server refuses it within a second.

    Example: habitue keys revoke 46a124b1
    """
    import habitue
    from habitue.serve import keys

    key = keys.revoke(habitue.open(workspace).space.state, name)
    typer.echo(f"The {key.kind} key {key.id} has ended.")


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(metavar="ID")],
    overlap_hours: Annotated[float, typer.Option("--overlap-hours", min=0, help="The old key goes on so long.")] = 24,
    workspace: Workspace = Path(),
    as_json: Json = False,
) -> None:
    """Make a key like this one and let the old one end.

    Example: habitue keys rotate 46a124b1 --overlap-hours 48
    """
    import habitue
    from habitue.serve import keys

    key, text = keys.rotate(habitue.open(workspace).space.state, name, overlap_s=overlap_hours * 3600)
    _shown(key.id, key.kind, text, as_json)


@app.command()
def token(
    user_id: Annotated[str, typer.Option("--user-id", "-u", help="The shopper it proves.")],
    seconds: Annotated[int, typer.Option("--seconds", help="How long it lives.")] = 3600,
    workspace: Workspace = Path(),
) -> None:
    """Sign a user token: with it a write key may ask for this user. A server of yours asks POST /v1/tokens instead.

    Example: habitue keys token --user-id u1
    """
    import habitue
    from habitue.serve import keys

    typer.echo(keys.user_token(habitue.open(workspace).space.state, user_id, lives_s=seconds))


@app.command()
def audit(
    newest: Annotated[int, typer.Option("--newest", min=1, help="So many lines.")] = 50,
    workspace: Workspace = Path(),
    as_json: Json = False,
) -> None:
    """Show what was done with keys, newest first; it never names a person."""
    import habitue
    from habitue.serve import keys

    rows = [
        {"at": _moment(at), "key": key, "action": action, "result": result}
        for at, key, action, result in keys.audit(habitue.open(workspace).space.state, newest=newest)
    ]
    if as_json:
        print_json(rows)
    else:
        columns = dict.fromkeys(("at (UTC)", "key", "action", "result"), "left")
        print_table("Audit", columns, [[minute(row["at"]), row["key"], row["action"], row["result"]] for row in rows])


def _shown(name: str, kind: str, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"id": name, "kind": kind, "key": text})
        return
    typer.echo(text)
    typer.echo(
        f"The {kind} key {name}. It is shown this once; keep it where its kind belongs (docs/serve.md).", err=True
    )


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).isoformat(timespec="seconds")
