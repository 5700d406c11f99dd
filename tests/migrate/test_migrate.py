"""`layout-1.zip` was written by the last Habitue of layout 1: two imports, a visitor joined to a customer, a model."""

import datetime as dt
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue import migrate
from habitue.core import workspace
from habitue.core.errors import LakeError, ModelError
from habitue.core.schemas import EVENTS, ITEMS
from habitue.model import artifact
from habitue.protect import identities, people

OLD = Path(__file__).with_name("layout-1.zip")
HABITUE = str(Path(sys.executable).with_name("habitue"))
LOGIN = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)


@pytest.fixture
def old(tmp_path) -> Path:
    with zipfile.ZipFile(OLD) as packed:
        packed.extractall(tmp_path)
    return tmp_path / "shop"


def up_to_date(shop: Path) -> None:
    """Hold everything that the older Habitue stored against what is read now."""
    space = workspace.open_workspace(shop)
    events = space.lake.read(EVENTS)
    assert (events.height, events["order_id"].n_unique(), events["value"].sum()) == (20, 20, 125.0)
    assert space.lake.read(EVENTS, version=0).height == 12, "older versions can still be read"
    assert space.lake.read(ITEMS)["title"].to_list() == ["red mug", "blue mug", "tea pot", "tray"]
    cookie = identities.lookup(space.identities, "anonymous_id", "cookie-1")
    ann = identities.lookup(space.identities, "user_id", "ann")
    assert people.joins(space.identities).rows() == [(cookie, ann)]
    assert people.joins(space.identities, as_of=LOGIN - dt.timedelta(seconds=1)).is_empty()
    assert people.history(space.identities)["joined_at"].to_list() == [LOGIN]
    assert set(events["user_key"]) <= set(identities.aliases(space.identities)["user_key"])
    model = artifact.load(shop / "models/popular/20240401T000000Z-old")
    assert (model.model, model.state.items, model.manifest["horizon_days"]) == ("popular", ("P0", "P1", "P2", "P3"), 92)
    np.testing.assert_array_equal(model.state.trend, np.ones(4, dtype=np.float32))


def test_an_older_workspace_is_refused_until_it_is_migrated(old):
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    with pytest.raises(LakeError, match="layout 1; this Habitue works on layout 2.*habitue migrate"):
        workspace.open_workspace(old)
    with pytest.raises(LakeError, match="identities have layout 1.*habitue migrate"):
        identities.aliases(old / "identities.sqlite")
    with pytest.raises(ModelError, match="version 1 of the artefact, this program reads 2.*habitue migrate"):
        artifact.load(old / "models/popular/20240401T000000Z-old")
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


def test_migrating_brings_everything_along(old):
    said: list[str] = []
    assert migrate.migrate(old, say=said.append) == len(said) == 4
    assert [sentence.partition(":")[0] for sentence in said] == [
        "Identities",
        "Tables",
        "Model popular/20240401T000000Z-old",
        "habitue.toml",
    ]
    up_to_date(old)


def test_twice_does_no_harm(old):
    migrate.migrate(old, say=str)
    files = {file: file.read_bytes() for file in old.rglob("*") if file.is_file() and file.name != ".lock"}
    assert migrate.migrate(old, say=str) == 0
    assert {file: file.read_bytes() for file in files} == files


@pytest.mark.parametrize("at", ["_identities", "_tables", "_models", "_plan"])
def test_what_was_interrupted_anywhere_goes_on(old, monkeypatch, at):
    step = getattr(migrate, at)

    def interrupted(space):
        step(space)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migrate, at, interrupted)
        with pytest.raises(KeyboardInterrupt):
            migrate.migrate(old, say=str)
    if at != "_plan":
        with pytest.raises(LakeError, match="habitue migrate"):
            workspace.open_workspace(old)
    migrate.migrate(old, say=str)
    up_to_date(old)


def test_new_rows_leave_no_key_in_the_log(old):
    migrate.migrate(old, say=str)
    lake = workspace.open_workspace(old).lake
    version = lake.append(EVENTS, lake.read(EVENTS).with_columns(event_id=pl.format("again-{}", "event_id")))
    log = (old / f"lake/events/_delta_log/{version:020}.json").read_text()
    assert "minValues" in log and "user_key" not in log


def test_a_model_of_another_contract_is_named_and_left(old):
    path = old / "models/popular/20240401T000000Z-old/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    manifest["schemas"]["features"] = 7
    path.write_bytes(artifact._signed(manifest)[0])
    before, said = path.read_bytes(), []
    migrate.migrate(old, say=said.append)
    assert "Model popular/20240401T000000Z-old stays as it was." in said[2]
    assert "fitted on version 7 of FEATURES" in said[2] and "Train it again" in said[2]
    assert path.read_bytes() == before


LIMITED = """
import resource, sys
from habitue.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["habitue", "migrate", "-w", sys.argv[2]]
main()
"""


@pytest.mark.parametrize("size", [0, 9_000])
def test_a_full_disk_loses_nothing_and_the_rest_is_done_later(old, size):
    command = [sys.executable, "-c", LIMITED, str(size), str(old)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("habitue: identities.sqlite: the identities cannot be brought up")
    with pytest.raises(LakeError, match="habitue migrate"):
        workspace.open_workspace(old)
    migrate.migrate(old, say=str)
    up_to_date(old)


def test_a_manifest_that_cannot_be_written_is_told_and_done_later(old, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    said: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        migrate.migrate(old, say=said.append)
    assert "stays as it was" in said[2] and "manifest.json cannot be written (No space left on device)" in said[2]
    assert migrate.migrate(old, say=str) == 1
    up_to_date(old)


def test_from_the_command_line(old):
    run = [HABITUE, "migrate", "-w", str(old)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("The workspace is up to date.\n"), done.stderr
    assert subprocess.run([*run, "--json"], capture_output=True, text=True).stdout == '{"done": []}\n'
    up_to_date(old)
    (old / "habitue.toml").write_text((old / "habitue.toml").read_text().replace("_version = 2", "_version = 9"))
    newer = subprocess.run(run, capture_output=True, text=True)
    assert newer.returncode == 1 and "layout 9; this Habitue knows up to 2" in newer.stderr
    assert newer.stderr.count("\n") == 1 and "Traceback" not in newer.stderr
