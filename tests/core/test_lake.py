import datetime as dt
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import deltalake
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from habitue.collect import synthetic
from habitue.core import lake as lake_module
from habitue.core.errors import LakeError, SchemaError, UsageError
from habitue.core.lake import open_lake, table_named
from habitue.core.schemas import EVENTS, EXPOSURES, FEATURES, IDENTITIES, ITEMS, REFUSED, TIMELINE

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return synthetic.shop(users=12, days=60)


@pytest.fixture
def lake(tmp_path):
    return open_lake(tmp_path / "lake", buckets=4)


def items(*names: str) -> pl.DataFrame:
    return ITEMS.shape(
        pl.DataFrame({"item_id": names, "valid_from": NOW, "title": "t", "source": "s", "import_id": "i"})
    )


def features(**columns: list[float]) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    return FEATURES.shape(pl.DataFrame({"user_key": range(n), "as_of": [NOW] * n, **columns}))


def test_a_table_never_written_is_empty(lake):
    assert_frame_equal(lake.read(EVENTS), EVENTS.empty())
    assert lake.read(EVENTS, columns=["kind"]).columns == ["kind"]
    assert (lake.version(EVENTS), lake.files(EVENTS), lake.history(EVENTS).height) == (-1, [], 0)
    assert (lake.delete_users(EVENTS, [1]), lake.compact(EVENTS)) == (0, 0)


@pytest.mark.parametrize("name", ["my shop", "订单 100%", "a#b?c"])
def test_a_folder_may_have_any_name(tmp_path, events, name):
    lake = open_lake(tmp_path / name / "lake", buckets=3)
    lake.append(EVENTS, events)
    assert_frame_equal(lake.read(EVENTS), open_lake(tmp_path / name / "lake", buckets=3).read(EVENTS))
    assert lake.read(EVENTS).height == events.height
    assert all(Path(file).is_file() for file in lake.files(EVENTS))


def test_rows_come_back_as_they_were_in_the_order_of_moment_and_key(lake, events):
    assert lake.append(EVENTS, events.sample(fraction=1, shuffle=True, seed=1)) == 0
    assert_frame_equal(lake.read(EVENTS), events.sort("at", "event_id"))


def test_any_columns_in_any_order(lake, events):
    lake.append(EVENTS, events)
    assert_frame_equal(
        lake.read(EVENTS, columns=["price", "kind"]), events.sort("at", "event_id").select("price", "kind")
    )


def test_every_version_stays_readable(lake, events):
    first, second = events[:100], events[100:150]
    assert (lake.append(EVENTS, first), lake.append(EVENTS, second)) == (0, 1)
    assert lake.read(EVENTS, version=0).height == 100
    assert lake.read(EVENTS, version=1).height == 150
    assert set(lake.files(EVENTS, 0)) < set(lake.files(EVENTS))
    assert lake.history(EVENTS).select("version", "operation", "rows_added").rows() == [
        (1, "WRITE", 50),
        (0, "WRITE", 100),
    ]


def test_an_empty_append_makes_no_version(lake, events):
    lake.append(EVENTS, events)
    assert lake.append(EVENTS, events.clear()) == 0


@pytest.mark.parametrize("version", [-1, 2])
def test_a_version_that_is_not_there(lake, events, version):
    lake.append(EVENTS, events)
    lake.append(EVENTS, events)
    with pytest.raises(LakeError, match=rf"no version {version}.*Versions go from 0 to 1"):
        lake.read(EVENTS, version=version)


def test_a_version_of_a_table_never_written(lake):
    with pytest.raises(LakeError, match="no version 0.*never written"):
        lake.files(EVENTS, 0)


def test_a_table_that_breaks_its_contract_is_not_written(lake, events):
    with pytest.raises(SchemaError, match="lake.append: EVENTS: column 'kind' is missing"):
        lake.append(EVENTS, events.drop("kind"))
    with pytest.raises(SchemaError, match="lake.replace: EVENTS: column 'kind' is missing"):
        lake.replace(EVENTS, events.drop("kind"))
    assert lake.version(EVENTS) == -1


