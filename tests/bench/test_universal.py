"""One vector, three tasks: targets, aggregates and intervals are what loops say, and nothing looks ahead."""

import dataclasses
import datetime as dt
import functools

import numpy as np
import polars as pl
import pytest

from habitue.bench import probe, universal, universal_report
from habitue.collect import synthetic
from habitue.core import metrics
from habitue.core.errors import ModelError, UsageError
from habitue.core.runtime import Runtime
from habitue.core.schemas import ITEMS, METRICS, PURCHASE, REFUSED, USERS, check
from habitue.dashboard import sheet
from habitue.model import behaviour, profile, trees
from habitue.tables import Tables

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=110)
RUNTIME = Runtime(seed=0, threads=1)
CONFIG = universal.Config(
    items=12,
    categories=4,
    least=4,
    profile=profile.Config(
        behaviour=behaviour.Config(width=16, blocks=1, content=8, steps=15),
        trees=trees.Config(most_trees=10, usual_trees=10),
        content=8,
        leading=12,
        groups=4,
    ),
    probe=probe.Config(hidden=16, passes=8, starts=1, learning_rate=3e-3),
)


def tables_of(events: pl.DataFrame, items: pl.DataFrame | None = None) -> Tables:
    known = events.select("user_key").unique().sort("user_key").with_columns(known=pl.lit(True))
    items = ITEMS.empty() if items is None else items
    return Tables(events, events, pl.DataFrame(), items, USERS.empty(), REFUSED.empty(), known)


@functools.cache
def tables() -> Tables:
    return tables_of(synthetic.shop(users=120, items=24, days=160, start=START))


@functools.cache
def made() -> universal.Case:
    return universal.case(tables(), cut=CUT, config=CONFIG, runtime=RUNTIME)


@functools.cache
def result() -> universal.Result:
    return universal.run(tables(), cut=CUT, config=CONFIG, dataset="toy", runtime=RUNTIME)


def bought(since: dt.datetime, until: dt.datetime) -> dict[int, set[str]]:
    rows = tables().events.filter(pl.col("kind") == PURCHASE, pl.col("at") >= since, pl.col("at") < until)
    found: dict[int, set[str]] = {}
    for user, item in rows.select("user_key", "item_id").iter_rows():
        found.setdefault(user, set()).add(item)
    return found


@pytest.mark.parametrize("window", ["learn", "test"])
def test_who_is_asked_and_who_stayed_away(window):
    at = CUT if window == "learn" else CUT + dt.timedelta(days=14)
    before, after = bought(START, at), bought(at, at + dt.timedelta(days=14))
    one = getattr(made(), window)
    assert one.user_keys.tolist() == sorted(before)
    assert one.targets["churn"][:, 0].tolist() == [float(key not in after) for key in one.user_keys.tolist()]


def test_items_and_categories_are_those_bought_in_the_window():
    since = CUT - dt.timedelta(days=90)
    past = universal.pipeline.look_back(tables(), as_of=CUT, plan=universal.Plan(horizon_days=14))[0]
    topics = universal._topics(past, tables().items, CONFIG, 0)
    rows = tables().events.filter(pl.col("at") >= since, pl.col("at") < CUT, pl.col("kind") == PURCHASE)
    counts = rows.group_by("user_key", "at", "item_id").len()["item_id"].value_counts()
    most = sorted(counts["count"].to_list(), reverse=True)[: CONFIG.items]
    told = dict(counts.iter_rows())
    assert [told[item] for item in topics.items] == most
    happened = universal._happened(tables(), past, topics, 14)
    after = bought(CUT, CUT + dt.timedelta(days=14))
    for row, key in enumerate(past.histories.user_keys.tolist()):
        mine = after.get(key, set())
        assert {topics.items[i] for i in np.flatnonzero(happened["item"][row])} == mine & set(topics.items)
        assert set(np.flatnonzero(happened["category"][row])) == {topics.category_of[item] for item in mine}


def test_named_categories_come_before_groups_of_words():
    named = pl.DataFrame({"item_id": [f"P{i:03d}" for i in range(24)]}).with_columns(
        category=pl.when(pl.col("item_id") < "P010").then(pl.lit("low")).otherwise(pl.lit("high")),
        valid_from=pl.lit(START),
        source=pl.lit("s"),
        import_id=pl.lit("i"),
    )
    later = named.with_columns(category=pl.lit("of the future"), valid_from=pl.lit(CUT + dt.timedelta(days=1)))
    items = ITEMS.shape(pl.concat([named, later]))
    past = universal.pipeline.look_back(tables(), as_of=CUT, plan=universal.Plan(horizon_days=14))[0]
    topics = universal._topics(past, items, CONFIG, 0)
    assert set(topics.categories) == {"low", "high"}
    assert topics.categories[topics.category_of["P003"]] == "low"


def test_aggregates_are_what_a_loop_counts():
    past = universal.pipeline.look_back(tables(), as_of=CUT, plan=universal.Plan(horizon_days=14))[0]
    topics = universal._topics(past, tables().items, CONFIG, 0)
    found = np.expm1(universal._aggregates(past, topics))
    key = int(past.histories.user_keys[5])
    mine = tables().events.filter(pl.col("user_key") == key, pl.col("at") < CUT, pl.col("kind") == PURCHASE)
    ago = np.array([(CUT - at).total_seconds() / 86_400 for at in mine["at"].to_list()])
    np.testing.assert_allclose(found[5, :3], [ago.min(), ago.max(), 0], rtol=1e-4)
    width = 4 + len(topics.categories) + len(topics.items)
    for place, days in enumerate(universal.WINDOWS):
        some = mine.filter(pl.Series(ago <= days))
        block = found[5, 3 + place * width : 3 + (place + 1) * width]
        lines = some.group_by("at", "item_id").agg(pl.col("quantity").sum(), pl.col("value").sum())
        expected = [some["at"].n_unique(), lines.height, lines["quantity"].sum(), lines["value"].sum()]
        np.testing.assert_allclose(block[:4], expected, rtol=1e-4, atol=1e-5)
        each = [lines.filter(item_id=item).height for item in topics.items]
        np.testing.assert_allclose(block[-len(topics.items) :], each, atol=1e-4)


