"""A file and its mapping -> EVENTS (or another table), USERS, REFUSED, IDENTITIES: all of it, or nothing.

Read the mapped columns block by block, read their values as the contract's types, refuse what cannot be read row by
row, put the rest aside (`staging`); then store what is not there yet (`store`). Memory holds some hundred thousand rows
whatever the length of the file.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from habitue import __version__
from habitue.collect import refusals, runs, sources, store, typed
from habitue.collect.mapping import Mapping, read_mapping
from habitue.collect.sources import Block, Limits
from habitue.collect.sources.sql import is_dsn, shown
from habitue.collect.staging import Staging, staging
from habitue.core.errors import InputError, UsageError
from habitue.core.progress import stage, steps
from habitue.core.workspace import Workspace


@dataclass(frozen=True)
class Imported:
    """What an import did; money, orders, users, guests, first and last are those of the new rows."""

    source: str
    import_id: str  # the same rows in any order have the same
    read: int  # rows looked at = new + known + refused
    new: int
    known: int  # in the lake before
    refused: int  # kept in REFUSED with their reason
    money: float  # net of what is in `currency`, refunds subtracted; major units
    currency: str  # of the rows where they have one only, else the mapping's or the workspace's
    sums: dict[str, float]  # the same of every currency: nothing is converted, so they do not add up
    orders: int
    users: int  # known customers
    guests: int  # orders without a customer
    first: dt.datetime | None  # UTC
    last: dt.datetime | None


def import_file(
    workspace: Workspace,
    file: Path | str,
    mapping: Mapping | Path | str | None = None,
    *,
    seed: int | None = None,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
    limits: Limits | None = None,
) -> Imported:
    """Bring a file in; the same rows again, in any order or file format, add nothing.

    `file`: of any format that `sources` reads, a folder of media, or a database's address. `mapping` None: the TOML
    file beside it, of the same name. `since`, `before` (UTC): only rows with since <= at < before; rows without a
    readable time are always refused. `seed`: keys of people and ids that repeat, for demonstrations only. An import
    that was killed goes on where it was when the same file is imported again. Memory: about 350 MB for millions of rows
    and 800 MB for tens of millions, and 200 bytes a person. Raises InputError, SettingsError, LakeError; nothing is
    changed then, nor when it is interrupted.
    """
    place = str(file) if isinstance(file, str) and is_dsn(file) else Path(file)
    meaning = _mapping(mapping, place)
    limits = limits or Limits()
    if isinstance(place, Path) and place.is_dir() and meaning.what != "media":
        raise InputError(
            str(place),
            found="this is a folder",
            consequence=f"Its files could only be media, and the mapping is of {meaning.what}",
            remedy='Name a file in it, or write in the mapping: what = "media"',
        )
    key = _key(place, meaning, since, before)
    folder = place if isinstance(place, Path) and place.is_dir() else Path(place).parent
    with sources.opened(place, meaning.form, wanted=meaning.wanted, limits=limits) as source:
        if source.columns is not None:
            sources.require(source.columns, meaning.wanted, where=source.name)
        with staging(workspace.root / "state", key) as staged:
            if not staged.tally.complete:
                blocks = source.blocks(meaning.wanted, staged.tally.blocks)
                _stage(staged, blocks, meaning, since, before, where=source.name, folder=folder)
            return _stored(workspace, staged, meaning, seed, source.name)


def import_frame(
    workspace: Workspace,
    raw: pl.DataFrame,
    mapping: Mapping,
    *,
    seed: int | None = None,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
    where: str = "frame",
) -> Imported:
    """Bring a frame in as `import_file` does with a file; `where` names it in messages."""
    sources.require(raw.columns, mapping.wanted, where=where)
    numbers = pl.int_range(1, raw.height + 1, eager=True).alias("row")
    block = Block(raw.select(mapping.wanted), numbers, done=1.0)
    with staging(workspace.root / "state", None) as staged:
        _stage(staged, [block], mapping, since, before, where=where, folder=Path())
        return _stored(workspace, staged, mapping, seed, where)


def _mapping(mapping: Mapping | Path | str | None, file: Path | str) -> Mapping:
    if isinstance(mapping, Mapping):
        return mapping
    if mapping is not None:
        return read_mapping(Path(mapping))
    beside = Path(file).with_suffix(".toml") if isinstance(file, Path) else None
    if beside is None or not beside.exists():
        raise UsageError(
            shown(file) if isinstance(file, str) else file.name,
            found="no mapping is given, and no TOML file of the same name lies beside it",
            consequence="What its columns mean is unknown",
            remedy=f"Write {beside.name} (habitue import --guess {file} makes a first one), or name it with --mapping"
            if beside is not None
            else "Name one with --mapping",
        )
    return read_mapping(beside)


def _key(
    place: Path | str, mapping: Mapping, since: dt.datetime | None, before: dt.datetime | None
) -> list[Any] | None:
    """Name a file and how it is read; None for what may have changed without showing it."""
    if isinstance(place, str) or not place.is_file():
        return None
    about = place.stat()
    file = [str(place.resolve()), about.st_size, about.st_mtime_ns]
    return [*file, repr(mapping), since, before, __version__, pl.__version__, runs.SUFFIX]


def _stage(
    staged: Staging,
    blocks: Iterable[Block],
    mapping: Mapping,
    since: dt.datetime | None,
    before: dt.datetime | None,
    *,
    where: str,
    folder: Path,
) -> None:
    """Read the blocks' values and put them aside; a file without a row, or without one that is good, is an error."""
    with steps(f"Reading {where}") as advance:
        for block in blocks:
            _stage_block(staged, block, mapping, since, before, where, folder)
            advance(round(block.done * 1000), 1000)
    staged.close()
    tally = staged.tally
    if tally.seen == 0:
        raise InputError(
            where,
            found="there is a header and no row",
            consequence="There is nothing to import",
            remedy="Export it again",
        )
    if tally.seen == tally.refused:
        most = max(sorted(tally.codes), key=lambda code: tally.codes[code])
        raise InputError(
            where,
            found=f"every one of its {tally.seen:,} rows would be refused; most: {refusals.sentence(most, mapping)}",
            consequence="Nothing was stored",
            remedy="Hold the mapping against the file (docs/mapping.md)",
        )