def test_people_lie_in_buckets_and_a_bucket_can_be_read_alone(lake, events):
    lake.append(EVENTS, events)
    parts = [lake.read(EVENTS, bucket=b) for b in range(4)]
    assert [set(part["user_key"] % 4) for part in parts] == [{0}, {1}, {2}, {3}]
    assert sum(part.height for part in parts) == events.height
    assert {Path(file).parent.name for file in lake.files(EVENTS)} == {f"bucket={b}" for b in range(4)}


def test_tables_without_people_are_not_divided(lake):
    lake.append(ITEMS, items("a", "b"))
    assert [Path(file).parent.name for file in lake.files(ITEMS)] == ["items"]


def test_lists_and_nulls_survive(lake):
    row = {"user_key": 3, "step": 0, "at": NOW, "kind": "k", "item_ids": ["a", "b"], "quantities": [1.0, 2.0]}
    row |= {"values": [], "order_ids": [], "has_item": True, "has_words": False, "has_money": False}
    frame = TIMELINE.shape(pl.DataFrame([row], schema=TIMELINE.schema))
    lake.append(TIMELINE, frame)
    assert_frame_equal(lake.read(TIMELINE), frame)


def test_the_log_holds_no_words_of_rows(lake, events):
    lake.append(EVENTS, events.with_columns(text=pl.lit("SECRET"), title=pl.lit("SECRET")))
    secret = {"source": "SECRET", "import_id": "SECRET", "row": 1, "raw": "SECRET", "code": "c", "sentence": "SECRET"}
    lake.append(REFUSED, REFUSED.shape(pl.DataFrame([secret])))
    logs = [file.read_text() for file in lake.root.glob("*/_delta_log/*.json")]
    assert len(logs) == 2
    assert not any("SECRET" in log for log in logs)
    assert '\\"at\\"' in logs[0] + logs[1]  # the statistics that are wanted are there


def test_deletion_vectors_are_off(lake, events):
    lake.append(EVENTS, events)
    assert deltalake.DeltaTable(lake.root / "events").metadata().configuration["delta.enableDeletionVectors"] == "false"


def test_deleting_users_takes_their_rows_out_of_the_files(lake, events):
    lake.append(EVENTS, events)
    untouched = set(lake.files(EVENTS)) - {f for f in lake.files(EVENTS) if "bucket=1" in f}
    gone = events.filter(pl.col("user_key").is_in([1, 5])).height
    assert lake.delete_users(EVENTS, [5, 1, 1]) == gone > 0
    assert lake.read(EVENTS)["user_key"].is_in([1, 5]).sum() == 0
    assert lake.read(EVENTS).height == events.height - gone
    assert untouched < set(lake.files(EVENTS))
    on_disk = pl.concat(
        pl.read_parquet(f, hive_partitioning=False)
        for f in lake.root.glob("events/*/*.parquet")
        if "_delta_log" not in f.parts
    )
    assert on_disk.height == events.height - gone


def log_text(lake, table: str) -> str:
    """Everything the log of a table says, its checkpoints decoded."""
    files = sorted((lake.root / table / "_delta_log").iterdir())
    return "".join(str(pl.read_parquet(f).to_dicts()) if f.suffix == ".parquet" else f.read_text() for f in files)


def test_the_log_knows_no_key_of_anybody(lake, events):
    events = events.with_columns(pl.col("user_key") + 7_310_000_000)
    lake.append(EVENTS, events)
    assert "731000" not in log_text(lake, "events")
    assert lake.delete_users(EVENTS, [7_310_000_001]) > 0
    assert "731000" not in log_text(lake, "events")


def test_a_log_with_keys_in_its_statistics_goes_with_the_erased(lake, events):
    lake.root.mkdir(parents=True)
    old = events.with_columns(bucket=(pl.col("user_key") % 4).cast(pl.Int32))
    deltalake.write_deltalake(lake.root / "events", old, partition_by=["bucket"])  # as layout 1 wrote
    log = lake.root / "events/_delta_log"
    assert "minValues" in log_text(lake, "events")
    lake.delete_users(EVENTS, events["user_key"].unique())
    left = "".join(
        str(pl.read_parquet(f).to_dicts()) if f.suffix == ".parquet" else f.read_text() for f in log.iterdir()
    )
    assert "minValues" not in left and lake.read(EVENTS).is_empty()
    lake.append(EVENTS, events)
    assert lake.read(EVENTS).height == events.height


