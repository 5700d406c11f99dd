"""P7: the benchmark of the encoders writes the schema of all benchmarks, and its bounds hold where they can be told."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/speed/encode.py"
RESULT = ROOT / "benchmarks/speed/shop-texts-and-photos-p7-encode.json"


def test_the_committed_result_holds_what_p7_asks():
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"]
    found = {(row["slice"], row["metric"]): row["mean"] for row in rows if row["model"].startswith("encode.run")}
    assert found["first run", "items encoded"] == 10_000 and found["one changed", "items encoded"] == 1
    assert found["one changed", "files of the cache"] < 30
    for slice_ in ("titles", "reviews", "photos"):
        assert found[slice_, "share of the encoder alone"] > 0


@pytest.mark.slow
def test_the_script_measures_and_one_changed_thing_costs_one(real_weights):
    real_weights("text-use-multilingual")
    script = runpy.run_path(str(SCRIPT))
    rows = script["one_changed"](600)
    told = {(row["slice"], row["metric"]): row["mean"] for row in rows}
    assert told["first run", "items encoded"] == 600 and told["one changed", "items encoded"] == 1
    shelf = script["titles"](200)
    compared = script["compare"]("titles", "sentence", shelf, script["text_alone"](shelf), 2)
    assert [row["metric"] for row in compared][-1] == "share of its CPU"
    assert compared[-1]["mean"] > 0.6, "a small sample on a busy machine; the committed result is the measure"
