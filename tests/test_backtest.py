"""A small shop, forecast from a moment of its past: sealed, opened, judged; and the seal holds."""

import dataclasses
import datetime as dt
import json
import re

import numpy as np
import polars as pl
import pytest

from habitue import backtest, look_back, pipeline, prepare, quality
from habitue.collect import synthetic
from habitue.core import runtime as machine
from habitue.core.errors import LeakageError, ModelError, UsageError
from habitue.core.schemas import ITEMS, METRICS, REASONS, REFUSED, SCORES, USERS, check
from habitue.dashboard import page
from habitue.model import behaviour, blend
from habitue.plan import Plan
from habitue.tables import Tables

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=280)
PLAN = Plan(horizon_days=60, blend=blend.Config(behaviour=behaviour.Config(width=16, steps=30)))


def tables(days: int = 380) -> Tables:
    """The toy shop after cleaning; users 0 to 3 are known by guest orders only."""
    events = synthetic.shop(users=100, items=24, days=days)
    clean, dropped = quality.clean(events)
    keys = events["user_key"].unique().sort()
    known = pl.DataFrame({"user_key": keys, "known": keys > 3})
    return Tables(events, clean, dropped, ITEMS.empty(), USERS.empty(), REFUSED.empty(), known)


@pytest.fixture(scope="module")
def shop() -> Tables:
    return tables()


@pytest.fixture(scope="module")
def past(shop):
    return pipeline.look_back(shop, as_of=CUT, plan=PLAN)[0]


@pytest.fixture(scope="module")
def sealed(shop, tmp_path_factory):
    before = dataclasses.replace(
        shop,
        raw=shop.raw.filter(pl.col("at") < CUT),
        events=shop.events.filter(pl.col("at") < CUT),
    )
    folder = tmp_path_factory.mktemp("seal") / "sealed"
    return backtest.foretell(before, as_of=CUT, plan=PLAN, runtime=machine.detect(seed=0), folder=folder)


@pytest.fixture(scope="module")
def report(sealed, shop):
    return backtest.opened(sealed, shop, plan=PLAN, runtime=machine.detect(seed=0), dataset="toy", currency="EUR") | {
        "other_shops": {"absent": "not here"}
    }


def test_only_the_past_is_looked_at(shop, past):
    assert past.histories.set_at.max() < past.day
    assert past.train_labels["horizon_end"].max() <= CUT
    assert past.features["as_of"].unique().to_list() == [CUT]
    assert not set(past.features["user_key"]) & {0, 1, 2, 3}
    gaps = past.train_labels["as_of"].unique().sort().diff().drop_nulls().unique().to_list()
    assert gaps == [dt.timedelta(days=look_back.TRAIN_EVERY_DAYS)]
    assert CUT - dt.timedelta(days=60) in past.train_labels["as_of"]


def test_what_comes_after_the_cut_changes_nothing_that_was_known(shop, past):
    longer, shorter = past, pipeline.look_back(tables(days=300), as_of=CUT, plan=PLAN)[0]
    # The toy shop draws lapses from its length: cut the long one instead, the honest comparison.
    cut = dataclasses.replace(shop, events=shop.events.filter(pl.col("at") < CUT))
    again = pipeline.look_back(cut, as_of=CUT, plan=PLAN)[0]
    assert again.items == longer.items
    assert again.features.equals(longer.features)
    assert np.array_equal(again.histories.row_item, longer.histories.row_item)
    assert not np.array_equal(shorter.histories.row_item, longer.histories.row_item)  # the check can fail


def test_a_planted_future_column_stops_the_run_and_is_named(shop, monkeypatch):
    features = prepare.features

    def leaking(events, **asked):
        told = features(events, **asked)
        moments = told["as_of"].unique().to_list()
        later = prepare.labels(shop.events, as_of=moments, horizon_days=60)
        later = later.select("user_key", "as_of", spend_to_come="value")
        return told.join(later, on=["user_key", "as_of"], how="left", maintain_order="left")

    monkeypatch.setattr(prepare, "features", leaking)
    with pytest.raises(LeakageError, match="spend_to_come"):
        pipeline.look_back(shop, as_of=CUT, plan=PLAN)


def test_every_answer_is_about_known_users_and_is_written_down(sealed):
    assert 0 not in sealed.forecast.past.histories.user_keys
    written = pl.read_parquet(sealed.folder / "scores.parquet")
    check(written, SCORES, at="test")
    assert set(written["model"]) >= {
        "popularity",
        "popular",
        "neighbours",
        "ease",
        "clv",
        "trees",
        "behaviour",
        "blend",
    }
    assert set(written["task"]) >= {"rank", "churn", "value"}
    assert re.fullmatch("[0-9a-f]{64}", sealed.sha256)
    seal = json.loads((sealed.folder / "seal.json").read_text())
    assert seal["season"] == {"factor": 1.0, "source": "none was stated"}
    assert {"rank blend", "churn trees", "value clv"} <= set(seal["answers"])


def test_the_same_seed_seals_the_same_forecast(sealed, shop, tmp_path):
    before = dataclasses.replace(shop, events=shop.events.filter(pl.col("at") < CUT))
    runtime = machine.detect(seed=0)
    again = backtest.foretell(before, as_of=CUT, plan=PLAN, runtime=runtime, folder=tmp_path / "sealed")
    assert again.sha256 == sealed.sha256
    other = dataclasses.replace(runtime, seed=1)
    assert backtest.foretell(before, as_of=CUT, plan=PLAN, runtime=other, folder=tmp_path / "2").sha256 != sealed.sha256


