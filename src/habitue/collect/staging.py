"""Typed rows on their way into the lake: in memory while there are few, in a private folder once there are many.

A part is some rows whose hashes lie in one range, so identical rows are always in one part; a part fits into memory
whatever the length of the file. After a crash the folder tells how many blocks of the file it holds, and the next
import of the same file goes on behind them. It holds what the file held, ids of people included: only its owner may
read it, and it goes away with the end of the import, or with the next one if this import never ends.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.collect import runs
from habitue.core import lock
from habitue.core.errors import LakeError

PREFIX = "import-"
FEWEST, MOST = 40_000, 250_000  # rows in memory at once: more in a longer file, so that there are not too many parts
WAIT_S = 5.0  # for another import to end

_ROWS, _REFUSED = "rows", "refused"


@dataclass
class Tally:
    """What has been read so far; kept beside the blocks, so that a resumed import goes on counting."""

    blocks: int = 0
    read: int = 0  # rows accepted and inside the span of time
    refused: int = 0
    seen: int = 0  # rows looked at, whatever became of them
    digest: int = 0  # sum of the rows' hashes: the same in any order
    codes: dict[str, int] = field(default_factory=dict)
    complete: bool = False


class Staging:
    """The rows of one import, in blocks as they come and in parts as they are stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory: dict[str, list[pl.DataFrame]] = {_ROWS: [], _REFUSED: []}
        self._loose = 0  # rows in memory
        self.tally = Tally()
        if self.resumed:
            self.tally = Tally(**json.loads((folder / "tally.json").read_text()))

    @property
    def resumed(self) -> bool:
        """Whether some blocks were read by an import that never came to its end."""
        return (self._folder / "tally.json").exists()

    @property
    def columns(self) -> list[str]:
        """The columns of the accepted rows."""
        for path in self._paths(_ROWS):
            return runs.columns(path)
        return [c for c in self._memory[_ROWS][0].columns if c != "hash"] if self._memory[_ROWS] else []

    def add(self, rows: pl.DataFrame, refused: pl.DataFrame, *, same: Sequence[str], seen: int) -> None:
        """Keep a block's accepted and refused rows; rows that agree in the columns `same` come into one part."""
        tally = self.tally
        tally.digest = (tally.digest + _total(rows) + _total(refused)) % 2**64
        if rows.width:
            rows = rows.with_columns(hash=_hashes(rows, same))
        refused = refused.with_columns(hash=_hashes(refused, ["code", "raw"]))
        tally.blocks += 1
        tally.read += rows.height
        tally.refused += refused.height
        tally.seen += seen
        for code, count in refused["code"].value_counts().iter_rows() if refused.height else ():
            tally.codes[code] = tally.codes.get(code, 0) + count
        self._memory[_ROWS].extend([rows] if rows.height else [])
        self._memory[_REFUSED].extend([refused] if refused.height else [])
        self._loose += rows.height + refused.height
        if self._loose >= _portion(tally.read + tally.refused):
            self._spill()

    def close(self) -> None:
        """Say that the file has been read to its end."""
        self.tally.complete = True
        if self.resumed:
            self._spill()

    def parts(self) -> Iterator[pl.DataFrame]:
        """Yield the accepted rows part by part, without their hashes."""
        yield from self._parts(_ROWS, self.tally.read)

    def refused(self) -> Iterator[pl.DataFrame]:
        """Yield the refused rows part by part."""
        yield from self._parts(_REFUSED, self.tally.refused)

    def blocks(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield some columns of the accepted rows, in pieces."""
        for path in self._paths(_ROWS):
            yield runs.every(path, columns)
        for frame in self._memory[_ROWS]:
            yield frame.select(columns)

    def _parts(self, name: str, height: int) -> Iterator[pl.DataFrame]:
        count = max(1, -(-height // _portion(height)))
        stored = [(path, runs.listed(path)) for path in self._paths(name)]
        for part in range(count):
            low, high = part * 2**64 // count, (part + 1) * 2**64 // count - 1
            within = pl.col("hash").is_between(pl.lit(low, pl.UInt64()), pl.lit(high, pl.UInt64()))
            found = [frame.filter(within) for frame in self._memory[name]]
            found += [rows for path, slices in stored for rows in runs.within(path, slices, low, high)]
            frames = [frame for frame in found if frame.height]
            if frames:
                yield pl.concat(frames, how="vertical").drop("hash")

    def _paths(self, name: str) -> list[Path]:
        return sorted(self._folder.glob(f"{name}-*{runs.SUFFIX}"))

    def _spill(self) -> None:
        """Write what is in memory, then the tally: blocks without a tally do not count."""
        try:
            for name, frames in self._memory.items():
                if frames:
                    path = self._folder / f"{name}-{self.tally.blocks:08d}{runs.SUFFIX}"
                    runs.write(path, pl.concat(frames, how="vertical"))
                frames.clear()
            self._loose = 0
            draft = self._folder / "tally.draft"
            draft.write_text(json.dumps(asdict(self.tally)))
            draft.rename(self._folder / "tally.json")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unwritable(self._folder, error) from error


@contextmanager
def staging(state: Path, key: list[Any] | None) -> Iterator[Staging]:
    """Hold the rows of one import; one import at a time. `key` names the file and how it is read; None = no resuming.

    What an import of the same key left is taken up; what others left is removed. An exception removes the folder, an
    interruption keeps it.
    """
    name = hashlib.blake2b(repr(key).encode(), digest_size=8).hexdigest() if key is not None else "once"
    folder = state / f"{PREFIX}{name}"
    with lock.exclusive(state / ".import.lock", wait_s=WAIT_S):
        try:
            forget(state, but=folder if key is not None else None)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unwritable(state, error) from error
        staged = Staging(folder)
        _drop_loose(folder, staged)
        try:
            yield staged
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def forget(state: Path, *, but: Path | None = None) -> None:
    """Remove what imports that never ended have left; only for one that holds the lock, or while none is at work."""
    for folder in state.glob(f"{PREFIX}*"):
        if folder != but:
            shutil.rmtree(folder)


def _portion(rows: int) -> int:
    """How many rows of a file lie in memory at once."""
    return min(max(FEWEST, rows // 160), MOST)


def _drop_loose(folder: Path, staged: Staging) -> None:
    """Remove blocks that were written after the last tally."""
    for path in folder.glob(f"*{runs.SUFFIX}"):
        if int(path.stem.rpartition("-")[2]) > staged.tally.blocks or not staged.resumed:
            path.unlink()


def _hashes(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    return frame.select(columns).hash_rows() if frame.height else pl.Series([], dtype=pl.UInt64)


def _total(frame: pl.DataFrame) -> int:
    """Sum of the rows' hashes; where a row stands does not make it another one."""
    same = [c for c in frame.columns if c != "row"]
    return int(np.sum(_hashes(frame, same).to_numpy(), dtype=np.uint64)) if frame.height else 0


def _unwritable(folder: Path, error: Exception) -> LakeError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return LakeError(
        str(folder),
        found=f"the folder cannot be written ({reason})",
        consequence="The import stopped; nothing was stored and nothing that was there is lost",
        remedy="Check the disk's space and the folder's rights, then do it again",
    )
