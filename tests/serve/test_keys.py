"""Keys: hashed at rest, scoped, rotatable, limited; and tokens that prove who a shopper is."""

import re
import stat
import time

import pytest

from habitue.core.errors import LakeError, UsageError
from habitue.serve import keys, operational
from habitue.serve.problems import Problem


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def refused(door, text, scope):
    with pytest.raises(Problem) as caught:
        door.admit(text, scope)
    return caught.value


def look_again(door):
    """A second has gone by: the file is looked at anew."""
    door._looked = -1.0


def test_a_key_is_admitted_and_nowhere_at_rest(state):
    key, text = keys.create(state, "secret", note="the shop's server")
    assert re.fullmatch(rf"hbs_{key.id}_[\w-]{{43}}", text)
    assert keys.Door(state).admit(text, keys.PREDICT) == key
    secret = text.split("_", 2)[2].encode()
    assert all(secret not in path.read_bytes() for path in state.iterdir())
    assert stat.S_IMODE((state / operational.FILE).stat().st_mode) == 0o600


def test_without_any_key_everybody_may_do_everything(state):
    door = keys.Door(state)
    assert door.empty() and door.admit(None, keys.USERS) is keys.ANYBODY
    keys.create(state, "write")
    look_again(door)
    assert not door.empty()
    assert refused(door, None, keys.COLLECT).body() == {
        "success": False,
        "code": "no_key",
        "message": "No key was sent",
        "detail": "Send a key of this workspace (habitue keys list), as docs/serve.md says",
    }


@pytest.mark.parametrize("text", ["hbw_00000000_x", "x", "hbw", "", "é" * 10_000, "hbw_\udcff_"])
def test_a_text_that_is_no_key_is_refused(state, text):
    keys.create(state, "write")
    problem = refused(keys.Door(state), text, keys.COLLECT)
    assert (problem.status, problem.code) == (401, "unknown_key" if text else "no_key")


def test_a_key_of_another_secret_is_refused(state):
    key, text = keys.create(state, "write")
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert refused(keys.Door(state), other, keys.COLLECT).code == "unknown_key"


def test_a_write_key_may_not_do_what_takes_a_secret_one(state):
    _, text = keys.create(state, "write")
    door = keys.Door(state)
    assert door.admit(text, keys.COLLECT).kind == "write"
    problem = refused(door, text, keys.PREDICT)
    assert (problem.status, problem.code) == (403, "not_allowed")
    assert problem.message == "A write key may not do this (predict)"
    assert problem.detail == "Use a secret key from your own server: habitue keys create secret"


def test_scopes_narrow_a_key(state):
    _, text = keys.create(state, "secret", scopes=[keys.COLLECT])
    door = keys.Door(state)
    door.admit(text, keys.COLLECT)
    problem = refused(door, text, keys.USERS)
    assert problem.status == 403 and problem.detail.endswith("habitue keys create secret --scope users")


def test_a_revoked_key_ends_within_the_second(state):
    key, text = keys.create(state, "write")
    door = keys.Door(state)
    door.admit(text, keys.COLLECT)
    keys.revoke(state, key.id)
    look_again(door)
    assert refused(door, text, keys.COLLECT).code == "unknown_key"
    with pytest.raises(UsageError, match="is not in force any more"):
        keys.revoke(state, key.id)
    with pytest.raises(UsageError, match="there is no key 'zz'"):
        keys.rotate(state, "zz")


def test_a_rotated_key_goes_on_for_a_while(state):
    key, old = keys.create(state, "secret", scopes=[keys.USERS], rate=7.0, note="n")
    after, new = keys.rotate(state, key.id, overlap_s=0.2)
    door = keys.Door(state)
    assert door.admit(old, keys.USERS).id == key.id
    assert (after.scopes, after.rate, after.note, after.kind) == ((keys.USERS,), 7.0, "n", "secret")
    assert after.id != key.id and door.admit(new, keys.USERS) == after
    time.sleep(0.25)
    assert refused(door, old, keys.USERS).code == "unknown_key"
    assert [k.ends_at is None for k in keys.listed(state)] == [False, True]


