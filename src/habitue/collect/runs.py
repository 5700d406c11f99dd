"""Sorted runs of rows on disk, as an external merge sort keeps them (Knuth, The Art of Computer Programming 3, 5.4).

A run is one file: slices of a frame that is sorted by its column `hash`, each an Arrow stream of its own, then a list
of the slices. What lies in a range of hashes is read slice by slice with plain reads: a file that is mapped into memory
counts as address space for as long as anything looks at it, and an import may have little of that.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl

SLICE = 512  # rows: what one look into a run reads at least
SUFFIX = ".run"

Slices = npt.NDArray[np.uint64]  # [slices, 3]: the lowest and the highest hash, and the byte after the slice


def write(path: Path, frame: pl.DataFrame) -> None:
    """Write `frame`, in any order, as a run; rows of equal `hash` keep their order. Raises OSError, PolarsError."""
    frame = frame.sort("hash", maintain_order=True)
    found = []
    with path.open("wb") as file:
        for rows in frame.iter_slices(SLICE):
            rows.write_ipc_stream(file, compression="lz4")
            found.append((rows["hash"][0], rows["hash"][-1], file.tell()))
        file.write(np.array(found, dtype="<u8").reshape(-1, 3).tobytes())
        file.write(len(found).to_bytes(8, "little"))


def within(path: Path, slices: Slices, low: int, high: int) -> Iterator[pl.DataFrame]:
    """Yield the rows with low <= hash <= high, in their order; `slices` are those of the run."""
    first, last = np.uint64(low), np.uint64(high)
    wanted = np.flatnonzero((slices[:, 0] <= last) & (slices[:, 1] >= first))
    if wanted.size:
        between = pl.col("hash").is_between(pl.lit(low, pl.UInt64()), pl.lit(high, pl.UInt64()))
        with path.open("rb") as file:
            for which in wanted:
                rows = _slice(file, slices, int(which)).filter(between)
                if rows.height:
                    yield rows


def every(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Return some columns of all rows."""
    slices = listed(path)
    with path.open("rb") as file:
        return pl.concat([_slice(file, slices, i).select(columns) for i in range(len(slices))])


def listed(path: Path) -> Slices:
    """Return the list of the slices of a run."""
    with path.open("rb") as file:
        file.seek(-8, io.SEEK_END)
        count = int.from_bytes(file.read(8), "little")
        file.seek(-8 - 24 * count, io.SEEK_END)
        return np.frombuffer(file.read(24 * count), dtype="<u8").reshape(-1, 3)


def columns(path: Path) -> list[str]:
    """Return the names of the columns of a run, without `hash`."""
    with path.open("rb") as file:
        return [name for name in _slice(file, listed(path), 0).columns if name != "hash"]


def _slice(file: BinaryIO, slices: Slices, which: int) -> pl.DataFrame:
    start = int(slices[which - 1, 2]) if which else 0
    file.seek(start)
    return pl.read_ipc_stream(io.BytesIO(file.read(int(slices[which, 2]) - start)))
