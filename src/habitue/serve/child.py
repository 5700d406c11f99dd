"""The child process of the server, as the answering process sees it: it is started, watched, asked, started again.

Whatever takes long is done there, at low priority (`habitue.background`): the inbox into the lake, the lake into files
that answers are made from, and the queue of work. The answering process asks over the child's standard input and hears
over its standard output, one line of JSON each:

    {"number": 7, "do": "store", "with": {...}}
    {"number": 7, "result": {...}}    or    {"number": 7, "error": {"where", "found", "consequence", "remedy"}}

A child that dies is started again and asked again whatever it had not answered: everything it is asked may be done
twice. What it died of TRIES times is given up in words. A child whose parent is gone reads the end of its input and
ends at once. A child that has worked for long ends by itself with AFRESH, between two things it is asked, and is
started again at once: what allocators have kept of a thousand tables goes with it. Its standard error is the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from habitue.core.errors import HabitueError, LakeError

TRIES = 3
NICE = 10  # lower than that of the server, once it answers
AFRESH = 75  # the exit status of a child that asks to be started afresh: no death
SOON_S, LATEST_S = 0.5, 30.0  # until it is started again; twice as long after each death
WELL_S = 60.0  # a child that lived so long has forgotten earlier deaths
END_S = 20.0  # for it to end when it is told to
_log = logging.getLogger("habitue.serve")


def behind(process: int) -> None:
    """Give every thread of a process a priority NICE lower than its first one has. Raises ProcessLookupError.

    On Linux a priority is a thread's own, whatever POSIX says: `os.nice` leaves those that run already where they are,
    and new ones have that of the thread that starts them.
    """
    nice = min(os.getpriority(os.PRIO_PROCESS, process) + NICE, 19)
    met = {process}
    os.setpriority(os.PRIO_PROCESS, process, nice)
    while more := _threads(process) - met:
        for thread in more:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, thread, nice)
        met |= more  # until no thread is left that was started meanwhile by one not yet met


def _threads(process: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{process}/task")}
    except FileNotFoundError:  # it has ended, or this is no Linux
        return set()


@dataclass
class _Asked:
    line: bytes
    answer: asyncio.Future[dict[str, Any]]
    deaths: int = 0


class Child:
    """One child, for one event loop; `command` starts it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.deaths = 0  # since the server began; shown in /metrics
        self._command = list(command)
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._calm = False
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now, None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and watch over it."""
        self._life = asyncio.create_task(self._live())

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something and return what it answers. Raises the HabitueError it answers with.

        Raises LakeError when it died of it TRIES times, or when the server stops.
        """
        self._number += 1
        line = json.dumps({"number": self._number, "do": do, "with": arguments}).encode() + b"\n"
        asked = self._asked[self._number] = _Asked(line, asyncio.get_running_loop().create_future())
        self._say(line)
        return await asked.answer

    def poke(self) -> None:
        """Tell it that something was queued, so that it need not wait for its next look."""
        self._tell("look")

    def calm(self) -> None:
        """Let it work at low priority from now on: the server answers, and nobody waits for its start any more."""
        self._calm = True
        self._tell("calm")

    async def stop(self) -> None:
        """End it; whatever it was asked and has not answered fails."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()  # the end of its input is the end of its work
            try:
                await asyncio.wait_for(process.wait(), END_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._give_up(0, "the server stops")

    async def _live(self) -> None:
        wait = SOON_S
        while True:
            began = time.monotonic()
            try:
                if await self._once() == AFRESH:
                    continue
            except OSError as error:
                _log.error("the process for work in the background cannot be started: %s", error)
            self.deaths += 1
            wait = SOON_S if time.monotonic() - began > WELL_S else min(2 * wait, LATEST_S)
            for asked in self._asked.values():
                asked.deaths += 1
            self._give_up(TRIES, f"the process that does it died {TRIES} times")
            await asyncio.sleep(wait)

    async def _once(self) -> int:
        """Start it, ask it what is open, hear its answers until it ends; returns its exit status."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
        self._process = process
        assert process.stdout is not None
        try:
            if self._calm:  # from its first moment: while it loads, answers are made
                with contextlib.suppress(ProcessLookupError):
                    behind(process.pid)
            for asked in list(self._asked.values()):
                self._say(asked.line)
            while line := await process.stdout.readline():
                self._hear(json.loads(line))
        except asyncio.CancelledError:
            raise
        except ValueError:
            _log.error("the process for work in the background said what cannot be read")
            process.kill()
        code = await process.wait()
        self._process = None
        if code == AFRESH:
            _log.info("the process for work in the background is started afresh")
            return code
        _log.error("the process for work in the background ended (%s); it is started again", code)
        return code

    def _tell(self, do: str) -> None:
        self._say(json.dumps({"number": 0, "do": do, "with": {}}).encode() + b"\n")

    def _say(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):  # it has just died: the next one is asked again
                self._process.stdin.write(line)

    def _hear(self, told: dict[str, Any]) -> None:
        asked = self._asked.pop(told["number"], None)
        if asked is None or asked.answer.done():  # whoever waited has gone away
            return
        if "error" in told:
            error = told["error"]
            asked.answer.set_exception(HabitueError(error.pop("where"), **error))
        else:
            asked.answer.set_result(told["result"])

    def _give_up(self, deaths: int, words: str) -> None:
        for number in [number for number, asked in self._asked.items() if asked.deaths >= deaths]:
            asked = self._asked.pop(number)
            if not asked.answer.done():
                asked.answer.set_exception(
                    LakeError(
                        "work in the background",
                        found=words,
                        consequence="It was not done; what was received waits on the disk",
                        remedy="Look at what the process said before it ended, and at the workspace: habitue doctor",
                    )
                )
