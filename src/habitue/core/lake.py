"""The lake: Delta tables in a folder. Append, read at a version, delete by key; several tables as one change.

Tables with a `user_key` lie in partitions of `bucket = user_key % buckets`, so that a per-user stage needs only one of
them in memory. File statistics are kept for time and kind alone: neither words nor keys of people get into the log.
Rows come back in the order of the table's moment and key, whatever the order of files, so a run can be repeated.

Several tables change together in `Lake.transaction`: a journal file names the version each table had; while it exists
everybody reads those versions, and deleting it is the commit. After a crash the next writer restores them.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import deltalake
import polars as pl
from deltalake.exceptions import DeltaError, TableNotFoundError

from habitue.core import journal, lock
from habitue.core.errors import LakeError, UsageError, did_you_mean
from habitue.core.schemas import IDENTITIES, TABLES, Table, check

MOMENTS = ("at", "valid_from", "as_of")
STATISTICS = (*MOMENTS, "kind", "bucket")  # no key of a person: the log keeps the smallest and largest of every file
_STATISTICS = "delta.dataSkippingStatsColumns"
WAIT_S = 5.0  # for another writer to end
ROOM = 2**20  # bytes: log, footers, file system
PACKED = 16  # what compression makes of a table's bytes in memory, at best
NEVER = -1  # the version of a table that was never written


class _Delta(deltalake.DeltaTable):
    """A table whose files have the names the file system knows: deltalake writes a space in a folder as %20."""

    def file_uris(self, *args: Any, **more: Any) -> list[str]:
        return [unquote(uri) for uri in super().file_uris(*args, **more)]


@dataclass(frozen=True)
class Lake:
    """The folder of Delta tables of one workspace; `buckets` is fixed when a table is first written."""

    root: Path
    buckets: int = 8

    def append(self, table: Table, frame: pl.DataFrame) -> int:
        """Add the rows of `frame` in one commit and return the table's new version; a killed write adds nothing.

        An empty frame changes nothing. Raises SchemaError when `frame` breaks the contract, LakeError.
        """
        check(frame, table, at="lake.append")
        if frame.is_empty():
            return self.version(table)
        return self._write(table, frame, mode="append", schema_mode="merge")  # a contract may gain nullable columns

    def replace(self, table: Table, frame: pl.DataFrame) -> int:
        """Put `frame` in the place of all rows (for derived tables); older versions stay readable."""
        check(frame, table, at="lake.replace")
        return self._write(table, frame, mode="overwrite", schema_mode="overwrite")

    def read(
        self,
        table: Table,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        bucket: int | None = None,
    ) -> pl.DataFrame:
        """Return the rows at `version` (default: the latest), ordered by moment and key; empty when never written.

        `columns`: only these; `bucket`: only users with user_key % buckets == bucket. Costs a sort: O(n log n).
        """
        version = self._readable(table, version)
        if version == NEVER:
            return table.empty() if columns is None else table.empty().select(columns)
        try:
            rows = self._scan(table, version)
            stored = [c for c in rows.collect_schema().names() if c != "bucket"]
            names = [c.name for c in table.columns]
            wanted = list(columns) if columns is not None else [*names, *(c for c in stored if c not in names)]
            order = [c for c in dict.fromkeys((*MOMENTS, *table.key)) if c in stored]
            if bucket is not None:
                rows = rows.filter(pl.col("bucket") == bucket)
            later = [pl.lit(None, dtype=table.schema[c]).alias(c) for c in wanted if c not in stored]
            frame = rows.select({*wanted, *order} & set(stored)).collect().sort(order, nulls_last=False)
            return frame.with_columns(later).select(wanted)
        except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
            raise self._unreadable(table, version) from error

    def parts(self, table: Table, *, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows of the latest version a bucket after the other, in any order inside it; all but empty ones.

        The files are looked at once, and nothing is sorted: what is left is reading. Columns as in `read`.
        """
        version = self._readable(table, None)
        if version == NEVER:
            return
        try:
            rows = self._scan(table, version)
            stored = rows.collect_schema().names()
            wanted = list(columns) if columns is not None else [c.name for c in table.columns]
            later = [pl.lit(None, dtype=table.schema[c]).alias(c) for c in wanted if c not in stored]
            for bucket in range(self.buckets):
                mine = rows.filter(pl.col("bucket") == bucket).select(c for c in wanted if c in stored)
                frame = mine.collect().with_columns(later).select(wanted)
                if frame.height:
                    yield frame
        except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
            raise self._unreadable(table, version) from error

    def delete_users(self, table: Table, user_keys: Iterable[int]) -> int:
        """Delete the rows of these users from the files themselves and return how many there were.

        Their buckets are written anew, one at a time in memory; then every file that the latest version does not need
        goes, and the log of older versions with it. Older versions can no longer be read: they held the rows. Doing it
        again after an interruption does no harm. It cannot be undone, so it cannot be part of a transaction.
        """
        keys = pl.Series(sorted(set(user_keys)), dtype=pl.Int64)
        if "user_key" not in table.schema:
            raise UsageError(
                f"lake.{table.name}",
                found="the table has no user_key",
                consequence="No row of it can be told to be a user's",
                remedy="Delete from a table of people",
            )
        buckets = sorted({int(key) % self.buckets for key in keys})
        return self._delete(table, pl.col("user_key").is_in(keys.implode()), buckets) if buckets else 0

    def delete_rows(self, table: Table, where: pl.Expr) -> int:
        """Delete the rows that fit `where`, in every bucket; as `delete_users` otherwise."""
        return self._delete(table, where, range(self.buckets) if "user_key" in table.schema else [None])

    def _delete(self, table: Table, where: pl.Expr, buckets: Iterable[int | None]) -> int:
        gone = 0
        with self.exclusive():
            assert not self._journal.exists(), "an erasure inside a transaction"
            if self._delta(table) is None:
                return 0
            for bucket in buckets:
                rows = self._stored(table, bucket)
                kept = rows.filter(where.not_().fill_null(True))
                if kept.height < rows.height:
                    # never a predicate that names keys: the log would keep it
                    predicate = None if bucket is None else f"bucket = {bucket}"
                    self._write(table, kept, mode="overwrite", predicate=predicate)
                gone += rows.height - kept.height
            self.purge(table)
        return gone

    def purge(self, table: Table) -> None:
        """Remove every file that the latest version does not need, and the log of older versions.

        The log's own entries name no person, but those of tables written by Habitue 0 hold the smallest and largest key
        of each file. A checkpoint of the latest version takes their place, as Delta's protocol allows.
        """
        with self.exclusive():
            delta = self._delta(table)
            if delta is None:
                return
            try:
                delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
                delta = _Delta(self._path(table))
                delta.create_checkpoint()
                for path in sorted((self._path(table) / "_delta_log").iterdir()):
                    number = path.name.partition(".")[0]
                    if number.isdigit() and int(number) < delta.version():
                        path.unlink()
            except (DeltaError, OSError) as error:
                raise self._unwritten(table, error, "Deleted rows may still be in older files of the table") from error

    def compact(self, table: Table) -> int:
        """Merge small files of each partition; rows and older versions stay. Returns how many files went."""
        with self.exclusive():
            delta = self._delta(table)
            try:
                return 0 if delta is None else int(delta.optimize.compact()["numFilesRemoved"])
            except (DeltaError, OSError) as error:
                raise self._unwritten(table, error) from error

    def history(self, table: Table) -> pl.DataFrame:
        """Return one row per version, latest first: version, at (UTC), operation, rows_added, files_removed."""
        schema = {
            "version": pl.Int64(),
            "at": pl.Datetime("us", "UTC"),
            "operation": pl.String(),
            "rows_added": pl.Int64(),
            "files_removed": pl.Int64(),
        }
        delta = self._delta(table)
        rows = [
            {
                "version": entry["version"],
                "at": dt.datetime.fromtimestamp(entry["timestamp"] / 1000, tz=dt.UTC),
                "operation": entry["operation"],
                "rows_added": entry.get("operationMetrics", {}).get("num_added_rows"),
                "files_removed": entry.get("operationMetrics", {}).get("num_removed_files"),
            }
            for entry in (delta.history() if delta is not None else [])
        ]
        return pl.DataFrame(rows, schema=schema)

    def version_at(self, table: Table, moment: dt.datetime) -> int:
        """Return the version that was the latest at `moment` (of the machine's clock, not of the data).

        Raises LakeError when the table was not there yet, or its older versions went with an erasure.
        """
        found = self.history(table).filter(pl.col("at") <= moment, pl.col("version") <= self.version(table))
        if found.is_empty():
            raise LakeError(
                f"lake.{table.name}",
                found=f"the log knows no version as old as {moment:%Y-%m-%d %H:%M:%S} UTC",
                consequence="What the table held then cannot be told",
                remedy=f"See its versions: habitue lake history {table.name}",
            )
        return int(found["version"].max())  # type: ignore[arg-type]

    def files(
        self,
        table: Table,
        version: int | None = None,
        *,
        after: dt.datetime | None = None,
        before: dt.datetime | None = None,
    ) -> list[str]:
        """Return the paths of the Parquet files that make up a version, ascending: what another engine must read.

        `after`, `before` (UTC): only files that may hold a row with after <= at <= before, as the log's statistics say.
        """
        version = self._readable(table, version)
        if version == NEVER:
            return []
        delta = _Delta(self._path(table), version=version)
        if after is None and before is None:
            return sorted(delta.file_uris())
        actions = pl.DataFrame(delta.get_add_actions(flatten=True))
        if "max.at" in actions.columns:
            late = pl.col("max.at") < pl.lit(after, pl.Datetime("us", "UTC"))
            early = pl.col("min.at") > pl.lit(before, pl.Datetime("us", "UTC"))
            actions = actions.filter(~(late.fill_null(False) | early.fill_null(False)))
        return sorted(str(self._path(table) / unquote(path)) for path in actions["path"])

    def set_statistics(self, table: Table) -> bool:
        """Let the log keep statistics of no column but those it may; returns whether that was changed.

        Tables of layout 1 kept the smallest and largest user_key of every new file. Makes a version without rows.
        """
        with self.exclusive():
            delta = self._delta(table)
            kept = "" if delta is None else delta.metadata().configuration.get(_STATISTICS, "")
            wanted = ",".join(name for name in kept.split(",") if name in STATISTICS)
            if delta is None or wanted == kept:
                return False
            try:
                delta.alter.set_table_properties({_STATISTICS: wanted})
            except (DeltaError, OSError) as error:
                raise self._unwritten(table, error) from error
        return True

    def version(self, table: Table) -> int:
        """Return the version that is read now: the latest, or the last before an unfinished transaction; -1 = none."""
        before = journal.entries(self.root)
        if table.name in before:
            return before[table.name]
        return self._latest(table)

    @contextmanager
    def exclusive(self, *, wait_s: float | None = None) -> Iterator[None]:
        """Be the only writer of this lake, across threads and processes; undoes what a crashed writer left.

        Raises LakeError when another writer stays for `wait_s` seconds (default 5), or the folder cannot be written.
        """
        with lock.exclusive(self.root / ".lock", wait_s=WAIT_S if wait_s is None else wait_s) as outermost:
            if outermost:
                self._roll_back()
            yield

    @contextmanager
    def transaction(self, *tables: Table) -> Iterator[None]:
        """Change several tables as one: all of it is seen afterwards, or none when anything at all goes wrong.

        Inside, `read` still answers with the rows from before. Transactions do not nest.
        """
        with self.exclusive():
            assert not self._journal.exists(), "a transaction inside a transaction"
            journal.write(self.root, {table.name: self._latest(table) for table in tables})
            try:
                yield
            except BaseException:
                self._roll_back()
                raise
            self._journal.unlink()

    @property
    def _journal(self) -> Path:
        return self.root / journal.NAME

    def _scan(self, table: Table, version: int) -> pl.LazyFrame:
        """Open the files of a version, after a look at whether each is there and whole."""
        delta = _Delta(self._path(table), version=version)
        for path, size in pl.DataFrame(delta.get_add_actions()).select("path", "size_bytes").iter_rows():
            if (self._path(table) / path).stat().st_size != size:  # Polars would panic over one that was cut off
                raise OSError(f"{path} is not as long as it was written")
        return pl.scan_delta(delta)

    def _stored(self, table: Table, bucket: int | None) -> pl.DataFrame:
        """Return the latest rows as they are stored, of one bucket or, when the table has none, all."""
        try:
            rows = self._scan(table, self._latest(table))
            return (rows if bucket is None else rows.filter(pl.col("bucket") == bucket).drop("bucket")).collect()
        except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
            raise self._unreadable(table, None) from error

    def _path(self, table: Table) -> Path:
        return self.root / table.name

    def _latest(self, table: Table) -> int:
        delta = self._delta(table)
        return NEVER if delta is None else int(delta.version())

    def _readable(self, table: Table, version: int | None) -> int:
        current = self.version(table)
        if version is None:
            return current
        if not 0 <= version <= current:
            raise LakeError(
                f"lake.{table.name}",
                found=f"there is no version {version}",
                consequence="Rows of another moment would be taken for it",
                remedy="The table was never written" if current == NEVER else f"Versions go from 0 to {current}",
            )
        return version

    def _delta(self, table: Table) -> deltalake.DeltaTable | None:
        """Open the table, or None when it was never written. Holds its contract and buckets against ours."""
        try:
            delta = _Delta(self._path(table))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._unreadable(table, None) from error
        written: dict[str, int] = json.loads(delta.metadata().description or "{}")
        if written.get("schema_version", 0) > table.version:
            raise LakeError(
                f"lake.{table.name}",
                found=f"contract version {written['schema_version']}; this Habitue knows up to {table.version}",
                consequence="Its columns may mean something else",
                remedy="Install the Habitue that wrote it, or a later one",
            )
        if written.get("schema_version", table.version) < table.version:
            raise LakeError(
                f"lake.{table.name}",
                found=f"contract version {written['schema_version']}; this Habitue works on {table.version}",
                consequence="Its columns may mean something else",
                remedy="Bring the workspace up to date: habitue migrate",
            )
        if written.get("buckets", self.buckets) != self.buckets:
            raise LakeError(
                f"lake.{table.name}",
                found=f"the table has {written['buckets']} buckets and habitue.toml says {self.buckets}",
                consequence="A user's rows would be looked for in the wrong place",
                remedy=f"Set buckets = {written['buckets']}",
            )
        return delta

    def _write(
        self, table: Table, frame: pl.DataFrame, *, mode: Any, schema_mode: Any = None, predicate: str | None = None
    ) -> int:
        if table is IDENTITIES:
            raise LakeError(
                "lake.identities",
                found="raw ids of people",
                consequence="They would stay in older versions of a Delta table after an erasure",
                remedy="Keep them with protect.identities",
            )
        bucketed = "user_key" in table.schema
        if bucketed:
            bucket = pl.col("user_key").fill_null(0) % self.buckets
            frame = frame.with_columns(bucket=bucket.cast(pl.Int32))
        kept = [c for c in STATISTICS if c in frame.columns]
        with self.exclusive():
            self._delta(table)
            self._room(table, frame)
            try:
                deltalake.write_deltalake(
                    self._path(table),
                    frame,
                    mode=mode,
                    schema_mode=schema_mode,
                    predicate=predicate,
                    partition_by=["bucket"] if bucketed else None,
                    name=table.name,
                    description=json.dumps({"schema_version": table.version, "buckets": self.buckets}),
                    configuration={
                        "delta.enableDeletionVectors": "false",
                        "delta.enableExpiredLogCleanup": "false",  # an old version goes by erasure, never by age
                        "delta.checkpointInterval": "10",  # to open a table reads so many files at most, each a thread
                        **({_STATISTICS: ",".join(kept)} if kept else {"delta.dataSkippingNumIndexedCols": "0"}),
                    },
                    writer_properties=deltalake.WriterProperties(compression="ZSTD", compression_level=3),
                )
            except (DeltaError, OSError) as error:
                raise self._unwritten(table, error) from error
            return self._latest(table)

    def _room(self, table: Table, frame: pl.DataFrame) -> None:
        """Raise LakeError before a write that cannot find room: half-way through it the reason would be told badly."""
        free, least = shutil.disk_usage(self.root).free, ROOM + frame.estimated_size() // PACKED
        if free < least:
            found = OSError(f"{free / 2**20:,.1f} MiB are free on the disk, and it needs {least / 2**20:,.1f} or more")
            raise self._unwritten(table, found) from None

    def _roll_back(self) -> None:
        """Bring every table of the journal back to its version; doing it twice does no harm."""
        if not self._journal.exists():
            return
        tables = {table.name: table for table in TABLES}
        for name, version in journal.entries(self.root).items():
            path = self.root / name
            if version == NEVER:
                shutil.rmtree(path, ignore_errors=not path.exists())
            elif self._latest(tables[name]) != version:
                _Delta(path).restore(version)
        self._journal.unlink()

    def _unwritten(
        self, table: Table, error: Exception, consequence: str = "The table is as it was before"
    ) -> LakeError:
        return LakeError(
            f"lake.{table.name}",
            found=f"the write failed ({_first_line(error)})",
            consequence=consequence,
            remedy="Check the disk's space and the folder's rights, then do it again",
        )

    def _unreadable(self, table: Table, version: int | None) -> LakeError:
        which = "the table" if version is None else f"version {version} of the table"
        return LakeError(
            f"lake.{table.name}",
            found=f"{which} cannot be read",
            consequence="Its files are damaged, or were removed when a person's rows were erased",
            remedy="Read the latest version, or import the source files into a new workspace",
        )


def open_lake(root: Path, *, buckets: int = 8) -> Lake:
    """Return the lake in the folder `root`; nothing is read or written yet."""
    return Lake(root=root, buckets=buckets)


def table_named(name: str) -> Table:
    """Return the contract of a table by its name. Raises UsageError with "did you mean"."""
    tables = {table.name: table for table in TABLES if table is not IDENTITIES}
    if name not in tables:
        raise UsageError(
            "lake",
            found=f"there is no table '{name}'",
            consequence="Nothing can be read by that name",
            remedy=did_you_mean(name, tables),
        )
    return tables[name]


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
