"""habitue bench ranking on files as a stranger would have them; exit codes and sentences of what cannot be measured."""

import json
import sys
from types import SimpleNamespace

import polars as pl
import pytest

from habitue import cli

LETTERS = "abcdefghijkl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Walks round a ring of items: as events in CSV, as lists in Parquet, and what the items are called."""
    folder = tmp_path_factory.mktemp("bench")
    rows = [(f"user {u}", LETTERS[(u + step * (1 + u % 2)) % 12], step) for u in range(40) for step in range(5)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "order"], orient="row")
    events.write_csv(folder / "events.csv")
    dated = events.with_columns(at=pl.datetime(2024, 1, 1) + pl.duration(days=20 * pl.col("order"))).drop("order")
    dated.write_parquet(folder / "dated.parquet")
    events.rename({"user_id": "who", "item_id": "what", "order": "nth"}).write_csv(folder / "named.csv")
    events.group_by("user_id", maintain_order=True).agg(items="item_id").write_parquet(folder / "lists.parquet")
    pl.DataFrame({"item_id": list(LETTERS), "title": [f"thing {c} one" for c in LETTERS]}).write_csv(
        folder / "items.csv"
    )
    return folder


@pytest.fixture
def bench(folder, monkeypatch, capsys):
    """The command in this process: a process of its own costs seconds of imports each time."""

    def call(*arguments: str) -> SimpleNamespace:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["habitue", "bench", "ranking", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

    return call


def test_a_table_a_page_and_lists(bench, folder):
    done = bench(
        "--events", "events.csv", "--items", "items.csv", "--models", "popular,rules,als", "--seeds", "2",
        "--trials", "3", "--out", "out.json", "--top", "top.parquet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rules beats") and "NDCG@10" in done.stdout
    told = json.loads((folder / "out.json").read_text())
    assert {"machine", "commit", "versions", "dataset", "protocol", "rows"} <= set(told)
    assert (told["dataset"], told["protocol"]) == ("events", "leave-one-out")
    assert {row["model"] for row in told["rows"]} == {"popular", "rules", "als"}
    assert {row["seeds"] for row in told["rows"] if row["model"] == "als"} == {2}
    assert told["data"] == {
        "users": 40, "items": 12, "events": 200, "ties": 0, "repeats": 0, "content": ["text"], "left_out": {},
    }  # fmt: skip
    assert len(told["models"]["rules"]["trials"]) == 3
    page = (folder / "out.html").read_text()
    assert told["sentence"] in page and "--models popular,rules,als" in page
    for title in ("The next set", "Quality and cost", "What was tried", "Settings"):
        assert title in page
    top = pl.read_parquet(folder / "top.parquet")
    assert top.columns == ["user_id", "rank", "item_id", "score", "model"]
    assert top["rank"].min() == 1 and top.filter(model="rules")["user_id"].n_unique() == 40


@pytest.mark.parametrize(
    ("arguments", "protocol"),
    [
        (("--events", "lists.parquet"), "leave-one-out"),
        (("--events", "lists.parquet", "--refit"), "leave-one-out-refit"),
        (("--events", "dated.parquet", "--protocol", "time"), "time"),
        (
            ("--events", "dated.parquet", "--protocol", "basket", "--cut", "2024-03-01", "--horizon-days", "30"),
            "BASKET",
        ),
        (("--events", "named.csv", "--user", "who", "--item", "what", "--order", "nth"), "leave-one-out"),
    ],
)
def test_every_protocol_and_shape_of_file(bench, folder, arguments, protocol):
    done = bench(*arguments, "--models", "popular,rules", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] and {told["protocol"].lower()} == {protocol.lower()}


def test_next_writes_lists_and_measures_nothing(bench, folder):
    done = bench("--events", "lists.parquet", "--protocol", "next", "--models", "rules", "--top", "next.csv")
    assert done.returncode == 0, done.stderr
    assert "Nothing was measured" in done.stdout
    assert pl.read_csv(folder / "next.csv").height == 40 * 7  # twelve items, five of them seen


@pytest.mark.parametrize("model", ["behaviour", "graph", "vae"])
def test_a_model_out_of_budget_says_so(bench, folder, model):
    done = bench("--events", "lists.parquet", "--models", model, "--cpu-hours", "0.0000001")
    assert done.returncode == 0, done.stderr
    assert f"Note: {model}: the budget ended training after 1 of" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--events", "no.csv"), 2, "--events: 'no.csv' cannot be read (No such file or directory)"),
        (("--events", "lists.parquet", "--protocol", "loo"), 2, "--protocol: 'loo' is not known"),
        (("--events", "lists.parquet", "--models", "popular,eese"), 2, "Did you mean 'ease'?"),
        (("--events", "lists.parquet", "--models", "trees"), 2, "it does not rank items"),
        (("--events", "lists.parquet", "--protocol", "time"), 1, "the file has an order but no times"),
        (("--events", "dated.parquet", "--protocol", "time", "--cut", "2031-01-01"), 1, "leaves nothing on one side"),
        (("--events", "dated.parquet", "--protocol", "time", "--cut", "soon"), 2, "'soon' is not a date"),
        (("--events", "items.csv"), 2, "no column looks like the user among: item_id, title"),
        (("--events", "lists.parquet", "--out", "no/where.json"), 2, "--out: there is no folder 'no'"),
        (("--events", "lists.parquet", "--out", "page.html"), 2, "--out: 'page.html' does not end in .json"),
        (("--events", "lists.parquet", "--top", "top.json"), 2, "--top: 'top.json' does not end in .parquet or .csv"),
        (("--events", "lists.parquet", "--top", "no/top.csv"), 2, "--top: there is no folder 'no'"),
        (("--events", "lists.parquet", "--settings", "bad.toml"), 2, "there is no setting 'rigde'"),
        (("--events", "tied.csv"), 1, "100% of the rows share user and moment"),
        (("--events", "one.csv"), 1, "1 users and 2 items are left of 2 rows"),
    ],
)
def test_what_cannot_be_measured_is_said(bench, folder, arguments, code, sentence):
    (folder / "bad.toml").write_text("[popular]\nrigde = 1.0\n")
    (folder / "tied.csv").write_text(
        "user_id,item_id,at\n" + "".join(f"{u},{i},2024-01-01\n" for u in "uv" for i in "abc")
    )
    (folder / "one.csv").write_text("user_id,item_id,at\nu,a,2024-01-01\nu,b,2024-01-02\n")
    if "--models" not in arguments:
        arguments = (*arguments, "--models", "popular")
    done = bench(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert sentence in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_help_has_examples(bench, folder):
    done = bench("--help")
    assert done.returncode == 0 and "habitue bench ranking --events clicks.parquet" in done.stdout
