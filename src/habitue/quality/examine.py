"""Everything quality has to say about a shop's tables, in one call."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from habitue.core.errors import SchemaError
from habitue.core.schemas import FINDINGS, Findings, Quality, check
from habitue.quality import contents, drift, limits, repairs, senses
from habitue.quality.across import across
from habitue.quality.alike import alike
from habitue.quality.clocks import clocks
from habitue.quality.drift import Period
from habitue.quality.findings import inspect
from habitue.quality.ledger import Finding, ledger
from habitue.quality.mixes import mixes
from habitue.quality.mixes import scores as of_mixes
from habitue.quality.products import Rule
from habitue.quality.repairs import Proposal
from habitue.quality.scores import scores as of_ledger
from habitue.quality.traffic import traffic

NEEDED = ("events", "items", "users", "refused")


@dataclass(frozen=True)
class Examined:
    """What was found in a shop's tables."""

    findings: Findings
    scores: Quality
    columns: tuple[contents.Column, ...]
    drift: pl.DataFrame  # quality.drift.SCHEMA, worst column first
    before: Period
    after: Period
    proposals: tuple[Proposal, ...]
    broken: tuple[str, ...]  # limits of the plan that do not hold, in words
    rows: Mapping[str, int]  # of every table that holds any


def examine(
    tables: Mapping[str, pl.DataFrame],
    *,
    known: pl.DataFrame,
    now: dt.datetime,
    currency: str,
    config: limits.Config | None = None,
    rule: Rule | None = None,
    media: Iterable[pl.DataFrame] = (),
    folder: Path = Path(),
    between: tuple[Period, Period] | None = None,
) -> Examined:
    """Look at every table, each as imported (not cleaned).

    `tables`: name -> frame; events, items, users and refused must be there, empty or not. `known`: user_key, known.
    `now`: what is later has not happened. `media`: rows of MEDIA with their bytes or paths (relative to `folder`), part
    by part. `between`: the two periods of drift; None = the latest days and as many before. Raises SchemaError for a
    table that breaks its contract, SettingsError for a limit that cannot be. O(n log n) but for `media`.
    """
    config = config or limits.Config()
    limits.verify(config)
    _whole(tables)
    events, items, users, refused = (tables[name] for name in NEEDED)
    lines = ledger(events, known)
    looked = senses.look(media, folder=folder)
    before, after = between or drift.periods(_last(tables, now), config.drift)
    drifts = drift.between(tables, before, after)
    found: list[Finding] = [
        *inspect(events, items, known=known, refused=refused, rule=rule).to_dicts(),
        *across(lines, tables, people=known["user_key"], now=now),
        *traffic(lines, config.bots),
        *clocks(lines, config.clock),
        *mixes(lines, tables),
        *alike(tables, config.alike),
        *senses.findings(looked),
        *drift.findings(drifts, before, after),
    ]
    findings = pl.DataFrame(found, schema=FINDINGS.schema)
    scores = pl.concat(
        [
            of_ledger(events, items, users, known=known, rule=rule),
            contents.scores(tables, now=now),
            of_mixes(tables),
            senses.scores(looked),
        ]
    ).sort(pl.col("table").replace_strict(_order(), default=99, return_dtype=pl.Int64), maintain_order=True)
    rows = {name: frame.height for name, frame in tables.items() if frame.height}
    return Examined(
        findings=findings,
        scores=scores,
        columns=tuple(contents.columns(tables)),
        drift=drifts,
        before=before,
        after=after,
        proposals=tuple(repairs.propose(events, items, now=now, currency=currency, bots=config.bots)),
        broken=limits.broken(config, scores, findings, drifts, rows),
        rows=rows,
    )


def _whole(tables: Mapping[str, pl.DataFrame]) -> None:
    for name in NEEDED:
        if name not in tables:
            raise SchemaError(
                "quality.examine",
                found=f"the table '{name}' is missing",
                consequence="What points at its rows could not be followed",
                remedy=f"Give it, empty where the shop has none: {name.upper()}.empty()",
            )
    for table in contents.imported():
        if table.name in tables and "bytes" not in table.schema:
            check(tables[table.name], table, at="quality.examine")


def _last(tables: Mapping[str, pl.DataFrame], now: dt.datetime) -> dt.datetime:
    """Return the last moment of EVENTS up to `now`, else of any other table; `now` where there is none."""
    for name in ("events", *tables):
        for moment in contents.MOMENTS:
            if name in tables and moment in tables[name].columns:
                last = tables[name].filter(pl.col(moment) <= now)[moment].max()
                if isinstance(last, dt.datetime):
                    return last
    return now


def _order() -> dict[str, int]:
    return {table.name: place for place, table in enumerate(contents.imported())}
