"""Consent withdrawn, joins made: what features, training, answers and exports do with it, on one small shop."""

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import habitue
from habitue import pipeline
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.schemas import CONSENT
from habitue.prepare import buckets, timeline
from habitue.prepare.activity import activity
from habitue.protect import consent, identities, people

MAPPING = """\
source = "orders"
time_zone = "UTC"

[columns]
at = "date"
order_id = "order"
item_id = "product"
title = "name"
quantity = "quantity"
price = "price"

[user]
column = "customer"
"""
QUICK = """
horizon_days = 30

[blend]
views = ["popular", "trees", "clv"]
"""
END = dt.datetime(2025, 2, 4, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A shop of 60 customers, c0 to c59, over 400 days from 2024-01-01."""
    folder = tmp_path_factory.mktemp("owner")
    orders = synthetic.shop(users=60, items=24, days=400).select(
        date=pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S"),
        order="order_id",
        product="item_id",
        name="title",
        quantity="quantity",
        price="price",
        customer=pl.format("c{}", "user_key"),
    )
    orders.write_csv(folder / "orders.csv")
    (folder / "orders.toml").write_text(MAPPING)
    shop = habitue.init(folder / "shop")
    shop.import_(folder / "orders.csv", seed=1)
    plan = folder / "shop/habitue.toml"
    plan.write_text(QUICK + plan.read_text())
    return folder / "shop"


@pytest.fixture
def shop(made, tmp_path):
    shutil.copytree(made, tmp_path / "shop")
    return habitue.open(tmp_path / "shop")


def key(shop, customer: str) -> int:
    found = identities.lookup(shop.space.identities, "user_id", customer)
    assert found is not None
    return found


def says(shop, customer: str, purpose: str, granted: bool, at: dt.datetime) -> None:
    row = {"user_key": key(shop, customer), "purpose": purpose, "granted": granted, "at": at}
    shop.space.lake.append(CONSENT, CONSENT.shape(pl.DataFrame([row | {"source": "form", "import_id": "test"}])))


def past(shop, as_of: dt.datetime = END, **more):
    return pipeline.look_back(pipeline.read(shop.space, shop.plan, as_of=as_of), as_of=as_of, plan=shop.plan, **more)[0]


def test_who_withdraws_personalisation_is_in_no_feature_row_and_no_training_row(shop):
    before, c7 = past(shop), key(shop, "c7")
    assert c7 in before.features["user_key"] and c7 in before.train_features["user_key"]
    says(shop, "c7", "personalisation", False, END - dt.timedelta(days=1))
    after = past(shop)
    for frame in (after.features, after.train_features, after.train_labels):
        assert c7 not in frame["user_key"] and frame["user_key"].n_unique() > 40
    assert c7 not in after.histories.user_keys and len(after.histories.user_keys) == len(before.histories.user_keys) - 1
    others = before.features.filter(pl.col("user_key") != c7)
    assert after.features.equals(others), "nobody else's row changes"


def test_a_training_row_needs_the_consent_of_its_own_moment(shop):
    c7 = key(shop, "c7")
    moments = past(shop).train_features.filter(user_key=c7)["as_of"].to_list()
    says(shop, "c7", "personalisation", False, moments[2])
    says(shop, "c7", "personalisation", True, moments[5])
    after = past(shop)
    assert after.train_features.filter(user_key=c7)["as_of"].to_list() == moments[:2] + moments[5:]
    assert after.train_labels.select("user_key", "as_of").equals(after.train_features.select("user_key", "as_of"))
    assert c7 in after.features["user_key"]


def test_who_withdraws_analytics_is_in_no_count_but_the_tables_keep_the_rows(shop):
    c7 = key(shop, "c7")
    says(shop, "c7", "analytics", False, END - dt.timedelta(days=1))
    tables = pipeline.read(shop.space, shop.plan, as_of=END)
    assert c7 in tables.raw["user_key"] and c7 not in tables.events["user_key"]
    assert c7 not in past(shop, purpose=consent.ANALYTICS).histories.user_keys


def test_personas_need_analytics_only(shop):
    says(shop, "c7", "personalisation", False, END - dt.timedelta(days=1))
    says(shop, "c8", "analytics", False, END - dt.timedelta(days=1))
    members = shop.personas(method="kmeans", count=2).members["user_key"]
    assert key(shop, "c7") in members and key(shop, "c8") not in members


def test_answers_fall_back_with_the_reason_named(shop):
    trained = shop.train()
    own = shop.recommend(user_id="c7", n=5)
    assert own["fallback"].null_count() == own["reason"].null_count() == 5
    personal = shop.predict("churn")
    assert personal["fallback"].null_count() == personal.height == 60
    says(shop, "c7", "personalisation", False, END - dt.timedelta(days=1))
    says(shop, "c8", "analytics", False, END - dt.timedelta(days=1))
    popular = shop.recommend(user_id="nobody", n=5)
    assert popular["reason"].to_list() == ["not met before"] * 5
    for customer, purpose in (("c7", "personalisation"), ("c8", "analytics")):
        answer = shop.recommend(user_id=customer, n=5)
        assert answer["reason"].to_list() == [f"no consent to {purpose}"] * 5
        assert answer["fallback"].to_list() == ["popular"] * 5
        assert answer["item_id"].to_list() == popular["item_id"].to_list() and answer["because"].list.len().sum() == 0
    told = shop.predict("churn")
    rows = {row["user_id"]: row for row in told.to_dicts()}
    assert told.height == 60 and told["fallback"].drop_nulls().to_list() == ["mean", "mean"]
    assert rows["c7"]["reason"] == "no consent to personalisation" and rows["c8"]["reason"] == "no consent to analytics"
    mean = float(np.mean([r["score"] for r in rows.values() if r["fallback"] is None]))
    for customer in ("c7", "c8"):
        assert rows[customer]["score"] == pytest.approx(mean, rel=1e-12)
        assert rows[customer]["orders"] is rows[customer]["spent"] is None
    again = shop.train()
    assert again.folder != trained.folder, "a withdrawal is another data version: the model is fitted anew"


def test_a_withdrawal_after_the_moment_counts_and_a_consent_after_it_does_not(shop):
    then = dt.datetime(2024, 10, 1, tzinfo=dt.UTC)
    says(shop, "c7", "personalisation", False, END)
    says(shop, "c8", "personalisation", False, then - dt.timedelta(days=9))
    says(shop, "c8", "personalisation", True, END)
    keys = past(shop, then).histories.user_keys
    assert key(shop, "c7") not in keys and key(shop, "c8") not in keys
    assert key(shop, "c8") in past(shop).histories.user_keys


def test_nobody_may_be_used_is_said(shop):
    with shop.space.plan.open("a") as plan:
        plan.write("\n[consent]\npersonalisation = false\n")
    opened = habitue.open(shop.folder)
    with pytest.raises(ModelError, match=r"0 of 60 customers may be used for personalisation.*\[consent\] pers"):
        opened.train()
    says(opened, "c7", "personalisation", True, dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    assert past(opened).histories.user_keys.tolist() == [key(opened, "c7")]


def test_bucket_by_bucket_the_same_people_are_left_out(shop):
    """Withdrawn today, withdrawn for a while, not counted at all, and joined to somebody who has withdrawn."""
    moments = past(shop).train_features.filter(user_key=key(shop, "c3"))["as_of"].to_list()
    says(shop, "c7", "personalisation", False, END - dt.timedelta(days=1))
    says(shop, "c3", "personalisation", False, moments[2])
    says(shop, "c3", "personalisation", True, moments[5])
    says(shop, "c8", "analytics", False, END - dt.timedelta(days=1))
    says(shop, "c9", "personalisation", False, END - dt.timedelta(days=20))
    people.merge(shop.space.identities, key(shop, "c10"), into=key(shop, "c9"), at=END, source="test")
    lake, ids = shop.space.lake, shop.space.identities
    tables = pipeline.read(shop.space, shop.plan)
    asked = {"joins": people.joins(ids), "consents": tables.consents}
    for agreed in (consent.PERSONALISATION, consent.ANALYTICS):
        whole = pipeline.look_back(tables, as_of=END, plan=shop.plan, purpose=agreed)[0]
        for rows in (whole.features, whole.train_features):
            at = rows["as_of"].unique().sort().to_list()
            found = buckets.features(lake, as_of=at, purpose=agreed, **asked)
            assert found.equals(rows.sort("as_of", "user_key")) and found.height > 50
    assert buckets.whole(buckets.timeline(lake, **asked)).equals(timeline(tables.events))
    counted = buckets.activity(lake, gap=dt.timedelta(hours=1), **asked)
    assert counted.equals(activity(tables.events, gap=dt.timedelta(hours=1)))
    assert counted.height == 58 and buckets.activity(lake, gap=dt.timedelta(hours=1)).height == 60
    asked["purpose"] = consent.PERSONALISATION
    assert buckets.activity(lake, gap=dt.timedelta(hours=1), **asked).height == 56  # without c7, c8, and c9 with c10


def test_an_audience_holds_only_who_granted_marketing(shop):
    found = shop.personas(method="kmeans", count=2)
    assert shop.audience(found).is_empty()
    says(shop, "c7", "marketing", True, END - dt.timedelta(days=30))
    says(shop, "c8", "marketing", True, END - dt.timedelta(days=30))
    says(shop, "c8", "marketing", False, END - dt.timedelta(days=3))
    assert shop.audience(found)["user_id"].to_list() == ["c7"]


def test_what_one_key_says_holds_for_the_whole_person(shop):
    says(shop, "c7", "personalisation", False, END - dt.timedelta(days=20))
    joined = END - dt.timedelta(days=10)
    people.merge(shop.space.identities, key(shop, "c8"), into=key(shop, "c7"), at=joined, source="test")
    keys = past(shop).histories.user_keys
    assert key(shop, "c7") not in keys and key(shop, "c8") not in keys
    earlier = past(shop, joined - dt.timedelta(days=1)).histories.user_keys
    assert not {key(shop, "c7"), key(shop, "c8")} & set(earlier), "who has left by now is in no back-test"
    assert len(earlier) == 58


def test_a_merge_is_read_as_of_its_moment_and_its_undoing_too(shop):
    c7, c8 = key(shop, "c7"), key(shop, "c8")
    apart = past(shop)
    number = people.merge(shop.space.identities, c7, into=c8, at=END - dt.timedelta(days=40), source="test")
    orders = {row["user_key"]: row["order_count"] for row in apart.features.to_dicts()}
    one = {row["user_key"]: row["order_count"] for row in past(shop).features.to_dicts()}
    assert c7 not in one and one[c8] == orders[c7] + orders[c8]
    before = END - dt.timedelta(days=41)
    assert {c7, c8} <= set(past(shop, before).features["user_key"])
    people.undo(shop.space.identities, number, at=END)
    assert past(shop).features.equals(apart.features)
    shop.train(as_of=before)
    assert shop.recommend(user_id="c7", as_of=before)["fallback"].null_count() == 10


def test_a_merged_customer_is_answered_as_one_person(shop):
    people.merge(shop.space.identities, key(shop, "c7"), into=key(shop, "c8"), at=END, source="test")
    shop.train()
    one, other = (shop.recommend(user_id=c, n=5, why=False) for c in ("c7", "c8"))
    assert one.equals(other) and one["fallback"].null_count() == 5
    told = shop.predict("value")
    assert told.height == 59 and sum(c in told["user_id"] for c in ("c7", "c8")) == 1
