"""docs/tasks.md says what the command says: the shown command, fewer rows; the shown sentences are real ones."""

import json
import re
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest

from habitue import cli
from habitue.collect import bundled

PAGE = (Path(__file__).parents[2] / "docs/tasks.md").read_text(encoding="utf-8")


def call(line: str, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.fixture
def visits(tmp_path, monkeypatch):
    """Every eighth visit of the bundled table, as the page names it."""
    frame = pl.read_parquet(bundled.sessions()).rename({"Revenue": "bought"})
    frame.gather_every(8).write_csv(tmp_path / "visits.csv")
    monkeypatch.chdir(tmp_path)
    return frame


def test_the_command_runs_and_prints_the_columns_it_shows(visits, monkeypatch, capsys):
    (command,) = re.findall(r"^```sh\n(habitue .*)\n```$", PAGE, flags=re.MULTILINE)
    assert call(f"{command} --models tree", monkeypatch) == 0
    printed = capsys.readouterr().out
    header = next(line.split() for line in printed.splitlines() if line.startswith("model "))
    shown = next(line.split() for line in PAGE.splitlines() if line.startswith("model "))
    assert header == shown
    assert "- Yes or no ('1' is the yes, as its name says), because the label has two values." in printed
    told = json.loads(Path("visits.json").read_text())
    assert {row["model"] for row in told["rows"]} >= {"constant", "linear", "tree"}
    assert Path("visits.html").exists()


def test_a_leak_is_told_in_the_words_of_the_page(visits, monkeypatch, capsys):
    leaking = visits.with_columns(sold="bought").gather_every(8)
    leaking.write_csv("visits.csv")
    assert call("habitue bench tasks --data visits.csv --label bought --models tree", monkeypatch) == 1
    said = " ".join(capsys.readouterr().err.split())
    shown = " ".join(re.search(r"^habitue: leak check:.*?(?=^```)", PAGE, flags=re.DOTALL | re.MULTILINE)[0].split())
    assert said == shown
