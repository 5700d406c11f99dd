"""The best products of every user, exactly: what sorting the whole catalogue would give, without sorting it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

GROUP = 64  # products of which only the best is looked at first


def best(scores: Floats, *, count: int, seen: sp.csr_matrix | None = None) -> tuple[Ints, Floats]:
    """Return the places and the scores of the `count` largest of each row, the largest first, of equals the earlier.

    Products of `seen` [B, I] are no candidates (their scores become -inf, in place). Where a row has fewer candidates
    the place is -1 and the score -inf. Scores must not be NaN. The catalogue falls into I / 64 groups; the `count`
    best products are all in the `count` groups with the best products, so one pass over the scores finds the groups,
    and only their products are compared. Rows in which groups share the border are sorted whole.
    """
    users, items = scores.shape
    if seen is not None:
        rows = np.repeat(np.arange(users), np.diff(seen.indptr))
        scores[rows, seen.indices] = -np.inf
    kept = min(count, items)
    groups = items // GROUP
    if groups <= 2 * count:
        places = np.argsort(-scores, axis=1, kind="stable")[:, :kept]
    else:
        places = _grouped(scores, groups, kept)
    values = np.take_along_axis(scores, places, axis=1)
    places[~np.isfinite(values)] = -1
    if kept < count:
        short = ((0, 0), (0, count - kept))
        places = np.pad(places, short, constant_values=-1)
        values = np.pad(values, short, constant_values=-np.inf)
    return places, values


def _grouped(scores: Floats, groups: int, count: int) -> Ints:
    """Group g holds the products g, g + groups, g + 2 groups, ...; those left over at the end are a group each."""
    users, items = scores.shape
    whole = groups * GROUP
    top = np.concatenate([scores[:, :whole].reshape(users, GROUP, groups).max(axis=1), scores[:, whole:]], axis=1)
    border = np.partition(top, top.shape[1] - count, axis=1)[:, -count, None]
    chosen = top >= border
    clear = chosen.sum(axis=1) == count  # no other group has a product as good as the worst of the chosen ones
    clear &= users > 1  # one row alone: comparing it whole with the border is quicker than gathering from groups
    places = np.empty((users, count), dtype=np.int64)
    if clear.any():
        places[clear] = _among(scores, clear, chosen, groups, count)
    for row in np.flatnonzero(~clear):
        some = np.flatnonzero(scores[row] >= border[row])
        places[row] = some[np.argsort(-scores[row, some], kind="stable")[:count]]
    return places


def _among(
    scores: Floats, clear: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_], groups: int, count: int
) -> Ints:
    """Return the best of the products in `count` groups a row."""
    users, whole = int(clear.sum()), groups * GROUP
    group = np.nonzero(chosen[clear])[1].reshape(users, count)
    members = group[:, :, None] + groups * np.arange(GROUP)
    alone = group >= groups  # a product of its own, behind the whole groups
    members[alone] = np.where(np.arange(GROUP) == 0, (group[alone] - groups + whole)[:, None], -1)
    members = members.reshape(users, count * GROUP)
    values = scores[np.flatnonzero(clear)[:, None], members]
    values[members < 0] = -np.inf
    border = np.partition(values, values.shape[1] - count, axis=1)[:, -count, None]
    rows, at = np.nonzero(values >= border)  # `count` a row, more where products are equal
    order = np.lexsort((members[rows, at], -values[rows, at], rows))
    start = np.searchsorted(rows, np.arange(users))
    found: Ints = members[rows[order], at[order]][start[:, None] + np.arange(count)]
    return found
