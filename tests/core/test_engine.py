from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
import pytest

from habitue.core import engine
from habitue.core.engine import EngineError, Step
from habitue.core.engines.local import LocalEngine

PARTS = [pl.DataFrame({"user_key": [1, 1], "x": [1, 2]}), pl.DataFrame({"user_key": [2], "x": [4]})]


@engine.step("one_user")
def spent(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("user_key").agg(pl.col("x").sum())


@engine.step("all")
def share(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("user_key", x=pl.col("x") / pl.col("x").sum())


@dataclass(frozen=True)
class Sharding:
    """An engine whose workers see one part each."""

    name: str = "the sharding engine"
    shards: bool = True

    def run(self, step: Step, parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        return iter([step.run(part) for part in parts])


def test_a_step_knows_its_name_and_what_it_sees():
    assert spent.name.endswith("test_engine.spent")
    assert (spent.sees, share.sees) == ("one_user", "all")


@pytest.mark.parametrize("on", [LocalEngine(), Sharding()])
def test_a_step_of_one_user_gives_one_answer_a_part_in_order(on):
    assert [part.rows() for part in engine.map(spent, PARTS, engine=on)] == [[(1, 3)], [(2, 4)]]


def test_a_step_that_sees_all_gets_every_row_at_once():
    (answer,) = engine.map(share, PARTS, engine=LocalEngine())
    assert answer["x"].to_list() == [1 / 7, 2 / 7, 4 / 7]


def test_an_engine_that_shards_refuses_a_step_that_sees_all():
    with pytest.raises(
        EngineError,
        match=r"share: it must see every user at once, but the sharding engine shards by user\. "
        r"It would return partial sums without complaint\. "
        r"Split it into a per-user and a combine step, or use the local engine\.",
    ):
        engine.map(share, PARTS, engine=Sharding())


def test_parts_are_taken_one_at_a_time():
    taken = []

    def parts():
        for part in PARTS:
            taken.append(part)
            yield part

    answers = engine.map(spent, parts(), engine=LocalEngine())
    next(answers)
    assert len(taken) == 1
