"""How far a table moved between two periods: PSI, Jensen-Shannon and Kolmogorov-Smirnov, a column at a time.

Numbers are cut at the deciles of the first period, categories are their commonest levels; what is unknown is a level of
its own in both, so a column that stops being filled drifts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import kolmogorov
from scipy.stats import chi2

from habitue.core.errors import UsageError
from habitue.core.metrics import Floats
from habitue.core.schemas import Table
from habitue.quality.contents import MOMENTS, imported
from habitue.quality.ledger import Finding, plain

BINS = 10
LEVELS = 50  # the commonest; the rest are one
NOT_COMPARED = frozenset(  # moments, JSON, and ids that are new by their nature
    (*MOMENTS, "received_at", "start_s", "extra", "attributes", "user_key", "import_id", "order_id", "session_id")
) | {"recommendation_id", "sha256", "path"}
NAMES = 0.5  # a text column with more different values than this share of its rows names things: only its gaps drift
SOME, MUCH = 0.1, 0.25  # PSI: the limits credit scoring has used since Siddiqi 2006
CHANCE = 0.99  # a PSI below this quantile of what chance alone gives is told as none
LEAST = 30  # rows either period must have

Period = tuple[dt.datetime, dt.datetime]  # from, until (not included)
SCHEMA = {
    "table": pl.String(),
    "column": pl.String(),
    "kind": pl.String(),  # number, category, or present (only whether it is there)
    "before": pl.Int64(),  # rows of the first period
    "after": pl.Int64(),
    "psi": pl.Float64(),
    "chance": pl.Float64(),  # the PSI that chance alone stays below 99 times in 100
    "js": pl.Float64(),  # bits, 0 to 1
    "ks": pl.Float64(),  # null for a category
    "ks_p": pl.Float64(),
    "verdict": pl.String(),  # none, some, much
}


@dataclass(frozen=True)
class Config:
    """Which periods are held against each other."""

    days: float = 28.0  # length of the latest period; the one before it is as long


def drift(before: pl.DataFrame, after: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Return table, column, kind, before, after, psi, chance, js, ks, ks_p, verdict: one row a column, worst first.

    Keys, moments and JSON are no columns that drift, nor is what has one value in both. Empty when either part has
    fewer than LEAST rows. O(columns x rows log rows).
    """
    told = []
    if min(before.height, after.height) >= LEAST:
        for col in table.columns:
            if col.name in (*table.key, *NOT_COMPARED) or col.name not in before.columns:
                continue
            if before[col.name].dtype == pl.Binary or before[col.name].dtype.is_nested():
                continue
            if pl.concat([before[col.name], after[col.name]]).n_unique() > 1:  # one value, or none, in both
                told.append((table.name, col.name, *_column(before[col.name], after[col.name])))
    return pl.DataFrame(told, schema=SCHEMA, orient="row").sort("psi", "column", descending=[True, False])


def between(tables: Mapping[str, pl.DataFrame], before: Period, after: Period) -> pl.DataFrame:
    """Return the drift of every table with moments from one period to another, worst column first.

    Raises UsageError for a period that ends before it begins.
    """
    for period in (before, after):
        if period[0] >= period[1]:
            raise UsageError(
                "quality.drift",
                found=f"the period from {period[0]:%Y-%m-%d} ends on {period[1]:%Y-%m-%d}",
                consequence="No row lies in it",
                remedy="Give the earlier moment first",
            )
    parts = [pl.DataFrame(schema=SCHEMA)]
    for table in imported():
        frame = tables.get(table.name)
        moment = next((m for m in MOMENTS if frame is not None and m in frame.columns), None)
        if frame is None or moment is None:
            continue
        old, new = (frame.filter(pl.col(moment) >= a, pl.col(moment) < b) for a, b in (before, after))
        parts.append(drift(old, new, table))
    return pl.concat(parts).sort("psi", "table", "column", descending=[True, False, False])


def periods(last: dt.datetime, config: Config | None = None) -> tuple[Period, Period]:
    """Return the two latest periods: the days up to and with `last`, and as many before them."""
    length = dt.timedelta(days=(config or Config()).days)
    if length <= dt.timedelta(0):
        raise UsageError(
            "quality.drift",
            found=f"a period of {length.days} days",
            consequence="No row lies in it",
            remedy="Set days above 0",
        )
    end = last + dt.timedelta(microseconds=1)
    return (end - 2 * length, end - length), (end - length, end)


def findings(drifts: pl.DataFrame, before: Period, after: Period) -> list[Finding]:
    """Return one finding for each table of which a column moved much."""
    told = []
    for (table,), rows in drifts.filter(pl.col("verdict") == "much").group_by(["table"], maintain_order=True):
        worst = ", ".join(f"{name} {psi:.2f}" for name, psi in rows.select("column", "psi").head(3).iter_rows())
        said = f"{rows.height} column{'s' if rows.height > 1 else ''} of {str(table).upper()} moved much (PSI: {worst})"
        spans = f"from {_span(before)} to {_span(after)}"
        affected = int(rows["after"][0])
        told.append(
            plain(
                "drift",
                str(table),
                "consistency",
                f"{said} {spans}.",
                affected,
                "kept; a model of the first period may be wrong now",
            )
        )
    return told


