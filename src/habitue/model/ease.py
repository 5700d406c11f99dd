"""EASE: one closed-form item x item table (Steck, WWW 2019, eq. 8), with recency and words.

B = I - P diag(1 / diag P), P = (X'X + a W W' + lambda I)^-1, diagonal 0. X: users x items, a purchase worth less the
older it is. W: the products' words as further rows of X, each word one more customer who "bought" every product it
names: that is how a product nobody has bought yet gets scores. A product whose sales are fading is pressed down:
column j is multiplied by freshness(j) ^ trend (past.py). A table grows with the square of the catalogue, its solution
with the cube: beyond `most` products it holds those bought most, and the others score 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model.past import FOR_EVER, Floats, Past, check_words, columns, freshness, most_bought, places, purchases

ANSWERS = frozenset({"rank"})

ROWS_A_BLOCK = 1024  # of a table, added to or mirrored at once
MOST = 20_000  # products of a table: 1.6 GB and three minutes on one core


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    half_life_days: float = tuned(60.0, 7, FOR_EVER, log=True)  # of a purchase as evidence about items, when fitting
    history_half_life_days: float = tuned(120.0, 0.5, FOR_EVER, log=True)  # of a purchase as a reason, when asking
    ridge: float = tuned(100.0, 1, 5000, log=True)
    words: float = tuned(5.0, 0, 50)  # weight of the words beside the customers; 0 = ids only
    window_days: float = 30.0
    trend: float = tuned(0.35, 0, 1)  # 0 = fading products keep their place
    most: int = MOST  # products of the table

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        check_range(
            self, positive=("half_life_days", "history_half_life_days", "window_days", "most"), not_negative=("words",)
        )


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "sequences".
SEQUENCE = Config(half_life_days=FOR_EVER, history_half_life_days=2.0, trend=0.0)


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: Floats  # [I, I], diagonal 0
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Invert one Gram matrix in float32: I^3 multiplications, 4 I^2 bytes, I at most `most`. Raises ModelError.

    Without words (`past.words` None) it is EASE on ids; a product without sales then scores 0.
    """
    past = most_bought(past, config.most)
    people = purchases(past, past.items, half_life_days=config.half_life_days, cap=1)
    gram = np.zeros((len(past.items), len(past.items)), dtype=np.float32)
    add(gram, sp.csr_matrix(people.T), people)
    add_words(gram, past.words, config.words)
    table = inverse(gram, ridge=config.ridge, model="ease")
    table /= -table.diagonal()
    np.fill_diagonal(table, 0)
    table *= freshness(past, window_days=config.window_days) ** np.float32(config.trend)
    return State(past.items, table, config.history_half_life_days)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(rows x I). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns(history @ state.table, places(state.items, past.items))


def add(gram: Floats, left: sp.csr_matrix, right: sp.csr_matrix) -> None:
    """Add `left` @ `right`, both sparse, to `gram` [I, I]; a block of rows at a time, so that it is held once."""
    for start in range(0, len(gram), ROWS_A_BLOCK):
        rows = slice(start, start + ROWS_A_BLOCK)
        gram[rows] += (left[rows] @ right).toarray()


def add_words(gram: Floats, words: sp.csr_matrix | None, weight: float) -> bool:
    """Add `weight` x words words' to `gram` [I, I]; return whether there was any to add."""
    if words is None or not weight or not words.nnz:
        return False
    check_words(words)
    add(gram, words, sp.csr_matrix(words.T) * np.float32(weight))
    return True


def inverse(gram: Floats, *, ridge: float, model: str) -> Floats:
    """Invert `gram` + ridge I, symmetric positive definite, in place: Cholesky in float32 (LAPACK spotrf, spotri).

    Beside `gram` itself, which is used up, nothing of its size is held. Raises ModelError, naming the model whose
    ridge is too small, when the matrix is not positive definite.
    """
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    # A row-major matrix is its own transpose to LAPACK: what it calls lower is our upper triangle.
    factor, failed = lapack.spotrf(gram.T, lower=1, overwrite_a=1, clean=0)
    if failed:
        raise ModelError(
            f"model.{model}",
            found="the Gram matrix of the items is not positive definite",
            consequence="The table of items has no solution",
            remedy=f"Raise the setting 'ridge' of model.{model}; it must be above 0",
        )
    solved, _ = lapack.spotri(factor, lower=1, overwrite_c=1)  # fills one triangle only
    full: Floats = solved.T
    for start in range(0, len(full), ROWS_A_BLOCK):
        rows = slice(start, start + ROWS_A_BLOCK)
        square = full[rows, rows]
        full[rows, rows] = np.triu(square) + np.triu(square, 1).T
        full[rows.stop :, rows] = full[rows, rows.stop :].T
    return full
