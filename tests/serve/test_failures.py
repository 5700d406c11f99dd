"""R5 where answers are made: a full disk, a folder in the way, a clock that jumps, torn files, a dead child."""

import datetime as dt
import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from litestar.testing import TestClient

import habitue
from habitue import batch, serving
from habitue.core.errors import LakeError
from habitue.serve import about, app, experiments, keys, operational, rules, work
from habitue.serve.experiments import Arm, Experiment

NOW = dt.datetime(2024, 8, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def served(trained):
    """A client, its own key, and a clock that can be set."""
    secret = keys.create(trained.state, "secret")[1]
    clock = [NOW]
    made = app.create(trained, read=lambda: serving.read(trained), clock=lambda: clock[0])
    with TestClient(made) as client:

        def ask(path, method="GET", body=None):
            answer = client.request(method, path, json=body, headers={"Authorization": f"Bearer {secret}"})
            return answer.status_code, answer.json()

        ask.client, ask.clock, ask.space = client, clock, trained
        yield ask


def look_again(ask):
    ask.client.app.state.door._looked = -1.0


class TestFullDisk:
    def test_what_must_be_written_down_is_refused_and_the_rest_goes_on(self, served, monkeypatch):
        def full(*_, **__):
            raise sqlite3.OperationalError("database or disk is full")

        assert served("/v1/recommendations?user_id=u0")[0] == 200
        monkeypatch.setattr(operational.sqlite3, "connect", full)
        for path, method, body in (
            ("/v1/users/u0", "GET", None),
            ("/v1/predictions?user_id=u0", "GET", None),
            ("/v1/tokens", "POST", {"user_id": "u0"}),
            ("/v1/jobs", "POST", {"what": "users"}),
        ):
            status, answer = served(path, method, body)
            assert (status, answer.get("code")) == (503, "unavailable"), path
            assert "disk" not in json.dumps(answer) and "u0" not in json.dumps(answer)
        assert served("/v1/recommendations?user_id=u0")[0] == 200
        monkeypatch.undo()
        assert served("/v1/users/u0")[0] == 200

    def test_a_job_says_so_and_its_done_parts_stay(self, trained, monkeypatch):
        monkeypatch.setattr(batch, "CUSTOMERS", 15)
        number = work.submit(trained.state, "batch", {"what": "users", "question": {}})
        job, real, written = work.claim(trained.state), os.fsync, []

        def full(file):
            written.append(file)
            if len(written) > 4:  # about and the first part: each a file and its name
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(file)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(LakeError, match="cannot be written .No space left.*what it has done is kept"):
            batch.run(trained, {**job.arguments, "job": number}, lambda *_: None)
        monkeypatch.undo()
        assert len(list(work.folder(trained.state, number).glob("part-*.ndjson"))) == 1

    def test_personas_that_cannot_be_written_leave_the_old_ones(self, trained, monkeypatch):
        found = habitue.open(trained.root).personas()
        about.keep(trained.state, found)
        before = (trained.state / about.PERSONAS).read_bytes()

        def full(self, *_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(LakeError, match="personas cannot be written .No space left.*goes on with those it has"):
            about.keep(trained.state, found)
        monkeypatch.undo()
        assert (trained.state / about.PERSONAS).read_bytes() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda state: keys.create(state, "write"),
        lambda state: rules.add(state, "exclude", items=["a"]),
        lambda state: experiments.begin(state, Experiment("e", (Arm("a", 0.5), Arm("b", 0.5)))),
    ],
)
def test_a_folder_that_cannot_be_written_is_said(tmp_path, make):
    (tmp_path / "state").write_text("a file in the way")
    with pytest.raises(LakeError, match="Check that the folder state/ may be written"):
        make(tmp_path / "state")


