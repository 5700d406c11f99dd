"""Products bought by the same people, and products bought next: two sparse item x item tables.

Neighbours: cosine between the columns of the user x item matrix, each user's row divided by the square root of its
length so that a wholesaler does not outvote a hundred customers (Sarwar et al., WWW 2001; Deshpande & Karypis,
TOIS 2004), raised to a power that keeps the near ones.
Rules: how often item j was in a set d sets after item i, counted 1 / d (SR of Ludewig & Jannach, UMUAI 2018), an item
being its own successor included: that is where repeats come from. Either says less of a fading product: column j of
both is multiplied by freshness(j) ^ trend (past.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from habitue.core.runtime import Runtime
from habitue.model.past import PURCHASE, Floats, Past, columns, freshness, places, purchases

ANSWERS = frozenset({"rank"})


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    half_life_days: float = 60.0  # of a purchase as evidence about items, when fitting
    history_half_life_days: float = 120.0  # of a purchase as a reason, when asking
    shrink: float = 0.1  # added to the squared length of every item's column: two sales in common are no certainty
    sharpen: float = 1.5  # power on the cosine
    neighbours: int = 200  # kept for each item, in either table
    rules: float = 1.0  # weight of the rules beside the neighbours
    shrink_rules: float = 200.0  # votes added to every item, none of them for anything
    window: int = 5  # sets; a later set follows from none before it
    window_days: float = 30.0
    trend: float = 0.25  # 0 = fading products keep their place


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: sp.csr_matrix  # [I, I] float32
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Build both tables; O(sum over users of (items of the user)^2) time, a dense float32 [I, I] at a time."""
    table = _neighbours(past, config) + config.rules * _rules(past, config)
    fresh = freshness(past, window_days=config.window_days) ** np.float32(config.trend)
    return State(past.items, (table @ sp.diags_array(fresh)).tocsr(), config.history_half_life_days)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(sum of history x neighbours). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns((history @ state.table).toarray(), places(state.items, past.items))


def _neighbours(past: Past, config: Config) -> sp.csr_matrix:
    people = purchases(past, past.items, half_life_days=config.half_life_days, cap=1)
    length = np.asarray(people.sum(axis=1)).ravel()
    people = sp.diags_array(((1 + length) ** -0.5).astype(np.float32)) @ people
    together = (people.T @ people).toarray()
    norm = np.sqrt(np.diag(together) + config.shrink)
    norm[norm == 0] = 1
    together /= norm[:, None]
    together /= norm[None, :]
    np.fill_diagonal(together, 0)
    return _largest(together**config.sharpen, config.neighbours)


def _rules(past: Past, config: Config) -> sp.csr_matrix:
    bought = past.histories.of_kind(PURCHASE)
    n_sets, n_items = len(bought.set_at), len(past.items)
    size = np.diff(bought.row_start)
    ones = np.ones(len(bought.row_item), dtype=np.float32)
    sets = sp.csr_matrix((ones, bought.row_item, bought.row_start), shape=(n_sets, n_items))
    place = np.arange(n_sets) - bought.set_start[bought.set_user]  # of a set in its user's life
    worth = 0.5 ** ((past.day - bought.set_at) / config.half_life_days)
    distances = range(1, config.window + 1)
    later = [np.flatnonzero(place >= d) for d in distances]
    pairs = sp.csr_matrix(
        (
            np.concatenate([worth[s] / d for d, s in zip(distances, later, strict=True)]).astype(np.float32),
            (np.concatenate([s - d for d, s in zip(distances, later, strict=True)]), np.concatenate(later)),
        ),
        shape=(n_sets, n_sets),
    )
    # An item of a large set says less about what comes next: its vote is divided by the root of the set's size.
    voters = sp.diags_array((size**-0.5).astype(np.float32)) @ sets
    counts = (voters.T @ (pairs @ sets)).toarray()
    votes = voters.T @ np.asarray(pairs.sum(axis=1)).ravel()
    counts /= np.maximum(votes + config.shrink_rules, 1e-9)[:, None]
    return _largest(counts, config.neighbours)


def _largest(table: Floats, count: int) -> sp.csr_matrix:
    """Keep the `count` largest of each row."""
    if count < table.shape[1]:
        table[table < np.partition(table, -count, axis=1)[:, -count, None]] = 0
    return sp.csr_matrix(table)
