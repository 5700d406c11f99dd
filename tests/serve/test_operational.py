"""The operational store: the same in a file and in a real PostgreSQL, and what happens when it is broken or away."""

import sqlite3
import threading
import time

import pytest
from litestar.testing import TestClient

from habitue import serving
from habitue.core.errors import LakeError, SettingsError, UsageError
from habitue.serve import app, experiments, keys, operational, rules
from habitue.serve.experiments import Arm, Experiment
from habitue.serve.operational import Followed


def in_postgres(space, postgres):
    space.plan.write_text(space.plan.read_text() + f'\n[serve]\nstore = "{postgres.address}"\n')
    return space.state


def life_of_a_store(state):
    """Make, read, change and end one of everything; returns what is left."""
    write, text = keys.create(state, "write", note="pages")
    secret, _ = keys.create(state, "secret", scopes=["predict"], rate=5)
    door = keys.Door(state)
    assert door.admit(text, keys.COLLECT) == write
    keys.revoke(state, secret.id)
    new, _ = keys.rotate(state, write.id, overlap_s=3_600)
    with pytest.raises(UsageError, match="is not in force any more"):
        keys.revoke(state, secret.id)
    token = keys.user_token(state, "u1")
    door._looked = -1.0
    assert door.user(new, token) == "u1"
    door.note(new, "users", "found")
    pin = rules.add(state, "pin", items=["a"], number=1)
    bury = rules.add(state, "bury", brand="Brand 杯")
    rules.remove(state, pin.id)
    begun = experiments.begin(state, Experiment("e", (Arm("a", 0.5), Arm("b", 0.5, price=0.5))))
    experiments.begin(state, Experiment("f", (Arm("a", 0.5), Arm("b", 0.5))))
    ended = experiments.end(state, "e")
    assert rules.listed(state) == (bury,)
    assert [one.name for one in experiments.listed(state)] == ["e", "f"]
    assert experiments.listed(state)[0] == ended and ended.began_at == begun.began_at
    return [(k.kind, k.scopes, k.rate, k.note, k.ended(time.time())) for k in keys.listed(state)], [
        (action, result.partition(" ")[0])
        for _, _, action, result in keys.audit(state)  # without a rule's own id
    ]


@pytest.mark.slow
def test_a_database_holds_what_a_file_holds(shop, tmp_path, postgres):
    in_a_file = life_of_a_store(tmp_path / "state")
    state = in_postgres(shop, postgres)
    assert life_of_a_store(state) == in_a_file
    assert not (state / operational.FILE).exists()


@pytest.mark.slow
def test_changes_of_a_database_follow_each_other(shop, postgres):
    state = in_postgres(shop, postgres)
    failed = []

    def begin(name):
        try:
            experiments.begin(state, Experiment(name, (Arm("a", 0.5), Arm("b", 0.5, price=0.5))))
        except UsageError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=begin, args=(f"e{n}",)) for n in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(experiments.listed(state)) == 1 and len(failed) == 5  # they all change the price of the same lists
    assert all("changes price at the same placement" in words for words in failed)


@pytest.mark.slow
def test_a_server_outlives_an_outage_of_its_database(trained, postgres):
    state = in_postgres(trained, postgres)
    _, text = keys.create(state, "secret")
    own = {"Authorization": f"Bearer {text}"}

    def until(condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)

    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:

        def top():
            answer = client.get("/v1/recommendations", params={"user_id": "u0", "n": 3}, headers=own)
            return answer.status_code, [one["item_id"] for one in answer.json().get("items", ())]

        rules.add(state, "pin", items=["blue-1"], number=1)
        until(lambda: top()[1][:1] == ["blue-1"])  # it follows a change
        postgres.stop()
        slowest = 0.0
        for _ in range(30):
            began = time.monotonic()
            assert top() == (200, top()[1]) and top()[1][0] == "blue-1"
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        assert slowest < 1.5
        answer = client.get("/v1/users/u0", headers=own)  # it must be written down, and cannot be
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        postgres.start()
        until(lambda: client.get("/v1/users/u0", headers=own).status_code == 200)
        rules.add(state, "pin", items=["blue-2"], number=1)
        until(lambda: top()[1][:1] == ["blue-2"])
        client.app.state.door.followed.stop()


