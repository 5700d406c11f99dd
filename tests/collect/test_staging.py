import json
import signal
import stat
import subprocess
import sys

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from habitue import collect
from habitue.collect import staging as module
from habitue.collect.mapping import Mapping, User
from habitue.collect.staging import PREFIX, Staging, staging
from habitue.core.errors import InputError, LakeError
from habitue.core.lake import Lake
from habitue.core.schemas import EVENTS, ITEMS, REFUSED
from habitue.core.workspace import init
from habitue.protect import identities

MAPPING = Mapping(
    source="s",
    time_zone="UTC",
    columns={"at": "t", "order_id": "o", "item_id": "i", "title": "w", "price": "p"},
    user=User("u"),
)
MANY = 3_000


@pytest.fixture
def small(monkeypatch):
    """Parts of a few hundred rows and blocks of a few kilobytes, so that a small file is a long one."""
    monkeypatch.setattr(module, "FEWEST", 250)
    monkeypatch.setattr(module, "MOST", 400)
    monkeypatch.setattr("habitue.collect.sources.csv.BLOCK", 4_000)
    monkeypatch.setattr("habitue.collect.sources.encoding.CHUNK", 4_000)


@pytest.fixture
def file(tmp_path):
    """3,000 rows: repeats, bad rows, guests, products under several names."""
    rows = [
        (
            f"2024-01-{n % 28 + 1:02d}" if n % 50 else "never",
            f"o{n // 3}",
            f"i{n % 17}",
            f"w{n % 19}",
            "1.5",
            f"u{n % 40}",
        )
        for n in range(MANY - 10)
    ]
    rows += [("2024-02-01", "same", "i1", "w", "1", "")] * 10
    frame = pl.DataFrame(rows, schema=list("toiwpu"), orient="row")
    frame.write_csv(tmp_path / "a.csv")
    return tmp_path / "a.csv"


def everything(shop):
    return {t.name: shop.lake.read(t).drop("import_id").sort(pl.all()) for t in (EVENTS, ITEMS, REFUSED)}


def test_a_file_in_parts_is_the_same_as_in_one_piece(tmp_path, file, small, monkeypatch):
    shops = [init(tmp_path / name) for name in ("parts", "whole", "frame")]
    done = collect.import_file(shops[0], file, MAPPING, seed=1)
    assert shops[0].lake.version(EVENTS) > 5
    with monkeypatch.context() as patch:
        patch.setattr(module, "FEWEST", 10**9)
        patch.setattr(module, "MOST", 10**9)
        whole = collect.import_file(shops[1], file, MAPPING, seed=1)
        assert shops[1].lake.version(EVENTS) == 0
    assert done == whole and (done.read, done.refused, done.new) == (MANY, 60, MANY - 60)
    collect.import_frame(shops[2], pl.read_csv(file, infer_schema=False), MAPPING, seed=1)
    for name, table in everything(shops[0]).items():
        assert_frame_equal(table, everything(shops[1])[name])
        assert_frame_equal(table, everything(shops[2])[name])
    again = collect.import_file(shops[0], file, MAPPING)
    assert (again.new, again.known, again.refused) == (0, MANY - 60, 60)
    assert shops[0].lake.read(REFUSED).height == 60
    assert list((shops[0].root / "state").glob(f"{PREFIX}*")) == []


PROGRAM = """
import os, signal, sys
from pathlib import Path
from habitue import collect
from habitue.collect import staging, typed
from habitue.core.lake import Lake
from habitue.core.workspace import open_workspace
staging.FEWEST, staging.MOST = 250, 400
import habitue.collect.sources.csv as csv, habitue.collect.sources.encoding as encoding
csv.BLOCK = encoding.CHUNK = 4_000
shop, file, mapping, where, moment = open_workspace(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
counted = iter(range(1000))
def dying(function):
    def killed(*arguments, **more):
        done = function(*arguments, **more)
        if next(counted) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return killed
if where == "reading":
    typed.read = dying(typed.read)
elif where == "spilling":
    staging.Staging._spill = dying(staging.Staging._spill)
elif where == "storing":
    Lake.append = dying(Lake.append)
print(collect.import_file(shop, file, mapping, seed=1).new)
"""
TOML = """
source = "s"
time_zone = "UTC"
columns = {at = "t", order_id = "o", item_id = "i", title = "w", price = "p"}
user = {column = "u"}
"""


