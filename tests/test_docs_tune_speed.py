"""What docs/tune.md and docs/speed.md show can be run: their Python, and every command line they print."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from habitue.cli.bench_speed import speed
from habitue.cli.tune import tune

DOCS = Path(__file__).parents[1] / "docs"


def commands(page: str) -> list[list[str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [shlex.split(line) for line in re.findall(r"^\$ habitue (.*)$", text, flags=re.MULTILINE)]


def parsed(function, words: list[str]) -> dict[str, object]:
    app = typer.Typer()
    app.command()(function)
    return typer.main.get_command(app).make_context("habitue", words).params


@pytest.mark.parametrize("words", commands("tune.md"), ids=" ".join)
def test_the_commands_of_tune(words):
    assert words[0] == "tune"
    assert parsed(tune, words[1:])["model"] == "ease"


@pytest.mark.parametrize("words", commands("speed.md"), ids=" ".join)
def test_the_commands_of_speed(words):
    assert words[:2] == ["bench", "speed"]
    assert parsed(speed, words[2:])["only"] in ("P2", "P3,P6", "P7", "P6")


def test_the_python_of_tune_finds_its_best(capsys):
    text = (DOCS / "tune.md").read_text(encoding="utf-8")
    setting, search = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    exec(f"from habitue.core.settings import tuned\n{setting}", {})
    shown: dict[str, object] = {}
    exec(search, shown)
    assert abs(shown["study"].settings["x"] - 3) < 0.5
    assert capsys.readouterr().out.startswith("{'x': ")


def test_every_option_the_page_names_is_one():
    known = {option for p in typer.main.get_command(_app(tune)).params for option in p.opts}
    named = set(re.findall(r"`(--[a-z-]+)", (DOCS / "tune.md").read_text(encoding="utf-8")))
    assert named <= known, named - known
    known = {option for p in typer.main.get_command(_app(speed)).params for option in p.opts}
    named = set(re.findall(r"`(--[a-z-]+)", (DOCS / "speed.md").read_text(encoding="utf-8")))
    assert named <= known, named - known


def _app(function) -> typer.Typer:
    app = typer.Typer()
    app.command()(function)
    return app
