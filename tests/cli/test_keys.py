"""`habitue keys`: a key's life from the command line."""

import functools
import json

import pytest


@pytest.fixture
def run(typed):
    """Run `habitue keys` on a workspace; returns (exit code, standard output, standard error)."""
    return functools.partial(typed, "keys")


def test_the_life_of_a_key(run):
    code, text, told = run("create", "write", "--note", "pages")
    assert code == 0 and text.startswith("hbw_") and "shown this once" in told
    name = text.split("_")[1]
    new = json.loads(run("rotate", name, "--overlap-hours", "1", "--json")[1])
    assert new["kind"] == "write" and new["key"].startswith(f"hbw_{new['id']}_")
    assert run("revoke", new["id"]) == (0, f"The write key {new['id']} has ended.\n", "")
    rows = json.loads(run("list", "--json")[1])
    assert [(r["id"], r["in_force"], r["note"]) for r in rows] == [(name, True, "pages"), (new["id"], False, "pages")]
    done = [(r["key"], r["action"]) for r in json.loads(run("audit", "--json")[1])]
    assert done == [(new["id"], "revoke"), (new["id"], "create"), (name, "rotate"), (name, "create")]
    table = run("list")[1]
    assert name in table and text.strip() not in table and "pages" in table
    assert "rotate" in run("audit")[1]


def test_a_token_has_two_parts(run):
    code, text, _ = run("token", "--user-id", "u1")
    assert code == 0 and len(text.strip().split(".")) == 2


def test_wrong_use_is_said_in_words(run):
    assert run("create", "writ")[0] == 2
    code, _, told = run("revoke", "nobody")
    assert code == 2 and "there is no key 'nobody'" in told
    assert run("token", "--user-id", "u1", "--seconds", "0")[0] == 2
