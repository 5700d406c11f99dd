"""Predictions of many at once are those of each alone."""

import datetime as dt

import numpy as np
import pytest

from habitue import serving
from habitue.core.schemas import EVENTS
from habitue.serve import foretold, shop
from habitue.serve.events import mapped
from habitue.serve.persons import Persons
from habitue.serve.problems import Problem
from habitue.serve.state import Shopper, Shoppers

NOW = dt.datetime(2024, 8, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def served(trained_shop):
    from habitue.core import workspace

    space = workspace.open_workspace(trained_shop)
    folder = serving.read(space)
    persons = Persons(space.identities)
    persons.look()
    ready = shop.opened(folder, models=space.models)
    everybody = Shoppers(mapped(folder), persons)
    keys = [persons.key("user_id", f"u{n}") for n in range(40)]
    rows = [
        dict.fromkeys(EVENTS.schema)
        | {"at": NOW - dt.timedelta(days=2, minutes=n), "event_id": f"v{n}", "line": 0, "user_key": keys[n % 3]}
        | {"kind": ("Product Added", "Product Viewed")[n % 2], "item_id": f"red-{n}"}
        for n in range(5)
    ]
    everybody.take(rows)  # three have other kinds of sets than the rest, in another order
    return ready, [everybody.of(key) for key in keys] + [Shopper()]  # and one was never seen


def test_each_of_many_gets_what_is_said_of_them_alone(served):
    ready, shoppers = served
    together = foretold.predictions(ready, iter(shoppers), now=NOW)
    assert len(together) == 41 and {"churn", "value"} < set(together[0])
    for shopper, told in zip(shoppers, together, strict=True):
        (alone,) = foretold.predictions(ready, [shopper], now=NOW)
        assert told.keys() == alone.keys()
        for name, value in told.items():
            assert value == pytest.approx(alone[name], rel=1e-4, abs=1e-4), name
    assert len({round(told["churn"], 6) for told in together}) > 20


def test_histories_side_by_side_are_those_of_each(served):
    ready, shoppers = served
    every = [shopper.history(ready.index) for shopper in shoppers]
    found = foretold.joined(every)
    assert found.user_keys.tolist() == list(range(41))
    for user, one in enumerate(every):
        mine = found.take([user])
        for name in ("set_at", "row_start", "row_item", "row_quantity", "row_value"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(one, name))
        assert [found.kinds[k] for k in mine.set_kind] == [one.kinds[k] for k in one.set_kind]


def test_nobody_is_foretold_nothing_and_without_a_model_it_is_said(served):
    ready, shoppers = served
    assert foretold.predictions(ready, [], now=NOW) == []
    import dataclasses

    none = dataclasses.replace(ready, snapshot=dataclasses.replace(ready.snapshot, state=None))
    with pytest.raises(Problem, match="No model was trained that foretells this"):
        foretold.predictions(none, shoppers, now=NOW)
