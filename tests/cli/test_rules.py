"""`habitue rules`: a rule's life from the command line."""

import functools
import json

import pytest


@pytest.fixture
def run(typed):
    """Run `habitue rules` on a workspace; returns (exit code, standard output, standard error)."""
    return functools.partial(typed, "rules")


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


def test_a_change_of_the_rules_stands_in_the_audit_log(run, typed):
    new = json.loads(run("add", "bury", "--brand", "Blue", "--json")[1])["id"]
    run("remove", new)
    run("remove", new)  # there is none any more
    told = json.loads(typed("keys", "audit", "--json")[1])
    assert [(line["key"], line["action"], line["result"]) for line in told] == [
        ("command", "rules remove", f"bury {new}"),
        ("command", "rules add", f"bury {new}"),
    ]
