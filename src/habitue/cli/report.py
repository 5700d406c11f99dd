"""habitue demo, habitue report, habitue run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json


def demo(
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder of the demo; made anew each time.")
    ] = Path("demo-shop"),
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same report.")] = 0,
    json: Json = False,
) -> None:
    """Seal a forecast on a real shop's ledger, then open what really happened. No account, no network.

    Example: habitue demo
    """
    from habitue import demonstration

    result = demonstration.run(workspace, seed=seed, say=(lambda _: None) if json else typer.echo)
    if json:
        print_json({"report": str(result.page), "json": str(result.data), "seal": result.seal})


def report(
    workspace: Workspace = Path(),
    cut: Annotated[
        str | None,
        typer.Option("--cut", help="Forecast from here.", show_default="horizon_days before the end of the data"),
    ] = None,
    json: Json = False,
) -> None:
    """Back-test on your own shop: forecast from a past moment, then open the rest; one self-contained page.

    Example: habitue report --cut 2011-09-09
    """
    import habitue

    page = habitue.open(workspace).report(cut=cut)
    if json:
        print_json({"report": str(page)})
    else:
        typer.echo(f"Open {page} in a browser.")


def run(workspace: Workspace = Path(), json: Json = False) -> None:
    """Run everything the plan in habitue.toml names: import its source files, check, train, report.

    Example: habitue run -w my-shop
    """
    import habitue

    done = habitue.open(workspace).run()
    if json:
        print_json(done)
    else:
        typer.echo("\n".join(f"{name}: {value}" for name, value in done.items()))
