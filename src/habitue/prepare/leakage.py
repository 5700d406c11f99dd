"""Guards against a column that knows the future; each failure names the column."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata

from habitue.core.errors import LeakageError
from habitue.core.schemas import EVENTS, FEATURES, LABELS, Events, Features, Labels, check
from habitue.prepare.declared import LEDGER, Feature
from habitue.prepare.features import features as compute_features
from habitue.prepare.split import aware

KEY = ["user_key", "as_of"]
TOO_GOOD = 0.97  # AUC or |rank correlation| of one column alone; honest columns of real ledgers stay below 0.8
CLASS_ROWS = 20  # with fewer lost or kept customers, one column may separate them by luck
RANK_ROWS = 50


def guard(
    events: Events,
    features: Features,
    labels: Labels,
    *,
    cut: dt.datetime,
    declared: Sequence[Feature] = LEDGER,
    users_checked: int = 100,
) -> None:
    """Raise LeakageError, naming the column, when the training rows know anything they could not have known.

    Declared columns are computed again for `users_checked` users at every moment from the events before it alone, and
    must come out bit for bit the same. Every other column is held against the labels by `check_foresight`. Labels
    must close by `cut`. About 0.1 s a moment.
    """
    check(events, EVENTS, at="prepare.leakage")
    check(features, FEATURES, at="prepare.leakage")
    check(labels, LABELS, at="prepare.leakage")
    check_times(labels.select("as_of", "horizon_end"), as_of=cut, closed=True)
    known = [f for f in declared if f.name in features.columns]
    users = features["user_key"].unique().sort()
    some = users.gather_every(max(1, users.len() // users_checked))
    sample = events.filter(pl.col("user_key").is_in(some.implode()))
    given = features.filter(pl.col("user_key").is_in(some.implode())).select(*KEY, *(f.name for f in known))
    for moment in features["as_of"].unique().sort():
        past = sample.filter(pl.col("at") < moment)
        again = compute_features(past, as_of=moment, declared=declared).select(given.columns)
        _same(again, given.filter(pl.col("as_of") == moment))
    check_foresight(features.drop(f.name for f in known), labels)


def check_truncation(compute: Callable[[Events], pl.DataFrame], events: Events, *, as_of: dt.datetime) -> None:
    """Raise LeakageError for any column of `compute(events)` that changes when the events stop before `as_of`.

    `compute` returns rows keyed by user_key and as_of; those up to `as_of` are compared bit for bit.
    """
    check(events, EVENTS, at="prepare.leakage")
    as_of = aware(as_of, at="prepare.leakage")
    every, before = (compute(e).filter(pl.col("as_of") <= as_of) for e in (events, events.filter(pl.col("at") < as_of)))
    _same(before, every)


def check_times(frame: pl.DataFrame, *, as_of: dt.datetime | None = None, closed: bool = False) -> None:
    """Raise LeakageError for any column of times that reaches the moment of the forecast.

    `as_of`: that moment; None takes each row's own column `as_of`. `closed`: a time equal to the moment is fine.
    """
    moment = (
        pl.col("as_of") if as_of is None else pl.lit(aware(as_of, at="prepare.leakage"), dtype=pl.Datetime("us", "UTC"))
    )
    for name, dtype in frame.schema.items():
        if not isinstance(dtype, pl.Datetime) or (name == "as_of" and as_of is None):
            continue
        late = frame.filter(pl.col(name) > moment if closed else pl.col(name) >= moment).height
        if late:
            raise _leak(name, f"{late:,} of {frame.height:,} rows hold a time at or after the moment of the forecast")


def check_foresight(features: Features, labels: Labels, *, too_good: float = TOO_GOOD) -> None:
    """Raise LeakageError for a column that alone tells the labels too well: a copy of them, or of the future.

    Too well: AUC for churned, or absolute rank correlation with orders or value, of at least `too_good`; null counts
    as a value below (and above) all others, since "no next order" is a leak as well. Needs 20 lost and 20 kept
    customers for the one, 50 rows for the other; with fewer, nothing is judged.
    """
    labels = labels.select(*KEY, pl.col("churned", "orders", "value").name.prefix("label:"))
    joined = features.join(labels, on=KEY, how="inner", maintain_order="left")
    churned = joined["label:churned"].to_numpy()
    for name in (c for c in features.columns if c not in KEY):
        column = joined[name].to_numpy().astype(np.float64)  # null becomes NaN
        told = {"churned": max(_separation(np.nan_to_num(column, nan=end), churned) for end in (-np.inf, np.inf))}
        there = ~np.isnan(column)
        for label in ("orders", "value"):
            told[label] = _correlation(column[there], joined[f"label:{label}"].to_numpy()[there].astype(np.float64))
        for label, strength in told.items():
            if strength >= too_good:
                raise _leak(name, f"alone it tells '{label}' with {strength:.3f} of 1")


def _separation(column: npt.NDArray[np.float64], churned: npt.NDArray[np.bool_]) -> float:
    """AUC of one column, whichever way round; 0 when a class is too small."""
    lost, kept = int(churned.sum()), int((~churned).sum())
    if min(lost, kept) < CLASS_ROWS:
        return 0.0
    auc = (rankdata(column)[churned].sum() - lost * (lost + 1) / 2) / (lost * kept)
    return float(max(auc, 1 - auc))


def _correlation(column: npt.NDArray[np.float64], label: npt.NDArray[np.float64]) -> float:
    """Absolute Spearman correlation; 0 when there are too few rows or one side is constant."""
    if len(column) < RANK_ROWS or np.ptp(column) == 0 or np.ptp(label) == 0:
        return 0.0
    return float(abs(np.corrcoef(rankdata(column), rankdata(label))[0, 1]))


def _same(past: pl.DataFrame, given: pl.DataFrame) -> None:
    """Hold rows computed from the past alone against the rows given."""
    past, given = past.sort(KEY), given.sort(KEY)
    if not past.select(KEY).equals(given.select(KEY)):
        raise _leak("user_key", f"{given.height:,} customers are known, and {past.height:,} from the past alone")
    for name in given.columns:
        changed = int(past[name].ne_missing(given[name]).sum())
        if changed:
            raise _leak(name, f"{changed:,} of {given.height:,} rows change when what comes later is taken away")


def _leak(column: str, found: str) -> LeakageError:
    return LeakageError(
        f"column '{column}'",
        found=found,
        consequence="Every forecast tested with it would look better than it is",
        remedy="Drop the column, or compute it from events strictly before the moment",
    )
