"""habitue tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json


def tune(
    model: Annotated[str, typer.Option("--model", help="A model by its file's name: ease, slist, neighbours, ...")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Settings to try, the plan's own included.")] = 20,
    sampler: Annotated[str, typer.Option("--sampler", help="tpe, random or grid.")] = "tpe",
    moments: Annotated[int, typer.Option("--moments", min=1, help="Past horizons to judge on.")] = 1,
    cpu_hours: Annotated[float | None, typer.Option("--cpu-hours", min=0, help="Begin no trial after this.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="JSON; page and study beside it.", show_default="reports/tune-MODEL.json"),
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Search better settings for one model on the shop's own past; stopped, the same command goes on.

    Only what lies before the report's cut is read. The default is trial 0; best and default are then compared on
    customers that chose neither. Needs: pip install 'habitue\\[tune]'

    Example: habitue tune --model ease --trials 40
    """
    import habitue
    from habitue import tuning
    from habitue.core import runtime as machine
    from habitue.core.errors import UsageError
    from habitue.core.extras import need

    need("optuna", extra="tune", purpose="habitue tune")  # before minutes are spent
    shop = habitue.open(workspace)
    data = shop.space.reports / f"tune-{model}.json" if out is None else out
    if data.suffix != ".json":
        raise UsageError(
            "--out",
            found=f"'{data.name}' does not end in .json",
            consequence="Its page and study are named after it, and one would overwrite another",
            remedy="End the name in .json",
        )
    tuned = tuning.run(
        shop.space,
        shop.plan,
        model=model,
        trials=trials,
        sampler=sampler,  # type: ignore[arg-type]  # checked by the search
        moments=moments,
        budget_s=None if cpu_hours is None else cpu_hours * 3600,
        runtime=machine.detect(seed=shop.plan.seed),
        store=data.with_suffix(".sqlite"),
    )
    command = f"habitue tune --model {model} --trials {trials} --sampler {sampler} --moments {moments}"
    written, page = tuning.write(tuned, data=data, command=command)
    if json:
        print_json(tuning.document(tuned) | {"page": str(page), "json": str(written)})
        return
    typer.echo("\n".join(tuning.sentences(tuned)))
    if tuned.toml:
        typer.echo(f"\n{tuning.offer(tuned)}\n\n{tuned.toml}\n")
    typer.echo(f"Every trial: {page}")
