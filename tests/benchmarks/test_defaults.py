"""The defaults of the flagship are near what tuning finds, by the committed result; the words say what the rows say."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/quality/defaults.py"))


@pytest.mark.parametrize(
    ("name", "least", "trials"),
    [("online-retail", 0.2, 10), ("ml-100k", 0.15, 8), ("sports", 0.035, 6), ("movielens-1m", 0.13, 8)],
)
def test_the_committed_defaults_lack_no_more_than_they_may(name, least, trials):
    told = json.loads((ROOT / f"benchmarks/quality/defaults-{name}.json").read_text(encoding="utf-8"))
    ndcg = {row["model"]: row["mean"] for row in told["rows"] if row["metric"] == "ndcg@10"}
    assert ndcg["default"] >= (1 - SCRIPT["CLOSE"]) * ndcg.get("tuned", 0) and ndcg["default"] > least
    values = [trial["value"] for trial in told["trials"] if trial["state"] == "complete"]
    assert len(values) >= trials and told["trials"][0]["settings"] == told["settings"]["default"]
    assert ("tuned" in told["settings"]) == (max(values) > values[0])


@pytest.mark.parametrize(("mean", "words"), [(0.005, "97.5% of the tuned one; reach 97% met"), (0.02, "90.0%.*missed")])
def test_the_sentence_says_how_near(mean, words):
    assert re.search(words, SCRIPT["_said"]({"mean": mean, "low": -0.01, "high": 0.03}, 0.2))
