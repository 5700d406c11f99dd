"""`habitue bench tasks` as it is typed: what is printed and written, and every bad input in one sentence."""

import json
import re
import sys
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from habitue import cli

ROWS = 120


def visits(**more):
    rng = np.random.default_rng(0)
    pages, month = rng.poisson(4, ROWS), rng.choice(["May", "Nov"], ROWS)
    bought = (pages + 2 * (month == "Nov") + rng.normal(size=ROWS) > 6).astype(int)
    return pl.DataFrame(
        {"pages": pages, "month": month, "seconds": rng.exponential(60, ROWS), "bought": bought, **more}
    )


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command line in this process: a process of its own for each of thirty runs takes minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def measure(frame, *arguments, label="bought"):
        if isinstance(frame, pl.DataFrame):
            frame.write_parquet(tmp_path / "visits.parquet")
        else:
            (tmp_path / "visits.parquet").write_bytes(frame)
        given = ("--data", "visits.parquet", "--label", label, "--folds", "3", "--models", "tree", *arguments)
        monkeypatch.setattr(sys, "argv", ["habitue", "bench", "tasks", *given])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return measure


def one_sentence(done, code, words):
    assert done.returncode == code, (done.stdout, done.stderr)
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_task_is_measured_printed_and_written(bench, tmp_path):
    done = bench(visits(), "--task", "purchase", "--out", "v.json", "--predictions", "p.parquet")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "v.json").read_text())
    lines = done.stdout.splitlines()
    assert lines[0] == told["verdict"]
    order = [line.split()[0] for line in lines if line.split() and line.split()[0] in ("tree", "linear", "constant")]
    assert order == told["ranking"]
    assert "AUC" in done.stdout
    assert (tmp_path / "v.html").read_text().startswith("<!doctype html>")
    assert pl.read_parquet(tmp_path / "p.parquet").height == 3 * ROWS
    again = bench(visits(), "--task", "purchase", "--json")
    rows = [(r["model"], r["metric"], r["mean"], r["low"]) for r in json.loads(again.stdout)["rows"]]
    assert rows == [(r["model"], r["metric"], r["mean"], r["low"]) for r in told["rows"]]


BAD = {
    "constant label": (visits(bought=[1] * ROWS), (), 1, r"all 120 labels are the same \('1'\)"),
    "label that is a copy": (
        visits().with_columns(sold=pl.col("bought")),
        (),
        1,
        "column 'sold' equals.*--drop 'sold'",
    ),
    "label in words": (
        visits().with_columns(state=pl.when(pl.col("bought") == 1).then(pl.lit("paid")).otherwise(pl.lit("open"))),
        (),
        1,
        "column 'state' stands for the label.*--drop 'state'.*--keep-leaks",
    ),
    "two rows": (visits().group_by("bought", maintain_order=True).first(), (), 1, "2 rows for 3 folds.*at least 3"),
    "one class in a fold": (visits().with_columns(bought=pl.int_range(ROWS) == 7), (), 1, "with 1 different label"),
    "all rows equal": (
        pl.DataFrame({"pages": [3] * 20, "bought": [0, 1] * 10}),
        (),
        1,
        "no column is left to learn from.*'pages' is the same in every row",
    ),
    "header only": (b"pages,month,bought\n", (), 1, "holds no row"),
    "no file at all": (b"", (), 1, "no table that can be read"),
    "unknown column": (visits(), ("--text", "titel"), 2, "no column 'titel'"),
    "misspelt column": (visits(), ("--drop", "page"), 2, "no column 'page'.*Did you mean 'pages'"),
    "sound": (visits(), ("--sound", "pages"), 2, "--sound 'pages': it is Int64.*paths relative to the data file"),
    "nothing to encode": (visits(), ("--encoder", "speech"), 2, "'speech' reads sound.*--sound COLUMN"),
    "unknown model": (visits(), ("--models", "forrest"), 2, "Did you mean 'forest'"),
    "model without vectors": (visits(), ("--models", "profile"), 2, "profile.*there are none.*--encoder"),
    "unknown kind": (visits(), ("--kind", "binry"), 2, "Did you mean 'binary'"),
    "unknown encoder": (visits(), ("--text", "month", "--encoder", "sentense"), 2, "Did you mean 'sentence'"),
    "one fold": (visits(), ("--folds", "1"), 2, "--folds: 1 is given"),
    "no budget": (visits(), ("--cpu-hours", "-1"), 2, "--cpu-hours: -1"),
    "out without a suffix": (visits(), ("--out", "table"), 2, "--out: 'table' does not end in .json"),
    "out in no folder": (visits(), ("--out", "no/v.json"), 2, "--out: there is no folder 'no'"),
    "predictions of no format": (visits(), ("--predictions", "p.xlsx"), 2, "--predictions: 'p.xlsx' does not end in"),
    "no test file": (visits(), ("--test", "absent.csv"), 2, "--test.*absent.csv"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_one_sentence(bench, name):
    frame, arguments, code, words = BAD[name]
    one_sentence(bench(frame, *arguments), code, words)


def test_a_label_that_does_not_exist_says_which_was_meant(bench):
    one_sentence(bench(visits(), label="bougth"), 2, "no column 'bougth'.*Did you mean 'bought'")


@pytest.mark.slow  # half a minute
def test_a_thousand_classes_work_and_rare_ones_are_counted(bench):
    code = np.r_[np.repeat(np.arange(500), 4), np.arange(500, 1000)]
    frame = pl.DataFrame({"a": code % 25 + 0.1, "b": code // 25 + 0.2, "kind": [f"k{c}" for c in code]})
    done = bench(frame, "--task", "intent", "--keep-leaks", label="kind")
    assert done.returncode == 0, done.stderr
    assert "One of 1,000 classes" in done.stdout
    assert "500 of 1,000 classes have fewer rows than the 3 folds (500 rows)" in done.stdout


def test_wild_cells_labels_and_texts_work_and_are_counted(bench, tmp_path):
    wild = np.random.default_rng(0).normal(size=ROWS)
    wild[:4] = np.inf, -np.inf, np.nan, 1e308
    label = ["so happy 🙂" if b else "no, thanks" for b in visits()["bought"]]
    label[0] = None
    note = ["fine, thank you"] * ROWS
    note[5] = "word " * 2_000_000
    frame = visits(wild=wild, bought=label, note=note)
    done = bench(frame, "--task", "sentiment", "--text", "note", "--out", "w.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "w.json").read_text())
    assert set(told["classes"]) == {"so happy 🙂", "no, thanks"}
    assert told["rows_read"] == ROWS - 1
    said = " / ".join(told["notes"])
    assert "1 of 120 rows have no label" in said
    assert "infinite values count as unknown: 'wild' (1)" in said  # the other was the row without a label
    assert "1 texts of 'note' are longer than 20,000 letters" in said