def test_an_answer_changed_after_the_seal_is_refused(sealed, shop):
    ranks = {name: scores.copy() for name, scores in sealed.forecast.ranks.items()}
    ranks["ease"][0, 0] += 1
    forged = dataclasses.replace(sealed, forecast=dataclasses.replace(sealed.forecast, ranks=ranks))
    with pytest.raises(ModelError, match="'rank ease' is not what was sealed.*proves nothing"):
        backtest.opened(forged, shop, plan=PLAN, runtime=machine.detect(seed=0), dataset="toy", currency="EUR")


def test_a_seal_written_over_is_refused(sealed, shop):
    forged = dataclasses.replace(sealed, sha256="0" * 64)
    with pytest.raises(ModelError, match="seal.json was changed after sealing"):
        backtest.opened(forged, shop, plan=PLAN, runtime=machine.detect(seed=0), dataset="toy", currency="EUR")


def test_the_outcome_is_counted_as_by_hand(sealed, shop):
    outcome = pipeline.judge(sealed.forecast, shop, plan=PLAN, dataset="toy", runtime=machine.detect(seed=0))
    check(outcome.metrics, METRICS, at="test")
    reads = dict(outcome.metrics.select("model", "modalities").unique("model").iter_rows())
    words = ["events", "text"]
    told = [reads[name] for name in ("popularity", "popular", "neighbours", "clv", "ease", "behaviour", "blend")]
    assert told == [["events"]] * 4 + [words] * 3
    after = shop.events.filter(pl.col("at") >= CUT, pl.col("at") < CUT + dt.timedelta(days=60))
    keys = sealed.forecast.past.histories.user_keys.tolist()
    money = dict(after.group_by("user_key").agg(pl.col("value").sum()).iter_rows())
    for row in outcome.labels.to_dicts():
        assert row["value"] == pytest.approx(money.get(row["user_key"], 0.0))
        assert row["churned"] == (row["user_key"] not in money)
    for user, key in enumerate(keys[:20]):
        mine = after.filter(pl.col("user_key") == key)
        first = set(mine.filter(pl.col("at") == pl.col("at").min())["item_id"])
        assert {sealed.forecast.past.items[i] for i in outcome.target[user].indices} == first


def test_the_report_has_every_part_and_draws(report):
    html = page.render(
        report
        | {"meta": report["meta"] | {"title": "toy", "command": "x", "seconds": 1.0, "made_at": "2024-01-01T00:00:00"}}
    )
    assert "customer " in html
    assert report["headline"]["money"]["foretold"] > 0
    assert len(report["headline"]["sentences"]) == 3
    spent = sum(max(0.0, d["actual"]) for d in report["spend"]["deciles"])
    assert "bias_adjusted" not in {row["metric"] for row in report["spend"]["metrics"]}, "no season was stated"
    assert sum(report["headline"]["money"][k] for k in ("foretold", "missed")) == pytest.approx(spent)
    assert report["launches"]["absent"].startswith("No product of the catalogue has words")  # no module is named


def test_what_the_data_is_worth_is_told_with_who_is_known_today(sealed, shop, report):
    then = dataclasses.replace(shop, known=shop.known.filter(pl.col("user_key") < 50))  # the others came after the cut
    turn = pl.when(pl.int_range(pl.len()) % 2 == 0)
    today = dataclasses.replace(
        shop, raw=shop.raw.with_columns(currency=turn.then(pl.lit("EUR")).otherwise(pl.lit("USD")))
    )
    told = {"plan": PLAN, "runtime": machine.detect(seed=0), "dataset": "toy", "currency": "EUR"}
    again = backtest.opened(sealed, then, today=today, **told)
    found = [{f["code"]: f["rows"] for f in one["quality"]["findings"]} for one in (again, report)]
    assert found[0]["no_customer"] == found[1]["no_customer"] > 0
    assert again["headline"]["money"] == report["headline"]["money"]
    assert again["headline"]["sentences"][3:] == [
        "The money: 2 currencies in one table (EUR, USD); no sum of money means anything."
    ]


def test_every_reason_in_the_report_lowers_a_rank(report):
    reasons = [b for c in report["buy"]["customers"] for item in c["list"] for b in item["because"]]
    assert reasons
    assert all(b["rank_without"] > b["rank_with"] for b in reasons)
    assert REASONS.columns  # the rows come from that contract


def test_no_raw_id_of_a_person_is_in_the_report(report):
    keys = {c["customer"] for c in report["buy"]["customers"]}
    assert all(re.fullmatch("customer [0-9a-f]{5}", key) for key in keys)


@pytest.mark.parametrize(
    ("days", "cut", "found"),
    [(380, "2024-02-01", "the cut is 2024-02-01"), (380, "2025-01-10", "the cut is 2025-01-10")],
)
def test_a_cut_without_past_or_without_future_is_refused(days, cut, found):
    with pytest.raises(UsageError, match=f"{found}.*A back-test needs 120 days before its cut"):
        backtest._moment(tables(days), PLAN, cut)


def test_the_default_cut_is_one_horizon_before_the_end():
    last = tables().events["at"].max()
    assert isinstance(last, dt.datetime)
    end = dt.datetime(last.year, last.month, last.day, tzinfo=dt.UTC) + dt.timedelta(days=1)
    assert backtest._moment(tables(), PLAN, None) == end - dt.timedelta(days=60)


def test_no_event_says_import_first():
    nothing = dataclasses.replace(tables(), events=tables().events.clear())
    with pytest.raises(UsageError, match="no event that can be believed.*Import a file first"):
        backtest._moment(nothing, PLAN, None)
