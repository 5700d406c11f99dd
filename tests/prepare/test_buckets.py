import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl
import pytest

from habitue.collect import synthetic
from habitue.core.engine import Step
from habitue.core.lake import open_lake
from habitue.core.schemas import EVENTS
from habitue.prepare import buckets, features, timeline
from habitue.prepare.activity import activity

GAP = dt.timedelta(hours=8)


@dataclass(frozen=True)
class Sharding:
    """An engine whose workers see one part each, and says how many there were."""

    sizes: list[int]
    name: str = "the sharding engine"
    shards: bool = True

    def run(self, step: Step, parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        for part in parts:
            self.sizes.append(part.height)
            yield step.run(part)


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return synthetic.shop(users=30, days=120)


@pytest.fixture
def lake(events, tmp_path):
    made = open_lake(tmp_path / "lake", buckets=4)
    made.append(EVENTS, events.head(200))
    made.append(EVENTS, events.tail(-200))
    return made


def test_every_row_is_in_one_part_and_every_user_too(lake, events):
    parts = list(buckets.parts(lake))
    assert len(parts) == 4
    assert sum(part.height for part in parts) == events.height
    owners = [set(part["user_key"]) for part in parts]
    assert sum(map(len, owners)) == events["user_key"].n_unique()
    assert [p.columns for p in buckets.parts(lake, columns=["user_key", "at"])] == [["user_key", "at"]] * 4


def test_buckets_give_what_the_whole_gives_on_any_engine(lake, events):
    engine = Sharding([])
    assert buckets.activity(lake, gap=GAP, engine=engine).equals(activity(events, gap=GAP))
    assert len(engine.sizes) == 4
    assert max(engine.sizes) < events.height / 2
    whole = buckets.whole(buckets.timeline(lake))
    assert whole.equals(timeline(events))
    moments = [events["at"].max() - dt.timedelta(days=d) for d in (0, 40)]
    assert buckets.features(lake, as_of=moments, engine=engine).equals(features(events, as_of=moments))


def test_people_whose_keys_were_joined_are_one_person(lake, events):
    joins = pl.DataFrame({"user_key": [0, 5], "became": [3, 3]})
    one = events.with_columns(pl.col("user_key").replace({0: 3, 5: 3}))
    assert {key % 4 for key in (0, 3, 5)} == {0, 1, 3}
    assert buckets.activity(lake, gap=GAP, joins=joins).equals(activity(one, gap=GAP))
    assert buckets.whole(buckets.timeline(lake, joins=joins)).equals(timeline(one))
    users = [set(part["user_key"]) for part in buckets.parts(lake, joins=joins)]
    assert sum(map(len, users)) == one["user_key"].n_unique()


def test_an_empty_lake_has_nobody(tmp_path):
    lake = open_lake(tmp_path / "lake", buckets=2)
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert list(buckets.parts(lake)) == []
    assert buckets.activity(lake, gap=GAP).is_empty()
    assert buckets.whole(buckets.timeline(lake)).is_empty()
    assert buckets.features(lake, as_of=now).is_empty()
