"""A product that was put up after training, and whose brand sells: the server lifts it as the offline command does."""

import dataclasses
import datetime as dt

import numpy as np
import polars as pl
import pytest

import habitue
from habitue import adapting, serving
from habitue.core.runtime import Runtime
from habitue.core.schemas import ITEMS
from habitue.model import blend, newcomers
from habitue.serve import shop, state
from habitue.serve.events import mapped
from habitue.serve.personal import personal
from habitue.serve.persons import Persons

NOW = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
PLAN = """
horizon_days = 30

[blend]
views = ["popular", "neighbours"]

[blend.newcomers]
weight = 2.0
"""
ORDERS = """
source = "orders"
time_zone = "UTC"
currency = "EUR"
columns = { at = "at", order_id = "order", item_id = "item", quantity = "quantity", price = "price" }
user = { column = "user" }
kind = { default = "Order Completed" }
"""


def put_up(opened, rows, at):
    made = [
        {"item_id": i, "valid_from": at, "title": f"thing {i}", "brand": b, "source": "t", "import_id": "t"}
        for i, b in rows
    ]
    opened.space.lake.append(ITEMS, ITEMS.shape(pl.DataFrame(made)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Sixty products: of the brand Loud ten times as many are sold. Four more are put up after training."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("newcomers")
    opened = habitue.init(folder / "shop")
    opened.space.plan.write_text(PLAN + opened.space.plan.read_text())
    brands = [("Loud", "Quiet")[n % 2] for n in range(60)]
    rate = np.array([10.0 if brand == "Loud" else 1.0 for brand in brands])
    orders = [
        (
            f"o{user}-{day}",
            f"p{n:02d}",
            1,
            f"2026-{5 + day // 30:02d}-{1 + day % 30:02d}T09:{user:02d}:00",
            3.0,
            f"u{user}",
        )
        for user in range(40)
        for day in rng.choice(85, 8, replace=False)
        for n in np.r_[rng.choice(60, 2, replace=False, p=rate / rate.sum()), (user + day) % 60]
    ]
    columns = ["order", "item", "quantity", "at", "price", "user"]
    pl.DataFrame(orders, schema=columns, orient="row").unique(["order", "item"], maintain_order=True).write_csv(
        folder / "orders.csv"
    )
    (folder / "orders.toml").write_text(ORDERS)
    opened.import_(folder / "orders.csv")
    put_up(opened, [(f"p{n:02d}", brand) for n, brand in enumerate(brands)], dt.datetime(2026, 4, 1, tzinfo=dt.UTC))
    habitue.open(folder / "shop").train(as_of=dt.date(2026, 7, 28))
    late = [("q-loud", "Loud"), ("q-quiet", "Quiet"), ("r-loud", "Loud"), ("r-quiet", "Quiet")]
    put_up(opened, late, dt.datetime(2026, 7, 30, tzinfo=dt.UTC))
    return folder / "shop"


def test_the_server_lifts_what_facts_foretell_as_the_offline_command_does(trained):
    offline = habitue.open(trained)
    past, _, model = offline._ask(offline._tables(NOW), NOW)
    assert model.manifest["newcomers"].endswith("weight 2 by the settings.")
    space = offline.space
    folder = serving.read(space)
    ready = shop.opened(folder, models=space.models)
    persons = Persons(space.identities)
    everybody = state.Shoppers(mapped(folder), persons)
    new = np.array([item[0] in "qr" for item in ready.items])
    loud = np.array([item.endswith("-loud") for item in ready.items])
    plain = dataclasses.replace(model.state, newcomers=None)
    for user in ("u0", "u7"):
        place = int(np.flatnonzero(past.histories.user_keys == offline._key(user, None))[0])
        found = personal(ready, everybody.of(persons.key("user_id", user)), now=NOW)
        wanted, before = (blend.score(one, past.take([place]))[0] for one in (model.state, plain))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(wanted[~new], before[~new])
        assert wanted[new & loud].min() > wanted[new & ~loud].max() and np.ptp(before[new]) == 0
    again = shop.opened(serving.read(space), models=space.models, before=ready)
    assert again.past.facts is ready.past.facts  # nothing changed: nothing is foretold twice


def test_a_model_that_adapts_keeps_the_weight_and_knows_what_was_sold_since(trained):
    offline = habitue.open(trained)
    tables = offline._tables(NOW)
    past, _, model = offline._ask(tables, NOW)
    bought = dataclasses.replace(past.histories, row_item=past.histories.row_item.copy())
    bought.row_item[-1] = past.items.index("q-loud")
    later = adapting.refitted(
        model.state, dataclasses.replace(past, histories=bought), offline.plan, runtime=Runtime(threads=1)
    )
    assert later.newcomers.weight == 2.0 and "q-loud" in later.newcomers.sold
    new, _ = newcomers.expected_of_new(later.newcomers, past)
    assert [past.items[i] for i in np.flatnonzero(new)] == ["q-quiet", "r-loud", "r-quiet"]
    off = dataclasses.replace(model.state, newcomers=None)
    assert adapting.refitted(off, past, offline.plan, runtime=Runtime(threads=1)).newcomers is None