def psi(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return sum (a - b) ln(a / b), the population stability index (Siddiqi 2006, "Credit Risk Scorecards", 9).

    It is Jeffreys' divergence (Kullback and Leibler 1951, eq. 2.6). `before`, `after`: counts [k]; shares are
    (n + 1/2) / (N + k/2), Jeffreys' prior, so that an empty bin gives a number.
    """
    old, new = (_smoothed(np.asarray(counts, dtype=np.float64)) for counts in (before, after))
    return float(((new - old) * np.log(new / old)).sum())


def psi_by_chance(before: npt.ArrayLike, after: npt.ArrayLike, *, quantile: float = CHANCE) -> float:
    """Return the PSI that two samples of one distribution stay below with probability `quantile`.

    (1/n + 1/m) x the quantile of chi-squared with k - 1 degrees of freedom (Yurdakul and Naranjo 2020, theorem 1); k
    counts the bins that either sample has.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    bins = int(((old + new) > 0).sum())
    return float(chi2.ppf(quantile, max(bins - 1, 1)) * (1 / old.sum() + 1 / new.sum()))


def jensen_shannon(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return H(m) - (H(p) + H(q)) / 2 in bits with m = (p + q) / 2: 0 = alike, 1 = no value in common (Lin 1991, 4)."""
    p, q = (np.asarray(counts, dtype=np.float64) / np.sum(counts) for counts in (before, after))
    apart = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return float(min(1.0, max(0.0, apart)))


def kolmogorov_smirnov(before: npt.ArrayLike, after: npt.ArrayLike) -> tuple[float, float]:
    """Return (D, p): the largest gap between the two empirical distributions, and its p-value (Smirnov 1939).

    D is over the values themselves, ties exact; p is the limit law at sqrt(n m / (n + m)) D, and says too much of a
    chance below some 30 values. O(n log n).
    """
    old, new = (np.sort(np.asarray(values, dtype=np.float64)) for values in (before, after))
    every = np.concatenate([old, new])
    gaps = np.searchsorted(old, every, side="right") / old.size - np.searchsorted(new, every, side="right") / new.size
    largest = float(np.abs(gaps).max())
    return largest, float(kolmogorov(np.sqrt(old.size * new.size / (old.size + new.size)) * largest))


def _column(before: pl.Series, after: pl.Series) -> tuple[object, ...]:
    """Return kind, before, after, psi, chance, js, ks, ks_p, verdict."""
    kind, ks, p = "category", None, None
    if before.dtype.is_numeric():
        kind = "number"
        old, new = (values.drop_nulls().cast(pl.Float64).to_numpy() for values in (before, after))
        if old.size and new.size:
            ks, p = kolmogorov_smirnov(old, new)
        counts = _binned(before, after, old)
    else:
        if before.drop_nulls().n_unique() > max(LEVELS, NAMES * len(before)):
            kind = "present"
            counts = _there(before), _there(after)
        else:
            counts = _levels(before.cast(pl.String), after.cast(pl.String))
    moved, chance = psi(*counts), psi_by_chance(*counts)
    verdict = "none" if moved < max(SOME, chance) else "some" if moved < max(MUCH, chance) else "much"
    return kind, len(before), len(after), moved, chance, jensen_shannon(*counts), ks, p, verdict


def _binned(before: pl.Series, after: pl.Series, known: Floats) -> tuple[Floats, Floats]:
    """Count both in the deciles of the first; a last bin counts the unknown."""
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if known.size else np.zeros(0)
    made = []
    for values in (before, after):
        numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
        inside = np.bincount(np.searchsorted(edges, numbers, side="left"), minlength=edges.size + 1)
        made.append(np.append(inside, values.null_count()).astype(np.float64))
    return made[0], made[1]


def _levels(before: pl.Series, after: pl.Series) -> tuple[Floats, Floats]:
    """Count both by level: the commonest of the two together, the rest as one, the unknown as one."""
    both = pl.concat([before.alias("level"), after.alias("level")]).drop_nulls().value_counts()
    kept = both.sort("count", "level", descending=[True, False])["level"].head(LEVELS)
    made = []
    for values in (before, after):
        counted = dict(values.drop_nulls().value_counts().iter_rows())
        named = [counted.get(level, 0) for level in kept]
        made.append(np.array([*named, len(values) - values.null_count() - sum(named), values.null_count()], float))
    return made[0], made[1]


def _there(values: pl.Series) -> Floats:
    return np.array([values.null_count(), len(values) - values.null_count()], dtype=np.float64)


def _smoothed(counts: Floats) -> Floats:
    there = counts + 0.5
    return np.asarray(there / there.sum())


def _entropy(share: Floats) -> float:
    positive = share[share > 0]
    return float(-(positive * np.log2(positive)).sum())


def _span(period: Period) -> str:
    return f"{period[0]:%Y-%m-%d}..{period[1] - dt.timedelta(microseconds=1):%Y-%m-%d}"