def test_the_rate_is_held_and_says_when_to_come_back(state, monkeypatch):
    _, text = keys.create(state, "write", rate=2.0)
    door, clock = keys.Door(state), [100.0]
    monkeypatch.setattr(keys.time, "monotonic", lambda: clock[0])
    for _ in range(4):  # two seconds of the rate at once
        door.admit(text, keys.COLLECT)
    problem = refused(door, text, keys.COLLECT)
    assert (problem.status, problem.code, problem.headers()) == (429, "too_many_requests", {"Retry-After": "1"})
    clock[0] += 0.5
    door.admit(text, keys.COLLECT)
    assert refused(door, text, keys.COLLECT).status == 429


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "writ"}, "there is no kind of key 'writ'.*write"),
        ({"kind": "write", "scopes": ["users"]}, "a write key cannot have the scope 'users'"),
        ({"kind": "write", "rate": 0.0}, "0 requests a second"),
        ({"kind": "write", "rate": float("nan")}, "nan requests a second"),
    ],
)
def test_a_key_that_cannot_be_made(state, arguments, words):
    with pytest.raises(UsageError, match=words):
        keys.create(state, **arguments)
    assert not state.exists()


class TestUserToken:
    def test_it_proves_the_user(self, state):
        key, _ = keys.create(state, "write")
        assert keys.Door(state).user(key, keys.user_token(state, "Zoë 1")) == "Zoë 1"

    def test_it_runs_out(self, state):
        key, _ = keys.create(state, "write")
        token = keys.user_token(state, "u", lives_s=60, now=time.time() - 61)
        with pytest.raises(Problem, match="The user token has run out"):
            keys.Door(state).user(key, token)

    def test_it_can_be_held_to_one_key(self, state):
        key, _ = keys.create(state, "write")
        other, _ = keys.create(state, "write")
        token = keys.user_token(state, "u", key=key.id)
        assert keys.Door(state).user(key, token) == "u"
        with pytest.raises(Problem, match="belongs to another key"):
            keys.Door(state).user(other, token)

    def test_a_changed_one_is_refused(self, state):
        key, _ = keys.create(state, "write")
        said, signature = keys.user_token(state, "u1").split(".")
        other = keys.user_token(state, "u2").split(".")[0]
        with pytest.raises(Problem, match="was not signed by this server"):
            keys.Door(state).user(key, f"{other}.{signature}")

    @pytest.mark.parametrize("token", ["", ".", "a.b.c", "é.é", "W10.W10", "bnVsbA.AA", "IjEyMyI.AA"])
    def test_what_is_none_is_refused(self, state, token):
        key, _ = keys.create(state, "write")
        with pytest.raises(Problem, match="user token") as caught:
            keys.Door(state).user(key, token)
        assert caught.value.status == 401

    @pytest.mark.parametrize("seconds", [0, 86_401])
    def test_its_life_has_bounds(self, state, seconds):
        with pytest.raises(UsageError, match="a user token of"):
            keys.user_token(state, "u", lives_s=seconds)


def test_the_audit_log_tells_what_was_done(state):
    key, text = keys.create(state, "secret")
    door = keys.Door(state)
    door.note(door.admit(text, keys.USERS), "users", "found")
    door.note(keys.ANYBODY, "users", "found")
    keys.revoke(state, key.id)
    assert [(k, action, result) for _, k, action, result in keys.audit(state)] == [
        (key.id, "revoke", "done"),
        (key.id, "users", "found"),
        (key.id, "create", "done"),
    ]


def test_a_broken_file_answers_nobody(state):
    state.mkdir()
    (state / operational.FILE).write_bytes(b"no database" * 100)
    door = keys.Door(state)
    for _ in range(3):  # not even the second time: unknown keys are not no keys
        with pytest.raises(LakeError, match="the keys, rules and jobs of the server cannot be used"):
            door.admit("x", keys.COLLECT)
