"""habitue init, habitue import, habitue replay."""

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
    file: Annotated[
        str,
        typer.Argument(
            help="A file of any usual format, packed or not; a folder of media; or a database: sqlite:///shop.db, "
            "postgresql://host/shop, duckdb:///shop.duckdb."
        ),
    ],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", "-m", help="TOML: which column is what, and the time zone.")
    ] = None,
    guess: Annotated[
        bool, typer.Option("--guess", help="Print a first mapping for the file, with comments, and store nothing.")
    ] = False,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", help="Stop when an archive inflates to more.", min=1)
    ] = None,
    max_rows: Annotated[int | None, typer.Option("--max-rows", help="Stop when there are more rows.", min=1)] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Bring a file in. The same file again, a re-ordered copy or a longer export adds only what is new.

    CSV, TSV, Excel, JSON, Parquet, Merchant feeds, web pages, exports of Segment and GA4; what a file is, its content
    tells, not its name. Rows that cannot be accepted are kept in the table `refused` with the reason. Exit code 0 when
    only some are. An import that was stopped goes on where it was when the command is given again.

    Examples:

      habitue import --guess orders.csv > orders.toml

      habitue import orders.csv --mapping orders.toml

      habitue import postgresql://reader@db/shop --mapping orders.toml     (with query = "SELECT ..." in it)
    """
    from habitue.core import runtime

    runtime.modest()
    import habitue
    from habitue import collect

    standard = collect.Limits()
    limits = collect.Limits(max_bytes=max_bytes or standard.max_bytes, max_rows=max_rows or standard.max_rows)
    if guess:
        text = collect.guess(file, limits=limits)
        if json:
            print_json({"mapping": text})
        else:
            typer.echo(text, nl=False)
        return
    shop = habitue.open(workspace)
    done = shop.import_(file, mapping=mapping, limits=limits)
    if json:
        print_json(asdict(done))
        return
    read = f"{done.read:,} rows read: {done.new:,} new, {done.known:,} known before, {done.refused:,} refused."
    if done.orders and done.first is not None and done.last is not None:
        sums = sorted((done.sums or {done.currency: 0.0}).items(), key=lambda one: -abs(one[1]))
        read += (
            f" {done.orders:,} orders of {done.users:,} customers and {done.guests:,} guest orders, "
            f"net {' and '.join(f'{money:,.2f} {currency}' for currency, money in sums)}, "
            f"{done.first:%Y-%m-%d} to {done.last:%Y-%m-%d}."
        )
        if len(sums) > 1:
            read += (
                f"\nMoney is in {len(sums)} currencies; models add it up as it stands: convert it before the import."
            )
        if not done.sums:
            read += "\nNo new row carries money: name the column of the price, if there is one (docs/mapping.md)."
    typer.echo(read)
    if done.refused:
        typer.echo("Why rows were refused: habitue check")


def replay(
    source: Annotated[str | None, typer.Option("--source", help="Of one wire only: segment, snowplow, ...")] = None,
    code: Annotated[str | None, typer.Option("--code", help="Of one reason only, as habitue check lists them.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE: read the field as this value.")] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help="Read them without this field.")] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Read events again that trackers sent and the server refused, after what was wrong is put right.

    What is accepted now is stored and leaves the table `refused`; doing it again adds nothing. Rows that a file import
    refused are not looked at: import the file again.

    Examples:

      habitue replay

      habitue replay --code bad_price --without price

      habitue replay --code bad_currency --set currency=EUR
    """
    from habitue.collect import replay as collect
    from habitue.core.errors import UsageError
    from habitue.core.workspace import open_workspace

    changes: dict[str, str | None] = dict.fromkeys(without or ())
    for said in sets or ():
        name, equals, value = said.partition("=")
        if not equals:
            raise UsageError(
                "replay --set",
                found=f"'{said}' has no =",
                consequence="Nothing was read again",
                remedy="Write it as --set FIELD=VALUE",
            )
        changes[name] = value
    done = collect.replay(open_workspace(workspace), source=source, code=code, changes=changes)
    if json:
        print_json(asdict(done))
        return
    typer.echo(
        f"{done.read:,} refused events read again: {done.new:,} new, {done.known:,} known before, "
        f"{done.refused:,} still refused."
    )
    if not done.read:
        typer.echo("What a running server refuses is here within a minute.")
    if done.cut:
        typer.echo(f"{done.cut:,} cannot be read again: they were too long, or no event, and were not kept whole.")
