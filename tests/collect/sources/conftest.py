"""What the tests of every reader share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from habitue.collect.sources import Form, Limits, opened, require


@pytest.fixture(scope="session")
def read() -> Callable[..., pl.DataFrame]:
    """Read the wanted columns of a whole file, as an import does; `broken` gets the records that cannot be read."""

    def whole(
        place: Path | str,
        wanted: Sequence[str] | None = None,
        *,
        limits: Limits | None = None,
        broken: dict[int, str] | None = None,
        numbers: list[int] | None = None,
        **form: object,
    ) -> pl.DataFrame:
        with opened(place, Form(**form), wanted=wanted or (), limits=limits) as source:
            if source.columns is not None and wanted is not None:
                require(source.columns, wanted, where=source.name)
            frames = []
            for block in source.blocks(wanted, 0):
                frames.append(block.frame)
                assert len(block.numbers) == block.frame.height
                if broken is not None:
                    broken |= block.broken
                if numbers is not None:
                    numbers += block.numbers.to_list()
        names = wanted if wanted is not None else (source.columns or [])
        return pl.concat(frames, how="diagonal") if frames else pl.DataFrame(schema=dict.fromkeys(names, pl.String()))

    return whole
