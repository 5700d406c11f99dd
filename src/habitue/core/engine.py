"""The seam of scale: one pure step over many parts of a table, here or on another engine.

A part is the rows of some users; no user is in two parts. A step says what it must see: "one_user" steps give the same
rows however the users are divided, "all" steps need every row at once. An engine that shards by user refuses the
latter, because it would return partial sums without complaint. One engine is one file in `core/engines/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from habitue.core.errors import HabitueError

Sees = Literal["one_user", "all"]


class EngineError(HabitueError):
    """An engine cannot run a step."""


@dataclass(frozen=True)
class Step:
    """A named pure function of rows; `sees` says which rows it must have at once."""

    name: str
    run: Callable[[pl.DataFrame], pl.DataFrame]
    sees: Sees


class Engine(Protocol):
    """What a file in `core/engines/` provides."""

    @property
    def name(self) -> str:
        """The engine's name in messages."""
        ...

    @property
    def shards(self) -> bool:
        """Whether no process of it ever sees every user."""
        ...

    def run(self, step: Step, parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the step's answer for each part (one answer in all for a step that sees all)."""
        ...


def step(sees: Sees) -> Callable[[Callable[[pl.DataFrame], pl.DataFrame]], Step]:
    """Declare a function as a step: `@step("one_user")`."""

    def declare(function: Callable[[pl.DataFrame], pl.DataFrame]) -> Step:
        return Step(name=f"{function.__module__}.{function.__qualname__}", run=function, sees=sees)

    return declare


def map(step: Step, parts: Iterable[pl.DataFrame], *, engine: Engine) -> Iterator[pl.DataFrame]:
    """Run `step` over `parts` on `engine`; answers come in the order of the parts, a part at a time in memory.

    Raises EngineError when the step must see every user and the engine shards by user.
    """
    if step.sees == "all" and engine.shards:
        raise EngineError(
            step.name,
            found=f"it must see every user at once, but {engine.name} shards by user",
            consequence="It would return partial sums without complaint",
            remedy="Split it into a per-user and a combine step, or use the local engine",
        )
    return engine.run(step, parts)
