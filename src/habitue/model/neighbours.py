"""Products bought by the same people, and products told in the same words: one sparse item x item table.

People, weighting "cosine": cosine between the columns of the user x item matrix, each user's row divided by the square
root of its length so that a wholesaler does not outvote a hundred customers (Sarwar et al., WWW 2001; Deshpande &
Karypis, TOIS 2004), raised to a power that keeps the near ones. Weighting "bm25": the product of columns weighted as a
search engine weighs words, x (k1 + 1) / (k1 (1 - b + b length / mean length) + x) * idf, users for words (Robertson
et al., TREC-3 1994, BM25); brought to a largest value of 1.
Words: cosine between the products' words. Either says less of a fading product: column j is multiplied by
freshness(j) ^ trend (past.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from habitue.core.errors import SettingsError
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model.past import FOR_EVER, Floats, Past, check_words, columns, freshness, places, purchases

ANSWERS = frozenset({"rank"})

ROWS_A_BLOCK = 256  # rows of the table that are whole at once
K1, B = 1.2, 0.75  # of BM25


@dataclass(frozen=True)
class Config:
    """Settings, picked on Online Retail with the last 92 days before the cut as validation."""

    half_life_days: float = tuned(60.0, 7, FOR_EVER, log=True)  # of a purchase as evidence about items, when fitting
    history_half_life_days: float = tuned(120.0, 0.5, FOR_EVER, log=True)  # of a purchase as a reason, when asking
    weighting: str = tuned("cosine", values=("cosine", "bm25"))
    shrink: float = tuned(0.1, 0.01, 100, log=True)  # added to the squared length of a column; cosine only
    sharpen: float = tuned(1.5, 0.5, 2.5)  # power on the cosine
    neighbours: int = tuned(200, 20, 1000, log=True)  # kept for each item, in either table
    people: float = 1.0
    words: float = tuned(0.0, 0, 1)  # weight beside the people
    window_days: float = 30.0
    trend: float = tuned(0.25, 0, 1)  # 0 = fading products keep their place

    def __post_init__(self) -> None:
        """Refuse a weighting that does not exist, and numbers that mean nothing here. Raises SettingsError."""
        positive = ("half_life_days", "history_half_life_days", "sharpen", "neighbours", "window_days")
        check_range(self, positive=positive, not_negative=("shrink", "people", "words"))
        if self.weighting not in ("cosine", "bm25"):
            raise SettingsError(
                "model.neighbours.Config.weighting",
                found=f"'{self.weighting}' is not known",
                consequence="No neighbour could be found",
                remedy="Write 'cosine' or 'bm25'",
            )


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "sequences".
SEQUENCE = Config(half_life_days=FOR_EVER, history_half_life_days=2.0, sharpen=1.0, trend=0.0, words=0.3)


@dataclass(frozen=True)
class State:
    """One table: row = a product of the history, column = a product to buy."""

    items: tuple[str, ...]
    table: sp.csr_matrix  # [I, I] float32
    history_half_life_days: float


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:  # noqa: ARG001  nothing random
    """Build the table; O(sum over users of (items of the user)^2 + pairs of products with a word in common)."""
    table = sp.csr_matrix((len(past.items),) * 2, dtype=np.float32)
    if config.people:
        table = table + np.float32(config.people) * _by_people(past, config)
    if config.words and past.words is not None:
        table = table + np.float32(config.words) * _by_words(past.words, config.neighbours)
    fresh = freshness(past, window_days=config.window_days) ** np.float32(config.trend)
    return State(past.items, (table @ sp.diags_array(fresh)).tocsr().astype(np.float32), config.history_half_life_days)


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I]; O(sum of history x neighbours). An item the state has never met scores 0."""
    history = purchases(past, state.items, half_life_days=state.history_half_life_days, cap=1)
    return columns((history @ state.table).toarray(), places(state.items, past.items))


def _by_people(past: Past, config: Config) -> sp.csr_matrix:
    people = purchases(past, past.items, half_life_days=config.half_life_days, cap=1)
    if config.weighting == "bm25":
        people = _bm25(people)
        table = largest_of_rows(product(people.T, people), len(past.items), config.neighbours)
        return table / np.float32(table.max() or 1)
    length = np.asarray(people.sum(axis=1)).ravel()
    people = sp.csc_matrix(sp.diags_array(((1 + length) ** -0.5).astype(np.float32)) @ people)
    norm = np.sqrt(np.asarray(people.multiply(people).sum(axis=0)).ravel() + config.shrink)
    norm[norm == 0] = 1
    people = sp.csc_matrix(people @ sp.diags_array((1 / norm).astype(np.float32)))
    cosines = product(people.T, people)

    def sharpened(rows: slice) -> sp.csr_matrix:
        block = cosines(rows)
        block.data **= config.sharpen
        return block

    return largest_of_rows(sharpened, len(past.items), config.neighbours)


def _bm25(people: sp.csr_matrix) -> sp.csc_matrix:
    users, items = people.shape
    idf = np.log(max(items, 1)) - np.log1p(np.diff(people.indptr))  # of a user: who bought everything says little
    length = np.asarray(people.sum(axis=0)).ravel()
    norm = 1 - B + B * length / (length.mean() or 1)
    weighed = people.tocoo()
    x = weighed.data
    data = x * (K1 + 1) / (K1 * norm[weighed.col] + x) * np.maximum(idf, 0)[weighed.row]
    return sp.csc_matrix((data.astype(np.float32), (weighed.row, weighed.col)), shape=(users, items))


def _by_words(words: sp.csr_matrix, count: int) -> sp.csr_matrix:
    check_words(words)
    return largest_of_rows(product(words, words.T), words.shape[0], count)


def product(left: sp.spmatrix, right: sp.spmatrix) -> Callable[[slice], sp.csr_matrix]:
    """Return what gives rows of left @ right."""
    left, right = sp.csr_matrix(left), sp.csr_matrix(right)
    return lambda rows: left[rows] @ right


def largest_of_rows(block: Callable[[slice], sp.csr_matrix], size: int, count: int) -> sp.csr_matrix:
    """Keep the `count` largest of each row of a square table that is built by blocks of rows; the diagonal goes.

    `block(rows)` returns those rows [R, size]; what is not above 0 is left out.
    """
    kept = []
    for start in range(0, size, ROWS_A_BLOCK):
        rows = slice(start, min(start + ROWS_A_BLOCK, size))
        table = block(rows)
        table.data[table.indices == np.repeat(np.arange(start, rows.stop), np.diff(table.indptr))] = 0
        kept.append(largest(table, count))
    return sp.vstack(kept, format="csr") if kept else sp.csr_matrix((0, 0), dtype=np.float32)


def largest(table: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Keep the `count` largest of each row, and what equals the last of them, above 0; `table` is used up.

    O(stored numbers): a row of a large catalogue shares a buyer with few of its products.
    """
    table.data[table.data < 0] = 0
    for row in np.flatnonzero(np.diff(table.indptr) > count):
        values = table.data[table.indptr[row] : table.indptr[row + 1]]
        values[values < np.partition(values, -count)[-count]] = 0
    table.eliminate_zeros()
    table.sort_indices()
    return table
