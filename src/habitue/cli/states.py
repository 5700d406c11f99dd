"""habitue apply states."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table


def states(
    as_of: Annotated[str | None, typer.Option("--as-of", help="Know nothing at or after this moment.")] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Say what customers are doing (buying, considering, lapsing) and how they move from one state to another.

    The page, reports/states.html, holds the picture of the moves.

    Example: habitue apply states --as-of 2011-09-09
    """
    import habitue
    from habitue.dashboard import sheet
    from habitue.dashboard.states import sheet as arranged
    from habitue.dashboard.states import told

    shop = habitue.open(workspace)
    found, moment = shop.states(as_of=as_of)
    command = f"habitue apply states --as-of {moment:%Y-%m-%d}"
    page = shop.space.reports / "states.html"
    sheet.write(arranged(found, shop=shop.folder.resolve().name, as_of=moment, command=command), page)
    rows = told(found)
    if json:
        print_json({"as_of": moment.isoformat(), "states": rows, "page": str(page)})
        return
    days = found.horizon_days
    print_table(
        f"What customers are doing, as of {moment:%Y-%m-%d}",
        {"state": "left", "customers": "right", f"no order in {days} days": "right", "orders": "right"},
        [[row["state"], f"{row['share']:.0%}", f"{row['no_order']:.0%}", f"{row['orders']:.2f}"] for row in rows],
    )
    typer.echo(f"\nAs a page: {page}")
