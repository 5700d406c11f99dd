"""`habitue apply experiment` and `habitue experiment`: what arms brought, and which of them the server serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import Json, Workspace, minute, print_json, print_listed, print_table

if TYPE_CHECKING:
    from habitue.serve.experiments import Arm, Experiment

Planned = Annotated[
    int | None, typer.Option("--planned", min=1, help="Users of two arms at which the interval is to be shortest.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The page; its numbers beside it as .json.", show_default="reports/"),
]

app = typer.Typer(help="Experiments that the server runs: begin, end, list, show.", no_args_is_help=True)


def experiment(
    name: Annotated[str, typer.Argument(help="The experiment or campaign, as EXPOSURES call it under `what`.")],
    control: Annotated[
        str | None, typer.Option("--control", help="The arm to compare with.", show_default="control, or the largest")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="money, orders, or outcome (what the log says).")] = "money",
    days: Annotated[int, typer.Option("--days", min=1, help="Days after the first exposure that count.")] = 14,
    planned: Planned = None,
    shares: Annotated[
        str | None, typer.Option("--shares", help='Shares as planned: "control=0.5,new=0.5".', show_default="equal")
    ] = None,
    out: Out = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Say what the arms of an experiment or campaign brought, in a way that survives looking every day.

    Users are compared by what they did after they met it; what they did before is taken out (docs/experiments.md)

    Example: habitue apply experiment spring-mail --metric money --days 14
    """
    _shown(
        workspace,
        name,
        control=control,
        metric=metric,
        days=days,
        planned=planned,
        shares=None if shares is None else _shares(shares),
        out=out,
        json=json,
    )


