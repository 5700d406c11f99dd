"""habitue bench tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from habitue.cli.options import DOCUMENT, TABLES, Json, can_be_written, print_json, print_table

if TYPE_CHECKING:
    from habitue.bench.tasks import Outcome

SCREEN = {  # metrics that fit beside each other on 80 columns, and their short names
    "auc": "AUC",
    "f1": "F1 rarer",
    "ap": "AP",
    "ece_calibrated": "cal. error",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "macro_recall": "UAR",
    "mae": "mean error",
    "rmse": "RMSE",
    "r2": "R2",
    "spearman": "rank corr.",
}
MOST = 4


def tasks(
    data: Annotated[Path, typer.Option("--data", help="The labelled table: Parquet, CSV, TSV or JSON lines.")],
    label: Annotated[str, typer.Option("--label", help="The column to answer.")],
    task: Annotated[
        str, typer.Option("--task", help="churn, value, purchase, sentiment, intent, rating, or a name of your own.")
    ] = "task",
    text: Annotated[list[str] | None, typer.Option("--text", help="A column of free text. May be repeated.")] = None,
    picture: Annotated[
        list[str] | None, typer.Option("--picture", help="A column of pictures: paths beside the file, or bytes.")
    ] = None,
    sound: Annotated[
        list[str] | None, typer.Option("--sound", help="A column of sounds: paths beside the file, or bytes.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", help="Numbers that are only names (a region). May be repeated.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", help="A column not to read. May be repeated.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Rows with one value here stay together: a customer, a speaker.")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Learn from earlier rows only, by this column.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="Answer this file instead of dealing folds.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="binary, classes or number.", show_default="found from the label")
    ] = None,
    models: Annotated[
        str | None, typer.Option("--models", help="Names of models with commas.", show_default="every one that applies")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            help="Text too by sentence, static, minilm-en; pictures by picture, colour, texture, photo; sound by "
            "acoustics, spectrogram, sound, speech, speech-en.",
        ),
    ] = None,
    prepare: Annotated[
        str | None,
        typer.Option("--prepare", help="Done to the rows first, e.g. impute=median,scale=robust,balance=over."),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            help="Learn from altered copies too: rotate, flip, scale, crop, colour, gaussian, salt_and_pepper; "
            "synonym, deletion, swap; noise, shift, stretch, gain. With commas.",
        ),
    ] = None,
    copies: Annotated[int, typer.Option("--copies", help="Altered copies of each row, with --augment.")] = 1,
    cpu_hours: Annotated[
        float | None, typer.Option("--cpu-hours", help="CPU time each model may use; the baselines run whole.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", help="Parts the rows are dealt into.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", help="How often it is all done again, dealt anew.")] = 1,
    keep_leaks: Annotated[
        bool, typer.Option("--keep-leaks", help="Go on though a column gives the label away.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write F.json, and F.html beside it.")] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Write every answer: .parquet, .csv or .jsonl.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder where vectors of texts, pictures and sounds are kept.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same numbers.")] = 0,
    json: Json = False,
) -> None:
    """Measure every applicable model on one labelled table, on the same folds, beside the plain linear baseline.

    Columns that give the label away are found and named first. Exit code 1 when there is one.

    Example: habitue bench tasks --task purchase --data visits.csv --label bought --folds 5 --out visits.json
    """
    from habitue.bench.tasks import Columns, Plan, run, running
    from habitue.bench.tasks.augmenting import Augment
    from habitue.core import runtime
    from habitue.prepare import recipe

    can_be_written(out, "--out", DOCUMENT)
    can_be_written(predictions, "--predictions", TABLES)
    columns = Columns(
        label=label,
        texts=tuple(text or ()),
        pictures=tuple(picture or ()),
        sounds=tuple(sound or ()),
        categories=tuple(category or ()),
        drop=tuple(drop or ()),
        group=group,
        time=time,
    )
    plan = Plan(
        task=task,
        columns=columns,
        kind=kind,
        models=running.models_of([models]) if models else (),
        folds=folds,
        seeds=seeds,
        cpu_hours=cpu_hours,
        encoders=tuple(encoder or ()),
        keep_leaks=keep_leaks,
        cache=cache,
        augment=None if augment is None else Augment(running.models_of([augment]), copies, seed),
        prepare=None if prepare is None else recipe.parse(prepare),
    )
    outcome = run(data, plan, test=test, runtime=runtime.detect(seed=seed))
    document = running.document(outcome)
    _write(outcome, document, out, predictions)
    if json:
        print_json(document)
    else:
        _show(outcome, out)


def _write(outcome: Outcome, document: dict[str, Any], out: Path | None, predictions: Path | None) -> None:
    import datetime as dt
    import shlex
    import sys

    from habitue import __version__
    from habitue.bench.tasks import picturing, running
    from habitue.cli.options import write_table
    from habitue.dashboard import sheet
    from habitue.evaluate import bench

    if out is not None:
        bench.save(document, out)
        command = shlex.join(["habitue", *sys.argv[1:]])
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        page = picturing.sheet(outcome, version=__version__, at=now, command=command)
        sheet.write(page, out.with_suffix(".html"))
    if predictions is not None:
        write_table(running.predictions(outcome), predictions)


def _show(outcome: Outcome, out: Path | None) -> None:
    from habitue.bench.tasks import picturing
    from habitue.bench.tasks.judging import number

    typer.echo(outcome.judged.verdict + "\n")
    measured, rows = picturing.wide(outcome)
    main = measured[0]
    names = [main, *(name for name in SCREEN if name in measured and name != main)][:MOST]
    header = {"model": "left", SCREEN[main]: "right", "95 %": "left"}
    header |= {SCREEN[name]: "right" for name in names[1:]} | {"CPU-s": "right", "MB": "right"}
    cells = []
    for row in rows:
        mean, low, high = row[main]
        between = f"{number(main, low)}-{number(main, high)}" if low is not None else ""
        rest = [number(name, row[name][0]) if name in row else "" for name in names[1:]]
        cells.append(
            [row["model"], number(main, mean), between, *rest, f"{row['cpu_s']:,.1f}", f"{row['peak_mb']:,.0f}"]
        )
    print_table(f"{outcome.plan.task} on {outcome.dataset}, {outcome.protocol}", header, cells)
    typer.echo("")
    for note in outcome.notes:
        typer.echo(f"- {note[0].upper()}{note[1:]}.")
    if out is not None:
        typer.echo(f"\nAs a page: {out.with_suffix('.html')}; as JSON: {out}")
