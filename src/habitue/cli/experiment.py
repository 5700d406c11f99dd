"""habitue apply experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from habitue.cli.options import Json, Workspace, print_json, print_table


def experiment(
    name: Annotated[str, typer.Argument(help="The experiment or campaign, as EXPOSURES call it under `what`.")],
    control: Annotated[
        str | None, typer.Option("--control", help="The arm to compare with.", show_default="control, or the largest")
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="money, orders, or outcome (what the log says).")] = "money",
    days: Annotated[int, typer.Option("--days", min=1, help="Days after the first exposure that count.")] = 14,
    planned: Annotated[
        int | None, typer.Option("--planned", min=1, help="Users of two arms at which the interval is to be shortest.")
    ] = None,
    shares: Annotated[
        str | None, typer.Option("--shares", help='Shares as planned: "control=0.5,new=0.5".', show_default="equal")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page; its numbers beside it as .json.", show_default="reports/"),
    ] = None,
    workspace: Workspace = Path(),
    json: Json = False,
) -> None:
    """Say what the arms of an experiment or campaign brought, in a way that survives looking every day.

    Users are compared by what they did after they met it; what they did before is taken out (docs/experiments.md)

    Example: habitue apply experiment spring-mail --metric money --days 14
    """
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
        shares=None if shares is None else _shares(shares),
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
