"""iALS: users and products as short vectors, every product never bought a weak no (Hu, Koren & Volinsky, ICDM 2008).

Minimises sum over all pairs of c (p - x y)^2 + lambda (|x|^2 + |y|^2), with p = 1 and c = alpha x worth where the user
bought, else p = 0 and c = 1, by alternating least squares: the package `implicit` (extra "als") does the training.
A user is asked with the vector that solves eq. 4 for the history at that moment, so a new customer needs no new fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import threadpoolctl  # comes with scikit-learn

from habitue.core.errors import ModelError
from habitue.core.extras import need
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model.past import FOR_EVER, Floats, Ints, Past, columns, places, purchases

ANSWERS = frozenset({"rank"})
SEEDED = True  # another seed is another model

USERS_A_BLOCK = 256  # solved at once: 256 x D x D numbers
LEAST_CONFIDENCE = 1.0  # of a purchase: never a weaker statement than "not bought"


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are near the best of Online Retail's and MovieLens' validation (LOG.md, "iALS")."""

    factors: int = tuned(64, 16, 256, log=True)
    regularization: float = tuned(1.0, 0.01, 100, log=True)
    alpha: float = tuned(10.0, 1, 100, log=True)  # confidence of a purchase of today; a product never bought has 1
    iterations: int = tuned(15, 5, 30)
    half_life_days: float = tuned(120.0, 7, FOR_EVER, log=True)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        positive = ("factors", "regularization", "half_life_days")
        check_range(self, positive=positive, not_negative=("alpha", "iterations"))


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py).
SEQUENCE = Config(factors=128, regularization=10.0, alpha=3.0, half_life_days=FOR_EVER)


@dataclass(frozen=True)
class State:
    """Vectors of the products, and of the users as they were at the fit."""

    items: tuple[str, ...]
    item_factors: Floats  # [I, D]
    user_keys: Ints  # [B] ascending
    user_factors: Floats  # [B, D]
    user_rows: Ints  # [B] products in the history each user's vector was made from
    day: float  # of the fit, days since 1970-01-01 UTC
    regularization: float
    alpha: float
    half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:
    """Train; O(iterations x (purchases x D + (B + I) x D^2)) by conjugate gradients.

    Raises MissingExtraError without `implicit`, ModelError when nobody bought anything.
    """
    als = need("implicit.als", extra="als", purpose="model.als")
    confidence = _confidence(past, past.items, config.alpha, config.half_life_days)
    if not confidence.nnz:
        raise ModelError(
            "model.als",
            found="no purchase of any product before as_of",
            consequence="There is nothing to factorise",
            remedy="Import orders, or move as_of behind the first of them",
        )
    with threadpoolctl.threadpool_limits(
        1, user_api="blas"
    ):  # its own threads, each with small products: a BLAS of many slows them
        model = als.AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            alpha=1.0,  # already in `confidence`
            iterations=config.iterations,
            num_threads=runtime.threads,
            random_state=runtime.seed,
            use_gpu=False,
        )
        model.fit(confidence, show_progress=False)
    return State(
        items=past.items,
        item_factors=np.asarray(model.item_factors, dtype=np.float32),
        user_keys=past.histories.user_keys,
        user_factors=_solve(np.asarray(model.item_factors, dtype=np.float32), confidence, config.regularization),
        user_rows=np.diff(confidence.indptr).astype(np.int64),
        day=past.day,
        regularization=config.regularization,
        alpha=config.alpha,
        half_life_days=config.half_life_days,
    )


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(B x I x D), and D^3 for each user whose history is not that of the fit.

    An item the state has never met, and everything for a user without a history, scores 0.
    """
    users = users_as_asked(state, past)
    return columns(users @ state.item_factors.T, places(state.items, past.items))


def users_as_asked(state: State, past: Past) -> Floats:
    """Return one vector a user [B, D]: the one kept at the fit while the history is the same, else solved anew."""
    confidence = _confidence(past, state.items, state.alpha, state.half_life_days)
    keys, rows = past.histories.user_keys, np.diff(confidence.indptr)
    if not len(state.user_keys):
        return _solve(state.item_factors, confidence, state.regularization)
    kept = np.minimum(np.searchsorted(state.user_keys, keys), len(state.user_keys) - 1)
    same = (state.user_keys[kept] == keys) & (state.user_rows[kept] == rows) & (past.day == state.day)
    users = np.zeros((len(keys), state.item_factors.shape[1]), dtype=np.float32)
    users[same] = state.user_factors[kept[same]]
    users[~same] = _solve(state.item_factors, confidence[~same], state.regularization)
    return users


def _confidence(past: Past, items: tuple[str, ...], alpha: float, half_life_days: float) -> sp.csr_matrix:
    matrix = purchases(past, items, half_life_days=half_life_days)
    matrix.data = np.maximum(alpha * matrix.data, LEAST_CONFIDENCE).astype(np.float32)
    return matrix


def _solve(items: Floats, confidence: sp.csr_matrix, regularization: float) -> Floats:
    """Return x = (Y'Y + Y'(C - I)Y + lambda I)^-1 Y'C p of each row of `confidence`, eq. 4; zeros for an empty row."""
    width = items.shape[1]
    every = (items.T @ items + regularization * np.eye(width)).astype(np.float64)
    users = np.zeros((confidence.shape[0], width), dtype=np.float32)
    for start in range(0, confidence.shape[0], USERS_A_BLOCK):
        rows = range(start, min(start + USERS_A_BLOCK, confidence.shape[0]))
        left, right = np.empty((len(rows), width, width)), np.empty((len(rows), width, 1))
        for i, row in enumerate(rows):
            part = slice(confidence.indptr[row], confidence.indptr[row + 1])
            mine, weight = items[confidence.indices[part]], confidence.data[part]
            left[i] = every + (mine.T * (weight - 1)) @ mine
            right[i, :, 0] = weight @ mine
        users[rows.start : rows.stop] = np.linalg.solve(left, right)[:, :, 0]
    return users
