"""habitue lake, habitue migrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import Json, Out, Workspace, print_json, print_table, write_table

if TYPE_CHECKING:
    from habitue.core.lake import Lake
    from habitue.core.schemas import Table

app = typer.Typer(help="The shop's tables on disk: files, versions, small files merged.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="TABLE", help="events, items, users, ...")]
Version = Annotated[int | None, typer.Option("--version", help="Of this version.", show_default="the latest")]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Of the version that was the latest then (machine's clock).")]


@app.command("files")
def files(
    table: Name, version: Version = None, as_of: AsOf = None, workspace: Workspace = Path(), json: Json = False
) -> None:
    """List the Parquet files that make up a version: what another engine must read, and no other file.

    Example: habitue lake files events --version 3
    """
    lake, found = _opened(workspace, table)
    paths = lake.files(found, _version(lake, found, version, as_of))
    if json:
        print_json({"table": table, "files": paths})
    elif paths:
        typer.echo("\n".join(paths))


@app.command("history")
def history(table: Name, workspace: Workspace = Path(), json: Json = False) -> None:
    """List the versions of a table, latest first.

    Example: habitue lake history events
    """
    lake, found = _opened(workspace, table)
    rows = lake.history(found).to_dicts()
    if json:
        print_json(rows)
        return
    print_table(
        f"{table}: version {lake.version(found)} is read" if rows else f"{table} was never written",
        {"version": "right", "at (UTC)": "left", "what": "left", "rows added": "right", "files removed": "right"},
        [
            [
                str(r["version"]),
                f"{r['at']:%Y-%m-%d %H:%M:%S}",
                r["operation"].lower(),
                "" if r["rows_added"] is None else f"{r['rows_added']:,}",
                "" if r["files_removed"] is None else f"{r['files_removed']:,}",
            ]
            for r in rows
        ],
    )


@app.command("read")
def read(
    table: Name,
    out: Out = None,
    version: Version = None,
    as_of: AsOf = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Read a table as it is, or was, and write it to --out; without it, say how many rows there are.

    Example: habitue lake read events --version 0 --out first.parquet
    """
    lake, found = _opened(workspace, table)
    number = _version(lake, found, version, as_of)
    frame = lake.read(found, version=number)
    if out is not None:
        write_table(frame, out)
    shown = lake.version(found) if number is None else number
    if json:
        print_json({"table": table, "version": shown, "rows": frame.height, "out": None if out is None else str(out)})
    else:
        typer.echo(f"{table} at version {shown}: {frame.height:,} rows" + ("." if out is None else f", in {out}."))


@app.command("compact")
def compact(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Only this one.", show_default="all")] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Merge the small files that many imports leave; rows stay, and older versions can still be read.

    Example: habitue lake compact
    """
    from habitue.core.progress import stage
    from habitue.core.schemas import IDENTITIES, TABLES
    from habitue.core.workspace import open_workspace

    lake = open_workspace(workspace).lake
    every = [t for t in TABLES if t is not IDENTITIES] if table is None else [_opened(workspace, table)[1]]
    done = []
    for one in every:
        before = len(lake.files(one))
        with stage(f"Merging the files of {one.name}"):
            merged = lake.compact(one) if before else 0
        if merged:
            done.append({"table": one.name, "before": before, "after": len(lake.files(one))})
    if json:
        print_json(done)
    else:
        typer.echo(
            "\n".join(f"{d['table']}: {d['before']} files are {d['after']} now." for d in done) or "No small files."
        )


def migrate(workspace: Workspace = Path(), json: Json = False) -> None:
    """Bring a workspace of an older Habitue up to date. What was interrupted goes on when it is run again.

    Make a copy of the folder first: an older Habitue cannot open it afterwards.

    Example: habitue migrate -w my-shop
    """
    from habitue.migrate import migrate as bring

    told: list[str] = []
    bring(workspace, say=told.append if json else typer.echo)
    if json:
        print_json({"done": told})
    else:
        typer.echo("The workspace is up to date.")


def _opened(workspace: Path, table: str) -> tuple[Lake, Table]:
    from habitue.core.lake import table_named
    from habitue.core.workspace import open_workspace

    return open_workspace(workspace).lake, table_named(table)


def _version(lake: Lake, table: Table, version: int | None, as_of: str | None) -> int | None:
    from habitue.core import settings
    from habitue.core.errors import UsageError

    if version is not None and as_of is not None:
        raise UsageError(
            "--as-of",
            found="a version and a moment are named",
            consequence="They could mean two different versions",
            remedy="Give one of them",
        )
    return version if as_of is None else lake.version_at(table, settings.moment(as_of))
