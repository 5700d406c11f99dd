"""Progress bars on stderr: seen by a person at a terminal, silent for a file, a pipe or `quiet`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_shown: ContextVar[bool] = ContextVar("shown", default=False)


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
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    token = _shown.set(True)
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            bar.add_task(description, total=None)
            yield
    finally:
        _shown.reset(token)


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from `iterable` behind a bar; `total` when it has no length."""
    if not _visible():
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import track as bar

    yield from bar(iterable, description, total=total, console=Console(stderr=True), transient=True)


def _visible() -> bool:
    return sys.stderr.isatty() and not _quiet.get() and not _shown.get()
