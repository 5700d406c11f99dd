"""docs/benchmarks.md is what the JSON documents say: no number in it was typed."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLES = runpy.run_path(str(ROOT / "benchmarks/tables.py"))
FIELDS = {"machine", "commit", "versions", "dataset", "protocol", "rows"}
ROW = {"model", "fusion", "modalities", "slice", "metric", "mean", "low", "high", "n", "seeds", "cpu_s", "peak_mb"}


def test_the_page_is_what_the_documents_say():
    assert TABLES["main"](["--check"]) == 0


def test_every_document_keeps_the_one_schema():
    files = sorted(ROOT.glob("benchmarks/*/*.json"))
    assert len(files) > 4
    for file in files:
        document = json.loads(file.read_text(encoding="utf-8"))
        assert set(document) >= FIELDS, file
        assert document["rows"], file
        for row in document["rows"]:
            assert set(row) == ROW, file


def test_models_stand_best_first_with_their_interval_and_cost(tmp_path):
    def row(model, mean):
        return dict(model=model, fusion=None, modalities=["events"], slice="all", metric="ndcg@10", mean=mean,
                    low=mean - 0.01, high=mean + 0.01, n=9, seeds=1, cpu_s=1.25, peak_mb=5.0)  # fmt: skip

    document = dict(
        machine="m", commit="c" * 40, versions={}, dataset="shop", protocol="time", rows=[row("a", 0.1), row("b", 0.2)]
    )
    lines = TABLES["_document"](document, Path("benchmarks/quality/x.json"))
    assert lines[2:6] == [
        "| model | ndcg@10 | CPU s |",
        "|---|---:|---:|",
        "| b | 0.2000 (0.1900 to 0.2100) | 1.2 |",
        "| a | 0.1000 (0.0900 to 0.1100) | 1.2 |",
    ]
    assert "revision ccccccc" in lines[-2]


def test_rankings_of_one_file_are_told_apart():
    """Ids alone, with content, of several seeds: nobody should have to guess which table is which."""
    titles = [line for line in TABLES["page"](ROOT / "benchmarks").splitlines() if line.startswith("### ")]
    ranked = [title for title in titles if "leave-one-out" in title and "refit" not in title]
    assert len(ranked) > 4 and len(set(ranked)) == len(ranked)
    assert "### Beauty_sequences, leave-one-out, ids" in ranked
    assert "### Beauty_sequences, leave-one-out, ids and text, 3 seeds" in ranked


def test_a_bench_of_fusion_is_one_table(tmp_path):
    def row(modalities, fusion, slice_, mean, metric="ndcg@10"):
        return dict(model="net", fusion=fusion, modalities=modalities, slice=slice_, metric=metric, mean=mean,
                    low=mean - 0.01, high=mean + 0.01, n=9, seeds=1, cpu_s=1.25, peak_mb=5.0)  # fmt: skip

    two = ["events", "text"]
    rows = [row(["events"], None, "all", 0.1), row(two, "gate", "cold", 0.4), row(two, "gate", "all", 0.2),
            row(two, "gate", "all", 0.9, "hit@10")]  # fmt: skip
    versus = [dict(model="net: events + text (gate)", against="popular: events", mean=0.05, low=0.01, high=0.09)]
    document = dict(machine="m", commit="c", versions={}, dataset="shop", protocol="fusion", rows=rows, versus=versus,
                    left_out=[dict(cell="a", why="b")])  # fmt: skip
    lines = TABLES["_document"](document, Path("benchmarks/quality/x.json"))
    assert lines[2:8] == [
        "ndcg@10, n = 9 at most",
        "",
        "| model | all | cold | CPU s |",
        "|---|---:|---:|---:|",
        "| net: events + text (gate) | 0.2000 (0.1900 to 0.2100) | 0.4000 | 1.2 |",
        "| net: events | 0.1000 (0.0900 to 0.1100) |  | 1.2 |",
    ]
    assert "- net: events + text (gate) less popular: events: +0.0500 (+0.0100 to +0.0900)" in lines
    assert "1 cells did not fit into the budget; the JSON names them." in lines
