"""habitue bench profile: what is printed and written, and the sentences of what cannot be measured."""

import json
import sys
from types import SimpleNamespace

import polars as pl
import pytest

from habitue import cli


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """The command in this process."""

    def call(*arguments: str) -> SimpleNamespace:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["habitue", "bench", "profile", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

    return call


def test_help_holds_examples(bench):
    done = bench("--help")
    assert done.returncode == 0
    assert "habitue bench profile --cut 2011-09-09 --no-ablation" in done.stdout


def test_a_file_that_cannot_be_written_is_refused_first(bench):
    done = bench("--out", "profile.txt")
    assert done.returncode == 2
    assert "'profile.txt' does not end in .json" in done.stderr


def test_a_folder_that_is_no_workspace(bench, tmp_path):
    done = bench("--workspace", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_shop_of_ones_own(bench, run, orders, folder):
    four = [
        orders.with_columns(pl.format("{} {}", name, pl.lit(n)).alias(name) for name in ("customer", "order"))
        for n in range(4)
    ]
    pl.concat(four).write_csv(folder / "orders.csv")
    assert run("init", cwd=folder).returncode == 0
    assert run("import", "orders.csv", "--mapping", "orders.toml", cwd=folder).returncode == 0
    done = bench("-w", str(folder), "--days", "28", "--categories", "4", "--items", "12", "--out", "p.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("One frozen vector is clearly above hand-made aggregates on")
    assert "profile+aggregates" in done.stdout and "without scores" in done.stdout
    told = json.loads((folder / "p.json").read_text())
    assert told["protocol"] == "profile-28d"
    assert "habitue bench profile" in (folder / "p.html").read_text()
