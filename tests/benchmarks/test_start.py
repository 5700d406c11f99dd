"""P8: starting Habitue stays cheap. Bounds are ratios of CPU time within one run, so a busy machine does not matter."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/start.py"


@pytest.fixture(scope="module")
def cpu() -> dict[str, float]:
    times = runpy.run_path(str(SCRIPT))["measure"](repeats=5)
    return {name: min(cpu for _, cpu in runs) for name, runs in times.items()}


def test_importing_habitue_costs_less_than_importing_its_command_line(cpu):
    assert cpu["import habitue"] < cpu["typer + rich"]


def test_help_costs_little_more_than_typer_and_rich(cpu):
    # the commands themselves cost one and a half times as much; polars alone would add four, torch ten
    assert cpu["habitue --help"] < 3.2 * cpu["typer + rich"]


def test_the_benchmark_writes_the_schema_of_all_benchmarks(tmp_path):
    command = [sys.executable, str(SCRIPT), "--repeats", "2", "--out", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads((tmp_path / "none-p8-start.json").read_text(encoding="utf-8"))
    assert len(result["commit"]) == 40 and result["protocol"] == "P8 start"
    rows = {row["model"]: row for row in result["rows"]}
    assert list(rows) == ["python -c pass", "typer + rich", "import habitue", "habitue --help"]
    assert all(row["low"] <= row["mean"] <= row["high"] and row["n"] == 2 for row in rows.values())
    assert "limit 0.15" in printed and "limit 0.40" in printed
