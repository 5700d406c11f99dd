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
    models: Annotated[
        str, typer.Option("--models", help="Files of model/, by commas.")
    ] = "popular,ease,slist,behaviour",
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions", help="By commas: as it is, cold, missing 30, missing 50, missing 70, missing 100."
        ),
    ] = "as it is,cold,missing 50",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training runs of each model that draws at random.")] = 1,
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
    """Measure what every subset of the items' modalities buys: on all items, on new ones, and with part of it lost.

    concat joins the modalities before a model is fitted, decision is the mean of that model fitted with each alone.

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
    from habitue.core.settings import moment

    can_be_written(out, "--out", DOCUMENT)
    columns = {role: name for role, name in {"user": user, "item": item, "time": time}.items() if name}
    frame, told = files.read(events, what="--events"), files.read(items, what="--items")
    with stage("Reading"):
        wanted = _listed(modalities) or content.names(told)
        data = sequences.read(frame, told, columns=columns, wanted=wanted)
    cells = bench.run(
        data,
        models=_listed(models),
        conditions=_listed(conditions),
        seeds=seeds,
        runtime=detect(seed=seed),
        settings=protocols.Settings(cut=moment(cut) if cut else None),
    )
    empty = {name: int((rows.getnnz(axis=1) == 0).sum()) for name, rows in data.content.items()}
    notes = [f"{count:,} of {len(data.items):,} items have no {name}" for name, count in empty.items()]
    document = fusion_report.document(cells, dataset=events.stem, seeds=seeds, notes=notes)
    if out is not None:
        fusion_report.write(document, out, command=shlex.join(["habitue", *sys.argv[1:]]))
    if json:
        print_json(document)
    else:
        _print(document, out)


def _listed(words: str | None) -> list[str]:
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def _print(document: Mapping[str, Any], out: Path | None) -> None:
    from habitue.bench.fusion_report import MAIN, named

    typer.echo(document["sentence"])
    rows = [row for row in document["rows"] if row["metric"] == MAIN]
    for slice_ in dict.fromkeys(row["slice"] for row in rows):
        some = sorted((row for row in rows if row["slice"] == slice_), key=lambda row: -row["mean"])
        print_table(
            f"\n{slice_}: {some[0]['n']:,} users",
            {"model": "left", "NDCG@10": "right", "95 %": "right", "CPU s": "right"},
            [
                [named(r), f"{r['mean']:.4f}", f"{r['low'] or 0:.4f}-{r['high'] or 0:.4f}", f"{r['cpu_s']:,.1f}"]
                for r in some
            ],
        )
    typer.echo("")
    for note in document["notes"]:
        typer.echo(f"Note: {note}.")
    if out is not None:
        typer.echo(f"\nAs a page: {out.with_suffix('.html')}; as JSON: {out}")
