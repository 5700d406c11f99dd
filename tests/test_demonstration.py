"""The demo as its user sees it: real numbers of a real shop, within its time, memory and lines."""

import hashlib
import json
import re

import pytest

from habitue import demonstration
from habitue.core.errors import UsageError


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds something that is no demo.*Name another folder"):
        demonstration.run(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="this is a file.*Name another folder"):
        demonstration.run(tmp_path / "file")


@pytest.mark.slow
def test_it_stays_within_its_lines_and_memory(demo):
    assert demo.printed.count("\n") < 40
    assert demo.peak_mb <= 4096
    assert demo.seconds <= 1200  # 300 on an idle machine of 2 cores: benchmarks/speed/


@pytest.mark.slow
def test_the_counts_of_the_ledger_are_the_known_ones(demo):
    found = {f["code"]: f for f in demo.report["quality"]["findings"]}
    assert found["no_customer"]["rows"] == 135_080
    assert found["no_customer"]["share"] == pytest.approx(0.149, abs=0.0005)
    assert (found["cancelled"]["rows"], found["cancelled"]["orders"]) == (9_288, 3_836)
    assert "match an earlier purchase by customer, code and quantity" in found["cancelled"]["sentence"]
    assert found["exact_repeat"]["rows"] == 5_268
    assert (found["zero_price"]["rows"], found["negative_price"]["rows"]) == (2_515, 2)
    assert found["negative_quantity"]["rows"] == 1_336
    assert found["several_titles"]["sentence"].startswith("650 codes have more than one description (1,324 when")
    assert "POST (POSTAGE)" in found["no_product"]["sentence"]


@pytest.mark.slow
def test_the_printed_seal_is_that_of_the_file_and_of_the_report(demo):
    printed = re.search(r"Seal +sha256 ([0-9a-f]{64})", demo.printed)
    assert printed is not None
    seal = (demo.workspace / "sealed/seal.json").read_bytes()
    assert printed[1] == hashlib.sha256(seal).hexdigest() == demo.report["meta"]["seal_sha256"]
    assert json.loads(seal)["season"]["factor"] == 1.4


@pytest.mark.slow
def test_every_model_stands_in_the_table_on_every_slice(demo):
    rows = {(m["model"], m["slice"]): m for m in demo.report["buy"]["metrics"] if m["metric"] == "ndcg@10"}
    models = {"popularity", "popular", "neighbours", "rules", "ease", "slist", "behaviour", "blend"}
    assert set(rows) == {(model, part) for model in models for part in ("all", "repeat", "first_time")}
    assert rows["popular", "all"]["mean"] > 2.5 * rows["popularity", "all"]["mean"]
    assert rows["blend", "first_time"]["mean"] > 2 * rows["popular", "first_time"]["mean"]
    churn = {m["model"]: m["mean"] for m in demo.report["lost"]["metrics"] if m["metric"] == "auc"}
    assert set(churn) == {"clv", "trees", "behaviour", "blend"}
    assert min(churn.values()) > 0.72


@pytest.mark.slow
def test_the_first_sentence_says_whether_the_flagship_lost(demo):
    paired = {(p["model"], p["slice"]): p for p in demo.report["buy"]["paired"]}
    alone = paired["behaviour", "all"]
    first = demo.report["headline"]["sentences"][0]
    assert ("the flagship alone does not beat" in first) == (alone["low"] <= 0)
    assert len(demo.report["headline"]["sentences"]) == 3


@pytest.mark.slow
def test_personas_that_come_back_with_risk_a_map_and_movement(demo):
    told = demo.report["personas"]
    cards = told["cards"]
    assert 3 <= len(cards) <= 8
    assert all(0.5 <= card["stability"] <= 1 and 0 < card["risk"] < 1 for card in cards)
    assert all(product["lift"] >= 1.5 for card in cards for product in card["products"])
    assert sum(len(group["points"]) for group in told["map"]) == 800
    assert len(told["periods"]) == 3 and {move["step"] for move in told["moves"]} == {0, 1}


@pytest.mark.slow
def test_the_embedded_recommender_fits(demo):
    assert demo.report["try_it"]["bytes"] < 400_000
    assert set(demo.report["other_shops"]) == {"reviews", "sessions", "slots"}
