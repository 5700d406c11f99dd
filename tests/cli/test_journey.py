"""From a file of one's own to a report, by the command line and by Python, as README says."""

import json
from pathlib import Path

import polars as pl
import pytest

import habitue
from habitue.core.errors import ModelError, SettingsError, UsageError

PLAN = """
horizon_days = 60

[[source]]
file = "../orders.csv"
mapping = "../orders.toml"

[season]
factor = 1.1
source = "a guess, for the test"

[blend.behaviour]
width = 16
steps = 20

"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory, owner, run) -> Path:
    """A workspace after init, import and train."""
    folder = owner(tmp_path_factory.mktemp("owner"))
    assert run("init", "shop", cwd=folder).returncode == 0
    plan = folder / "shop/habitue.toml"
    plan.write_text(PLAN + plan.read_text())
    for command in (("import", "orders.csv", "--mapping", "orders.toml"), ("train",)):
        done = run(*command, "-w", "shop", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "shop"


def test_the_same_file_again_and_in_another_order_adds_nothing(shop, run, orders):
    folder = shop.parent
    orders.sample(fraction=1, shuffle=True, seed=1).write_csv(folder / "shuffled.csv")
    for name in ("orders.csv", "shuffled.csv"):
        done = run("import", name, "--mapping", "orders.toml", "-w", "shop", "--json", cwd=folder)
        told = json.loads(done.stdout)
        assert (told["read"], told["new"], told["known"], told["refused"]) == (orders.height, 0, orders.height, 0)


def test_check_says_what_the_data_is_worth(shop, run):
    done = run("check", "-w", "shop", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    assert "Scores (0 to 1" in done.stdout
    told = json.loads(run("check", "-w", "shop", "--json", cwd=shop.parent).stdout)
    assert {s["dimension"] for s in told["scores"]} == {"completeness", "consistency", "accuracy", "diversity"}
    assert (shop / "reports/quality.json").exists()


def test_training_again_on_the_same_data_does_nothing(shop, run):
    before = {p: p.stat().st_mtime_ns for p in (shop / "models").rglob("*")}
    done = run("train", "-w", "shop", "--json", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in (shop / "models").rglob("*")} == before
    told = json.loads(done.stdout)
    assert set(told["weights"]) == {"popular", "neighbours", "rules", "ease", "slist", "behaviour"}
    assert [p.name for p in (shop / "models/blend").iterdir()] == [Path(told["folder"]).name]  # no checkpoints left
    assert [row["step"] for row in told["curve"]] == list(range(1, 21))
    assert set(told["curve"][0]) == {"step", "targets", "cpu_s", "loss", "metric"}
    assert all(0 < row["loss"] < 20 and row["targets"] > 0 for row in told["curve"])


def test_recommend_names_ten_with_reasons_and_a_stranger_gets_what_sells(shop, run):
    done = run("recommend", "--user-id", "c5", "-n", "5", "-w", "shop", "--json", cwd=shop.parent)
    rows = json.loads(done.stdout)
    assert [r["rank"] for r in rows] == [1, 2, 3, 4, 5]
    assert all(r["fallback"] is None for r in rows)
    assert any(r["because"] for r in rows)
    mine = sum("kitchen" in r["title"] for r in rows)  # c5 has taste 1
    assert mine >= 4
    strange = json.loads(
        run("recommend", "--user-id", "nobody", "-n", "5", "-w", "shop", "--json", cwd=shop.parent).stdout
    )
    assert len(strange) == 5
    assert {r["fallback"] for r in strange} == {"popular"}


def test_predict_answers_about_every_customer_and_writes_inert_cells(shop, run):
    out = shop.parent / "churn.csv"
    done = run("predict", "churn", "--out", str(out), "-w", "shop", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(out)
    assert table.height == 60
    assert table["score"].is_between(0, 1).all()
    assert table["score"].is_sorted(descending=True)
    assert set(table["user_id"]) == {f"c{i}" for i in range(60)}
    wrong = run("predict", "churn", "--out", "churn.xls", "-w", "shop", cwd=shop.parent)
    assert wrong.returncode == 2
    assert "--out: 'churn.xls' does not end in .parquet or .csv" in wrong.stderr


def test_run_does_everything_the_plan_names(shop, run, orders):
    late = orders.tail(1).with_columns(customer=pl.lit("c900"), order=pl.lit("late"))
    late.write_csv(shop.parent / "late.csv")
    assert run("import", "late.csv", "--mapping", "orders.toml", "-w", "shop", cwd=shop.parent).returncode == 0
    done = run("run", "-w", "shop", "--json", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    page = (shop.parent / told["report"]).read_text(encoding="utf-8")
    assert "a guess, for the test" in page
    assert "Content-Security-Policy" in page
    report = json.loads((shop / "reports/report.json").read_text())
    assert report["meta"]["seal_sha256"] in page
    assert report["spend"]["season"]["factor"] == 1.1
    assert "bias_adjusted" in {row["metric"] for row in report["spend"]["metrics"]}
    assert "no_customer" not in {f["code"] for f in report["quality"]["findings"]}  # nor is who came after the cut
    assert len(report["buy"]["curve"]) == 20 and "How the flagship learnt" in page


def test_python_gives_the_same_and_asks_no_model_that_knows_the_future(shop):
    opened = habitue.open(shop)
    assert opened.recommend(user_id="c5", n=3).height == 3
    value = opened.predict("value")
    assert value["score"].is_sorted(descending=True)
    assert (value["score"] >= 0).all()
    soon, late = (opened.predict(f"churn_{days}").sort("user_key")["score"] for days in (7, 90))
    assert (soon >= late).all() and soon.is_between(0, 1).all()
    with pytest.raises(ModelError, match="knows the shop after 2024-06-01.*habitue train --as-of 2024-06-01"):
        opened.predict("churn", as_of="2024-06-01")
    with pytest.raises(
        UsageError, match="there is no task 'sales'.*Ask for churn, churn_7, churn_30, churn_90 or value"
    ):
        opened.predict("sales")
    with pytest.raises(SettingsError, match="is not a date"):
        opened.predict("churn", as_of="yesterday")


def test_a_wait_that_the_past_was_too_short_to_show_is_not_told(shop, monkeypatch):
    from habitue.model import blend

    told = blend.predict
    monkeypatch.setattr(blend, "predict", lambda state, past: told(state, past).drop("churn_90"))
    opened = habitue.open(shop)
    assert opened.predict("churn_30").height > 0
    with pytest.raises(ModelError, match="predict churn_90.*too short to show it.*Ask for a shorter time"):
        opened.predict("churn_90")


def test_a_cell_that_a_spreadsheet_would_run_is_written_as_text(tmp_path):
    from habitue.cli.options import write_table

    write_table(pl.DataFrame({"title": ["=1+1", "mug"], "n": [-1, 2], "who": ["a", "@b"]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "title,n,who\n'=1+1,-1,a\nmug,2,'@b\n"