def test_vectors_of_a_window_know_nothing_of_it():
    events = tables().events
    turned = events.with_columns(
        user_key=pl.when(pl.col("at") >= CUT).then(119 - pl.col("user_key")).otherwise("user_key")
    )
    other = universal.case(tables_of(turned), cut=CUT, config=CONFIG, runtime=RUNTIME)
    for name in (universal.PROFILE, universal.AGGREGATES):
        assert other.learn.vectors[name].tobytes() == made().learn.vectors[name].tobytes()
    assert not np.array_equal(other.learn.targets["churn"], made().learn.targets["churn"])
    assert not np.array_equal(other.test.vectors[universal.PROFILE], made().test.vectors[universal.PROFILE])


def test_the_mean_area_and_its_draws_are_those_of_metrics_auc():
    rng = np.random.default_rng(1)
    truth = (rng.random((60, 3)) < [0.2, 0.5, 0.05]).astype(np.float32)
    truth[0, 2] = 1
    score = np.round(rng.normal(size=(60, 3)), 1).astype(np.float32)  # with ties
    weight = rng.multinomial(60, np.full(60, 1 / 60), size=40).astype(np.float64)
    each = np.stack([metrics.auc(truth[:, i], score[:, i], weight=weight) for i in range(3)])
    assert np.isnan(each).any()  # a draw without a yes: left out of the mean
    np.testing.assert_allclose(universal.macro_auc(truth, score)(weight), np.nanmean(each, axis=0), rtol=1e-6)


def test_the_table_holds_every_vector_and_task():
    told = result().metrics
    check(told, METRICS, at="test")
    models = ["aggregates", "profile", "profile+aggregates"]
    models += [f"{how} {part}" for how in ("only", "without") for part in profile.PARTS]
    assert told["model"].unique(maintain_order=True).to_list() == models
    assert told["slice"].unique(maintain_order=True).to_list() == list(universal.TASKS)
    assert (told["protocol"] == "profile-14d").all() and (told["cpu_s"] > 0).all() and (told["peak_mb"] > 0).all()
    mean = {(r["model"], r["slice"]): r["mean"] for r in told.iter_rows(named=True)}
    assert mean["profile", "churn"] > 0.75  # half of the users stopped: planted
    assert mean["profile", "category"] > 0.75  # each has one taste of four: planted
    against = result().paired.select("model", "against").unique().rows()
    assert ("profile", "aggregates") in against and ("without scores", "profile") in against


def test_the_sentence_says_where_one_vector_is_above():
    table = pl.DataFrame(
        {"model": [m for m in ("aggregates", "profile") for _ in range(3)], "slice": list(universal.TASKS) * 2,
         "mean": [0.6, 0.7, 0.8, 0.65, 0.71, 0.9]}
    )  # fmt: skip
    paired = pl.DataFrame(
        {"model": ["profile"] * 3, "slice": list(universal.TASKS), "mean": [0.05, 0.01, 0.1],
         "low": [0.01, -0.01, 0.05], "high": [0.09, 0.03, 0.15]}
    )  # fmt: skip
    told = universal._sentence(table, paired)
    assert told.startswith("One frozen vector is clearly above hand-made aggregates on churn, item; AUROC: churn 0.650")
    assert "category 0.710 against 0.700 (-0.010 to +0.030)" in told
    none = universal._sentence(table, paired.with_columns(low=pl.lit(-0.1)))
    assert "on no task" in none
    every = universal._sentence(table, paired.with_columns(low=pl.lit(0.1)))
    assert "on every task" in every


def test_the_document_and_its_page(tmp_path):
    told = universal_report.document(result(), commit="abc")
    assert {"machine", "commit", "versions", "dataset", "protocol", "rows", "sentence", "paired"} <= set(told)
    assert told["settings"]["probe"]["hidden"] == 16
    universal_report.write(told, tmp_path / "p.json", command="habitue bench profile")
    html = (tmp_path / "p.html").read_text()
    assert result().sentence in html.replace("&#39;", "'") and "without scores" in html
    assert sheet.render(universal_report.page(told, "x"))


def test_a_window_that_the_record_does_not_reach():
    with pytest.raises(UsageError, match=r"the last event is of 2024-06-.*ends on 2024-06-.*Choose an earlier cut"):
        universal.case(tables(), cut=START + dt.timedelta(days=140), config=CONFIG, runtime=RUNTIME)
    assert universal.latest_cut(tables(), 14) + dt.timedelta(days=28) <= tables().events["at"].max()


def test_too_few_who_bought_anything():
    with pytest.raises(ModelError, match=r"no answer of task 'churn' has 500 customers.*\(--days\)"):
        universal.case(tables(), cut=CUT, config=dataclasses.replace(CONFIG, least=500), runtime=RUNTIME)


def test_a_catalogue_without_categories_and_words():
    past = universal.pipeline.look_back(tables(), as_of=CUT, plan=universal.Plan(horizon_days=14))[0]
    with pytest.raises(ModelError, match="neither categories nor words.*Import products with a category or a title"):
        universal._topics(dataclasses.replace(past, words=None), tables().items, CONFIG, 0)


def test_a_shop_without_an_event():
    with pytest.raises(ModelError, match="there is no event.*habitue import"):
        universal.latest_cut(tables_of(tables().events.head(0)), 14)