def test_a_database_that_is_not_there_is_said_without_its_address(shop):
    shop.plan.write_text(shop.plan.read_text() + '\n[serve]\nstore = "postgresql://ann:secret@/x?host=/nowhere"\n')
    with pytest.raises(
        LakeError, match="the keys, rules and jobs of the server cannot be used.*or that the database is there"
    ) as told:
        keys.listed(shop.state)
    assert "secret" not in str(told.value)
    with pytest.raises(LakeError, match="Nobody could be told apart, so nobody is answered"):
        Followed(shop.state).now()


@pytest.mark.parametrize("address", ["mysql://x", "shop.db", "postgresql"])
def test_another_address_is_refused(shop, address):
    shop.plan.write_text(shop.plan.read_text() + f'\n[serve]\nstore = "{address}"\n')
    with pytest.raises(SettingsError, match="no address of a PostgreSQL database.*postgresql://user@host/database"):
        rules.listed(shop.state)


def test_rules_and_keys_of_an_older_server_are_taken_over(tmp_path):
    connection = sqlite3.connect(tmp_path / operational.FILE, isolation_level=None)
    for statement in (
        "CREATE TABLE keys (id TEXT PRIMARY KEY, kind TEXT NOT NULL, hash TEXT NOT NULL, scopes TEXT NOT NULL,"
        " rate REAL NOT NULL, made_at REAL NOT NULL, ends_at REAL, note TEXT NOT NULL)",
        "CREATE TABLE signing (secret BLOB NOT NULL)",
        "CREATE TABLE audit (at REAL NOT NULL, key TEXT NOT NULL, action TEXT NOT NULL, result TEXT NOT NULL)",
        "INSERT INTO signing VALUES (x'00112233')",
        "INSERT INTO keys VALUES ('aa', 'secret', 'h', '[\"predict\"]', 5.0, 1.0, NULL, '')",
        "PRAGMA user_version = 1",
    ):
        connection.execute(statement)
    connection.close()
    (tmp_path / rules.BEFORE).write_text('[{"id": "r1", "action": "exclude", "items": ["a"]}]')
    held = rules.Rules(tmp_path, Followed(tmp_path))
    assert [rule.id for rule in held.now()] == ["r1"] and not (tmp_path / rules.BEFORE).exists()
    assert [key.id for key in keys.listed(tmp_path)] == ["aa"]
    with operational.change(tmp_path) as book:
        assert keys._signing(book) == bytes.fromhex("00112233")


def test_what_fails_half_way_changes_nothing(tmp_path):
    rules.add(tmp_path, "exclude", items=["a"])
    with pytest.raises(RuntimeError), operational.change(tmp_path) as book:
        book.execute("DELETE FROM documents")
        raise RuntimeError
    assert len(rules.listed(tmp_path)) == 1


def test_an_empty_file_is_no_store_without_keys(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / operational.FILE).touch()
    with pytest.raises(LakeError, match="the file is empty"):
        keys.Door(state).empty()
    with pytest.raises(LakeError, match="the file is empty"):
        keys.create(state, "write")


def test_a_store_is_made_once_by_many_at_once(tmp_path):
    made, start = [], threading.Barrier(8)

    def one():
        start.wait()
        made.append(keys.create(tmp_path / "state", "write")[0].id)

    threads = [threading.Thread(target=one) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(key.id for key in keys.listed(tmp_path / "state")) == sorted(made) and len(made) == 8
    assert (tmp_path / "state" / operational.FILE).stat().st_mode & 0o777 == 0o600