def test_erasing_in_a_table_that_is_not_divided_by_people(lake):
    lake.append(ITEMS, items("a", "b"))
    assert lake.delete_rows(ITEMS, pl.col("item_id") == "b") == 1
    assert lake.delete_rows(ITEMS, pl.col("brand") == "b") == 0, "null is not a hit"
    assert lake.read(ITEMS)["item_id"].to_list() == ["a"]
    assert len(list(lake.root.glob("items/*.parquet"))) == 1


def test_the_version_of_a_moment(lake, events):
    lake.append(EVENTS, events[:10])
    time.sleep(0.02)
    between = dt.datetime.now(dt.UTC)
    time.sleep(0.02)
    lake.append(EVENTS, events[10:30])
    assert lake.version_at(EVENTS, between) == 0
    assert lake.version_at(EVENTS, dt.datetime.now(dt.UTC)) == 1
    with pytest.raises(LakeError, match="no version as old as 2024-01-01.*habitue lake history events"):
        lake.version_at(EVENTS, NOW)


def test_a_journal_that_cannot_be_read_stops_everybody(lake, events):
    lake.append(EVENTS, events)
    (lake.root / ".journal").write_text("{")
    for use in (lambda: lake.read(EVENTS), lambda: lake.append(EVENTS, events)):
        with pytest.raises(
            LakeError, match="journal of an unfinished change cannot be read.*nothing is read or written"
        ):
            use()


def test_an_older_version_that_held_erased_rows_says_so(lake, events):
    lake.append(EVENTS, events)
    lake.delete_users(EVENTS, [1])
    with pytest.raises(LakeError, match="version 0 of the table cannot be read.*erased"):
        lake.read(EVENTS, version=0)


def test_a_table_without_people_cannot_lose_one(lake):
    with pytest.raises(UsageError, match="the table has no user_key.*Delete from a table of people"):
        lake.delete_users(ITEMS, [1])


def test_compacting_keeps_rows_and_versions(lake, events):
    for part in events.iter_slices(50):
        lake.append(EVENTS, part)
    before = len(lake.files(EVENTS))
    assert lake.compact(EVENTS) == before
    assert len(lake.files(EVENTS)) == 4
    assert_frame_equal(lake.read(EVENTS), events.sort("at", "event_id"))
    assert lake.read(EVENTS, version=0).height == 50


def test_replace_leaves_only_the_new_rows_and_may_change_the_columns(lake):
    lake.replace(FEATURES, features(orders=[1.0, 2.0]))
    assert lake.replace(FEATURES, features(spent=[3.0])) == 1
    assert lake.read(FEATURES).to_dicts() == [{"user_key": 0, "as_of": NOW, "spent": 3.0}]
    assert lake.read(FEATURES, version=0)["orders"].to_list() == [1.0, 2.0]


def test_appending_may_bring_a_further_column(lake):
    lake.append(FEATURES, features(orders=[1.0]))
    lake.append(FEATURES, features(orders=[2.0], spent=[3.0]))
    assert set(lake.read(FEATURES).select("orders", "spent").rows()) == {(1.0, None), (2.0, 3.0)}


def test_rows_that_name_nobody_are_kept(lake):
    row = {"exposure_id": "1", "at": NOW, "user_key": None, "what": "slot", "arm": "a", "source": "s"}
    lake.append(EXPOSURES, EXPOSURES.shape(pl.DataFrame([row])))
    assert lake.read(EXPOSURES)["user_key"].to_list() == [None]
    assert lake.read(EXPOSURES, bucket=0).height == 1


def test_replace_by_nothing_empties_the_table(lake):
    lake.replace(FEATURES, features(orders=[1.0]))
    lake.replace(FEATURES, features(orders=[1.0]).clear())
    assert lake.read(FEATURES).is_empty()


def test_a_column_the_contract_has_gained_is_null_in_older_rows(lake):
    written = deltalake.write_deltalake
    lake.root.mkdir()
    written(lake.root / "items", items("a").drop("brand"))
    assert lake.read(ITEMS).schema == ITEMS.schema
    assert lake.read(ITEMS, columns=["brand"])["brand"].to_list() == [None]


