"""What follows what: how often product j was in a set d sets after product i, counted 1 / d.

Sequential rules (SR of Ludewig & Jannach, UMUAI 2018), a product being its own successor included: that is where
repeats come from. Column j is multiplied by freshness(j) ^ trend (past.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model.neighbours import ROWS_A_BLOCK, largest
from habitue.model.past import FOR_EVER, PURCHASE, Floats, Past, columns, freshness, places, purchases

ANSWERS = frozenset({"rank"})


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    half_life_days: float = tuned(60.0, 7, FOR_EVER, log=True)  # of a set as evidence, when fitting
    history_half_life_days: float = tuned(120.0, 0.3, FOR_EVER, log=True)  # of a purchase as a reason, when asking
    shrink: float = tuned(200.0, 0.1, 1000, log=True)  # votes added to every item, none of them for anything
    window: int = tuned(5, 1, 20)  # sets; a later set follows from none before it
    successors: int = 200  # kept for each item
    window_days: float = 30.0
    trend: float = tuned(0.25, 0, 1)  # 0 = fading products keep their place

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        check_range(self, positive=("half_life_days", "history_half_life_days", "window", "successors", "window_days"))


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "sequences".
SEQUENCE = Config(half_life_days=FOR_EVER, history_half_life_days=0.7, shrink=10.0, window=10, trend=0.0)


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: sp.csr_matrix  # [I, I] float32
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Count the pairs; O(sets x window x items of a set ^ 2)."""
    n_items = len(past.items)
    told = votes_of(past, config)
    votes = np.maximum(told.votes + config.shrink, 1e-9).astype(np.float32)
    voters = sp.csr_matrix(told.voters.T)
    kept = []
    for start in range(0, n_items, ROWS_A_BLOCK):
        rows = slice(start, start + ROWS_A_BLOCK)
        counts = voters[rows] @ told.next_sets
        counts.data /= np.repeat(votes[rows], np.diff(counts.indptr))
        kept.append(largest(counts, config.successors))
    table = sp.vstack(kept, format="csr") if kept else sp.csr_matrix((0, 0), dtype=np.float32)
    fresh = freshness(past, window_days=config.window_days) ** np.float32(config.trend)
    return State(past.items, (table @ sp.diags_array(fresh)).tocsr().astype(np.float32), config.history_half_life_days)


@dataclass(frozen=True)
class Votes:
    """What a table is counted from: voters' @ next_sets are the counts [I, I], votes what they are divided by."""

    voters: sp.csc_matrix  # [S, I] what each item of a set says
    next_sets: sp.csr_matrix  # [S, I] what followed each set, each later set worth less
    votes: npt.NDArray[np.float64]  # [I]


def votes_of(past: Past, config: Config, *, since: float = -np.inf) -> Votes:
    """Count who says what; `since`: only of pairs whose later set is of that day or after it. O(sets x window)."""
    bought = past.histories.of_kind(PURCHASE)
    n_sets, n_items = len(bought.set_at), len(past.items)
    size = np.diff(bought.row_start)
    ones = np.ones(len(bought.row_item), dtype=np.float32)
    sets = sp.csr_matrix((ones, bought.row_item, bought.row_start), shape=(n_sets, n_items))
    place = np.arange(n_sets) - bought.set_start[bought.set_user]  # of a set in its user's life
    worth = 0.5 ** ((past.day - bought.set_at) / config.half_life_days)
    distances = range(1, config.window + 1)
    later = [np.flatnonzero((place >= d) & (bought.set_at >= since)) for d in distances]
    pairs = sp.csr_matrix(
        (
            np.concatenate([worth[s] / d for d, s in zip(distances, later, strict=True)]).astype(np.float32),
            (np.concatenate([s - d for d, s in zip(distances, later, strict=True)]), np.concatenate(later)),
        ),
        shape=(n_sets, n_sets),
    )
    # An item of a large set says less about what comes next: its vote is divided by the root of the set's size.
    voters = sp.csc_matrix(sp.diags_array((size**-0.5).astype(np.float32)) @ sets)
    return Votes(voters, sp.csr_matrix(pairs @ sets), voters.T @ np.asarray(pairs.sum(axis=1)).ravel())


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(sum of history x successors). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns((history @ state.table).toarray(), places(state.items, past.items))
