"""What comes next, given everything before it: one linear item x item table in closed form.

SLIST (Choi et al., "Session-aware linear item-item models", WWW 2021) with whole sets for clicks. The half that looks
ahead, SLIT: one row for every set but a user's first, S = what the user had bought before it, older purchases worth
less, Y = the set and a few after it, later ones worth less. The half that looks around, SLIS: X = all the user's
products. Rows of recent sets are worth more (D). The products' words V join as in EASE, each word one more customer:
A = a X'X + b VV', and B = (S'DS + A + lambda I)^-1 (S'DY + A). Where things are bought again a product may foretell
itself: the diagonal is how surely, all else that was bought being equal; else it is 0. A fading product is pressed
down: column j is multiplied by freshness(j) ^ trend (past.py). Beyond `most` products the table holds those bought
most, as in EASE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model.ease import MOST, ROWS_A_BLOCK, add, add_words, inverse
from habitue.model.past import (
    FOR_EVER,
    PURCHASE,
    Floats,
    Histories,
    Past,
    columns,
    freshness,
    most_bought,
    places,
    purchases,
)

ANSWERS = frozenset({"rank"})

DENSE = 0.05  # share of the pairs that occur, from which on they are multiplied as dense blocks; LOG.md, "a grocer"


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    history_half_life_days: float = tuned(120.0, 0.5, FOR_EVER, log=True)  # of a purchase as a reason
    half_life_days: float = tuned(90.0, 7, FOR_EVER, log=True)  # of a set as evidence, counted back from `as_of`
    ridge: float = tuned(400.0, 1, 5000, log=True)
    around: float = tuned(0.5, 0, 1)  # weight of SLIS beside SLIT
    words: float = tuned(10.0, 0, 50)  # weight of the words beside the customers; 0 = ids only
    window: int = 100  # sets before that count as reasons
    ahead: int = tuned(1, 1, 10)  # sets to foretell
    fade: float = 0.37  # worth of each set ahead, of the one before it
    again: bool = True  # a product may foretell itself
    window_days: float = 30.0
    trend: float = tuned(0.15, 0, 1)  # 0 = fading products keep their place
    most: int = MOST  # products of the table

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        positive = ("half_life_days", "history_half_life_days", "window", "ahead", "window_days", "most")
        check_range(self, positive=positive, not_negative=("around", "words", "fade"))


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "sequences".
SEQUENCE = Config(
    history_half_life_days=2.08,
    half_life_days=FOR_EVER,
    ridge=100.0,
    around=0.5,
    words=5.0,
    window=30,
    ahead=10,
    again=False,
    trend=0.0,
)


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: Floats  # [I, I]
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Solve for the table: I^3 multiplications in float32 and I x the pairs that occur, or I^3 again where many do.

    I is at most `most`. Held are the table, 4 I^2 bytes, and the pairs that occur, 8 bytes each.

    Raises ModelError, which names a ridge that is too small.
    """
    past = most_bought(past, config.most)
    bought = past.histories.of_kind(PURCHASE)
    sets = sp.csr_matrix(
        (np.ones(len(bought.row_item), dtype=np.float32), bought.row_item, bought.row_start),
        shape=(len(bought.set_at), len(past.items)),
    )
    before = _capped(_before(bought, config.history_half_life_days, config.window) @ sets)
    following = _capped(_ahead(bought, config.ahead, config.fade) @ sets)
    worth = 0.5 ** ((past.day - bought.set_at) / config.half_life_days)
    weighed = sp.csr_matrix((sp.diags_array(worth.astype(np.float32)) @ before).T)
    gram = np.zeros((len(past.items), len(past.items)), dtype=np.float32)
    add(gram, weighed, before)
    joined = add_words(gram, past.words, config.words)
    if config.around:
        everyone = purchases(past, past.items, half_life_days=config.half_life_days, cap=1)
        add(gram, sp.csr_matrix(everyone.T) * np.float32(config.around), everyone)
        joined = True
    table = inverse(gram, ridge=config.ridge, model="slist")
    # P (S'DY + A) = I - lambda P + P S'D(Y - S): what is left to multiply is sparse, A is not.
    wanted = sp.csr_matrix((weighed @ (following - before if joined else following)).T)
    for start in range(0, len(table), ROWS_A_BLOCK):  # a row of the product needs that row of the inverse alone
        rows = slice(start, start + ROWS_A_BLOCK)
        solved = table[rows].copy()
        table[rows] = _times(wanted, solved)
        if joined:
            table[rows] -= np.float32(config.ridge) * solved
    if joined:
        table[np.diag_indices_from(table)] += 1
    if not config.again:
        np.fill_diagonal(table, 0)
    table *= freshness(past, window_days=config.window_days) ** np.float32(config.trend)
    return State(past.items, table, config.history_half_life_days)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(rows x I). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns(history @ state.table, places(state.items, past.items))


def _times(wanted: sp.csr_matrix, solved: Floats) -> Floats:
    """Return (wanted @ solved.T).T, [R, I]; where many pairs occur by dense blocks, which BLAS multiplies sooner."""
    if wanted.nnz < DENSE * wanted.shape[0] * wanted.shape[1]:
        few: Floats = (wanted @ solved.T).T
        return few
    found = np.empty_like(solved)
    for start in range(0, wanted.shape[0], ROWS_A_BLOCK):
        block = slice(start, start + ROWS_A_BLOCK)
        np.matmul(solved, wanted[block].toarray().T, out=found[:, block])
    return found


def _before(bought: Histories, half_life_days: float, window: int) -> sp.csr_matrix:
    """Return [S, S]: in row t the worth of each of the `window` sets before it, at the moment of t."""
    n_sets = len(bought.set_at)
    seen = np.minimum(np.arange(n_sets) - bought.set_start[bought.set_user], window)
    now = np.repeat(np.arange(n_sets), seen)
    back = np.arange(len(now)) - np.repeat(np.cumsum(seen) - seen, seen)  # 0 for the newest of them
    then = now - 1 - back
    worth = 0.5 ** ((bought.set_at[now] - bought.set_at[then]) / half_life_days)
    return sp.csr_matrix((worth.astype(np.float32), (now, then)), shape=(n_sets, n_sets))


def _ahead(bought: Histories, count: int, fade: float) -> sp.csr_matrix:
    """Return [S, S]: in row t the worth of t itself, 1, and of the sets after it, each `fade` of the one before."""
    n_sets = len(bought.set_at)
    left = np.minimum(bought.set_start[bought.set_user + 1] - np.arange(n_sets), count)
    now = np.repeat(np.arange(n_sets), left)
    later = np.arange(len(now)) - np.repeat(np.cumsum(left) - left, left)
    return sp.csr_matrix(((fade**later).astype(np.float32), (now, now + later)), shape=(n_sets, n_sets))


def _capped(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix = sp.csr_matrix(matrix)
    matrix.data = np.minimum(matrix.data, 1)
    return matrix
