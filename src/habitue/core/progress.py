"""Progress bars on stderr: seen by a person at a terminal, silent for a file, a pipe or `quiet`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

T = TypeVar("T")

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_shown: ContextVar[bool] = ContextVar("shown", default=False)


class Advance(Protocol):
    """What moves a bar."""

    def __call__(self, done: int, total: int, told: str = "") -> None:
        """Show `done` of `total`, and the words `told` beside it."""


@contextmanager
def quiet(on: bool = True) -> Iterator[None]:
    """Show nothing inside, whatever the terminal."""
    token = _quiet.set(on)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def stage(description: str) -> Iterator[None]:
    """Show a spinner, the description and the seconds while the block runs; a stage inside another shows nothing."""
    if not _visible():
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    token = _shown.set(True)
    try:
        with _bar(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
            bar.add_task(description, total=None)
            yield
    finally:
        _shown.reset(token)


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `iterable` behind a bar; `total` when it has no length."""
    if not _visible():
        yield from iterable
        return
    from rich.progress import Progress

    with _bar(*Progress.get_default_columns()) as bar:
        yield from bar.track(iterable, description=description, total=total)


@contextmanager
def steps(description: str) -> Iterator[Advance]:
    """Show a bar with the time left and yield the function that moves it: advance(done, total, words)."""
    if not _visible():
        yield lambda *_: None
        return
    from rich.progress import Progress, TextColumn

    token = _shown.set(True)
    try:
        with _bar(*Progress.get_default_columns(), TextColumn("{task.fields[told]}")) as bar:
            task = bar.add_task(description, total=None, told="")
            yield lambda done, total, told="": bar.update(task, completed=done, total=total, told=told)
    finally:
        _shown.reset(token)


def _bar(*columns: str | ProgressColumn) -> Progress:
    """Draw on stderr alone: what is printed meanwhile goes where it was meant to go."""
    from rich.console import Console
    from rich.progress import Progress

    screen = Console(stderr=True)
    return Progress(*columns, console=screen, transient=True, redirect_stdout=False, redirect_stderr=False)


def _visible() -> bool:
    return sys.stderr.isatty() and not _quiet.get() and not _shown.get()