def _stage_block(
    staged: Staging,
    block: Block,
    mapping: Mapping,
    since: dt.datetime | None,
    before: dt.datetime | None,
    where: str,
    folder: Path,
) -> None:
    typed.readable(block.frame, where)
    there = ~block.frame.select(pl.all_horizontal(pl.all().is_null())).to_series()  # an empty line is no row
    raw, numbers = block.frame.filter(there), block.numbers.filter(there)
    refused = [refusals.broken(block.broken, mapping)]
    rows = pl.DataFrame()
    if raw.height:
        frame, reason = typed.read(raw, mapping, folder)
        bad = reason.is_not_null()
        refused.append(refusals.table(raw.filter(bad), numbers.filter(bad), reason.filter(bad), mapping))
        rows = _between(frame.filter(~bad), mapping, since, before)
    same = store.same(mapping, rows.columns)
    staged.add(rows, pl.concat(refused), same=same, seen=raw.height + len(block.broken))


def _between(
    rows: pl.DataFrame, mapping: Mapping, since: dt.datetime | None, before: dt.datetime | None
) -> pl.DataFrame:
    if mapping.rows.moment is None or mapping.rows.moment not in rows.columns:
        return rows
    moment = pl.col(mapping.rows.moment)
    if since is not None:
        rows = rows.filter(moment >= since)
    return rows.filter(moment < before) if before is not None else rows


def _stored(workspace: Workspace, staged: Staging, mapping: Mapping, seed: int | None, where: str) -> Imported:
    with stage(f"Storing the rows of {where}"), workspace.lake.exclusive():
        counts = store.write(workspace, staged, mapping, seed=seed)
    read, refused = staged.tally.read, staged.tally.refused
    words = store.as_words(counts)
    sums = words["sums"]
    currency = next(iter(sums)) if len(sums) == 1 else mapping.currency or workspace.currency
    return Imported(
        source=mapping.source,
        read=read + refused,
        known=read - counts.new,
        refused=refused,
        money=sums.get(currency, 0.0),
        currency=currency,
        **words,
    )
