"""Options that several commands share, and how a command prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl

TABLES = (".parquet", ".csv", ".jsonl", ".ndjson")
DOCUMENT = (".json",)

Workspace = Annotated[
    Path, typer.Option("--workspace", "-w", help="The shop's folder.", show_default="the current folder")
]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of words.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write the whole table here: .parquet, .csv or .jsonl by suffix.")
]


def print_json(values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print one line of JSON to standard output; times as ISO 8601."""
    typer.echo(json.dumps(values, ensure_ascii=False, default=str))


def print_table(title: str, columns: Mapping[str, str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of words; `columns`: header -> 'left' or 'right'. Never interprets markup in the cells."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, side in columns.items():
        table.add_column(escape(name), justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)


def minute(moment: str | None, *, none: str = "-") -> str:
    """Write an ISO 8601 moment in UTC for a table: to the minute, which fits a column."""
    return none if not moment else moment[:16].replace("T", " ")


def print_listed(
    title: str, columns: Sequence[str], found: Sequence[Any], row: Callable[[Any], Sequence[str]], *, json: bool
) -> None:
    """Print dataclasses: as JSON whole, or as a table of what `row` says of each, under `columns`."""
    if json:
        print_json([asdict(one) for one in found])
    else:
        print_table(title, dict.fromkeys(columns, "left"), [row(one) for one in found])


def can_be_written(path: Path | None, option: str, suffixes: Sequence[str]) -> None:
    """Refuse before the work what could not be written after it; None = nothing was asked for."""
    from habitue.core.errors import UsageError

    if path is None:
        return
    if path.suffix not in suffixes:
        found, remedy = f"'{path.name}' does not end in {' or '.join(suffixes)}", "Let the name end so"
    elif path.is_dir():
        found, remedy = f"'{path}' is a folder", "Name a file"
    elif not path.resolve().parent.is_dir():
        found, remedy = f"there is no folder '{path.parent}'", "Make the folder first, or name another"
    else:
        return
    raise UsageError(option, found=found, consequence="The result could not be written", remedy=remedy)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table by the suffix of `path`; CSV cells that a spreadsheet would run as a formula get a quote."""
    can_be_written(path, "--out", TABLES)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".csv":
        _inert(frame).write_csv(path)
    else:
        frame.write_ndjson(path)


_FORMULA = r"^\s*[=+\-@＝＋－＠]"  # wide letters too: spreadsheets take them for the others


def _inert(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    names = {name: f"'{name}" for name in frame.columns if re.match(_FORMULA, name)}
    return frame.with_columns(
        pl.when(pl.col(name).str.contains(_FORMULA))
        .then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(pl.col(name))
        .alias(name)
        for name, kind in frame.schema.items()
        if kind == pl.String
    ).rename(names)
