"""What is bought next, given everything bought before: one linear item x item table in closed form.

SLIT, the half of SLIST that looks ahead (Choi et al., "Session-aware linear item-item models", WWW 2021), with whole
sets for clicks: one row for every set but a user's first, X = what the user had bought before it, older purchases
worth less, Y = the set. B = (X'X + lambda I)^-1 X'Y, rows of recent sets worth more. Unlike in EASE a product may
foretell itself: the diagonal is how surely it is bought again, all else that was bought being equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from habitue.core.runtime import Runtime
from habitue.model.ease import inverse
from habitue.model.past import PURCHASE, Floats, Histories, Past, columns, places, purchases

ANSWERS = frozenset({"rank"})


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    history_half_life_days: float = 120.0  # of a purchase as a reason, counted back from the set it should foretell
    half_life_days: float = 90.0  # of a set as evidence, counted back from `as_of`
    ridge: float = 200.0


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: Floats  # [I, I]
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Solve for the table: 5 I^3 / 3 multiplications in float32 and 12 I^2 bytes; raises ModelError for no ridge."""
    bought = past.histories.of_kind(PURCHASE)
    sets = sp.csr_matrix(
        (np.ones(len(bought.row_item), dtype=np.float32), bought.row_item, bought.row_start),
        shape=(len(bought.set_at), len(past.items)),
    )
    before = _before(bought, config.history_half_life_days) @ sets
    before.data = np.minimum(before.data, 1)
    worth = 0.5 ** ((past.day - bought.set_at) / config.half_life_days)
    weighed = (sp.diags_array(worth.astype(np.float32)) @ before).T
    gram = (weighed @ before).toarray()
    gram[np.diag_indices_from(gram)] += config.ridge
    table = inverse(gram, model="slist") @ (weighed @ sets).toarray()
    return State(past.items, table, config.history_half_life_days)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(rows x I). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns(history @ state.table, places(state.items, past.items))


def _before(bought: Histories, half_life_days: float) -> sp.csr_matrix:
    """Return [S, S]: in row t the worth of each earlier set of the same user at the moment of t; O(pairs of sets)."""
    n_sets = len(bought.set_at)
    place = np.arange(n_sets) - bought.set_start[bought.set_user]  # of a set in its user's life
    now = np.repeat(np.arange(n_sets), place)
    first = np.concatenate([[0], np.cumsum(place)])[:-1]
    then = np.arange(len(now)) - np.repeat(first - (np.arange(n_sets) - place), place)
    worth = 0.5 ** ((bought.set_at[now] - bought.set_at[then]) / half_life_days)
    return sp.csr_matrix((worth.astype(np.float32), (now, then)), shape=(n_sets, n_sets))
