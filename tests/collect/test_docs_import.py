"""docs/import.md shows what the guess really prints."""

import re
from pathlib import Path

import pytest

from habitue import collect

PAGE = Path(__file__).parents[2] / "docs/import.md"
SHOWN = dict(re.findall(r"```toml guess:([^\n]+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_guess_is_the_one_shown(tmp_path, messy, name):
    assert collect.guess(messy[name](tmp_path)).strip() == SHOWN[name].strip()


def test_two_files_are_walked_through():
    assert sorted(SHOWN) == ["chinese orders", "reviews"]
