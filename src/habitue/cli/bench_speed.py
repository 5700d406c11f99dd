"""habitue bench speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from habitue.cli.options import DOCUMENT, Json, can_be_written, print_json, print_table

if TYPE_CHECKING:
    from habitue.bench.speed import Result


def speed(
    only: Annotated[
        str | None,
        typer.Option(
            "--only", help="P2, P3, P6, P7, P8, P9, by commas.", show_default="all but P9, which takes minutes"
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs of each thing; the median is told.")] = 3,
    events: Annotated[
        Path | None, typer.Option("--events", help="P2, P3: a file of yours.", show_default="a planted catalogue")
    ] = None,
    items: Annotated[int, typer.Option("--items", min=2, help="P2, P3: items of the planted catalogue.")] = 12_101,
    users: Annotated[int, typer.Option("--users", min=2, help="P2, P3: its users.")] = 22_363,
    rows: Annotated[
        int, typer.Option("--rows", min=10, help="P6: events; the usual table has 10,000,000.")
    ] = 1_000_000,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of everything that is measured.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write JSON here.")] = None,
    json: Json = False,
) -> None:
    """Measure how fast it is, beside what bounds it, in the same run.

    P2  EASE and SLIST in closed form, against the multiplications alone

    P3  top-10 of the whole catalogue for everybody (als, behaviour), against the product alone and implicit

    P6  sessions and per-user aggregates, against DuckDB where it is installed

    P7  texts through the sentence encoder, against the encoder alone

    P8  start of Python, of the package, of --help        P9  the whole demo

    Example: habitue bench speed --only P3,P8 --out speed.json
    """
    from habitue.bench import files
    from habitue.bench import speed as bench
    from habitue.core.errors import UsageError, did_you_mean
    from habitue.core.runtime import detect
    from habitue.evaluate.bench import document, save

    parts = list(dict.fromkeys(p.strip().upper() for p in only.split(",") if p.strip())) if only else bench.DEFAULT
    for part in parts:
        if part not in bench.PARTS:
            raise UsageError(
                "--only",
                found=f"there is no part '{part}'",
                consequence="Nothing was measured",
                remedy=did_you_mean(part, bench.PARTS),
            )
    can_be_written(out, "--out", DOCUMENT)
    options = bench.Options(
        repeats=repeats,
        events=files.read(events, what="--events") if events else None,
        items=items,
        users=users,
        rows=rows,
    )
    result = bench.run(parts, options, runtime=detect(threads=threads))
    dataset = events.stem if events else f"planted, {users:,} users, {items:,} items"
    told = {}
    if result.timed:
        told = document(bench.metrics(result, dataset=dataset))
    told["bounds"] = {f"{one.part} {one.name}": one.bound for one in result.timed if one.bound}
    told["refused"] = result.refused
    if out is not None:
        save(told, out)
    if json:
        print_json(told)
    else:
        _print(result)
    if not result.timed:
        raise typer.Exit(1)


def _print(result: Result) -> None:
    from statistics import median

    def said(value: float) -> str:
        return f"{value:,.0f}" if value >= 1_000 else f"{value:,.3g}"

    if result.timed:
        print_table(
            "Medians; the range is that of the repeats",
            {"": "left", "what": "left", "median": "right", "range": "right", "unit": "left", "x bound": "right"},
            [
                [
                    one.part,
                    one.name,
                    said(median(one.values)),
                    f"{said(min(one.values))} to {said(max(one.values))}" if len(one.values) > 1 else "one run",
                    one.metric,
                    "" if one.ratio is None else f"{one.ratio:.2f}",
                ]
                for one in result.timed
            ],
        )
        for one in result.timed:
            if one.bound:
                typer.echo(f"{one.part} {one.name}: {one.bound}.")
    for part, why in result.refused.items():
        typer.echo(f"{part} was not measured. {why}")
