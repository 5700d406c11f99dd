"""What every group of parsers shares: what a parser is, which inputs are kept, and what a failure is."""

from __future__ import annotations

import faulthandler
import gzip
import json
import os
import random
import signal
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import changes

import habitue
from habitue.core import runtime

OURS = os.fspath(Path(habitue.__file__).parent)
STUCK_S, ASLEEP_S = (
    60,
    900,
)  # of CPU, and of the clock, on one input: the process ends, whoever started it has the input
SHOWN = 600  # characters


@dataclass(frozen=True)
class Parser:
    """One way in."""

    name: str
    good: tuple[bytes, ...]
    read: Callable[[bytes], Counter[str]]  # what came of an input, counted
    whole: Callable[[bytes], None] | None = None  # the rest of its way, gone where an input reached something new


@dataclass(frozen=True)
class Group:
    """Parsers that say no in the same way."""

    name: str
    ours: str  # the package whose steps are watched: "habitue.collect"
    parsers: tuple[Parser, ...]
    refuses: tuple[type[Exception], ...]
    counted: tuple[str, ...]  # what `read` counts
    latest_s: float = 1.0  # of CPU, for one input
    most_mb: float = 300.0  # of memory, more than after the good inputs


@dataclass
class Corpus:
    """The inputs of one parser that reached something new; of JSON, also as values."""

    bodies: list[bytes] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def keep(self, body: bytes) -> None:
        """Keep an input."""
        self.bodies.append(body)
        try:
            self.values.append(json.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body))
        except (OSError, EOFError, zlib.error, ValueError, RecursionError):
            return


class Ways:
    """The steps from line to line of our code that an input took, and all that any input took before."""

    def __init__(self, package: str) -> None:
        self.met: set[tuple[CodeType, int, int]] = set()
        self.new = False
        self._folder = os.path.join(os.path.dirname(OURS), *package.split("."))

    def of(self, run: Callable[[], Any]) -> Any:
        """Run; `new` says whether a step was."""
        self.new = False
        sys.settrace(self._called)
        try:
            return run()
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        code, before = frame.f_code, 0

        def line(inner: FrameType, event: str, _arg: object) -> Any:
            nonlocal before
            if event == "line":
                step = (code, before, inner.f_lineno)
                before = inner.f_lineno
                if step not in self.met:
                    self.met.add(step)
                    self.new = True
            return line

        return line


@dataclass(frozen=True)
class Failure:
    """What no input may do, and the input that does it."""

    parser: str
    words: str
    body: bytes


def fuzzed(
    group: Group, seconds: float, seed: int, last: Path | None = None
) -> tuple[dict[str, float], dict[str, Failure]]:
    """Let every parser of a group have its share of the CPU-seconds; returns counts, and failures by their kind.

    `last`: a file that holds the input that is being read, for whoever looks after a process that died.
    """
    faulthandler.register(signal.SIGPROF, chain=True)  # says where, and then the signal ends the process
    dice, ways, found = random.Random(seed), Ways(group.ours), Counter[str]()
    failures: dict[str, Failure] = {}
    began_mb, slowest, armed = 0.0, 0.0, 0.0
    corpora = {parser.name: Corpus() for parser in group.parsers}
    for first in (True, False):
        for parser in group.parsers:
            corpus = corpora[parser.name]
            waiting = list(parser.good) if first else []
            until = time.process_time() + (0 if first else seconds / len(group.parsers))
            while waiting or time.process_time() < until:
                body = waiting.pop() if first else changes.changed(corpus.bodies, corpus.values, dice)
                if last is not None:
                    last.write_bytes(parser.name.encode() + b"\n" + body)
                    signal.setitimer(signal.ITIMER_PROF, STUCK_S)
                    if time.monotonic() - armed > 1:  # this timer is a thread
                        faulthandler.dump_traceback_later(ASLEEP_S, exit=True)
                        armed = time.monotonic()
                spent = time.process_time()
                told, fault = _outcome(ways, parser, body, group.refuses)
                took = time.process_time() - spent
                new = ways.new
                found.update(told)
                found["inputs"] += 1
                if fault is None and new and parser.whole is not None:
                    whole = parser.whole
                    _, fault = _outcome(ways, parser, body, group.refuses, lambda b=body, w=whole: w(b))
                if fault is not None:
                    failures.setdefault(f"{parser.name} {fault[0]}", Failure(parser.name, fault[1], body))
                if first or (new and fault is None):
                    corpus.keep(body)
                if not first:  # the good ones load what Python loads late
                    slowest = max(slowest, took)
                    if took > group.latest_s:
                        words = f"{took:.1f} seconds of CPU"
                        failures.setdefault(f"{parser.name} slow", Failure(parser.name, words, body))
        if first:
            began_mb = runtime.peak_mb()
    signal.setitimer(signal.ITIMER_PROF, 0)
    faulthandler.cancel_dump_traceback_later()
    grown = runtime.peak_mb() - began_mb
    if grown > group.most_mb:
        failures["memory"] = Failure("all", f"{grown:,.0f} MB more than before", b"")
    counts = {"inputs": float(found["inputs"]), "inputs kept": float(sum(len(c.bodies) for c in corpora.values()))}
    counts |= {name: float(found[name]) for name in (*group.counted, "refused whole")}
    counts |= {"parsers": float(len(group.parsers)), "steps from line to line": float(len(ways.met))}
    counts |= {"slowest input, ms": 1e3 * slowest, "memory, MB more": grown, "kinds of failure": float(len(failures))}
    return counts, failures


def _outcome(
    ways: Ways,
    parser: Parser,
    body: bytes,
    refuses: tuple[type[Exception], ...],
    run: Callable[[], Any] | None = None,
) -> tuple[Counter[str], tuple[str, str] | None]:
    """Return what came of an input, and the fault (its kind, its words) where it is none of what may come."""
    try:
        return ways.of(run or (lambda: parser.read(body))) or Counter(), None
    except refuses as error:
        fault = _unsaid(error)
        return Counter({"refused whole": 1}), None if fault is None else (fault, f"{fault}: {str(error)!r}")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Polars is no Exception
        ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(OURS)]
        place = (ours or traceback.extract_tb(error.__traceback__))[-1]
        at = f"{os.path.relpath(place.filename, OURS)}:{place.lineno}"
        return Counter(), (f"{type(error).__name__} {at}", f"{at} {error!r}"[:SHOWN])


def _unsaid(error: Exception) -> str | None:
    """Return what a refusal lacks: its words must be there, and such as a terminal may be given."""
    words = str(error)
    if not words.strip():
        return "a refusal without a word"
    try:
        words.encode()
    except UnicodeEncodeError:
        return "a refusal that cannot be printed"
    return "a refusal with control characters" if any(ord(c) < 32 for c in words) else None
