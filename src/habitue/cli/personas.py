"""habitue apply personas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table, write_table

app = typer.Typer(help="Answers for a shop's daily work, made from its profiles and models.", no_args_is_help=True)


@app.callback()
def about() -> None:
    """Answers for a shop's daily work, made from its profiles and models."""


@app.command("personas")
def personas(
    as_of: Annotated[str | None, typer.Option("--as-of", help="Know nothing at or after this moment.")] = None,
    method: Annotated[str, typer.Option("--method", help="auto, kmeans, hdbscan or mixture.")] = "auto",
    count: Annotated[int | None, typer.Option("--count", help="How many; default: as many as are stable.")] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", help="In which hours and weekdays are read.")] = "UTC",
    persona: Annotated[str | None, typer.Option("--persona", help="Export this one only.")] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the customers here: .csv, .parquet or .jsonl by suffix.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page; its numbers beside it as .json.", show_default="in reports/"),
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Group the customers by how they buy and what they buy; name, draw and follow the groups; export an audience.

    The page says first whether the groups can be believed. Only customers who have granted marketing are exported
    (docs/privacy.md).

    Example: habitue apply personas --as-of 2011-09-09 --persona "Loyal, repeat-buying customers" --export loyal.csv
    """
    from habitue.core.errors import UsageError

    if persona is not None and export is None:
        raise UsageError(
            "--persona",
            found="a persona to export is named, but no file",
            consequence="Nothing would be written",
            remedy="Add --export audience.csv",
        )
    if out is not None and out.suffix != ".html":
        raise UsageError(
            "--out",
            found=f"'{out.name}' is no page",
            consequence="A browser would not open it",
            remedy="End the name in .html",
        )
    from json import dumps

    import habitue
    from habitue.apply.personas import to_dict
    from habitue.dashboard import sheet
    from habitue.dashboard.personas import sheet as arranged
    from habitue.serve import about

    shop = habitue.open(workspace)
    found = shop.personas(as_of=as_of, method=method, count=count, time_zone=time_zone)
    told = to_dict(found)
    audience = None if export is None else shop.audience(found, persona)
    page = shop.space.reports / "personas.html" if out is None else out
    command = f"habitue apply personas --as-of {found.as_of:%Y-%m-%d} --method {method}"
    name = shop.folder.resolve().name
    sheet.write(arranged(found, shop=name, currency=shop.space.currency, command=command), page)
    about.keep(shop.space.state, found)
    page.with_suffix(".json").write_text(dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    if audience is not None and export is not None:
        write_table(audience, export)
    if json:
        print_json({**told, "page": str(page), "exported": 0 if audience is None else audience.height})
        return
    typer.echo(f"{found.verdict}\n")
    print_table(
        f"Personas as of {found.as_of:%Y-%m-%d}",
        {
            "persona": "left",
            "customers": "right",
            "share": "right",
            "money": "right",
            "of all": "right",
            "sure": "right",
        },
        [
            [
                card["name"],
                f"{card['size']:,}",
                f"{card['share']:.0%}",
                f"{card['money']:,.0f}",
                f"{card['money_share']:.0%}",
                "" if card["stability"] is None else f"{card['stability']:.2f}",
            ]
            for card in told["cards"]
        ],
    )
    for card in told["cards"]:
        typer.echo(f"\n{card['name']}\n  {card['sentence']} {card['sure']}")
    for line in (*told["surprises"], *found.left_out):
        typer.echo(f"\n{line}")
    if audience is not None:
        members = found.members if persona is None else found.members.filter(name=persona)
        left = members.height - audience.height
        typer.echo(f"\n{audience.height:,} customers: {export}.")
        if left:
            typer.echo(
                f"{left:,} are left out: no consent to marketing. Import who granted it, or say in habitue.toml what "
                "silence means: [consent] marketing = true"
            )
    typer.echo(f"\nAs a page: {page}")
