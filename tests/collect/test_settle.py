"""A person whose events are still in the inbox of a server that was killed is erased from there as well."""

import asyncio
import datetime as dt
import json

import pytest
from typer.testing import CliRunner

from habitue.cli import app
from habitue.collect.receiver import Receiver
from habitue.collect.settle import settled
from habitue.collect.wires import segment
from habitue.core import workspace
from habitue.core.errors import LakeError
from habitue.core.schemas import EVENTS
from habitue.protect import identities

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def message(name, user):
    return {
        "messageId": name,
        "type": "track",
        "event": "Product Viewed",
        "userId": user,
        "timestamp": NOW.isoformat(),
        "properties": {"product_id": "mug"},
    }


@pytest.fixture
def killed(tmp_path):
    """A workspace whose server took three events and was killed before they reached the lake."""
    shop = workspace.init(tmp_path / "shop")

    async def serve():
        receiver = Receiver(shop)
        await receiver.start()
        body = {"batch": [message("a", "anna"), message("b", "anna"), message("c", "bert")]}
        await receiver.take(segment.batch(body, received=NOW), "segment", NOW)
        for task in receiver._tasks:
            task.cancel()
        await asyncio.gather(*receiver._tasks, return_exceptions=True)
        receiver._people.close()
        receiver._log.rotate()
        receiver._writer.shutdown()
        receiver._held.close()  # as the kernel does when a process is gone

    asyncio.run(serve())
    assert shop.lake.read(EVENTS).is_empty() and list((shop.root / "inbox").glob("*.log"))
    return shop


def test_what_was_received_is_in_the_lake(killed):
    with settled(killed) as new:
        assert new == 3
    with settled(killed) as new:
        assert new == 0
    assert killed.lake.read(EVENTS)["event_id"].sort().to_list() == ["a", "b", "c"]
    assert not list((killed.root / "inbox").glob("*.log"))


def test_what_was_settled_is_known_to_the_server_that_starts_next(killed):
    with settled(killed):
        pass

    async def serve():
        receiver = Receiver(killed)
        await receiver.start()
        body = {"batch": [message("a", "anna"), message("d", "anna")]}
        taken = await receiver.take(segment.batch(body, received=NOW), "segment", NOW)
        await receiver.stop()
        return taken

    taken = asyncio.run(serve())
    assert (taken.new, taken.repeated) == (1, 1)


def test_erasing_somebody_who_is_still_in_the_inbox(killed):
    key = identities.lookup(killed.identities, "user_id", "anna")
    done = CliRunner().invoke(app, ["erase", "anna", "--yes", "--json", "-w", str(killed.root)])
    assert done.exit_code == 0, done.output
    receipt = json.loads(done.stdout)
    assert receipt["rows"]["events"] == 2 and receipt["complete"]
    assert killed.lake.read(EVENTS)["event_id"].to_list() == ["c"]
    every = b"".join(path.read_bytes() for path in killed.root.rglob("*") if path.is_file())
    assert b"anna" not in every and str(key).encode() not in every


def test_nobody_is_erased_while_a_server_receives(killed):
    async def ask():
        receiver = Receiver(killed)
        await receiver.start()
        try:
            return await asyncio.to_thread(CliRunner().invoke, app, ["erase", "anna", "--yes", "-w", str(killed.root)])
        finally:
            await receiver.stop()

    done = asyncio.run(ask())
    assert isinstance(done.exception, LakeError) and "another writer" in str(done.exception)
    assert killed.lake.read(EVENTS).height == 3


def test_a_workspace_that_never_received(tmp_path):
    with settled(workspace.init(tmp_path / "shop")) as new:
        assert new == 0
