"""What docs/privacy.md, lake.md and doctor.md show is what the program knows."""

import re
import tomllib
from pathlib import Path

import pytest
import typer

from habitue.cli import app
from habitue.collect.mapping import Mapping
from habitue.core.settings import fill
from habitue.core.workspace import VERSION
from habitue.plan import Plan

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("privacy.md", "lake.md", "doctor.md")


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in body.splitlines()) for indent, body in found]


def test_every_setting_shown_exists():
    shown = [tomllib.loads(block) for block in blocks("privacy.md", "toml")]
    mappings = [one for one in shown if "source" in one]
    assert len(mappings) == 1 and fill(Mapping, mappings[0]).what == "consent"
    fixed = blocks("privacy.md", "toml")[1].replace("# [fixed]", "[fixed]").replace('# purpose = "m', 'purpose = "m')
    fixed = fixed.replace('purpose = "purpose"', "")
    assert fill(Mapping, tomllib.loads(fixed)).fixed == {"purpose": "marketing"}
    plans = [one for one in shown if "consent" in one or "erase" in one]
    filled = [fill(Plan, one) for one in plans]
    assert len(filled) == 2 and filled[0].consent == Plan().consent and filled[1].erase.sign


@pytest.mark.parametrize("page", PAGES)
def test_every_command_shown_exists(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = set(re.findall(r"habitue ([a-z]+)(?: ([a-z]+))?", text))
    assert shown
    for name, second in shown:
        assert name in commands, name
        below = getattr(commands[name], "commands", None)
        if below and second:
            assert second in below, f"{name} {second}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target


def test_the_layouts_are_those_there_are():
    text = (DOCS / "lake.md").read_text(encoding="utf-8")
    assert f"| {VERSION - 1} to {VERSION} |" in text and f"to {VERSION + 1} |" not in text
