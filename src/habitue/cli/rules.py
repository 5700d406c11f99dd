"""`habitue rules`: what the shop itself wants in its lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_listed

if TYPE_CHECKING:
    from habitue.serve.rules import Rule

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

    space = habitue.open(workspace).space
    rule = rules.add(
        space.state, action, items=item or (), category=category, brand=brand, placement=placement, number=number
    )
    unknown = rules.unknown(space.lake, rule)
    if as_json:
        print_json({"id": rule.id, "unknown": unknown})
        return
    typer.echo(f"Rule {rule.id} holds.")
    for named in unknown:
        typer.echo(f"Nobody has met {named} yet: until then the rule does nothing for it.", err=True)


@app.command("list")
def list_(workspace: Workspace = Path(), as_json: Json = False) -> None:
    """List the rules in the order they were made."""
    import habitue
    from habitue.serve import rules

    def row(one: Rule) -> list[str]:
        about = ", ".join((*one.items, *filter(None, (one.category, one.brand))))
        return [one.id, one.action, about, one.placement or "all", f"{one.number:g}"]

    found = rules.listed(habitue.open(workspace).space.state)
    print_listed("Rules", ("id", "action", "about", "placement", "number"), found, row, json=as_json)


@app.command()
def remove(name: Annotated[str, typer.Argument(metavar="ID")], workspace: Workspace = Path()) -> None:
    """Take a rule away.

    Example: habitue rules remove cfa54d
    """
    import habitue
    from habitue.serve import rules

    rule = rules.remove(habitue.open(workspace).space.state, name)
    typer.echo(f"The rule {rule.id} ({rule.action}) holds no longer.")
