"""benchmarks/quality/splits.py asks what its page says, on the toy shop."""

import datetime as dt
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue.collect import synthetic
from habitue.core.runtime import Runtime
from habitue.core.schemas import PURCHASE

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/quality/splits.py"))


@pytest.fixture(scope="module")
def orders() -> pl.DataFrame:
    """A shop with a product first sold, and a customer first seen, ten days after the middle."""
    events = synthetic.shop(users=30, items=12, days=300).filter(pl.col("kind") == PURCHASE)
    late = middle(events) + dt.timedelta(days=10)
    launch = pl.when(pl.col("at") > late, pl.col("item_id") == "P001").then(pl.lit("P001b")).otherwise("item_id")
    first = pl.when(pl.col("at") > late, pl.col("user_key") == 3).then(999).otherwise("user_key")
    return events.with_columns(item_id=launch, user_key=first.cast(pl.Int64))


def middle(events: pl.DataFrame) -> dt.datetime:
    return events["at"].min() + (events["at"].max() - events["at"].min()) / 2


def test_no_answer_is_among_what_is_learnt_or_known(orders):
    cut = middle(orders)
    asked = list(SCRIPT["questions"](orders, cut))
    assert [one.name for one in asked] == [
        *("time", "basket", "leave-one-out", "cold items", "new users"),
        *["k-fold"] * SCRIPT["FOLDS"],
    ]
    key = ["event_id", "line"]
    for one in asked:
        assert one.told.height, one.name
        for rows in (one.learnt, one.known):
            assert one.told.join(rows, on=key, how="semi").is_empty(), one.name
        if one.name in ("time", "basket", "cold items", "new users"):
            assert one.learnt["at"].max() < cut <= one.told["at"].min()
    by = {one.name: one for one in asked}
    assert by["cold items"].among == frozenset(by["cold items"].told["item_id"]) and "P001b" in by["cold items"].among
    assert not by["cold items"].among & set(by["cold items"].learnt["item_id"])
    assert set(by["new users"].told["user_key"]) == {999} and 999 not in by["new users"].learnt["user_key"]
    held = [set(one.told["user_key"]) for one in asked if one.name == "k-fold"]
    assert sum(map(len, held)) == len(set.union(*held)) > 25
    for one in asked[-SCRIPT["FOLDS"] :]:
        assert not set(one.told["user_key"]) & set(one.learnt["user_key"])


def test_only_the_candidates_of_a_question_compete(orders):
    import scipy.sparse as sp

    cold = next(one for one in SCRIPT["questions"](orders, middle(orders)) if one.name == "cold items")
    items = tuple(sorted(orders["item_id"].unique()))
    told = SCRIPT["measure"](cold, (items, sp.identity(len(items), format="csr", dtype=np.float32)), Runtime(seed=0))
    assert {name for name, *_ in told} == set(SCRIPT["MODELS"])
    hits = [values for name, metric, _, values, _ in told if metric == "hit@10"]
    assert len(cold.among) <= 10 and all((values == 1).all() for values in hits)  # all of them stand in the list
