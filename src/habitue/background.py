"""The child process of `habitue serve`: whatever takes long, at low priority, so that the server answers meanwhile.

    python -m habitue.background WORKSPACE

Two threads. One does what the server asks over standard input, in turn (`habitue.serve.child` says how):

    store    segments of the inbox -> the lake
    read     the lake and the promoted model -> a folder of files the server answers from
    look     nothing; the other thread looks at its queue
    calm     go on at low priority: the server has started

The other does the queue of work (`habitue.serve.work`), job after job; KINDS says what a job may be. The end of its
input ends the process at once, as a crash would: whatever it does may be cut off anywhere and begun again. After a
round of turns of `store` it ends by itself, where no job is under way, and is started afresh (`child.AFRESH`).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from habitue.core.errors import HabitueError
from habitue.core.workspace import Workspace, open_workspace
from habitue.serve import logs, work
from habitue.serve.child import AFRESH, behind
from habitue.serve.work import Said

LOOK_S = 1.0  # how often the queue is looked at
SCHEDULE_S = 60.0  # and whether something is due
_log = logging.getLogger("habitue.background")

Kind = Callable[[Workspace, dict[str, Any], Said], dict[str, Any]]


def train(space: Workspace, arguments: dict[str, Any], said: Said) -> dict[str, Any]:  # noqa: ARG001
    """Train the models on all that is in the lake; the newest answers unless one was promoted."""
    from habitue.shop import Shop

    said(0, 1, "training")
    return {"version": Shop(space).train().folder.name}


def batch(space: Workspace, arguments: dict[str, Any], said: Said) -> dict[str, Any]:
    """Answer one question about many customers (`habitue.serve.jobs`)."""
    from habitue import batch as answering

    return answering.run(space, arguments, said)


def adapt(space: Workspace, arguments: dict[str, Any], said: Said) -> dict[str, Any]:
    """Let the model follow its shop: train on, hold against the one that answers, promote or refuse."""
    from habitue import adapting
    from habitue.plan import load

    told = adapting.adapt(space, load(space.plan), said=said)
    _log.warning("adapting, because %s: %s", arguments.get("reason", "somebody asked for it"), told["words"])
    return told


KINDS: dict[str, Kind] = {"adapt": adapt, "batch": batch, "train": train}


class Chores:
    """What the server asks for, one after the other."""

    def __init__(self, space: Workspace) -> None:
        from habitue.collect import compaction

        self._space, self._storing = space, compaction.Storing(space)

    @property
    def long(self) -> bool:
        """Whether this process has worked for long: it has merged the lake's files, which is the last of a round."""
        return self._storing.merged > 0

    def store(self, segments: list[str]) -> dict[str, Any]:
        """Bring closed segments of the inbox, given by name, into the lake."""
        from habitue.collect.receiver import INBOX

        return {"stored": self._storing([self._space.root / INBOX / name for name in segments])}

    def read(self) -> dict[str, Any]:
        """Read the workspace and write what the server answers from."""
        from habitue import serving
        from habitue.core import runtime

        folder = serving.read(self._space)
        runtime.give_back()
        return {"folder": str(folder)}


def answered(chores: Chores, line: str) -> dict[str, Any] | None:
    """Do what one line asks; returns what is said back, None for nothing."""
    asked = json.loads(line)
    if asked["do"] == "look":
        return None
    if asked["do"] == "calm":
        behind(os.getpid())
        return None
    try:
        result = getattr(chores, asked["do"])(**asked["with"])
        return {"number": asked["number"], "result": result}
    except Exception as error:  # a mistake of ours must reach whoever asked, and not end the process
        if not isinstance(error, HabitueError):
            _log.exception("%s failed", asked["do"])
            error = _mistake(error)
        words = {name: getattr(error, name) for name in ("where", "found", "consequence", "remedy")}
        return {"number": asked["number"], "error": words}


def done(space: Workspace, job: work.Job) -> None:
    """Do one job and note how it ended. Raises LakeError when that cannot be noted."""

    def said(at: int, steps: int, words: str) -> None:
        work.said(space.state, job.number, at, steps, words)

    try:
        kind = KINDS.get(job.kind)
        if kind is None:
            work.fail(space.state, job.number, f"Nobody knows work of the kind '{job.kind}'")
            return
        work.finish(space.state, job.number, kind(space, {**job.arguments, "job": job.number}, said))
    except HabitueError as error:
        work.fail(space.state, job.number, str(error))
    except Exception as error:
        _log.exception("a job of the kind %s failed", job.kind)
        work.fail(space.state, job.number, str(_mistake(error)))


def main() -> None:
    """Serve one parent until its end of the pipe is closed."""
    from habitue.core import runtime

    runtime.modest()
    logs.listen(sys.stderr)
    for one in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent says when to end
        signal.signal(one, signal.SIG_IGN)
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what others print is no answer
    space = open_workspace(Path(sys.argv[1]))
    look, asked, busy = threading.Event(), queue.SimpleQueue[str](), threading.Lock()
    threading.Thread(target=_listen, args=(space, asked, look), daemon=True).start()
    threading.Thread(target=_work, args=(space, look, busy), daemon=True).start()
    chores = Chores(space)
    while True:
        answer = answered(chores, asked.get())
        if answer is not None:
            said.write(json.dumps(answer) + "\n")
            said.flush()
            end_afresh(chores, busy)


def end_afresh(chores: Chores, busy: threading.Lock) -> None:
    """End the process where it has worked for long and no job is under way; `busy` is held while one is."""
    if chores.long and busy.acquire(blocking=False):  # and not released: no job begins any more
        os._exit(AFRESH)


def _listen(space: Workspace, asked: queue.SimpleQueue[str], look: threading.Event) -> None:
    for line in sys.stdin:
        asked.put(line)
        look.set()
    try:
        work.release(space.state)  # the job was not what ended it
    finally:
        os._exit(0)


def _work(space: Workspace, look: threading.Event, busy: threading.Lock) -> None:
    told = ""
    while True:
        try:
            work.recover(space.state)
            told, looked = "", 0.0
            while True:
                look.wait(LOOK_S)
                look.clear()
                if time.monotonic() - looked >= SCHEDULE_S:
                    looked = time.monotonic()
                    _schedule(space)
                with busy:
                    while (job := work.claim(space.state)) is not None:
                        done(space, job)
        except HabitueError as error:  # the store cannot be used: later perhaps
            if str(error) != told:  # said once, not every second of an outage
                _log.error("%s", error)
            told = str(error)
            look.wait(LOOK_S)


def _schedule(space: Workspace) -> None:
    """Queue what is due by the clock or because the data moved."""
    from habitue.core import settings

    if not settings.read_toml(space.plan).get("adapt"):
        return  # never is the default; whoever asks for nothing need not load every model
    from habitue import adapting
    from habitue.plan import load

    reason = adapting.due(space, load(space.plan))
    if reason is not None:
        work.submit(space.state, adapting.KIND, {"reason": reason}, once=True)


def _mistake(error: Exception) -> HabitueError:
    return HabitueError(
        "work in the background",
        found=f"a mistake of ours ({type(error).__name__})",
        consequence="It was not done; nothing that was received is lost",
        remedy="What it said stands in the server's log; please report it",
    )


if __name__ == "__main__":
    main()
