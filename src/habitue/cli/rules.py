"""`habitue rules`: what the shop itself wants in its lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table

app = typer.Typer(help="Rules of recommendations: pin, boost, bury, exclude, stock.", no_args_is_help=True)


@app.command()
def add(
    action: Annotated[str, typer.Argument(help="pin, boost, bury, exclude or stock.")],
    item: Annotated[list[str] | None, typer.Option("--item", help="A product's item_id; several times.")] = None,
    category: Annotated[str, typer.Option("--category", help="Every product of it and below it.")] = "",
    brand: Annotated[str, typer.Option("--brand", help="Every product of it.")] = "",
    placement: Annotated[str, typer.Option("--placement", help="Only there.", show_default="everywhere")] = "",
    number: Annotated[
        float | None, typer.Option("--number", help="pin: the place; boost: spreads; stock: units left.")
    ] = None,
    workspace: Workspace = Path(),
    as_json: Json = False,
) -> None:
    """Add a rule; a running server follows it at once.

    Example: habitue rules add pin --item 85123A --number 1 --placement home
    """
    import habitue
    from habitue.serve import rules

    state = habitue.open(workspace).space.state
    rule = rules.add(
        state, action, items=item or (), category=category, brand=brand, placement=placement, number=number
    )
    if as_json:
        print_json({"id": rule.id})
    else:
        typer.echo(f"Rule {rule.id} holds.")


@app.command("list")
def list_(workspace: Workspace = Path(), as_json: Json = False) -> None:
    """List the rules in the order they were made."""
    from dataclasses import asdict

    import habitue
    from habitue.serve import rules

    found = rules.listed(habitue.open(workspace).space.state)
    if as_json:
        print_json([asdict(rule) for rule in found])
        return
    columns = dict.fromkeys(("id", "action", "about", "placement", "number"), "left")
    rows = [
        [
            r.id,
            r.action,
            ", ".join((*r.items, *filter(None, (r.category, r.brand)))),
            r.placement or "all",
            f"{r.number:g}",
        ]
        for r in found
    ]
    print_table("Rules", columns, rows)


@app.command()
def remove(name: Annotated[str, typer.Argument(metavar="ID")], workspace: Workspace = Path()) -> None:
    """Take a rule away."""
    import habitue
    from habitue.serve import rules

    rule = rules.remove(habitue.open(workspace).space.state, name)
    typer.echo(f"The rule {rule.id} ({rule.action}) holds no longer.")