class TestClockJump:
    def test_a_shop_is_told_about_wherever_the_clock_stands(self, served):
        for jump in (-4_000, -400, -1, 0, 1, 400, 40_000):
            served.clock[0] = NOW + dt.timedelta(days=jump)
            status, told = served("/v1/predictions?user_id=u0")
            assert status == 200 and 0 < told["churn"] < 1 and told["stale"] is (jump >= -1)
            assert served("/v1/recommendations?user_id=u0&placement=session&n=3")[0] == 200
            status, known = served("/v1/users/u0")
            assert status == 200 and len(known["timeline"]) == 8

    def test_rates_do_not_follow_the_wall_clock(self, trained, monkeypatch):
        key, text = keys.create(trained.state, "secret", rate=1)
        door, wall = keys.Door(trained.state), time.time
        for _ in range(2):
            door.admit(text, keys.USERS)
        monkeypatch.setattr(time, "time", lambda: wall() + 86_400)
        with pytest.raises(Exception, match="1 times a second"):
            door.admit(text, keys.USERS)
        assert key.rate == 1

    def test_a_token_runs_out_and_comes_back_with_the_clock(self, trained, monkeypatch):
        key, _ = keys.create(trained.state, "write")
        token, door, wall = keys.user_token(trained.state, "u1"), keys.Door(trained.state), time.time
        monkeypatch.setattr(time, "time", lambda: wall() + 86_400)
        with pytest.raises(Exception, match="The user token has run out"):
            door.user(key, token)
        monkeypatch.undo()
        assert door.user(key, token) == "u1"


class TestTornFiles:
    @pytest.mark.parametrize("left", [1_000, 0])
    def test_a_torn_store_answers_nobody_until_it_is_whole(self, served, left):
        path = served.space.state / operational.FILE
        whole = path.read_bytes()
        path.write_bytes(whole[:left])
        look_again(served)
        status, told = served("/v1/recommendations?user_id=u0")
        assert (status, told["code"]) == (503, "unavailable")
        path.write_bytes(whole)
        look_again(served)
        assert served("/v1/recommendations?user_id=u0")[0] == 200

    def test_a_store_that_is_gone_opens_no_door(self, served):
        path = served.space.state / operational.FILE
        assert served("/v1/recommendations?user_id=u0")[0] == 200
        path.rename(path.with_suffix(".away"))
        look_again(served)
        for _ in range(2):
            assert served("/v1/recommendations?user_id=u0")[1]["code"] == "unavailable"
        path.with_suffix(".away").rename(path)
        assert served("/v1/recommendations?user_id=u0")[0] == 200

    def test_a_document_that_is_none_is_said(self, served):
        rules.add(served.space.state, "exclude", items=["red-1"])
        with operational.change(served.space.state) as book:
            book.execute("UPDATE documents SET said = '{'")
            book.changed()
        with pytest.raises(LakeError, match="one of the rules in the store is no JSON object"):
            rules.listed(served.space.state)
        assert served("/v1/recommendations?user_id=u0")[1]["code"] == "unavailable"

    def test_torn_personas_and_a_torn_store(self, served):
        (served.space.state / about.PERSONAS).write_text('{"personas": [')
        assert served("/v1/users/u0")[1]["code"] == "unavailable"
        (served.space.state / about.PERSONAS).unlink()
        assert served("/v1/users/u0")[0] == 200
        (served.space.state / operational.FILE).write_bytes(b"torn" * 1_000)
        assert served("/v1/jobs", "POST", {"what": "users"})[1]["code"] == "unavailable"
        assert served("/v1/recommendations?user_id=u0")[1]["code"] == "unavailable"  # whose keys are unknown


@pytest.mark.slow
def test_a_job_outlives_the_death_of_the_child(trained):
    program = [sys.executable, "-c", "from habitue.cli import main; main()"]
    command = [*program, "serve", "-w", str(trained.root), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ask(path, body=None):
        request = urllib.request.Request(f"{address}{path}", None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()

    try:
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        number = json.loads(ask("/v1/jobs", {"what": "recommendations", "n": 3}))["job_id"]
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert len(json.loads(ask("/v1/recommendations?user_id=u0"))["items"]) == 10
        until = time.monotonic() + 90
        while (told := json.loads(ask(f"/v1/jobs/{number}")))["state"] != "done":
            assert told["state"] in ("waiting", "running") and time.monotonic() < until
            time.sleep(0.3)
        found = [json.loads(line) for line in ask(f"/v1/jobs/{number}/result").splitlines()]
        assert len({row["user_id"] for row in found}) == 40
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask("/v1/jobs/none")
    finally:
        server.terminate()
        server.communicate(timeout=60)
