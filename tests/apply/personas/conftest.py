"""What may be known of the toy shop, whose customers have one of four tastes each, and its personas."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import polars as pl
import pytest

from habitue.apply import personas
from habitue.collect import synthetic
from habitue.core.schemas import Events
from habitue.model.past import Past

CUT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=200)
CONFIG = personas.Config(method="kmeans", count=4, groups=4, taste_weight=4.0, draws=2, map_rows=50, least=5, lift=2.0)


@pytest.fixture(scope="session")
def shop() -> Events:
    return synthetic.shop(users=80, seed=1)


@pytest.fixture(scope="session")
def titles(shop: Events) -> dict[str, str]:
    return dict(shop.select("item_id", "title").unique().iter_rows())


@pytest.fixture(scope="session")
def past(shop: Events, past_of: Callable[..., Past]) -> Past:
    return past_of(shop, CUT)


@pytest.fixture(scope="session")
def found(past: Past, titles: dict[str, str], shop: Events) -> personas.Personas:
    return personas.find(past, titles, CONFIG, before=personas.earlier(past, shop, CONFIG))


@pytest.fixture(scope="session")
def config() -> personas.Config:
    return CONFIG


@pytest.fixture(scope="session")
def taste() -> pl.Expr:
    """The planted taste of a customer."""
    return pl.col("user_key") % 4
