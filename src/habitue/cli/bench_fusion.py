"""habitue bench fusion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from habitue.cli.options import DOCUMENT, Json, can_be_written, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping


def fusion(
    events: Annotated[Path, typer.Option("--events", help="A row an event, with a user, an item and a time.")],
    items: Annotated[
        Path, typer.Option("--items", help="Texts, lists, pictures (binary) and vectors (lists of numbers) of items.")
    ],
    modalities: Annotated[
        str | None,
        typer.Option(
            "--modalities", help="By commas: text, picture, a column of vectors.", show_default="all the table holds"
        ),
    ] = None,
    users: Annotated[
        Path | None, typer.Option("--users", help="A row a user: numbers and words that are known of the person.")
    ] = None,
    models: Annotated[
        str, typer.Option("--models", help="Files of model/, by commas.")
    ] = "popular,ease,slist,behaviour",
    fusions: Annotated[
        str, typer.Option("--fusions", help="By commas: concat, gate, attention, model, decision.")
    ] = "concat,gate,attention,model,decision",
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions", help="By commas: as it is, cold, missing 30, missing 50, missing 70, missing 100."
        ),
    ] = "as it is,cold,missing 50",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training runs of each model that draws at random.")] = 1,
    whole_seeds: Annotated[
        int, typer.Option("--whole-seeds", min=1, help="Training runs with all modalities together, if more.")
    ] = 1,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="TOML, a \\[model] each: its settings, where not the default.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Keep every fit here; the same command again goes on from them.")
    ] = None,
    cpu_hours: Annotated[
        float | None, typer.Option("--cpu-hours", min=0, help="Begin no fit after so many; what is left out is named.")
    ] = None,
    cut: Annotated[
        str | None,
        typer.Option("--cut", help="The moment the test begins.", show_default="nine tenths of the rows are before it"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write JSON here, and a page .html beside it.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Column of the user.", show_default="by name")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Column of the item.", show_default="by name")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column of the time.", show_default="by name")] = None,
    seed: Annotated[int, typer.Option("--seed", help="The first seed.")] = 0,
    json: Json = False,
) -> None:
    """Measure what every subset of modalities buys in every fusion: on all items, on new ones, with part of it lost.

    The flagship is asked with every subset of events, traits (--users), text, picture and columns of vectors.

    Examples:

    habitue bench fusion --events ratings.parquet --items films.parquet --models slist,behaviour --out fusion.json

    habitue bench fusion --events views.csv --items items.parquet --modalities text --conditions "as it is,cold"
    """
    import shlex
    import sys

    from habitue.bench import files, fusion_report, protocols, sequences
    from habitue.bench import fusion as bench
    from habitue.bench import modalities as content
    from habitue.core.progress import stage
    from habitue.core.runtime import detect
    from habitue.core.settings import moment, read_toml

    can_be_written(out, "--out", DOCUMENT)
    columns = {role: name for role, name in {"user": user, "item": item, "time": time}.items() if name}
    frame, told = files.read(events, what="--events"), files.read(items, what="--items")
    people = files.read(users, what="--users") if users else None
    with stage("Reading"):
        wanted = _listed(modalities) or content.names(told)
        cache = folder and folder / "vectors"
        data = sequences.read(frame, told, columns=columns, wanted=wanted, people=people, cache=cache)
    result = bench.run(
        data,
        options=bench.Options(
            models=tuple(_listed(models)),
            fusions=tuple(_listed(fusions)),
            conditions=tuple(_listed(conditions)),
            seeds=seeds,
            whole_seeds=whole_seeds,
            settings=read_toml(settings) if settings else {},
            folder=folder,
            budget_s=None if cpu_hours is None else cpu_hours * 3600,
        ),
        runtime=detect(seed=seed),
        settings=protocols.Settings(cut=moment(cut) if cut else None),
    )
    empty = {name: int((rows.getnnz(axis=1) == 0).sum()) for name, rows in data.content.items()}
    notes = [f"{count:,} of {len(data.items):,} items have no {name}" for name, count in empty.items() if count]
    if data.traits is not None:
        notes.append(f"{int((data.traits == 0).all(axis=1).sum()):,} of {len(data.users):,} users have no traits")
    document = fusion_report.document(result, dataset=events.stem, notes=notes)
    if out is not None:
        fusion_report.write(document, out, command=shlex.join(["habitue", *sys.argv[1:]]))
    if json:
        print_json(document)
    else:
        _print(document, out)


def _listed(words: str | None) -> list[str]:
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def _print(document: Mapping[str, Any], out: Path | None) -> None:
    from habitue.bench.fusion_report import grid

    typer.echo(document["sentence"])
    columns, rows = grid(document)
    shown = [place for place, name in enumerate(columns) if name in ("model", "all", "cold", "missing 50", "CPU s")]
    print_table(
        "\nNDCG@10",
        {columns[place]: "right" if place else "left" for place in shown},
        [[row[place] for place in shown] for row in rows],
    )
    typer.echo("")
    for note in document["notes"]:
        typer.echo(f"Note: {note}.")
    for one in document["left_out"]:
        typer.echo(f"Not measured: {one['cell']}. {one['why']}.")
    if out is not None:
        typer.echo(f"\nAs a page: {out.with_suffix('.html')}; as JSON: {out}")
