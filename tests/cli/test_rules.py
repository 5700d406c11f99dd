"""`habitue rules`: a rule's life from the command line."""

import json
import sys

import pytest

import habitue
from habitue import cli


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `habitue rules` on a workspace; returns (exit code, standard output, standard error)."""
    habitue.init(tmp_path / "shop")

    def command(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["habitue", "rules", *args, "--workspace", str(tmp_path / "shop")])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def test_the_life_of_a_rule_that_names_what_nobody_has_met(run):
    code, out, told = run("add", "pin", "--item", "mug", "--number", "1")
    assert code == 0 and out.endswith(" holds.\n")
    assert told == "Nobody has met the product 'mug' yet: until then the rule does nothing for it.\n"
    new = json.loads(run("add", "bury", "--brand", "Blue", "--json")[1])
    assert new["unknown"] == ["the brand 'Blue'"]
    first, second = json.loads(run("list", "--json")[1])
    assert (first["items"], second["id"]) == (["mug"], new["id"])
    assert run("remove", first["id"])[1] == f"The rule {first['id']} (pin) holds no longer.\n"
    assert run("remove", first["id"])[0] == 2
