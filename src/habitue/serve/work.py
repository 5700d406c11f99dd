"""Work that can wait: a queue in the operational store, done by the child of `habitue serve` (`habitue.background`).

    number = work.submit(space.state, "train", {})       any process, any thread; on the disk when it returns
    job = work.job(space.state, number)                  Job(state="waiting" | "running" | "done" | "failed", ...)

A **kind** of work is a plain function, listed by name in `habitue.background.KINDS`:

    def run(space: Workspace, arguments: dict[str, Any], said: Said) -> dict[str, Any]

* `arguments` and what it returns (`Job.result`) are JSON objects of at most some KB, without raw ids of people (user
  keys are none); what is larger goes into files under `work.folder(space.state, number)`, whose names it returns.
  `arguments["job"]` is the job's number, put there by the child;
* `said(done, steps, words)` tells how far it is (`Job.done`, `Job.steps`, `Job.words`), for who asks;
* a HabitueError it raises becomes the words of a failed job; anything else is a mistake of ours, and said so;
* jobs are done one after the other, the oldest first, at low priority. When the child dies while it does one, the job
  is begun again from its start, so a kind may be done twice: the second time must find nothing spoilt by the first.
  After TRIES deaths it has failed. A job whose kind nobody knows fails in words.

Ended jobs are forgotten after KEPT_DAYS, their folders with them. The queue is a table of the operational store, a file
or PostgreSQL (`serve.operational`); files of jobs lie in the workspace, so a store serves one workspace.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from habitue.core.errors import LakeError
from habitue.serve.operational import Book, change

FOLDER = "work"
BEFORE = "work.sqlite"  # where an older server kept its queue
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
TRIES = 3
KEPT_DAYS = 30
Said = Callable[[int, int, str], None]  # done, steps, words

# In the order of Job.
_COLUMNS = "number, kind, arguments, state, words, done, steps, tries, result, submitted_at, started_at, ended_at"


@dataclass(frozen=True)
class Job:
    """One piece of work; moments are seconds since 1970 UTC."""

    number: str
    kind: str
    arguments: dict[str, Any]
    state: str
    words: str  # what it is at; why it failed
    done: int  # of `steps`; 0 of 0 = it has not said
    steps: int
    tries: int  # begun so often
    result: dict[str, Any]
    submitted_at: float
    started_at: float | None
    ended_at: float | None


def submit(state: Path, kind: str, arguments: dict[str, Any], *, once: bool = False) -> str:
    """Queue a piece of work; returns its number, 32 hex digits. `state`: the workspace's folder of that name.

    `once`: where one of the kind waits or runs, its number is returned and nothing is queued. One fsync. Raises
    LakeError when it cannot be stored.
    """
    with change(state) as book:
        if once:
            there = book.execute("SELECT number FROM jobs WHERE kind = ? AND state IN (?, ?)", (kind, WAITING, RUNNING))
            if there:
                return str(there[0][0])
        number = secrets.token_hex(16)
        _add(book, (number, kind, json.dumps(arguments), WAITING, "", 0, 0, 0, "{}", time.time(), None, None))
    return number


def job(state: Path, number: str) -> Job | None:
    """Return a job, or None for a number nobody gave out or that was forgotten. Raises LakeError."""
    with change(state) as book:
        rows = book.execute(f"SELECT {_COLUMNS} FROM jobs WHERE number = ?", (number,))
    return _job(rows[0]) if rows else None


def listed(state: Path, *, kind: str | None = None, newest: int = 100) -> list[Job]:
    """Return the newest jobs, newest first. Raises LakeError."""
    query = f"SELECT {_COLUMNS} FROM jobs {'WHERE kind = ? ' if kind else ''}ORDER BY place DESC LIMIT ?"
    with change(state) as book:
        return [_job(row) for row in book.execute(query, (kind, newest) if kind else (newest,))]


def cancel(state: Path, number: str) -> bool:
    """Let a job fail that has not begun; returns whether there was one. Raises LakeError."""
    return _change(state, number, WAITING, state=FAILED, words="It was cancelled before it began", ended_at=time.time())


def folder(state: Path, number: str) -> Path:
    """Return where a job keeps files; makes nothing."""
    return state / FOLDER / number


def claim(state: Path) -> Job | None:
    """Begin the job that has waited longest; None when none waits. For the child alone. Raises LakeError."""
    with change(state) as book:
        rows = book.execute(
            "UPDATE jobs SET state = ?, tries = tries + 1, started_at = ?, done = 0, steps = 0, words = '' WHERE number"
            f" = (SELECT number FROM jobs WHERE state = ? ORDER BY place LIMIT 1) RETURNING {_COLUMNS}",
            (RUNNING, time.time(), WAITING),
        )
    return _job(rows[0]) if rows else None


def said(state: Path, number: str, done: int, steps: int, words: str) -> None:
    """Note how far a running job is. Raises LakeError."""
    _change(state, number, RUNNING, done=done, steps=steps, words=words)


def finish(state: Path, number: str, result: dict[str, Any]) -> None:
    """Note that a running job is done. Raises LakeError."""
    _change(state, number, RUNNING, state=DONE, result=json.dumps(result), words="", ended_at=time.time())


def fail(state: Path, number: str, words: str) -> None:
    """Note why a running job came to nothing. Raises LakeError."""
    _change(state, number, RUNNING, state=FAILED, words=words, ended_at=time.time())


def recover(state: Path) -> None:
    """Let what ran when a child died wait again; what died TRIES times has failed. Forgets what ended long ago.

    For a child that begins. Raises LakeError.
    """
    old = time.time() - KEPT_DAYS * 86_400
    with change(state) as book:
        _moved(state, book)
        words = f"The process that did it died {TRIES} times"
        book.execute(
            "UPDATE jobs SET state = ?, words = ?, ended_at = ? WHERE state = ? AND tries >= ?",
            (FAILED, words, time.time(), RUNNING, TRIES),
        )
        book.execute("UPDATE jobs SET state = ? WHERE state = ?", (WAITING, RUNNING))
        gone = book.execute("DELETE FROM jobs WHERE ended_at < ? RETURNING number", (old,))
    for (number,) in gone:
        shutil.rmtree(folder(state, number), ignore_errors=True)
    (state / BEFORE).unlink(missing_ok=True)


def release(state: Path) -> None:
    """Let what runs wait again, as if it had not begun: the child ends, and not by its fault. Raises LakeError."""
    with change(state) as book:
        book.execute("UPDATE jobs SET state = ?, tries = tries - 1 WHERE state = ?", (WAITING, RUNNING))


def _change(state: Path, number: str, was: str, /, **to: Any) -> bool:
    names = ", ".join(f"{name} = ?" for name in to)
    query = f"UPDATE jobs SET {names} WHERE number = ? AND state = ? RETURNING number"
    with change(state) as book:
        return bool(book.execute(query, (*to.values(), number, was)))


def _add(book: Book, row: tuple[Any, ...]) -> None:
    """Put a job, in the order of _COLUMNS, behind all others."""
    latest = "(SELECT COALESCE(MAX(place), 0) FROM jobs)"
    book.execute(f"INSERT INTO jobs (place, {_COLUMNS}) VALUES ({latest} + 1, {', '.join('?' * len(row))})", row)


def _moved(state: Path, book: Book) -> None:
    """Take the jobs of an older server's file into the store; `recover` removes it once they are kept."""
    path = state / BEFORE
    if not path.exists():
        return
    try:
        file = sqlite3.connect(path)
        try:
            rows = file.execute(f"SELECT {_COLUMNS} FROM jobs ORDER BY submitted_at, rowid").fetchall()
        finally:
            file.close()
    except sqlite3.Error as error:
        raise LakeError(
            BEFORE,
            found=f"the list of work of an older server cannot be read ({error})",
            consequence="What it was to do would be forgotten in silence",
            remedy="Restore the file from a copy, or delete it and ask for the work again",
        ) from error
    for row in rows:
        if not book.execute("SELECT 1 FROM jobs WHERE number = ?", (row[0],)):
            _add(book, row)


def _job(row: tuple[Any, ...]) -> Job:
    number, kind, arguments, state, words, done, steps, tries, result, *moments = row
    return Job(number, kind, json.loads(arguments), state, words, done, steps, tries, json.loads(result), *moments)