@pytest.mark.parametrize(("where", "moment"), [("reading", 8), ("reading", 20), ("spilling", 2), ("storing", 3)])
def test_a_killed_import_goes_on_where_it_was(tmp_path, file, small, monkeypatch, where, moment):
    shop = init(tmp_path / "shop")
    (tmp_path / "a.toml").write_text(TOML)
    command = [sys.executable, "-c", PROGRAM, shop.root, file, tmp_path / "a.toml", where, str(moment)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (folder,) = (shop.root / "state").glob(f"{PREFIX}*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    tally = json.loads((folder / "tally.json").read_text())
    assert tally["blocks"] > 0 and tally["complete"] == (where == "storing")
    assert shop.lake.read(EVENTS).is_empty() and identities.aliases(shop.identities).is_empty()
    read = []
    from habitue.collect import typed

    looked = typed.read
    with monkeypatch.context() as patch:
        patch.setattr(typed, "read", lambda raw, *more: read.append(raw.height) or looked(raw, *more))
        done = collect.import_file(shop, file, tmp_path / "a.toml", seed=1)
    assert (done.read, done.new, done.refused) == (MANY, MANY - 60, 60)
    assert sum(read) == MANY - tally["seen"] < MANY  # what was read before is not read again
    straight = init(tmp_path / "straight")
    collect.import_file(straight, file, tmp_path / "a.toml", seed=1)
    for name, table in everything(shop).items():
        assert_frame_equal(table, everything(straight)[name])
    assert not folder.exists()


def test_what_another_import_left_goes_with_the_next(tmp_path, file, small):
    shop = init(tmp_path / "shop")
    (tmp_path / "a.toml").write_text(TOML)
    command = [sys.executable, "-c", PROGRAM, shop.root, file, tmp_path / "a.toml", "storing", "1"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    (folder,) = (shop.root / "state").glob(f"{PREFIX}*")
    file.write_text("t,o,i,w,p,u\n2024-01-01,1,i,w,1,u\n")  # the file is another one now
    assert collect.import_file(shop, file, tmp_path / "a.toml").new == 1
    assert not folder.exists()


def test_an_error_leaves_nothing(tmp_path, small):
    shop = init(tmp_path / "shop")
    body = "".join(f"2024-01-01,o{n},i,w,1,u\n" for n in range(2_000))
    (tmp_path / "a.csv").write_text(f't,o,i,w,p,u\n{body}2024-01-01,o,i,"never closed\n')
    with pytest.raises(InputError, match="the quotes near line 2,002 do not close"):
        collect.import_file(shop, tmp_path / "a.csv", MAPPING)
    assert list((shop.root / "state").glob(f"{PREFIX}*")) == [] and not shop.identities.exists()


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path, file, small, monkeypatch):
    shop = init(tmp_path / "shop")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_ipc_stream", full)
        with pytest.raises(
            LakeError, match=r"cannot be written \(No space left on device\).*nothing that was there is"
        ):
            collect.import_file(shop, file, MAPPING)
    assert shop.lake.read(EVENTS).is_empty() and list((shop.root / "state").glob(f"{PREFIX}*")) == []
    collect.import_file(shop, file, MAPPING)
    before = everything(shop)
    with file.open("a") as more:
        more.write("2024-03-01,new,i,w,1,u\n")
    with monkeypatch.context() as patch:
        patch.setattr("deltalake.write_deltalake", full)
        with pytest.raises(LakeError, match=r"the write failed.*No space left.*as it was before"):
            collect.import_file(shop, file, MAPPING)
    for name, table in everything(shop).items():
        assert_frame_equal(table, before[name])
    assert collect.import_file(shop, file, MAPPING).new == 1


def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path, file, monkeypatch):
    shop = init(tmp_path / "shop")
    mkdir = module.Path.mkdir

    def read_only(self, *arguments, **more):
        if self.name.startswith(PREFIX):
            raise PermissionError(13, "Permission denied")
        return mkdir(self, *arguments, **more)

    monkeypatch.setattr(module.Path, "mkdir", read_only)
    with pytest.raises(LakeError, match=r"the folder cannot be written \(Permission denied\)"):
        collect.import_file(shop, file, MAPPING)
    assert shop.lake.read(EVENTS).is_empty()


def test_rows_that_agree_come_into_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEWEST", 10)
    monkeypatch.setattr(module, "MOST", 10)
    with staging(tmp_path, ["x"]) as staged:
        for turn in range(6):
            rows = pl.DataFrame({"a": [f"{n}" for n in range(20)], "b": [str(turn)] * 20})
            staged.add(
                rows, pl.DataFrame({"row": [1], "raw": ["{}"], "code": ["c"], "sentence": ["s"]}), same=["a"], seen=21
            )
        staged.close()
        parts = list(staged.parts())
        assert len(parts) > 5 and sum(part.height for part in parts) == 120
        where = {a: i for i, part in enumerate(parts) for a in part["a"]}
        assert all(part.filter(pl.col("a") == a).height in (0, 6) for a in where for part in parts)
        for part in parts:  # the first of the file comes first
            assert part.group_by("a", maintain_order=True).agg(pl.col("b").first())["b"].unique().to_list() == ["0"]
        assert sum(part.height for part in staged.refused()) == 6
        assert (staged.tally.seen, staged.tally.codes) == (126, {"c": 6})
        assert isinstance(staged, Staging)


def test_two_imports_at_once_wait_for_each_other_or_say_so(tmp_path, file, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.1)
    shop = init(tmp_path / "shop")
    hold = f"""
import sys
from habitue.collect.staging import staging
from pathlib import Path
with staging(Path({str(shop.root / "state")!r}), None):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LakeError, match=rf"another writer \(process {holder.pid}\) is at work"):
            collect.import_file(shop, file, MAPPING)
        holder.stdin.close()
    assert collect.import_file(shop, file, MAPPING).new == MANY - 60


def test_the_lake_is_not_written_in_the_middle(tmp_path, file, small, monkeypatch):
    """Until the last part is stored, readers see what was there before."""
    shop = init(tmp_path / "shop")
    append, seen = Lake.append, []

    def looking(self, table, frame):
        seen.append(self.read(EVENTS).height)
        return append(self, table, frame)

    monkeypatch.setattr(Lake, "append", looking)
    collect.import_file(shop, file, MAPPING)
    assert len(seen) > 5 and set(seen) == {0}
