"""EASE: one closed-form item x item table (Steck, WWW 2019, eq. 8), with recency and words.

B = I - P diag(1 / diag P), P = (X'X + a W W' + lambda I)^-1, diagonal 0. X: users x items, a purchase worth less the
older it is. W: the products' words as further rows of X, each word one more customer who "bought" every product it
names: that is how a product nobody has bought yet gets scores. A product whose sales are fading is pressed down:
column j is multiplied by freshness(j) ^ trend (past.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model.past import Floats, Past, columns, freshness, places, purchases

ANSWERS = frozenset({"rank"})


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    half_life_days: float = 60.0  # of a purchase as evidence about items, when fitting
    history_half_life_days: float = 120.0  # of a purchase as a reason, when asking
    ridge: float = 100.0
    words: float = 5.0  # weight of the words beside the customers; 0 = ids only
    window_days: float = 30.0
    trend: float = 0.35  # 0 = fading products keep their place


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: Floats  # [I, I], diagonal 0
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Invert one Gram matrix in float32: 2 I^3 / 3 multiplications, 8 I^2 bytes. Raises ModelError.

    Without words (`past.words` None) it is EASE on ids; a product without sales then scores 0.
    """
    people = purchases(past, past.items, half_life_days=config.half_life_days, cap=1)
    gram = (people.T @ people).toarray()
    if past.words is not None and config.words:
        gram += config.words * (past.words @ past.words.T).toarray()
    gram[np.diag_indices_from(gram)] += config.ridge
    table = inverse(gram, model="ease")
    table /= -table.diagonal()
    np.fill_diagonal(table, 0)
    table *= freshness(past, window_days=config.window_days) ** np.float32(config.trend)
    return State(past.items, table, config.history_half_life_days)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(rows x I). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns(history @ state.table, places(state.items, past.items))


def inverse(gram: Floats, *, model: str) -> Floats:
    """Invert a symmetric positive definite float32 matrix by Cholesky (LAPACK spotrf, spotri); `gram` is used up.

    Raises ModelError, naming the model whose ridge is too small, when the matrix is not positive definite.
    """
    factor, failed = lapack.spotrf(gram.T, lower=1, overwrite_a=1)
    if failed:
        raise ModelError(
            f"model.{model}",
            found="the Gram matrix of the items is not positive definite",
            consequence="The table of items has no solution",
            remedy=f"Raise the setting 'ridge' of model.{model}; it must be above 0",
        )
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)  # fills the lower triangle only
    diagonal = inverse.diagonal().copy()
    lower = np.tril(inverse, -1)
    full: Floats = lower + lower.T
    np.fill_diagonal(full, diagonal)
    return full
