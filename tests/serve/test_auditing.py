"""The audit log while a server runs: refusals counted, old lines taken away, and no trouble when the store is away."""

import asyncio
import time

import pytest

from habitue.core.errors import LakeError
from habitue.serve import auditing, keys, operational
from habitue.serve.problems import Problem


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def refused(ask, *args):
    with pytest.raises(Problem):
        ask(*args)


def kept(door, scenario=None):
    """Run a scenario while the audit log is kept."""

    async def run():
        async with auditing.kept(door):
            if scenario is not None:
                await scenario()

    asyncio.run(run())


def lines(state):
    return sorted(line[1:] for line in keys.audit(state) if line[2] == "refused")


def test_refused_keys_are_a_line_a_reason_however_often_and_without_their_text(state):
    write, text = keys.create(state, "write")
    slow, its = keys.create(state, "secret", rate=0.001)
    door = keys.Door(state)

    async def scenario():
        for number in range(500):
            refused(door.admit, f"hbs_deadbeef_guess{number}", keys.USERS)
        refused(door.admit, None, keys.COLLECT)
        refused(door.admit, text, keys.USERS)
        refused(door.admit, text, keys.PREDICT)
        door.admit(its, keys.USERS)
        refused(door.admit, its, keys.USERS)
        refused(door.user, write, "no.token")

    kept(door, scenario)
    assert lines(state) == sorted(
        [
            ("unknown", "refused", "unknown_key, 500 times"),
            ("unknown", "refused", "no_key, 1 times"),
            (write.id, "refused", "not_allowed, 2 times"),
            (slow.id, "refused", "too_many_requests, 1 times"),
            (write.id, "refused", "bad_user_token, 1 times"),
        ]
    )
    assert not any(b"guess" in path.read_bytes() for path in state.iterdir())


def test_they_are_written_while_the_server_runs(state, monkeypatch):
    monkeypatch.setattr(auditing, "NOTE_S", 0.01)
    keys.create(state, "write")
    door = keys.Door(state)

    async def scenario():
        for _ in range(2):
            refused(door.admit, None, keys.COLLECT)
            async with asyncio.timeout(10):
                while door.refused:
                    await asyncio.sleep(0.01)

    kept(door, scenario)
    assert lines(state) == [("unknown", "refused", "no_key, 1 times")] * 2


def test_they_are_counted_on_while_the_store_is_away(state, monkeypatch, caplog):
    keys.create(state, "write")
    door = keys.Door(state)
    refused(door.admit, None, keys.COLLECT)
    with monkeypatch.context() as patch:
        patch.setattr(
            operational,
            "change",
            lambda _: (_ for _ in ()).throw(LakeError("x", found="away", consequence="", remedy="")),
        )
        kept(door)
    assert "the audit log waits: " in caplog.text and lines(state) == []
    refused(door.admit, None, keys.COLLECT)
    kept(door)
    assert lines(state) == [("unknown", "refused", "no_key, 2 times")]


def test_old_lines_go_when_a_server_starts(state):
    key, _ = keys.create(state, "write")
    with operational.change(state) as book:
        for days in (1, 399, 401, 4_000):
            values = (time.time() - days * 86_400, key.id, "users", str(days))
            book.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", values)
    kept(keys.Door(state))
    assert [result for _, _, _, result in keys.audit(state)] == ["done", "1", "399"]


def test_a_workspace_without_a_store_gets_none(state):
    kept(keys.Door(state))
    assert not state.exists()


def test_old_lines_go_while_a_server_runs(state, monkeypatch):
    monkeypatch.setattr(auditing, "NOTE_S", 0.01)
    monkeypatch.setattr(auditing, "TRIM_S", 0.0)
    keys.create(state, "write")

    async def scenario():
        with operational.change(state) as book:
            book.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", (1.0, "x", "users", "old"))
        async with asyncio.timeout(10):
            while len(keys.audit(state)) > 1:
                await asyncio.sleep(0.01)

    kept(keys.Door(state), scenario)
    assert [result for _, _, _, result in keys.audit(state)] == ["done"]
