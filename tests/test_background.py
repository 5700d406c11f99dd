"""What the child does when it is asked, and its queue."""

import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from habitue import background
from habitue.collect import entry, log
from habitue.core import workspace
from habitue.core.errors import UsageError
from habitue.core.schemas import EVENTS
from habitue.protect.arriving import Arriving
from habitue.serve import work
from habitue.serve.child import AFRESH, NICE

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def space(tmp_path):
    return workspace.init(tmp_path / "shop")


def asks(space, do, **arguments):
    line = json.dumps({"number": 5, "do": do, "with": arguments})
    return background.answered(background.Chores(space), line)


def test_segments_that_are_gone_are_in_the_lake(space):
    assert asks(space, "store", segments=["0001.log"]) == {"number": 5, "result": {"stored": 0}}


def test_a_reading_leaves_a_folder_and_the_one_before(space):
    folders = [asks(space, "read")["result"]["folder"] for _ in range(3)]
    assert sorted(map(str, space.state.glob("live.*"))) == folders[1:]
    assert not list(space.state.glob(".live.*"))


def test_an_error_goes_back_in_words_and_a_mistake_of_ours_too(space, caplog):
    space.plan.write_text("nonsense = 1\n" + space.plan.read_text())
    error = asks(space, "read")["error"]
    assert set(error) == {"where", "found", "consequence", "remedy"} and "nonsense" in str(error)
    assert "a mistake of ours (AttributeError)" in asks(space, "nothing")["error"]["found"]
    assert "nothing failed" in caplog.text


def do(space, kind, monkeypatch, run=None):
    if run is not None:
        monkeypatch.setitem(background.KINDS, kind, run)
    number = work.submit(space.state, kind, {"n": 3})
    background.done(space, work.claim(space.state))
    return work.job(space.state, number)


def test_a_job_gets_its_arguments_and_its_number_and_tells_how_far_it_is(space, monkeypatch):
    seen = []

    def run(where, arguments, said):
        said(1, 2, "half")
        seen.append(work.job(where.state, arguments["job"]))
        return {"n": arguments["n"] + 1}

    job = do(space, "add", monkeypatch, run)
    assert (job.state, job.result) == ("done", {"n": 4})
    assert (seen[0].number, seen[0].done, seen[0].steps, seen[0].words) == (job.number, 1, 2, "half")


def test_a_job_that_fails_keeps_the_words(space, monkeypatch, caplog):
    def refuse(*_):
        raise UsageError("a job", found="it is wrong", consequence="Nothing was done", remedy="Mend it")

    assert do(space, "bad", monkeypatch, refuse).words == "a job: it is wrong. Nothing was done. Mend it."
    job = do(space, "worse", monkeypatch, lambda *_: 1 // 0)
    assert job.state == "failed" and "a mistake of ours (ZeroDivisionError)" in job.words
    assert "a job of the kind worse failed" in caplog.text
    assert do(space, "nobody's", monkeypatch).words == "Nobody knows work of the kind 'nobody's'"


def test_a_shop_without_events_cannot_be_trained_and_the_job_says_so(space, monkeypatch):
    job = do(space, "train", monkeypatch)
    assert job.state == "failed" and len(job.words) > 20 and "mistake of ours" not in job.words


def test_the_process_answers_and_ends_with_its_parent_and_what_it_did_waits_again(space):
    """The real process; its parent's end of the pipe is closed while it does a job."""
    command = [sys.executable, "-m", "habitue.background", str(space.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        process.stdin.write(json.dumps({"number": 1, "do": "store", "with": {"segments": []}}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"number": 1, "result": {"stored": 0}}
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == own
        process.stdin.write(json.dumps({"number": 0, "do": "calm", "with": {}}) + "\n")
        number = work.submit(space.state, "nobody's", {})
        process.stdin.flush()
        until = time.monotonic() + 60
        while work.job(space.state, number).state != "failed" and time.monotonic() < until:
            time.sleep(0.05)
        assert "Nobody knows" in work.job(space.state, number).words
        threads = [int(one.name) for one in Path(f"/proc/{process.pid}/task").iterdir()]
        assert len(threads) >= 3  # one does the jobs, one listens
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {
            min(own + NICE, 19)
        }  # a thread has its own
        process.stdin.close()
        assert process.wait(60) == 0
    assert log.segments(space.root / "inbox") == []


def test_what_ran_when_the_parent_went_waits_as_if_it_had_not_begun(space):
    number = work.submit(space.state, "train", {})
    for _ in range(5):
        assert work.claim(space.state).tries == 1
        work.release(space.state)
    assert work.job(space.state, number).state == "waiting"


ROUND = """
from habitue import background
from habitue.collect import compaction
compaction.MERGED = 2
background.main()
"""


def test_after_a_round_of_turns_the_process_asks_to_be_started_afresh(space):
    """The real process, with a round of two turns."""

    def segment(number):
        event = dict.fromkeys(entry.COLUMNS) | {"event_id": f"e{number}", "line": 0, "kind": "Product Viewed"}
        event |= {"at": NOW, "received_at": NOW, "user_key": key, "item_id": "a", "currency": "EUR", "source": "test"}
        written, _ = log.opened(space.root / "inbox")
        written.append(entry.encoded(entry.Group(events=[event])))
        written.rotate()
        return [path.name for path in written.closed()]

    def ask(process, number, segments):
        line = json.dumps({"number": number, "do": "store", "with": {"segments": segments}})
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())["result"]["stored"]

    people = Arriving(space.identities)
    key = people.group(lambda: people.key("user_id", "u1", NOW, "test"))
    people.close()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", ROUND, str(space.root)], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert [ask(process, n, segment(n)) for n in (1, 2)] == [1, 1]
        assert process.wait(60) == AFRESH
    assert space.lake.read(EVENTS).height == 2


def test_a_job_under_way_keeps_the_process(space, monkeypatch):
    chores, busy, ended = background.Chores(space), threading.Lock(), []
    monkeypatch.setattr(os, "_exit", ended.append)
    background.end_afresh(chores, busy)
    chores._storing.merged = 1
    with busy:
        background.end_afresh(chores, busy)
    assert ended == []
    background.end_afresh(chores, busy)
    assert ended == [AFRESH] and busy.locked()
