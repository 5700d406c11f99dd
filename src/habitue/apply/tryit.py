"""The recommender inside the report: one short vector of whole numbers per product, small enough to be embedded.

EASE's table (`model.ease`) is -P_ij / P_jj off its diagonal, P a regularised inverse Gram matrix. Its symmetric half
S_ij = -P_ij / sqrt(P_ii P_jj), the partial correlations of the products, is kept to its D largest positive
eigenvalues: V = E sqrt(L), so that V V' is the nearest positive semidefinite S of rank D (Eckart and Young, 1936). V is
rounded to one byte a number. The score of product j after ticking T is weight_j x (sum of v_t over T) . v_j: a sum over
the ticked products, so the reason of an answer is its largest term, exactly.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import eigsh

from habitue.core.errors import ModelError
from habitue.core.plugins import load
from habitue.core.runtime import Runtime
from habitue.evaluate import basket, table
from habitue.evaluate.measured import Measured
from habitue.model import ease
from habitue.model.past import PURCHASE, Floats, Past, next_sets

NAME = "try_it"


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation.

    64 numbers a product did as well there as 80, and as well as EASE's whole table (NDCG@10 of first-time products).
    """

    dim: int = 64  # numbers a product
    max_bytes: int = 400_000  # of vectors and weights in base64; of a larger catalogue the best known products go in
    window_days: float = 30.0
    trend: float = 0.5  # weight_j = ((sales in the window + 1) / (sales ever + 5)) ** trend; 0 = all products alike


@dataclass(frozen=True)
class Vectors:
    """What the page holds, I products best known first."""

    items: npt.NDArray[np.int64]  # [I] index into Past.items
    whole: npt.NDArray[np.int8]  # [I, D]
    scale: float  # whole x scale = V
    weight: npt.NDArray[np.uint8]  # [I] 255 = the largest


def embed(
    past: Past,
    titles: Mapping[str, str],
    config: Config | None = None,
    *,
    rivals: Sequence[str] = ("ease", "neighbours", "popular"),
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Return the report's `try_it`: {items: [{id, title}], dim, scale, vectors, weights, bytes, metrics, note}.

    `vectors` is base64 of int8, row by row; `weights` base64 of uint8. `metrics` and `note` say how good the very
    numbers in the page are, beside `rivals` (files of model/), on the last horizon before `past.as_of`; a history too
    short for that is said so. About 10 CPU-seconds for 3,800 products. Raises ModelError when fewer products than
    `dim` were ever sold.
    """
    config, runtime = config or Config(), runtime or Runtime()
    told = vectors(past, config, runtime=runtime)
    rows, note = measure(past, config, rivals=rivals, runtime=runtime)
    texts = [base64.b64encode(part.tobytes()).decode("ascii") for part in (told.whole, told.weight)]
    names = [past.items[i] for i in told.items]
    return {
        "items": [{"id": item, "title": titles.get(item, item)} for item in names],
        "dim": config.dim,
        "scale": told.scale,
        "vectors": texts[0],
        "weights": texts[1],
        "bytes": sum(map(len, texts)),
        "metrics": rows,
        "note": note,
    }


def vectors(past: Past, config: Config, *, runtime: Runtime) -> Vectors:
    """Factor the table of what was sold before `past.as_of`; O(I^3) once, 12 I^2 bytes. Raises ModelError."""
    bought = past.histories.of_kind(PURCHASE)
    recent = bought.keep_sets(bought.set_at >= past.day - config.window_days)
    ever, late = (np.bincount(h.row_item, minlength=len(past.items)) for h in (bought, recent))
    most = int(config.max_bytes * 3 / 4 // (config.dim + 1))
    items = np.argsort(-ever, kind="stable")[: min(most, int((ever > 0).sum()))]
    if items.size <= config.dim:
        raise ModelError(
            "apply.tryit",
            found=f"{items.size:,} products were sold before {past.as_of:%Y-%m-%d}",
            consequence=f"There is nothing to press into {config.dim} numbers a product",
            remedy="Import a longer history, or set a smaller dim",
        )
    state = ease.fit(past, dataclasses.replace(ease.Config(), trend=0.0), runtime=runtime)
    there = state.table[np.ix_(items, items)]
    half = np.sign(there) * np.sqrt(np.maximum(there * there.T, 0))
    value, vector = eigsh(half, k=config.dim, which="LA", v0=np.ones(items.size, dtype=half.dtype))
    real = vector * np.sqrt(np.maximum(value, 0))
    scale = float(np.abs(real).max()) / 127
    weight = ((late[items] + 1) / (ever[items] + 5)) ** config.trend
    return Vectors(
        items=items,
        whole=np.rint(real / scale).astype(np.int8),
        scale=scale,
        weight=np.ceil(weight / weight.max() * 255).astype(np.uint8),
    )


def score(told: Vectors, past: Past) -> Floats:
    """Return float32 [B, items of `past`] as the page computes it: every purchase is a tick, whenever it was.

    A product the page does not hold stands below all others.
    """
    place = np.full(len(past.items), -1)
    place[told.items] = np.arange(told.items.size)
    bought = past.histories.of_kind(PURCHASE)
    ticks = np.zeros((len(bought.user_keys), told.items.size), dtype=np.float32)
    column = place[bought.row_item]
    ticks[bought.set_user[bought.row_set][column >= 0], column[column >= 0]] = 1
    whole = told.whole.astype(np.float32)
    seen = (ticks @ whole) @ whole.T * told.weight
    scores = np.full((len(ticks), len(past.items)), seen.min() - 1, dtype=np.float32)
    scores[:, told.items] = seen
    return scores


def measure(past: Past, config: Config, *, rivals: Sequence[str], runtime: Runtime) -> tuple[list[dict[str, Any]], str]:
    """Fit vectors and rivals one horizon before `past.as_of` and rank each customer's next order by them.

    Returns METRICS rows (NDCG@10, products new to the customer: what ticking is for) and one sentence; no row and the
    reason when nobody ordered something new in that horizon.
    """
    then = past.rewind(past.as_of - dt.timedelta(days=past.horizon_days))
    target = next_sets(past.histories, after=then.day, until=past.day)
    ask = np.flatnonzero(past.known & (np.diff(then.histories.set_start) > 0))
    asked, target = then.take(ask), target[ask]
    measured: list[Measured] = []
    try:
        scores = {NAME: score(vectors(then, config, runtime=runtime), asked)}
        for name in rivals:
            model = load("model", name, contract=("Config", "fit", "score"))
            scores[name] = model.score(model.fit(then, model.Config(), runtime=runtime), asked)
        for name, one in scores.items():
            told = basket(one, asked, target, model=name)
            measured += [m for m in told if (m.slice, m.metric) == ("first_time", "ndcg@10")]
    except ModelError as error:
        return [], f"How good these vectors are could not be measured on this shop's past: {error.found}."
    if not measured:
        return [], "How good these vectors are could not be measured: nobody's next order held a product new to them."
    rows = table(measured, dataset="the last horizon before the seal", seed=runtime.seed).to_dicts()
    ours, others = rows[0], ", ".join(f"{r['model']} {r['mean']:.3f}" for r in rows[1:])
    low, high = ours["low"], ours["high"]
    interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return rows, (
        f"Measured on the {past.horizon_days} days before the seal, on products new to the customer: NDCG@10 "
        f"{ours['mean']:.3f}{interval} over {ours['n']:,} customers; {others}."
    )
