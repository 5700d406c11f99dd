import datetime as dt
import json
import shutil

import numpy as np
import polars as pl
import pytest
from litestar.testing import TestClient

import habitue
from habitue.collect import synthetic
from habitue.core import workspace
from habitue.core.schemas import ITEMS
from habitue.serve import app


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop")


@pytest.fixture
def client(shop):
    with TestClient(app.create(shop)) as client:
        yield client


@pytest.fixture
def post(client):
    """Send anything as JSON, or bytes as they are; returns the answer."""

    def send(path, body, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post(path, content=content, headers=headers)

    return send


@pytest.fixture(scope="session")
def trained_shop(tmp_path_factory):
    """A workspace with a trained model: 40 customers of two tastes, red-0 to red-9 and blue-0 to blue-9.

    blue-9 stands in the catalogue, and nobody ever bought it.
    """
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("trained")
    opened = habitue.init(folder / "shop")
    opened.space.plan.write_text(synthetic.PLAN + opened.space.plan.read_text())
    rows = []
    for user in range(40):
        colour = ("red", "blue")[user % 2]
        for day in np.sort(rng.choice(200, 8, replace=False)):
            order = f"o{user}-{day}"
            at = dt.datetime(2024, 1, 1, 9, tzinfo=dt.UTC) + dt.timedelta(days=int(day), minutes=user)
            for item in rng.choice(9 if colour == "blue" else 10, 3, replace=False):
                title = f"{colour} {('cup', 'bowl', 'plate')[item % 3]} {'abcdefghij'[item]}"
                rows.append((order, f"{colour}-{item}", title, 1, at.isoformat(), 2.0 + item, f"u{user}"))
    frame = pl.DataFrame(
        rows,
        schema=["order", "item", "title", "quantity", "at", "price", "user"],
        orient="row",
    )
    frame.write_csv(folder / "orders.csv")
    (folder / "orders.toml").write_text(synthetic.ORDERS)
    opened.import_(folder / "orders.csv")
    at = dt.datetime(2023, 12, 1, tzinfo=dt.UTC)
    made = [
        {
            "item_id": f"{colour}-{item}",
            "valid_from": at,
            "title": f"{colour} {('cup', 'bowl', 'plate')[item % 3]} {'abcdefghij'[item]}",
            "category": f"Table > {('Cups', 'Bowls', 'Plates')[item % 3]}",
            "brand": colour.title(),
            "price": 2.0 + item,
            "currency": "EUR",
            "attributes": '{"availability": "out_of_stock"}' if item == 8 else None,
            "source": "test",
            "import_id": "test",
        }
        for colour in ("red", "blue")
        for item in range(10)
    ]
    opened.space.lake.append(ITEMS, ITEMS.shape(pl.DataFrame(made, infer_schema_length=None)))
    habitue.open(folder / "shop").train()
    return folder / "shop"


@pytest.fixture
def trained(trained_shop, tmp_path):
    """A copy of the trained workspace, free to be changed."""
    shutil.copytree(trained_shop, tmp_path / "trained")
    return workspace.open_workspace(tmp_path / "trained")
