"""This process, one part after the other: the engine every other one is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from habitue.core.engine import Step


@dataclass(frozen=True)
class LocalEngine:
    """Runs a per-user step part by part, and a step that sees all over the parts put together."""

    name: str = "the local engine"
    shards: bool = False

    def run(self, step: Step, parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yield the answers in the order of the parts."""
        if step.sees == "one_user":
            for part in parts:
                yield step.run(part)
        else:
            yield step.run(pl.concat(list(parts)))