def test_raw_ids_never_get_in(lake):
    row = {"alias_kind": "email", "alias": "a@b.c", "user_key": 1, "linked_at": NOW, "source": "s"}
    with pytest.raises(LakeError, match=r"raw ids of people.*protect\.identities"):
        lake.append(IDENTITIES, IDENTITIES.shape(pl.DataFrame([row])))
    assert not (lake.root / "identities").exists()


def test_another_number_of_buckets_is_refused(lake, events):
    lake.append(EVENTS, events)
    other = open_lake(lake.root, buckets=8)
    for use in (lambda: other.read(EVENTS), lambda: other.append(EVENTS, events)):
        with pytest.raises(LakeError, match="the table has 4 buckets and habitue.toml says 8.*Set buckets = 4"):
            use()


def test_a_table_of_a_newer_habitue_is_refused(lake):
    lake.root.mkdir()
    deltalake.write_deltalake(lake.root / "items", items("a"), description=json.dumps({"schema_version": 99}))
    with pytest.raises(LakeError, match="contract version 99; this Habitue knows up to 1.*Install"):
        lake.read(ITEMS)


def test_a_table_of_an_older_contract_wants_a_migration(lake):
    lake.root.mkdir()
    deltalake.write_deltalake(lake.root / "items", items("a"), description=json.dumps({"schema_version": 0}))
    for use in (lambda: lake.read(ITEMS), lambda: lake.append(ITEMS, items("b"))):
        with pytest.raises(LakeError, match="contract version 0; this Habitue works on 1.*habitue migrate"):
            use()


def test_damaged_files_are_said(lake, events):
    lake.append(EVENTS, events)
    for file in lake.files(EVENTS):
        Path(file).write_bytes(b"PAR1 junk")
    with pytest.raises(LakeError, match="version 0 of the table cannot be read.*damaged"):
        lake.read(EVENTS)


def test_a_damaged_log_is_said(lake, events):
    lake.append(EVENTS, events)
    (lake.root / "events/_delta_log/00000000000000000000.json").write_text("{")
    with pytest.raises(LakeError, match="the table cannot be read"):
        lake.read(EVENTS)


def test_a_write_that_fails_says_so(lake, events, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(deltalake, "write_deltalake", full)
    with pytest.raises(LakeError, match=r"the write failed \(.*No space left.*as it was before.*disk's space"):
        lake.append(EVENTS, events)


def test_a_disk_without_room_is_said_before_anything_is_written(lake, events, monkeypatch):
    lake.append(EVENTS, events)
    monkeypatch.setattr(lake_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 2**20))
    with pytest.raises(LakeError, match=r"1\.0 MiB are free on the disk, and it needs 1\.\d or more.*as it was before"):
        lake.append(EVENTS, events)
    assert lake.version(EVENTS) == 0 and len(list(lake.root.glob("events/bucket=*/*"))) == 4


def test_table_names():
    assert table_named("events") is EVENTS
    with pytest.raises(UsageError, match="no table 'event'.*Did you mean 'events'"):
        table_named("event")
    with pytest.raises(UsageError, match="no table 'identities'"):
        table_named("identities")


# Several tables as one change


