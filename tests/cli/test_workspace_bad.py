"""A full disk, a folder one may only read, two processes at once: one sentence, an exit code, nothing lost.

The disk is full for real: on Linux as root a small file system of its own (tmpfs), elsewhere the kernel's limit on the
size of a file, which stops the same writes at the same places. There the library below Delta may say something of its
own before our sentence; the sentence is the last line.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest

from habitue.core import workspace
from habitue.core.schemas import EVENTS, TABLES
from habitue.protect import identities

HABITUE = str(Path(sys.executable).with_name("habitue"))
LIMITED = """
import resource, sys
from habitue.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["habitue", *sys.argv[2:]]
main()
"""


@pytest.fixture
def shop(folder, run) -> Path:
    """A workspace with a first half of the orders in it, and all of them beside it."""
    assert run("init", "shop", cwd=folder).returncode == 0
    orders = pl.read_csv(folder / "orders.csv")
    orders[: orders.height // 2].write_csv(folder / "first.csv")
    done = run("import", "first.csv", "--mapping", "orders.toml", "-w", "shop", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "shop"


def contents(shop: Path) -> dict[str, pl.DataFrame]:
    space = workspace.open_workspace(shop)
    found = {table.name: space.lake.read(table) for table in TABLES if table.name != "identities"}
    return found | {"identities": identities.aliases(space.identities)}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return one.keys() == other.keys() and all(one[name].equals(other[name]) for name in one)


def one_sentence(done: subprocess.CompletedProcess[str], words: str, *, alone: bool = True) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("habitue: ") and re.search(words, last), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert not alone or done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("bytes_", [0, 5_000])
def test_a_write_that_finds_no_room_changes_nothing_and_goes_through_later(shop, run, bytes_):
    before = contents(shop)
    arguments = ["import", "orders.csv", "--mapping", "orders.toml", "-w", "shop"]
    command = [sys.executable, "-c", LIMITED, str(bytes_), *arguments]
    one_sentence(
        subprocess.run(command, cwd=shop.parent, capture_output=True, text=True, timeout=300),
        "cannot be written|the write failed|cannot be used|disk",
        alone=False,
    )
    assert same(contents(shop), before)
    assert run(*arguments, cwd=shop.parent).returncode == 0
    assert contents(shop)["events"].height == pl.read_csv(shop.parent / "orders.csv").height


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk takes root on Linux")
def test_a_disk_that_is_full(shop, run):
    with tempfile.TemporaryDirectory() as name:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", name], capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount a disk")
        try:
            small = Path(name) / "shop"
            shutil.copytree(shop, small)
            before = contents(small)
            filler = Path(name) / "filler"
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(8 * 2**20))
            arguments = ["import", "orders.csv", "--mapping", "orders.toml", "-w", str(small)]
            one_sentence(run(*arguments, cwd=shop.parent), "cannot be written|the write failed|cannot be used|disk")
            assert same(contents(small), before)
            filler.unlink()
            assert run(*arguments, cwd=shop.parent).returncode == 0
        finally:
            subprocess.run(["umount", "-l", name], check=False)


def test_an_erasure_that_finds_no_room_is_finished_later(shop, run):
    ids = identities.aliases(shop / "identities.sqlite")["alias"]
    command = [sys.executable, "-c", LIMITED, "5000", "erase", ids[0], "--yes", "-w", "shop"]
    done = subprocess.run(command, cwd=shop.parent, capture_output=True, text=True, timeout=300)
    one_sentence(done, "cannot be written|the write failed|cannot be used|disk", alone=False)
    assert len(identities.aliases(shop / "identities.sqlite")) == len(ids), "the id is there to ask by again"
    again = run("erase", "--resume", "-w", "shop", cwd=shop.parent)
    assert "An erasure that was interrupted is finished." in again.stdout, again.stderr
    assert len(identities.aliases(shop / "identities.sqlite")) == len(ids) - 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere")
def test_a_folder_that_may_only_be_read(shop, run):
    before = contents(shop)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(shop.parent, Path(name) / "owner")
        (Path(name) / "owner/shop/identities.sqlite").chmod(0o644)
        for path in (Path(name) / "owner").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        # root may write anywhere: without that right of root's, it is its owner like any other
        powerless = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]
        prefix = powerless if os.geteuid() == 0 else []

        def try_it(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [*prefix, HABITUE, *arguments, "-w", "shop"]
            return subprocess.run(command, cwd=Path(name) / "owner", capture_output=True, text=True)

        try:
            one_sentence(try_it("import", "orders.csv", "--mapping", "orders.toml"), "cannot be written.*still be read")
            one_sentence(try_it("erase", "c1", "--yes"), "cannot be written")
            one_sentence(try_it("identity", "merge", "c1", "--into", "c2"), "cannot be written")
            one_sentence(try_it("lake", "compact"), "cannot be written")
            read = try_it("lake", "read", "events")
            assert read.returncode == 0 and f"{before['events'].height:,} rows" in read.stdout, read.stderr
            assert same(contents(Path(name) / "owner/shop"), before)
        finally:
            for path in [Path(name) / "owner", *(Path(name) / "owner").rglob("*")]:
                if path.is_dir():
                    path.chmod(0o755)


def test_two_imports_of_one_file_at_once_store_it_once(shop):
    command = [HABITUE, "import", "orders.csv", "--mapping", "orders.toml", "-w", "shop"]
    both = [
        subprocess.Popen(command, cwd=shop.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [(process.communicate(timeout=300), process.returncode) for process in both]
    for (_, said), code in told:
        assert code == 0 or (code == 1 and "another writer" in said and said.count("\n") == 1), said
    assert any(code == 0 for _, code in told)
    events = contents(shop)["events"]
    assert events.height == events["event_id"].n_unique() == pl.read_csv(shop.parent / "orders.csv").height


HOLD = """
import sys, time
from pathlib import Path
from habitue.core.lake import open_lake
with open_lake(Path(sys.argv[1])).exclusive():
    print("held", flush=True)
    time.sleep(60)
"""


def test_everybody_else_is_refused_in_words_while_one_writes(shop, run):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, shop / "lake"], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        for arguments in (("erase", "c1", "--yes"), ("identity", "merge", "c1", "--into", "c2"), ("migrate",)):
            done = run(*arguments, "-w", "shop", cwd=shop.parent)
            one_sentence(done, rf"another writer \(process {holder.pid}\) is at work.*Try again when it has ended")
        assert time.monotonic() - started < 120
        read = run("lake", "read", "events", "-w", "shop", cwd=shop.parent)
        assert read.returncode == 0, "who reads need not wait"
        holder.kill()
    assert run("identity", "merge", "c1", "--into", "c2", "-w", "shop", cwd=shop.parent).returncode == 0


def test_a_workspace_of_a_newer_habitue_is_refused_by_every_command(shop, run):
    plan = shop / "habitue.toml"
    plan.write_text(plan.read_text().replace("schema_version = 2", "schema_version = 99"))
    before = {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()}
    for arguments in (
        ("import", "orders.csv", "--mapping", "orders.toml"),
        ("check",),
        ("train",),
        ("lake", "compact"),
        ("erase", "c1", "--yes"),
        ("identity", "conflicts"),
        ("migrate",),
    ):
        done = run(*arguments, "-w", "shop", cwd=shop.parent)
        one_sentence(done, "layout 99; this Habitue knows up to 2.*Install the Habitue that made it")
    assert {path: path.read_bytes() for path in shop.rglob("*") if path.is_file()} == before
    assert workspace.VERSION == 2 and EVENTS.version == 1
