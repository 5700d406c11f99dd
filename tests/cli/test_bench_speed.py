"""habitue bench speed: the table, the JSON, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from habitue.bench import speed as bench
from habitue.cli.bench_speed import speed
from habitue.core.errors import UsageError

app = typer.Typer()
app.command()(speed)
RUN = CliRunner()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(options: bench.Options, runtime: object, refused: dict[str, str]) -> list[bench.Timed]:
        refused["P8 peer"] = "the package 'x' is not installed."
        values = tuple(float(v) for v in range(1, options.repeats + 1))
        return [bench.Timed("P8", "python", "seconds", values, 0.5, 10.0, "python alone: 2 s", 1.5)]

    def broken(*_: object) -> list[bench.Timed]:
        raise UsageError("P9", found="no demo", consequence="None", remedy="Mend")

    monkeypatch.setattr(bench, "PARTS", {**bench.PARTS, "P8": start, "P9": broken})


def test_the_table_says_medians_bounds_and_what_was_left_out(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    done = RUN.invoke(app, ["--only", "p8, P8", "--repeats", "3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "P8  python" in done.stdout and "1.50" in done.stdout and "1 to 3" in done.stdout
    assert "P8 python: python alone: 2 s." in done.stdout
    assert "P8 peer was not measured. the package 'x' is not installed." in done.stdout
    told = json.loads(out.read_text(encoding="utf-8"))
    assert [(r["metric"], r["mean"], r["n"]) for r in told["rows"]] == [
        ("median seconds", 2.0, 3),
        ("times its bound", 1.5, 3),
    ]
    assert told["bounds"] == {"P8 python": "python alone: 2 s"}
    assert told["protocol"] == "SPEED"


def test_json_is_one_line() -> None:
    done = RUN.invoke(app, ["--only", "P8", "--repeats", "1", "--json"])
    assert json.loads(done.stdout)["refused"] == {"P8 peer": "the package 'x' is not installed."}


def test_when_nothing_could_be_measured_the_run_has_failed() -> None:
    done = RUN.invoke(app, ["--only", "P9"])
    assert done.exit_code == 1
    assert "P9 was not measured. P9: no demo." in done.stdout


def test_wrong_use_is_refused_before_minutes_are_spent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--only: there is no part 'P1'.*Known: P2, P3, P6, P7, P8, P9"):
        RUN.invoke(app, ["--only", "P1"], catch_exceptions=False)
    with pytest.raises(UsageError, match="--out: there is no folder"):
        RUN.invoke(app, ["--only", "P8", "--out", str(tmp_path / "none/s.json")], catch_exceptions=False)
    with pytest.raises(UsageError, match="--out: 's.txt' does not end in .json"):
        RUN.invoke(app, ["--only", "P8", "--out", str(tmp_path / "s.txt")], catch_exceptions=False)
    with pytest.raises(UsageError, match="--events"):
        RUN.invoke(app, ["--only", "P2", "--events", str(tmp_path / "none.csv")], catch_exceptions=False)
