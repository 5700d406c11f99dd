"""What follows what, counted on: the view `rules` of a model moves with every purchase.

A table of `model.rules` holds, for a product i of a set and j of a later one, counts_ij / (votes_i + shrink) x
freshness_j ^ trend. From the trained table and the votes of its moment T0 the counts are found again, worth what they
were at T0; every pair of sets since adds to counts and votes what `rules` would count of it, and freshness moves with
what is sold. At a later moment all worths are smaller by one factor f = 0.5 ^ ((now - T0) / half-life), which leaves
counts_ij / (votes_i + shrink / f). So an answer is what training again now would give, but for pairs that were not
among the successors kept at T0: they begin at nothing.

The pairs between T0 and the reading are counted by the child (`write`), those since as they come (`Follows.take`), from
the buyer's own newest sets. What a late line changes in the middle of a history is counted too; joined and erased
people wait for the next training, and so do sets of more than LONGEST products.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue import prepare
from habitue.core.schemas import FEATURES, LABELS, PURCHASE
from habitue.model import rules
from habitue.model.batches import Doubles
from habitue.model.past import Floats, Ints, Past, freshness, histories, places, ranges
from habitue.model.quick import Bought, Told, View, summed
from habitue.serve.mapped import sparse, write_sparse

LONGEST = 60  # products of one set
CHECKED = 64  # rows of the trained table that are counted again, to see that it is what the lake says
FILE = "follows.json"
_log = logging.getLogger("habitue.serve")


class Sales(Protocol):
    """How often each product was sold in the last days, and the moment that is counted to."""

    sold: npt.NDArray[np.float64]
    now: float


def write(
    events: pl.DataFrame,
    items: tuple[str, ...],
    folder: Path,
    *,
    state: rules.State,
    config: rules.Config,
    as_of: dt.datetime,
) -> None:
    """Write what of clean EVENTS the trained table is moved by; nothing where the lake does not give that table.

    Another lake (an import of older orders, an erasure) or other settings than it was trained with: it then stays as
    trained. O(purchases x window).
    """
    timeline = prepare.timeline(events.filter(pl.col("kind") == PURCHASE, pl.col("item_id").is_not_null()))
    every = histories(timeline, items)
    none = FEATURES.empty()
    known = np.ones(len(every.user_keys), dtype=bool)
    past = Past(as_of, 30, items, every, known, None, none, none, LABELS.empty())
    then = dataclasses.replace(past, histories=every.before(past.day))
    before, since = rules.votes_of(then, config), rules.votes_of(past, config, since=past.day)
    fresh = freshness(then, window_days=config.window_days)
    if not _agrees(state, items, before, fresh, config):
        _log.warning("the view 'rules' stays as trained: the lake or the settings are not those it was counted from")
        return
    write_sparse(folder / "follows", sp.csr_matrix(since.voters.T @ since.next_sets).astype(np.float32))
    np.save(folder / "follows-votes.npy", np.stack([before.votes, since.votes]))
    np.save(folder / "follows-fresh.npy", fresh)
    np.save(folder / "follows-ever.npy", np.bincount(every.of_kind(PURCHASE).row_item, minlength=len(items)))
    told = {name: getattr(config, name) for name in ("half_life_days", "shrink", "window", "window_days", "trend")}
    (folder / FILE).write_text(json.dumps(told | {"day": past.day}), encoding="utf-8")


def _agrees(state: rules.State, items: tuple[str, ...], then: rules.Votes, fresh: Floats, config: rules.Config) -> bool:
    """Whether the rows of most votes are those of the trained table."""
    some = np.argsort(-then.votes, kind="stable")[:CHECKED]
    counts = (then.voters[:, some].T @ then.next_sets).toarray() / (then.votes[some] + config.shrink)[:, None]
    counts *= fresh ** np.float32(config.trend)
    to_state, to_items = places(state.items, items)[some], places(items, state.items)
    there = to_items >= 0
    for row, wanted in zip(to_state, counts, strict=True):
        if row < 0:
            continue
        found = np.zeros(len(items))
        kept = state.table[[row]].toarray().ravel()
        found[to_items[there]] = kept[there]
        at = found > 0  # the others may have been cut off
        if not np.allclose(found[at], wanted[at], rtol=1e-3, atol=1e-6) or (not at.any() and wanted.any()):
            return False
    return True


class Follows:
    """The trained table and what came since; for one thread."""

    def __init__(
        self, folder: Path, state: rules.State, items: tuple[str, ...], sales: Callable[[float], Sales]
    ) -> None:
        """Map a written folder; `sales(days)` are counted over so many days."""
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        self._config = rules.Config(**{name: value for name, value in told.items() if name != "day"})
        self._day, self._sales = float(told["day"]), sales(self._config.window_days)
        before, since = np.load(folder / "follows-votes.npy")
        self.votes: Doubles = before + since
        self._ever = np.load(folder / "follows-ever.npy").astype(np.float64)
        self._more: sp.csr_matrix = sparse(folder / "follows", sp.csr_matrix)
        self._since: dict[int, dict[int, float]] = defaultdict(dict)  # product -> another -> counts since the reading
        self._table = _counts(state, items, before + self._config.shrink, np.load(folder / "follows-fresh.npy"), told)
        self._half_life = state.history_half_life_days

    def take(self, sets: Sequence[tuple[float, Ints]], new: Mapping[float, set[int]]) -> None:
        """Count on: a buyer's purchases in time (day, products), and which products of which days came just now.

        O(window x products of the new sets x products before them).
        """
        if not new:
            return
        before = [(day, np.array([i for i in items.tolist() if i not in new.get(day, ())])) for day, items in sets]
        for products in new.values():
            self._ever[list(products)] += 1
        first, last = min(new), max(new)
        self._add(sets, first, last, 1.0)
        self._add([(day, items) for day, items in before if len(items)], first, last, -1.0)

    def _add(self, sets: Sequence[tuple[float, Ints]], first: float, last: float, sign: float) -> None:
        """Add what sets are worth as successors: those of the days from `first` to `last`, and a window after them."""
        days = [day for day, _ in sets]
        end = min(bisect.bisect_right(days, last) + self._config.window, len(sets))
        for s in range(bisect.bisect_left(days, first), end):
            day, items = sets[s]
            if len(items) > LONGEST:
                continue
            worth = sign * 0.5 ** ((self._day - day) / self._config.half_life_days)
            for d in range(1, min(self._config.window, s) + 1):
                voters = sets[s - d][1]
                if not 0 < len(voters) <= LONGEST:
                    continue
                vote = worth / d / len(voters) ** 0.5
                for voter in voters.tolist():
                    self.votes[voter] += vote
                    row = self._since[voter]
                    for item in items.tolist():
                        row[item] = row.get(item, 0.0) + vote

    def view(self) -> View:
        """Return the view as `quick.ready` would make it of a table that is trained now."""
        size, config = len(self.votes), self._config

        def score(bought: Bought) -> Told:
            item, worth = bought.worth(self._half_life)
            fade = 0.5 ** ((self._sales.now - self._day) / config.half_life_days)
            worth = np.minimum(worth, 1) / np.maximum(self.votes[item] + config.shrink / fade, 1e-9)
            parts = [_rows(table, item, worth) for table in (self._table, self._more)]
            since = [
                (self._since[i], w) for i, w in zip(item.tolist(), worth.tolist(), strict=True) if i in self._since
            ]
            index = [np.fromiter(row, dtype=np.int64, count=len(row)) for row, _ in since]
            added = [np.fromiter(row.values(), dtype=np.float64, count=len(row)) * w for row, w in since]
            at, sums = summed(
                np.concatenate([*(p[0] for p in parts), *index]), np.concatenate([*(p[1] for p in parts), *added]), size
            )
            fresh = ((self._sales.sold[at] + 1) / (self._ever[at] + 5)) ** config.trend
            return Told(size, at, (sums * fresh).astype(np.float32))

        return score


def _rows(table: sp.csr_matrix, item: Ints, worth: npt.NDArray[np.float64]) -> tuple[Ints, npt.NDArray[np.float64]]:
    start, stop = table.indptr[item].astype(np.int64), table.indptr[item + 1].astype(np.int64)
    some = ranges(start, stop)
    return table.indices[some].astype(np.int64), table.data[some] * np.repeat(worth, stop - start)


def _counts(
    state: rules.State, items: tuple[str, ...], divided: Doubles, fresh: Floats, told: Mapping[str, float]
) -> sp.csr_matrix:
    """Return the counts [I, I] behind a trained table, in the order of `items`."""
    table = state.table.tocoo()
    move = places(items, state.items)
    row, column = move[table.row], move[table.col]
    kept = (row >= 0) & (column >= 0)
    row, column, value = row[kept], column[kept], table.data[kept].astype(np.float64)
    value *= divided[row] / fresh[column].astype(np.float64) ** told["trend"]
    return sp.csr_matrix((value, (row, column)), shape=(len(items),) * 2)
