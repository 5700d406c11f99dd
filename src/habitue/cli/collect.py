"""habitue init, habitue import."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make the shop in.")] = Path(),
    json: Json = False,
) -> None:
    """Make a workspace: a folder with habitue.toml, where the shop's tables, models and reports will live.

    Example: habitue init my-shop
    """
    import habitue

    shop = habitue.init(folder)
    if json:
        print_json({"workspace": str(shop.folder)})
    else:
        typer.echo(
            f"Made {shop.folder}/habitue.toml. Next: habitue import orders.csv --mapping orders.toml -w {folder}"
        )


def import_(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", "-m", help="TOML: which column is what, and the time zone.")
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Bring a file in. The same file again, a re-ordered copy or a longer export adds only what is new.

    Rows that cannot be accepted are kept in the table `refused` with the reason. Exit code 0 when only some are.

    Example: habitue import orders.csv --mapping orders.toml
    """
    import habitue

    shop = habitue.open(workspace)
    done = shop.import_(file, mapping=mapping)
    if json:
        print_json(asdict(done))
        return
    typer.echo(
        f"{done.read:,} rows read: {done.new:,} new, {done.known:,} known before, {done.refused:,} refused. "
        f"{done.orders:,} orders of {done.users:,} customers and {done.guests:,} guest orders, "
        f"net {done.money:,.2f} {done.currency}, {done.first:%Y-%m-%d} to {done.last:%Y-%m-%d}."
        if done.first is not None and done.last is not None
        else f"{done.read:,} rows read: {done.new:,} new, {done.known:,} known before, {done.refused:,} refused."
    )
    if done.refused:
        typer.echo("Why rows were refused: habitue check")
