"""habitue tune, as its user runs it: the verdict, the files, and wrong use in words."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each command is a process that loads torch


@pytest.fixture(scope="module")
def shop(tmp_path_factory, owner, run) -> Path:
    folder = owner(tmp_path_factory.mktemp("tuned"))
    assert run("init", "shop", cwd=folder).returncode == 0
    imported = run("import", "../orders.csv", "--mapping", "../orders.toml", cwd=folder / "shop")
    assert imported.returncode == 0, imported.stderr
    return folder / "shop"


def wrong(done, code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_tune_says_its_verdict_and_leaves_page_json_and_study(shop, run):
    done = run("tune", "--model", "popular", "--trials", "3", "--sampler", "random", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "popular" in done.stdout.splitlines()[0]
    assert "Every trial: reports/tune-popular.html" in done.stdout.replace(str(shop) + "/", "")
    told = json.loads((shop / "reports/tune-popular.json").read_text(encoding="utf-8"))
    assert [t["trial"] for t in told["trials"]] == [0, 1, 2]
    assert (shop / "reports/tune-popular.html").exists() and (shop / "reports/tune-popular.sqlite").exists()

    again = run("tune", "--model", "popular", "--trials", "3", "--sampler", "random", "--json", cwd=shop)
    assert json.loads(again.stdout)["trials"] == told["trials"]  # the very same, costs included: nothing was run


def test_wrong_use_is_said_in_one_sentence(shop, run, tmp_path):
    wrong(run("tune", "--model", "eas", cwd=shop), 2, "Did you mean 'ease'?")
    wrong(run("tune", "--model", "blend", cwd=shop), 2, "Tune one of its views")
    wrong(run("tune", "--model", "popular", "--sampler", "grid", cwd=shop), 2, "the grid is 5 x")
    wrong(run("tune", "--model", "popular", "--out", "t.txt", cwd=shop), 2, "'t.txt' does not end in .json")
    wrong(run("tune", "--model", "popular", cwd=tmp_path), 2, "this is not a workspace")
