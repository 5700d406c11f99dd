"""habitue bench ranking: any file, every model, one honest table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.bench_fusion import fusion
from habitue.cli.bench_profile import profile
from habitue.cli.bench_speed import speed
from habitue.cli.bench_tasks import tasks
from habitue.cli.options import DOCUMENT, TABLES, Json, can_be_written, print_json, print_table, write_table

if TYPE_CHECKING:
    from habitue.bench.ranking import Result
    from habitue.bench.sequences import Sequences

app = typer.Typer(
    help="Measure every model on a file of your own: quality and cost side by side, as JSON and as a page.",
    no_args_is_help=True,
)
app.command("tasks")(tasks)
app.command("speed")(speed)
app.command("profile")(profile)
app.command("fusion")(fusion)


@app.command("ranking")
def ranking(
    events: Annotated[Path, typer.Option("--events", help="A row an event, or a row a user with a list of items.")],
    items: Annotated[Path | None, typer.Option("--items", help="Words of the items; texts and lists are read.")] = None,
    modalities: Annotated[
        str, typer.Option("--modalities", help="Of the items, by commas: text, picture, a column of vectors.")
    ] = "text",
    protocol: Annotated[
        str, typer.Option("--protocol", help="leave-one-out, time, basket, or next (lists only, no test).")
    ] = "leave-one-out",
    models: Annotated[
        str | None, typer.Option("--models", help="Files of model/, by commas.", show_default="all that rank")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training runs of each model that draws at random.")] = 1,
    trials: Annotated[
        int, typer.Option("--trials", min=1, help="Settings tried on validation, the same number for every model.")
    ] = 1,
    cpu_hours: Annotated[
        float | None, typer.Option("--cpu-hours", min=0, help="Budget of each model; training ends there, and says so.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write JSON here, and a page .html beside it.")
    ] = None,
    top: Annotated[Path | None, typer.Option("--top", help="Write every list here: .parquet, .csv or .jsonl.")] = None,
    top_n: Annotated[int, typer.Option("--top-n", min=1, help="Items a list.")] = 10,
    repeats: Annotated[bool, typer.Option("--repeats", help="What a user has may be recommended again.")] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="leave-one-out: fit with the validation event before the test.")
    ] = False,
    cut: Annotated[str | None, typer.Option("--cut", help="time, basket: the moment the test begins.")] = None,
    horizon_days: Annotated[
        int, typer.Option("--horizon-days", min=1, help="basket: days the next order may take.")
    ] = 92,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="TOML, a \\[model] each: fixed settings, which are not tuned.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Column of the user.", show_default="by name")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Column of the item.", show_default="by name")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column of the time.", show_default="by name")] = None,
    order: Annotated[str | None, typer.Option("--order", help="Column of the order.", show_default="by name")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The first seed.")] = 0,
    json: Json = False,
) -> None:
    """Rank the whole catalogue for every user with every model, and hold it against what came next.

    leave-one-out  last event = test, last but one = validation; refused above 5 % ties in time

    time           everything after a moment is test; the next set is the target

    basket         the next order within the horizon: all, repeats, first-time products

    next           settings are picked on each user's last item, then everything is fitted: lists, no test

    Examples:

    habitue bench ranking --events clicks.parquet --models popular,ease,slist --out ranking.json

    habitue bench ranking --events orders.csv --protocol basket --cut 2011-09-09 --trials 20 --cpu-hours 1 --out b.json

    habitue bench ranking --events views.csv --items items.csv --protocol next --models blend --top lists.parquet
    """
    from habitue.bench import files, protocols, ranking, report, sequences
    from habitue.core.errors import UsageError, did_you_mean
    from habitue.core.progress import stage
    from habitue.core.runtime import detect
    from habitue.core.settings import moment, read_toml

    if protocol not in protocols.PROTOCOLS:
        raise UsageError(
            "--protocol",
            found=f"'{protocol}' is not known",
            consequence="Nothing was measured",
            remedy=did_you_mean(protocol, protocols.PROTOCOLS),
        )
    can_be_written(out, "--out", DOCUMENT)
    can_be_written(top, "--top", TABLES)
    named = {"user": user, "item": item, "time": time, "order": order}
    options = ranking.Options(
        models=tuple(n.strip() for n in models.split(",") if n.strip()) if models else ranking.MODELS,
        seeds=seeds,
        trials=trials,
        cpu_hours=cpu_hours,
        settings=read_toml(settings) if settings else {},
        top=top_n,
        study=out.with_suffix(".study.sqlite") if out and trials > 1 else None,
    )
    with stage("Reading"):
        frame = files.read(events, what="--events")
        told = files.read(items, what="--items") if items else None
        data = sequences.read(
            frame,
            told,
            columns={role: name for role, name in named.items() if name},
            wanted=[word.strip() for word in modalities.split(",") if word.strip()],
        )
        asked = protocols.Settings(
            cut=moment(cut) if cut else None, horizon_days=horizon_days, refit=refit, repeats=repeats
        )
        task = protocols.PROTOCOLS[protocol](data, asked)
    result = ranking.run(data, task, options, dataset=events.stem, runtime=detect(seed=seed))
    document = report.document(result, data, task.name, task.notes, events.stem, top=top is not None)
    if top is not None:
        write_table(result.lists, top)
    if out is not None:
        report.write(document, out, command=shlex.join(["habitue", *sys.argv[1:]]))
    if json:
        print_json(document)
    else:
        _print(result, data, task.notes, out, top)


def _print(result: Result, data: Sequences, notes: tuple[str, ...], out: Path | None, top: Path | None) -> None:
    from habitue.bench.report import short

    typer.echo(result.sentence)
    for slice_ in dict.fromkeys(result.metrics["slice"]):
        rows = result.metrics.filter(slice=slice_)
        value = {(r["model"], r["metric"]): r for r in rows.iter_rows(named=True)}
        order = sorted(dict.fromkeys(rows["model"]), key=lambda name: -value[name, "ndcg@10"]["mean"])
        cells = {cell.model: cell for cell in result.cells}
        print_table(
            f"\n{slice_}: {value[order[0], 'ndcg@10']['n']:,} users, {len(data.items):,} items",
            {
                "model": "left",
                "NDCG@10": "right",
                "95 %": "right",
                "hit@10": "right",
                "coverage": "right",
                "CPU s": "right",
                "trials": "right",
            },
            [
                [
                    name,
                    short(value[name, "ndcg@10"]["mean"]),
                    f"{short(value[name, 'ndcg@10']['low'])}-{short(value[name, 'ndcg@10']['high'])}",
                    short(value[name, "hit@10"]["mean"]),
                    f"{cells[name].coverage or 0:.0%}",
                    f"{cells[name].cpu_s:,.1f}",
                    str(len(cells[name].trials) or 1),
                ]
                for name in order
            ],
        )
    for note in notes:
        typer.echo(f"Note: {note}.")
    for why, count in data.dropped.items():
        typer.echo(f"Note: {count:,} rows left out: {why}.")
    for cell in result.cells:
        for note in cell.notes:
            typer.echo(f"Note: {cell.model}: {note}.")
    for name, why in result.failed.items():
        typer.echo(f"No row of {name}. {why}", err=True)
    for path in (out, out and out.with_suffix(".html"), top):
        if path:
            typer.echo(f"Written: {path}")
