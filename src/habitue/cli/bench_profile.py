"""habitue bench profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import DOCUMENT, Json, can_be_written, print_json, print_table

if TYPE_CHECKING:
    from habitue.bench.universal import Result


def profile(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="The shop's folder.", show_default="the bundled ledger")
    ] = None,
    cut: Annotated[
        str | None,
        typer.Option("--cut", help="Fit on what is before.", show_default="as late as both windows allow"),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Of each window: one to learn from, one to test.")] = 14,
    items: Annotated[int, typer.Option("--items", min=1, help="Most sold products to ask about.")] = 100,
    categories: Annotated[
        int, typer.Option("--categories", min=2, help="Groups of like products, where the catalogue names none.")
    ] = 30,
    ablation: Annotated[
        bool, typer.Option("--ablation/--no-ablation", help="Also each part of the profile alone, and left out.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write JSON here, and a page .html beside it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same numbers.")] = 0,
    json: Json = False,
) -> None:
    """Ask one frozen vector a customer three questions: who stays away, who buys which category, who buys which item.

    Everything is fitted before the cut. One small network, the same for every task, learns from the days after it and
    is tested on the days after those; hand-made aggregates go through the same network.

    Examples:

    habitue bench profile --cut 2011-09-09 --no-ablation

    habitue bench profile --workspace my-shop --days 30 --out profile.json
    """
    import shlex
    import sys

    from habitue.bench import universal, universal_report
    from habitue.core.runtime import detect
    from habitue.core.settings import moment

    can_be_written(out, "--out", DOCUMENT)
    dataset, tables = universal.opened(workspace)
    at = moment(cut) if cut else universal.latest_cut(tables, days)
    config = universal.Config(days=days, items=items, categories=categories, ablation=ablation)
    result = universal.run(tables, cut=at, config=config, dataset=dataset, runtime=detect(seed=seed))
    document = universal_report.document(result)
    if out is not None:
        universal_report.write(document, out, command=shlex.join(["habitue", *sys.argv[1:]]))
    if json:
        print_json(document)
    else:
        _print(result, out)


def _print(result: Result, out: Path | None) -> None:
    from habitue.bench.universal import TASKS

    mean = {(r["model"], r["slice"]): r for r in result.metrics.iter_rows(named=True)}
    typer.echo(result.sentence + "\n")
    rows = [
        [name, *(f"{mean[name, task]['mean']:.4f}" for task in TASKS), f"{mean[name, 'churn']['cpu_s']:,.1f}"]
        for name in dict.fromkeys(result.metrics["model"])
    ]
    title = f"{result.dataset}: AUROC of {mean[rows[0][0], 'churn']['n']:,} customers"
    print_table(title, {"vector": "left"} | dict.fromkeys((*TASKS, "CPU s"), "right"), rows)
    typer.echo("")
    for note in result.case.notes:
        typer.echo(f"Note: {note}.")
    if out is not None:
        typer.echo(f"\nAs a page: {out.with_suffix('.html')}; as JSON: {out}")
