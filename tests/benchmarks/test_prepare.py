"""P6 and the preparations: the committed results hold what they are said to hold, and the scripts count rightly."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SPEED, QUALITY = ROOT / "benchmarks/speed/prepare.py", ROOT / "benchmarks/quality/prepare.py"


def test_the_committed_p6_holds_its_bounds():
    document = json.loads((ROOT / "benchmarks/speed/planted-clicks-p6-prepare.json").read_text(encoding="utf-8"))
    found = {(row["slice"], row["model"], row["metric"]): row["mean"] for row in document["rows"]}
    most = "10,000,000 events", "habitue"
    assert found[*most, "times DuckDB"] <= 1.3
    assert found[*most, "peak MB"] <= 2_000
    assert found[*most, "times linear growth"] <= 1.1
    assert found[*most, "peak MB"] <= 1.25 * found["1,000,000 events", "habitue", "peak MB"]


def test_ratios_and_growth_are_of_medians():
    table = runpy.run_path(str(SPEED))["table"]

    def runs(*cpu):
        return [{"cpu": c, "wall": 2 * c, "peak_mb": 10 * c} for c in cpu]

    told = {10: {"habitue": runs(1, 2, 9), "duckdb": runs(4, 4, 4)}, 100: {"habitue": runs(30), "duckdb": runs(50)}}
    rows = {(r["slice"], r["model"], r["metric"]): r for r in table(told).to_dicts()}
    assert rows["10 events", "habitue", "CPU-seconds"]["mean"] == 2
    assert (rows["10 events", "habitue", "CPU-seconds"]["low"], rows["10 events", "habitue", "peak MB"]["high"]) == (
        1,
        90,
    )
    assert rows["10 events", "habitue", "times DuckDB"]["mean"] == 0.5
    assert rows["100 events", "habitue", "times linear growth"]["mean"] == 1.5
    assert rows["100 events", "duckdb", "times linear growth"]["mean"] == pytest.approx(1.25)
    assert ("10 events", "habitue", "times linear growth") not in rows


def test_both_programs_give_one_table(tmp_path):
    pytest.importorskip("duckdb")
    script = runpy.run_path(str(SPEED))
    lake = tmp_path / "lake"
    assert script["make"](lake, 4_000) == {"files": 1}
    for program in ("habitue", "duckdb"):
        assert script["measure"](program, lake, 4_000)["cpu"] > 0
    import polars as pl

    ours, theirs = (pl.read_parquet(tmp_path / f"{program}-4000.parquet") for program in ("habitue", "duckdb"))
    assert ours.height == theirs.height > 100
    script["_agree"](ours, theirs)


@pytest.fixture
def quality(monkeypatch):
    """The script, with its neighbours beside it as where it is run."""
    monkeypatch.syspath_prepend(str(QUALITY.parent))
    return runpy.run_path(str(QUALITY))


def test_a_gain_is_of_the_same_rows_drawn_for_both(quality):
    measured = quality["_measured"]
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    good, bad = truth + rng.normal(0, 0.5, 400), truth + rng.normal(0, 5, 400)
    common = {"dataset": "d", "protocol": "p", "model": "m", "slice": "s"}
    share = np.full(400, 0.5)
    same = {row["metric"]: row for row in measured(common, truth, good, share, good)}
    assert (same["auc gained"]["mean"], same["auc gained"]["low"], same["auc gained"]["high"]) == (0, 0, 0)
    assert same["log_loss"]["mean"] == pytest.approx(np.log(2))
    more = {row["metric"]: row for row in measured(common, truth, good, share, bad)}
    assert more["auc gained"]["low"] > 0
    from habitue.core import metrics

    assert more["auc gained"]["mean"] == pytest.approx(float(metrics.auc(truth, good) - metrics.auc(truth, bad)))


def test_every_preparation_that_is_measured_can_be_read(quality):
    from habitue.prepare import recipe

    for way in (*quality["NUMBERS"], *quality["GAPS"], *quality["BALANCED"], *quality["CHURN"]):
        if way not in (quality["AS_IT_IS"], "weights"):
            assert recipe.parse(way) != recipe.Recipe()


def test_without_the_public_tables_a_script_ends_in_one_line(quality, monkeypatch):
    monkeypatch.delenv("HABITUE_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["prepare.py"])
    with pytest.raises(SystemExit, match=r"^Set HABITUE_DATA to the folder of the public tables \(docs/data\.md\)\.$"):
        quality["main"]()
