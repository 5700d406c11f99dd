"""What the shop says of its customers reaches the list, offline and on the server alike, where the plan names it."""

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest

import habitue
from habitue import pipeline, serving
from habitue.look_back import traits_learnt
from habitue.model import artifact, blend
from habitue.plan import Plan
from habitue.serve import foretold, shop, state
from habitue.serve.events import mapped
from habitue.serve.personal import personal
from habitue.serve.persons import Persons
from habitue.tables import version

NOW = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
PLAN = """
horizon_days = 30
traits = ["plan", "note"]

[blend]
views = ["behaviour"]
least_users = 10000
least_labels = 10000

[blend.behaviour]
width = 16
passes = 25
dropout = 0.3
questions = 32
learning_rate = 1e-2
window = 8
"""
ORDERS = """
source = "orders"
time_zone = "UTC"
currency = "EUR"
columns = { at = "at", order_id = "order", item_id = "item", quantity = "quantity", price = "price" }
user = { column = "user" }
kind = { default = "Order Completed" }
"""
PEOPLE = """
source = "people"
time_zone = "UTC"
what = "users"
user = { column = "user" }
columns = { valid_from = "since" }
user_attributes = { plan = "plan", note = "note" }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """80 customers whose first order is a mug; the `plan` alone tells whether the next is of gold or of tin.

    new-0, new-1 and new-2 have ordered a mug; of new-2 no plan is known.
    """
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("traits")
    opened = habitue.init(folder / "shop")
    opened.space.plan.write_text(PLAN + opened.space.plan.read_text())
    orders, people = [], []
    for n in range(80):
        taste = ("gold", "tin")[n % 2]
        people.append((f"u{n}", "2026-01-01", taste, f"only {n}"))
        at = dt.datetime(2026, 1, 1, 9) + dt.timedelta(days=int(rng.integers(170)), minutes=n)
        later = (at + dt.timedelta(days=10)).isoformat()
        orders.append((f"a{n}", f"mug-{rng.integers(3)}", 1, at.isoformat(), 3.0, f"u{n}"))
        orders += [(f"b{n}", f"{taste}-{k}", 1, later, 3.0, f"u{n}") for k in rng.choice(4, 2, replace=False)]
    for n in range(3):
        orders.append((f"new-{n}", "mug-0", 1, f"2026-07-25T09:0{n}:00", 3.0, f"new-{n}"))
        people.append((f"new-{n}", "2026-07-24", ("gold", "tin", None)[n], "another"))
    columns = ["order", "item", "quantity", "at", "price", "user"]
    pl.DataFrame(orders, schema=columns, orient="row").write_csv(folder / "orders.csv")
    pl.DataFrame(people, schema=["user", "since", "plan", "note"], orient="row").write_csv(folder / "people.csv")
    for name, mapping in (("orders", ORDERS), ("people", PEOPLE)):
        (folder / f"{name}.toml").write_text(mapping)
        opened.import_(folder / f"{name}.csv")
    habitue.open(folder / "shop").train(as_of=NOW.date())
    return folder / "shop"


@pytest.fixture(scope="module")
def served(trained):
    space = habitue.open(trained).space
    folder = serving.read(space)
    persons = Persons(space.identities)
    everybody = state.Shoppers(mapped(folder), persons)
    return shop.opened(folder, models=space.models), lambda user: everybody.of(persons.key("user_id", user)), folder


def ranked(ready, shopper):
    """Return how much more gold than tin is worth to a shopper."""
    scores = personal(ready, shopper, now=NOW)
    gold, tin = (np.array([item.startswith(taste) for item in ready.items]) for taste in ("gold", "tin"))
    return float(scores[gold].mean() - scores[tin].mean())


def test_the_server_says_what_the_offline_command_says(trained, served):
    ready, known, _ = served
    offline = habitue.open(trained)
    past, _, model = offline._ask(offline._tables(NOW), NOW)
    assert past.traits.shape[1] == model.state.views["behaviour"].traits == 4  # gold, tin, other, missing; no note
    for user in ("u0", "u1", "new-0", "new-1", "new-2"):
        place = int(np.flatnonzero(past.histories.user_keys == offline._key(user, None))[0])
        wanted = blend.score(model.state, past.take([place]))[0]
        np.testing.assert_allclose(personal(ready, known(user), now=NOW), wanted, rtol=1e-3, atol=1e-4)


def test_somebody_who_ordered_once_is_told_apart_by_the_plan(served):
    ready, known, _ = served
    assert ranked(ready, known("new-0")) > 1 and ranked(ready, known("new-1")) < -1
    told = ready.traits.of([10**9, known("new-0").person, known("new-2").person])
    assert told.any(axis=1).tolist() == [False, True, False]
    nobody = shop.Traits(np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=np.float32))
    assert nobody.of([1, 2]).shape == (2, 4)


def test_a_prediction_reads_them_too(served):
    ready, known, _ = served
    some = [known(f"new-{n}") for n in (0, 2, 0)]
    gold, none, again = foretold.predictions(ready, some, now=NOW)
    bare = foretold.predictions(dataclasses.replace(ready, traits=None), some, now=NOW)
    assert gold == again and gold["churn"] != bare[0]["churn"] and none["churn"] == pytest.approx(bare[1]["churn"])


def test_the_manifest_names_columns_and_nobody(trained):
    (folder,) = (trained / "models" / "blend").glob("[0-9]*")
    said = artifact.load(folder).manifest["traits"]
    assert [(c["name"], c["values"]) for c in said["columns"]] == [("plan", ["gold", "tin"])]
    assert "only 7" not in (folder / "manifest.json").read_text()


def test_a_model_tried_out_that_reads_other_columns_is_told_nothing(trained, served):
    ready, known, folder = served
    space = habitue.open(trained).space
    loaded = artifact.load(next((trained / "models" / "blend").glob("[0-9]*")))
    other_version = "20260801T000000Z-other"
    for said, told in ((loaded.manifest["traits"], True), (None, False)):
        name = f"{other_version}{told}"
        artifact.save(space.models / "blend" / name, "blend", loaded.state, loaded.manifest | {"traits": said})
        other = shop.opened(folder, models=space.models, before=ready, version=name)
        assert (other.traits is not None) == told and np.isfinite(ranked(other, known("new-0")))


def test_without_the_setting_nothing_is_read(trained):
    opened = habitue.open(trained)
    tables = opened._tables(NOW)
    bare = Plan(horizon_days=30)
    assert traits_learnt(tables, bare, as_of=NOW) is None
    assert pipeline.look_back(tables, as_of=NOW, plan=opened.plan)[0].traits is None
    fewer = tables.users.filter(pl.col("attributes").str.contains("gold"))
    changed = dataclasses.replace(tables, users=fewer)
    versions = [version(t, p, NOW) for p in (opened.plan, bare) for t in (tables, changed)]
    assert versions[0] != versions[1] and versions[2] == versions[3]
