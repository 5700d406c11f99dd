"""The queue of work: the same in the operational store's file and in a real PostgreSQL."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from habitue.core import workspace
from habitue.core.errors import LakeError
from habitue.serve import operational, work


@pytest.fixture(params=["file", pytest.param("database", marks=pytest.mark.slow)])
def state(request, tmp_path):
    space = workspace.init(tmp_path / "shop")
    if request.param == "database":
        address = request.getfixturevalue("postgres").address
        space.plan.write_text(space.plan.read_text() + f'\n[serve]\nstore = "{address}"\n')
    yield space.state
    assert (space.state / operational.FILE).exists() == (request.param == "file")


def test_a_job_waits_runs_and_is_done(state):
    number = work.submit(state, "count", {"to": 3})
    assert work.job(state, number).state == work.WAITING
    begun = work.claim(state)
    assert (begun.number, begun.kind, begun.arguments, begun.state, begun.tries) == (
        number,
        "count",
        {"to": 3},
        "running",
        1,
    )
    work.said(state, number, 2, 3, "counting")
    told = work.job(state, number)
    assert (told.done, told.steps, told.words) == (2, 3, "counting")
    work.finish(state, number, {"counted": 3})
    told = work.job(state, number)
    assert (told.state, told.result, told.words) == ("done", {"counted": 3}, "")
    assert told.submitted_at <= told.started_at <= told.ended_at <= time.time()
    assert work.claim(state) is None


def test_the_oldest_is_begun_first_and_the_newest_listed_first(state):
    numbers = [work.submit(state, "count", {"to": n}) for n in range(3)]
    other = work.submit(state, "other", {})
    assert [work.claim(state).number for _ in range(4)] == [*numbers, other]
    assert [job.number for job in work.listed(state)] == [other, *numbers[::-1]]
    assert [job.number for job in work.listed(state, kind="count", newest=2)] == numbers[:0:-1]


def test_a_failed_job_keeps_its_words_and_only_running_ones_end(state):
    number = work.submit(state, "count", {})
    work.fail(state, number, "too early")
    assert work.job(state, number).state == work.WAITING
    work.claim(state)
    work.fail(state, number, "There is nothing to count")
    work.finish(state, number, {})
    told = work.job(state, number)
    assert (told.state, told.words, told.result) == ("failed", "There is nothing to count", {})


def test_once_queues_no_second_of_a_kind(state):
    first = work.submit(state, "train", {}, once=True)
    assert work.submit(state, "train", {}, once=True) == first
    work.claim(state)
    assert work.submit(state, "train", {}, once=True) == first
    work.finish(state, first, {})
    assert work.submit(state, "train", {}, once=True) != first


def test_only_what_has_not_begun_is_cancelled(state):
    number = work.submit(state, "count", {})
    assert work.cancel(state, number)
    assert work.job(state, number).words == "It was cancelled before it began"
    assert not work.cancel(state, number)
    running = work.submit(state, "count", {})
    work.claim(state)
    assert not work.cancel(state, running)
    assert work.job(state, running).state == "running"


def test_what_ran_when_the_child_died_is_begun_again_and_fails_at_the_third_death(state):
    number = work.submit(state, "count", {})
    for tries in (1, 2, 3):
        assert work.claim(state).tries == tries
        work.recover(state)
    told = work.job(state, number)
    assert (told.state, told.words) == ("failed", "The process that did it died 3 times")
    assert work.claim(state) is None


def test_ended_jobs_are_forgotten_with_their_files_and_others_kept(state):
    old, waiting, new = (work.submit(state, "count", {}) for _ in range(3))
    for number in (old, waiting, new):
        work.folder(state, number).mkdir(parents=True)
    with operational.change(state) as book:
        long_ago = time.time() - 31 * 86_400
        book.execute("UPDATE jobs SET state = 'done', ended_at = ? WHERE number = ?", (long_ago, old))
        book.execute("UPDATE jobs SET submitted_at = ? WHERE number = ?", (long_ago, waiting))
        book.execute("UPDATE jobs SET state = 'done', ended_at = ? WHERE number = ?", (time.time(), new))
    work.recover(state)
    assert work.job(state, old) is None
    assert {job.number for job in work.listed(state)} == {waiting, new}
    assert not work.folder(state, old).exists()
    assert work.folder(state, waiting).exists()


SUBMIT = """
import sys
from pathlib import Path
from habitue.serve import work
for n in range(20):
    work.submit(Path(sys.argv[1]), "count", {"n": n})
"""


def test_processes_submit_at_once_and_none_is_lost(state):
    others = [subprocess.Popen([sys.executable, "-c", SUBMIT, str(state)]) for _ in range(2)]
    assert [one.wait(60) for one in others] == [0, 0]
    assert len(work.listed(state)) == 40


DIE = """
import os, signal, sys
from pathlib import Path
from habitue.serve import work
print(work.claim(Path(sys.argv[1])).number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_job_whose_worker_was_killed_is_taken_again(state):
    number = work.submit(state, "count", {"to": 3})
    killed = subprocess.run([sys.executable, "-c", DIE, str(state)], stdout=subprocess.PIPE, text=True)
    assert (killed.returncode, killed.stdout.strip()) == (-signal.SIGKILL, number)
    assert (work.job(state, number).state, work.claim(state)) == (work.RUNNING, None)
    work.recover(state)
    again = work.claim(state)
    assert (again.number, again.tries, again.arguments) == (number, 2, {"to": 3})


def test_the_jobs_of_an_older_server_are_taken_over_once(state):
    columns = (
        "number TEXT PRIMARY KEY, kind TEXT, arguments TEXT, state TEXT, words TEXT, done INTEGER, steps INTEGER,"
        " tries INTEGER, result TEXT, submitted_at REAL, started_at REAL, ended_at REAL"
    )
    now = time.time()
    rows = [
        ("b", "count", json.dumps({"to": 3}), "running", "half", 1, 2, 1, "{}", now - 9, now - 8, None),
        ("a", "count", "{}", "done", "", 2, 2, 1, '{"counted": 2}', now - 6, now - 5, now - 4),
    ]
    state.mkdir(exist_ok=True)
    with sqlite3.connect(state / work.BEFORE) as file:
        file.execute(f"CREATE TABLE jobs ({columns})")
        file.executemany(f"INSERT INTO jobs VALUES ({', '.join('?' * 12)})", rows)
    file.close()
    work.recover(state)
    assert not (state / work.BEFORE).exists()
    assert [(job.number, job.state, job.result) for job in work.listed(state)] == [
        ("a", "done", {"counted": 2}),
        ("b", "waiting", {}),
    ]
    assert work.claim(state).arguments == {"to": 3}


def test_an_older_list_that_cannot_be_read_is_kept_and_said(tmp_path):
    (tmp_path / work.BEFORE).write_bytes(b"not a database" * 100)
    with pytest.raises(LakeError, match="the list of work of an older server cannot be read"):
        work.recover(tmp_path)
    assert (tmp_path / work.BEFORE).exists()


def test_a_file_that_is_no_store_is_refused_in_words(tmp_path):
    (tmp_path / operational.FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(LakeError, match="the keys, rules and jobs of the server cannot be used"):
        work.submit(tmp_path, "count", {})


def test_nobody_else_may_read_what_is_asked_for(tmp_path):
    work.submit(tmp_path, "count", {})
    assert os.stat(tmp_path / operational.FILE).st_mode & 0o077 == 0
