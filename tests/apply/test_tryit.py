from __future__ import annotations

import base64
import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from habitue.apply import tryit
from habitue.collect import synthetic
from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.schemas import Events
from habitue.model import ease
from habitue.model.past import PURCHASE, Past, next_sets, purchases

CUT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=150)
CONFIG = tryit.Config(dim=12)


@pytest.fixture(scope="module")
def shop() -> Events:
    return synthetic.shop(users=120, seed=5)


@pytest.fixture(scope="module")
def past(shop: Events, past_of: Callable[..., Past]) -> Past:
    return past_of(shop, CUT)


@pytest.fixture(scope="module")
def page(past: Past) -> dict[str, Any]:
    return tryit.embed(past, {"P000": "garden thing 0"}, CONFIG, rivals=("popular",))


def _decoded(page: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    whole = np.frombuffer(base64.b64decode(page["vectors"]), dtype=np.int8).reshape(len(page["items"]), page["dim"])
    return whole.astype(int), np.frombuffer(base64.b64decode(page["weights"]), dtype=np.uint8).astype(int)


def _ticking(page: dict[str, Any], *items: str) -> list[str]:
    """What the script of the page does, in plain numbers."""
    whole, weight = _decoded(page)
    names = [item["id"] for item in page["items"]]
    ticked = [names.index(item) for item in items]
    score = (whole @ whole[ticked].sum(axis=0)) * weight
    score[ticked] = score.min() - 1
    return [names[i] for i in np.argsort(-score, kind="stable")]


def test_ticking_a_product_brings_those_of_its_taste(page: dict[str, Any]) -> None:
    for taste in range(4):
        ticked = f"P{taste * 10:03d}"
        assert {int(item[1:]) // 10 for item in _ticking(page, ticked)[:5]} == {taste}
    both = {int(item[1:]) // 10 for item in _ticking(page, "P000", "P030")[:8]}
    assert both == {0, 3}


def test_scores_are_those_of_the_embedded_numbers(page: dict[str, Any], past: Past) -> None:
    told = tryit.vectors(past, CONFIG, runtime=Runtime())
    scores = tryit.score(told, past)
    bought = past.histories.of_kind(PURCHASE)
    for user in (0, 7, 50):
        rows = bought.row_item[bought.set_user[bought.row_set] == user]
        ticked = sorted({past.items[i] for i in rows})
        ours = [past.items[i] for i in np.argsort(-scores[user], kind="stable") if past.items[i] not in ticked]
        assert ours[:10] == _ticking(page, *ticked)[:10]


def test_vectors_are_the_positive_part_of_the_partial_correlations(shop: Events, past_of: Callable[..., Past]) -> None:
    rare = (pl.col("item_id") < "P015") & (pl.col("user_key") % 3 > 0)  # so that EASE's own table is not symmetric
    past = past_of(shop.filter(~rare), CUT)
    told = tryit.vectors(past, tryit.Config(dim=39), runtime=Runtime())
    settings = ease.Config()
    people = purchases(past, past.items, half_life_days=settings.half_life_days, cap=1).toarray().astype(float)
    words = past.words.toarray() if past.words is not None else np.zeros((40, 1))
    inverse = np.linalg.inv(people.T @ people + settings.words * words @ words.T + settings.ridge * np.eye(40))
    partial = -inverse / np.sqrt(np.outer(np.diag(inverse), np.diag(inverse)))
    np.fill_diagonal(partial, 0)
    value, vector = np.linalg.eigh(partial)
    positive = (vector * np.maximum(value, 0)) @ vector.T
    ours = (told.whole * told.scale) @ (told.whole * told.scale).T
    np.testing.assert_allclose(ours, positive[np.ix_(told.items, told.items)], atol=0.001)
    assert np.abs(told.whole).max() == 127


def test_products_stand_best_known_first_and_keep_to_the_bytes(past: Past, page: dict[str, Any]) -> None:
    bought = past.histories.of_kind(PURCHASE)
    sold = np.bincount(bought.row_item, minlength=40)
    order = [past.items[i] for i in np.argsort(-sold, kind="stable")]
    assert [item["id"] for item in page["items"]] == order
    assert {item["id"]: item["title"] for item in page["items"]}["P000"] == "garden thing 0"
    assert {item["id"]: item["title"] for item in page["items"]}["P001"] == "P001"
    assert page["bytes"] == len(page["vectors"]) + len(page["weights"])
    small = tryit.embed(past, {}, tryit.Config(dim=12, max_bytes=400), rivals=())
    assert [item["id"] for item in small["items"]] == order[:23]
    assert 360 < small["bytes"] <= 400


def test_a_product_nobody_bought_is_left_out(shop: Events, past_of: Callable[..., Past]) -> None:
    past = past_of(shop.filter((pl.col("item_id") != "P005") | (pl.col("at") > CUT)), CUT, catalogue=shop)
    assert "P005" in past.items
    told = tryit.vectors(past, CONFIG, runtime=Runtime())
    assert "P005" not in {past.items[i] for i in told.items}
    scores = tryit.score(told, past)
    assert (scores.argmin(axis=1) == past.items.index("P005")).all()


def test_a_fading_product_weighs_less(shop: Events, past_of: Callable[..., Past]) -> None:
    month = pl.col("at") > CUT - dt.timedelta(days=30)
    past = past_of(shop.filter((pl.col("item_id") != "P001") | ~month), CUT)
    told = tryit.vectors(past, CONFIG, runtime=Runtime())
    weight = dict(zip((past.items[i] for i in told.items), told.weight.tolist(), strict=True))
    assert weight["P001"] == min(weight.values())
    assert max(weight.values()) == 255
    level = tryit.vectors(past, dataclasses.replace(CONFIG, trend=0.0), runtime=Runtime())
    assert set(level.weight.tolist()) == {255}


def test_the_same_past_gives_the_same_bytes(past: Past, page: dict[str, Any]) -> None:
    assert tryit.embed(past, {"P000": "garden thing 0"}, CONFIG, rivals=("popular",)) == page


def test_quality_is_measured_before_the_seal_on_new_products(past: Past, page: dict[str, Any]) -> None:
    ours, popular = page["metrics"]
    assert (ours["model"], ours["slice"], ours["metric"], popular["model"]) == (
        "try_it",
        "first_time",
        "ndcg@10",
        "popular",
    )
    assert ours["mean"] > popular["mean"] + 0.2
    assert page["note"] == (
        f"Measured on the {past.horizon_days} days before the seal, on products new to the customer: NDCG@10 "
        f"{ours['mean']:.3f} ({ours['low']:.3f} to {ours['high']:.3f}) over {ours['n']:,} customers; "
        f"popular {popular['mean']:.3f}."
    )


@pytest.mark.parametrize("horizon_days", [60, 12])
def test_measured_are_known_customers_who_came_back_for_something_new(
    shop: Events, past_of: Callable[..., Past], horizon_days: int
) -> None:
    newcomers = (pl.col("user_key") >= 100) & (pl.col("at") < CUT - dt.timedelta(days=horizon_days))
    past = past_of(shop.filter(~newcomers), CUT, horizon_days=horizon_days)
    past = dataclasses.replace(past, known=np.arange(len(past.known)) % 3 > 0)
    [row], _ = tryit.measure(past, CONFIG, rivals=(), runtime=Runtime())
    then = past.day - horizon_days
    before = past.histories.before(then)
    had = np.zeros((len(past.histories.user_keys), 40), dtype=bool)
    had[before.set_user[before.row_set], before.row_item] = True
    target = next_sets(past.histories, after=then, until=past.day).toarray() > 0
    new = (target & ~had[:, : target.shape[1]]).any(axis=1)
    assert row["n"] == int((new & had.any(axis=1) & past.known).sum())


def test_what_happened_later_does_not_help_the_measure(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    fit = ease.fit

    def spy(past: Past, config: ease.Config, *, runtime: Runtime) -> ease.State:
        seen.append(float(past.histories.set_at.max()))
        return fit(past, config, runtime=runtime)

    monkeypatch.setattr(ease, "fit", spy)
    tryit.measure(past, CONFIG, rivals=("ease",), runtime=Runtime())
    assert len(seen) == 2
    assert max(seen) < past.day - past.horizon_days


def test_too_few_products_are_refused(past: Past) -> None:
    with pytest.raises(
        ModelError, match=r"40 products were sold before 2024-05-30.*nothing to press into 40 numbers a product"
    ):
        tryit.embed(past, {}, tryit.Config(dim=40))


def test_a_past_too_short_to_measure_says_so(shop: Events, past_of: Callable[..., Past]) -> None:
    early = past_of(shop, dt.datetime(2024, 2, 20, tzinfo=dt.UTC))
    told = tryit.embed(early, {}, CONFIG)
    assert told["metrics"] == []
    assert told["note"].startswith("How good these vectors are could not be measured on this shop's past: 0 products")
