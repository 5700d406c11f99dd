"""What can be written is known before the work."""

import re
from pathlib import Path

import polars as pl
import pytest
import typer
from rich.text import Text

from habitue.cli import app, options
from habitue.cli.options import DOCUMENT, TABLES, can_be_written, write_table
from habitue.core.errors import UsageError


@pytest.mark.parametrize(
    ("path", "suffixes", "message"),
    [
        (
            "a.html",
            DOCUMENT,
            "--to: 'a.html' does not end in .json. The result could not be written. Let the name end so",
        ),
        ("json", DOCUMENT, "--to: 'json' does not end in .json"),
        ("a.json", TABLES, "--to: 'a.json' does not end in .parquet or .csv or .jsonl or .ndjson"),
        ("none/a.json", DOCUMENT, "--to: there is no folder '.*none'.*Make the folder first, or name another"),
        ("taken.csv", TABLES, "--to: '.*taken.csv' is a folder.*Name a file"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, path, suffixes, message):
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(UsageError, match=message):
        can_be_written(tmp_path / path, "--to", suffixes)


def test_what_can_be_written_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    can_be_written(None, "--to", DOCUMENT)
    can_be_written(tmp_path / "a.json", "--to", DOCUMENT)
    frame = pl.DataFrame({"n": [1, 2]})
    for suffix, read in zip(TABLES, (pl.read_parquet, pl.read_csv, pl.read_ndjson, pl.read_ndjson), strict=True):
        path = tmp_path / f"table{suffix}"
        write_table(frame, path)
        assert read(path).equals(frame)
    with pytest.raises(UsageError, match="--out: 'table.xlsx' does not end in"):
        write_table(frame, tmp_path / "table.xlsx")


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＠x")


def test_no_cell_and_no_header_of_a_csv_is_a_formula(tmp_path):
    frame = pl.DataFrame({"=cmd": list(FORMULAS), "words": ["a=1"] * len(FORMULAS), "n": [-1.5] * len(FORMULAS)})
    write_table(frame, tmp_path / "a.csv")
    back = pl.read_csv(tmp_path / "a.csv")
    assert back.columns == ["'=cmd", "words", "n"]
    assert back["'=cmd"].to_list() == [f"'{text}" for text in FORMULAS]
    assert back["words"].unique().to_list() == ["a=1"] and back["n"].unique().to_list() == [-1.5]  # a number is none
    write_table(frame, tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet").equals(frame)  # no spreadsheet runs a Parquet file


def test_every_table_leaves_by_one_door():
    """Whatever a command writes as CSV goes through write_table; sums of what was read are no files."""
    source = Path(options.__file__).parents[1]
    writers = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(r"write_csv\([^)]|write_excel|csv\.writer", path.read_text(encoding="utf-8"))
    }
    assert writers == {"cli/options.py"}


def commands(group, name="habitue"):
    """Yield every command of a group and of the groups in it, with its whole name."""
    for word, command in group.commands.items():
        yield f"{name} {word}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} {word}")


def test_no_word_of_the_help_is_taken_for_a_colour():
    """'[model]' in a help text is markup to the terminal, and is not shown unless it is escaped."""
    every = dict(commands(typer.main.get_command(app)))
    told = [(name, one.help or "") for name, one in every.items()]
    told += [(name, getattr(param, "help", None) or "") for name, one in every.items() for param in one.params]
    assert len(told) > 200 and any("\\[" in text for _, text in told)
    assert [name for name, text in told if Text.from_markup(text).plain != text.replace("\\[", "[")] == []