def test_a_transaction_is_seen_only_when_it_is_whole(lake, events):
    lake.append(ITEMS, items("old"))
    with lake.transaction(EVENTS, ITEMS):
        lake.append(EVENTS, events)
        lake.append(ITEMS, items("new"))
        assert (lake.version(EVENTS), lake.read(ITEMS)["item_id"].to_list()) == (-1, ["old"])
    assert lake.read(EVENTS).height == events.height
    assert lake.read(ITEMS)["item_id"].to_list() == ["new", "old"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_whatever_interrupts_a_transaction_leaves_nothing_of_it(lake, events, interruption):
    lake.append(ITEMS, items("old"))
    with pytest.raises(interruption), lake.transaction(EVENTS, ITEMS):
        lake.append(EVENTS, events)
        lake.append(ITEMS, items("new"))
        raise interruption
    assert (lake.version(EVENTS), lake.read(ITEMS)["item_id"].to_list()) == (-1, ["old"])
    assert not (lake.root / "events").exists()
    lake.append(EVENTS, events)
    assert lake.read(EVENTS).height == events.height


KILLED = """
import os, signal, sys
from habitue.collect import synthetic
from habitue.core.lake import open_lake
from habitue.core.schemas import EVENTS, FEATURES
lake = open_lake(__import__("pathlib").Path(sys.argv[1]), buckets=4)
events = synthetic.shop(users=12, days=60)
with lake.transaction(EVENTS, FEATURES):
    lake.append(EVENTS, events)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_inside_a_transaction(lake, events):
    lake.append(EVENTS, events[:10])
    done = subprocess.run([sys.executable, "-c", KILLED, lake.root])
    assert done.returncode == -signal.SIGKILL
    assert deltalake.DeltaTable(lake.root / "events").version() == 1  # its rows are in the files
    assert (lake.read(EVENTS).height, lake.version(EVENTS)) == (10, 0)  # and nobody sees them
    lake.append(FEATURES, features(orders=[1.0]))  # the next writer undoes them
    assert not (lake.root / ".journal").exists()
    assert lake.read(EVENTS).height == 10
    lake.append(EVENTS, events[10:30])
    assert lake.read(EVENTS).height == 30


# Processes killed, and processes at the same time

APPEND_FOR_EVER = """
import sys
from pathlib import Path
from habitue.collect import synthetic
from habitue.core.lake import open_lake
from habitue.core.schemas import EVENTS
lake, events = open_lake(Path(sys.argv[1]), buckets=4), synthetic.shop(users=12, days=60)
while True:
    lake.append(EVENTS, events)
    print("appended", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_the_last_whole_version(tmp_path, lake, events):
    rng = random.Random(5)
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", APPEND_FOR_EVER, lake.root], stdout=subprocess.PIPE, text=True)
        with writer:
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.15))
            writer.kill()
        read = lake.read(EVENTS)
        assert read.height == (lake.version(EVENTS) + 1) * events.height  # whole appends only
        assert_frame_equal(read.unique(maintain_order=True), events.sort("at", "event_id"))
        lake.append(EVENTS, events)  # and the next write goes through


APPEND_THRICE = """
import sys
from pathlib import Path
import polars as pl
from habitue.collect import synthetic
from habitue.core.lake import open_lake
from habitue.core.schemas import EVENTS
lake = open_lake(Path(sys.argv[1]), buckets=4)
events = synthetic.shop(users=12, days=60).with_columns(source=pl.lit(sys.argv[2]))
for _ in range(3):
    with lake.exclusive(wait_s=60):
        seen = lake.read(EVENTS).height
        lake.append(EVENTS, events)
        assert lake.read(EVENTS).height == seen + events.height, "somebody else wrote in between"
"""


def test_two_processes_take_turns(lake, events):
    writers = [subprocess.Popen([sys.executable, "-c", APPEND_THRICE, lake.root, name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert lake.read(EVENTS)["source"].value_counts().sort("source").rows() == [
        ("a", 3 * events.height),
        ("b", 3 * events.height),
    ]


def test_parts_are_the_buckets_with_what_each_reading_asks_for(lake, events):
    assert list(lake.parts(EVENTS)) == []
    lake.append(EVENTS, events.head(100))
    lake.append(EVENTS, events.tail(-100))
    parts = list(lake.parts(EVENTS))
    assert all(part.schema == EVENTS.schema for part in parts)
    assert [set(part["user_key"] % 4) for part in parts] == [{0}, {1}, {2}, {3}]
    assert_frame_equal(pl.concat(parts).sort("at", "event_id", "line"), lake.read(EVENTS))
    narrow = list(lake.parts(EVENTS, columns=["value", "user_key"]))
    assert [part.columns for part in narrow] == [["value", "user_key"]] * 4
    few = open_lake(lake.root.parent / "few", buckets=4)
    few.append(EVENTS, events.filter(pl.col("user_key") == 2))
    assert len(list(few.parts(EVENTS))) == 1  # an empty bucket is no part


def test_a_damaged_part_is_said(lake, events):
    lake.append(EVENTS, events)
    Path(lake.files(EVENTS)[0]).write_bytes(b"PAR1 junk")
    with pytest.raises(LakeError, match="version 0 of the table cannot be read.*damaged"):
        list(lake.parts(EVENTS))