@app.command()
def begin(
    name: Annotated[str, typer.Argument(help="A new name; it tells who meets which arm.")],
    arm: Annotated[
        list[str],
        typer.Option("--arm", help='"NAME share=0.5 lists=popular diversity=0.3"; several times, the control first.'),
    ],
    placement: Annotated[
        list[str] | None, typer.Option("--placement", help="Only there; several times.", show_default="everywhere")
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Divide the known customers into arms; a running server follows within a second.

    What an arm may change: lists (usual, popular, drawn), temperature (of drawn lists), diversity, price

    Example: habitue experiment begin calmer --arm "control share=0.5" --arm "diverse share=0.5 diversity=0.4"
    """
    from dataclasses import asdict

    import habitue
    from habitue.serve import experiments

    arms = tuple(_arm(text) for text in arm)
    state = habitue.open(workspace).space.state
    begun = experiments.begin(state, experiments.Experiment(name, arms, tuple(placement or ())))
    if json:
        print_json(asdict(begun))
    else:
        typer.echo(f"{name} runs. What it brought: habitue experiment show {name}")


@app.command()
def end(
    name: Annotated[str, typer.Argument(help="The experiment.")], workspace: Workspace = Path(), json: Json = False
) -> None:
    """End an experiment: everybody gets the usual lists again; its table stays.

    Example: habitue experiment end calmer
    """
    from dataclasses import asdict

    import habitue
    from habitue.serve import experiments

    ended = experiments.end(habitue.open(workspace).space.state, name)
    if json:
        print_json(asdict(ended))
    else:
        typer.echo(f"{name} has ended.")


@app.command("list")
def list_(workspace: Workspace = Path(), json: Json = False) -> None:
    """List the experiments that the server ran and runs, oldest first."""
    import habitue
    from habitue.serve import experiments

    def row(one: Experiment) -> list[str]:
        arms = ", ".join(f"{arm.name} {arm.share:.0%}" for arm in one.arms)
        return [
            one.name,
            arms,
            ", ".join(one.placements) or "all",
            minute(one.began_at),
            minute(one.ended_at, none="runs"),
        ]

    found = experiments.listed(habitue.open(workspace).space.state)
    print_listed("Experiments", ("name", "arms", "placements", "began (UTC)", "ended"), found, row, json=json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An experiment that the server runs, or hold-out.")],
    metric: Annotated[str, typer.Option("--metric", help="money or orders.")] = "money",
    days: Annotated[int, typer.Option("--days", min=1, help="Days after the first list that count.")] = 14,
    planned: Planned = None,
    out: Out = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Say what an experiment of the server brought so far; look as often as you like (docs/experiments.md).

    Example: habitue experiment show calmer --days 14
    """
    import habitue
    from habitue.core.errors import UsageError
    from habitue.core.schemas import EXPOSURES
    from habitue.serve import experiments

    space = habitue.open(workspace).space
    found = experiments.named(space.state, name)
    if name not in space.lake.read(EXPOSURES, columns=["what"])["what"]:
        raise UsageError(
            "experiment show",
            found=f"the lake holds no list of '{name}' yet",
            consequence="There is nothing to compare",
            remedy="A list comes into the lake within a minute (docs/experiments.md)",
        )
    _shown(
        workspace,
        name,
        control=found.arms[0].name,
        metric=metric,
        days=days,
        planned=planned,
        shares=found.shares,
        out=out,
        json=json,
    )


def _shown(
    workspace: Path,
    name: str,
    *,
    control: str | None,
    metric: str,
    days: int,
    planned: int | None,
    shares: dict[str, float] | None,
    out: Path | None,
    json: bool,
) -> None:
    from json import dumps

    import habitue
    from habitue.apply.experiment import METRICS
    from habitue.cli.options import can_be_written
    from habitue.dashboard import experiment as drawn
    from habitue.dashboard import sheet

    can_be_written(out, "--out", (".html",))
    shop = habitue.open(workspace)
    found = shop.experiment(
        name,
        control=control,
        metric=metric,
        days=days,
        planned=planned,
        shares=shares,
    )
    page = out or shop.space.reports / f"experiment-{_plain(name)}.html"
    command = f"habitue apply experiment {name} --metric {metric} --days {days}"
    sheet.write(drawn.sheet(found, currency=shop.space.currency, command=command), page)
    told = {
        "experiment": name,
        "metric": metric,
        "days": days,
        "control": found.control,
        "sentences": [*found.compared.sentences, *found.notes],
        "arms": found.compared.arms.to_dicts(),
        "balance": found.compared.balance,
        "explained": found.compared.explained,
        "users": found.counts,
    }
    page.with_suffix(".json").write_text(dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    if json:
        print_json({**told, "page": str(page)})
        return
    for sentence in (*found.compared.sentences, *found.notes):
        typer.echo(sentence)
    print_table(
        f"{name}: {METRICS[metric]} in {days} days",
        {"arm": "left", "users": "right", "mean": "right", "difference": "right", "however often one looks": "right"},
        [
            [
                row["arm"],
                f"{row['users']:,}",
                f"{row['mean']:,.4g}",
                "" if row["difference"] is None else f"{row['difference']:+,.4g}",
                "" if row["difference"] is None else f"{row['always_low']:+,.4g} to {row['always_high']:+,.4g}",
            ]
            for row in found.compared.arms.to_dicts()
        ],
    )
    typer.echo(f"\nAs a page: {page}")


def _arm(told: str) -> Arm:
    """Read "NAME share=0.5 lists=popular"; a name may have spaces."""
    from habitue.core.errors import UsageError
    from habitue.core.settings import fill
    from habitue.serve.experiments import Arm

    words = told.split()
    pairs = [word.partition("=") for word in words if "=" in word]
    name = " ".join(word for word in words if "=" not in word)
    try:
        values = {key: value if key == "lists" else float(value) for key, _, value in pairs}
    except ValueError as error:
        raise UsageError(
            "--arm",
            found=f"'{told}' is no arm",
            consequence="What it changes cannot be told",
            remedy='Write "NAME share=0.5", and what it changes: lists=popular, diversity=0.3, price=-0.5',
        ) from error
    return fill(Arm, {"name": name, **values}, where="--arm")


def _shares(told: str) -> dict[str, float]:
    from habitue.core.errors import UsageError

    pairs = [part.partition("=") for part in told.split(",")]
    try:
        return {name.strip(): float(value) for name, _, value in pairs}
    except ValueError as error:
        raise UsageError(
            "--shares",
            found=f"'{told}' is no list of shares",
            consequence="How many users each arm should have cannot be told",
            remedy="Write name=share,name=share",
        ) from error


def _plain(name: str) -> str:
    """Return what a file may be called."""
    return "".join(c if c.isalnum() else "-" for c in name)[:80]
