"""habitue train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json


def train(
    workspace: Workspace = Path(),
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="Know nothing at or after this moment.", show_default="the end of the data"),
    ] = None,
    json: Json = False,
) -> None:
    """Fit the customer model and the simple models beside it; resumes where an interrupted run stopped.

    Example: habitue train --as-of 2011-09-09
    """
    import habitue
    from habitue.serve import registry

    shop = habitue.open(workspace)
    trained = shop.train(as_of=as_of)
    if json:
        print_json({"folder": str(trained.folder), **trained.manifest})
        return
    views = ", ".join(f"{name} {weight:.2f}" for name, weight in trained.manifest["weights"].items())
    if (content := trained.manifest.get("content", {})) and set(content) != {"text"}:
        typer.echo(f"Read of the products: {', '.join(content)}.")
    if new := trained.manifest.get("newcomers"):
        typer.echo(new)
    typer.echo(f"Trained as of {trained.manifest['as_of']}. Weights of the views: {views}.\nKept in {trained.folder}")
    answers = registry.current(shop.space.models)
    if answers is not None and answers != trained.folder:
        typer.echo(f"{answers.name} goes on answering until: habitue models promote {trained.folder.name}")
