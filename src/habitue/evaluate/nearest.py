"""The best products of every user by inner product: exact lists, most of the multiplications in bfloat16.

What is measured: scores_ui = queries_u . products_i + extra_ui, in float32. A product of bfloat16 numbers is several
times faster where the processor has the instruction, and its error has a bound: rounding both factors to 8 bits moves a
sum of products by no more than

    e_ui = (2 u + u^2) |queries_u| |products_i|,  u = 2^-8    (Higham, 2002, section 3.1, and Cauchy-Schwarz)

and rounding the sum moves it by u times itself. So the bfloat16 scores prove of nearly all products that they are not
among the `count` best; those left, some dozens a user, are scored again in float32 and ordered. Products are laid out
in groups of like length, so that one bound holds for a group and is tight; the best score of a group says whether it is
looked into at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from habitue.evaluate import topk
from habitue.model.losses import half_is_quick

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.int16]  # of bfloat16 numbers: of two above 0 the larger has the larger bits
Entries = tuple[Ints, Ints, Floats]  # of a sparse matrix: row, column, value

USERS = 512  # scored at once: their bfloat16 scores of 12,000 products are 12 MB
GROUP = 32  # products a group
UNIT = 2.0**-8  # half the distance from 1 to the next bfloat16 number
LEAST = np.int16(-(2**15))  # bits below all others


def lists(
    queries: Floats,
    products: Floats,
    *,
    count: int,
    extra: sp.csr_matrix | None = None,
    seen: sp.csr_matrix | None = None,
    half: bool | None = None,
) -> tuple[Ints, Floats]:
    """Return places and scores of the `count` best products of each user, [B, count] each, as `topk.best` would.

    queries [B, D], products [I, D]; `extra` [B, I] is added to their product; products of `seen` [B, I] are no
    candidates. Where there are fewer candidates the place is -1 and the score -inf; of equal scores the earlier product
    is first. Scores are those of float32, up to the order in which D numbers are added. `half`: let bfloat16 go first;
    None = where the processor multiplies it faster. Numbers must be finite. 2 B I D operations, memory USERS x I.
    """
    users, items = len(queries), len(products)
    if half is None:
        half = half_is_quick("cpu")
    laid = _lay_out(products) if half and items >= 4 * GROUP * count else None  # of few products all groups are opened
    places = np.full((users, count), -1, dtype=np.int64)
    values = np.full((users, count), -np.inf, dtype=np.float32)
    room = None if laid is None else torch.empty(USERS, laid.table.shape[1], dtype=torch.bfloat16)  # taken once
    for start in range(0, users, USERS):
        stop = min(start + USERS, users)
        part, more, had = np.arange(start, stop), _entries(extra, start, stop), _entries(seen, start, stop)
        if laid is not None and room is not None:
            half_scores = torch.mm(torch.from_numpy(queries[start:stop]).bfloat16(), laid.table, out=room[: len(part)])
            proven, best, worth = _proven(laid, products, queries[start:stop], half_scores, more, had, count)
            places[part[proven]], values[part[proven]] = best, worth
            part = part[~proven]
        if len(part):
            scores = queries[part] @ products.T
            if extra is not None:
                row, column, value = _entries(extra[part], 0, len(part))
                scores[row, column] += value
            places[part], values[part] = topk.best(scores, count=count, seen=None if seen is None else seen[part])
    return places, values


@dataclass(frozen=True)
class _Laid:
    """Products in bfloat16, the longest first; group g holds columns g, g + G, g + 2 G, ..."""

    table: Tensor  # bfloat16 [D, GROUP x G]
    item: Ints  # [GROUP x G] the product of each column, -1 = none
    column: Ints  # [I] where each product lies
    length: Floats  # [G] of the longest product of a group


def _lay_out(products: Floats) -> _Laid:
    """Round and order the products; O(I D)."""
    items = len(products)
    length = np.linalg.norm(products, axis=1)
    groups = -(-items // GROUP)
    item = np.full(groups * GROUP, -1, dtype=np.int64)
    rank = np.arange(items)
    order = np.argsort(-length, kind="stable")
    item[rank % GROUP * groups + rank // GROUP] = order
    column = np.empty(items, dtype=np.int64)
    column[item[item >= 0]] = np.flatnonzero(item >= 0)
    table = np.zeros((len(item), products.shape[1]), dtype=np.float32)
    table[item >= 0] = products[item[item >= 0]]
    return _Laid(torch.from_numpy(table).T.contiguous().bfloat16(), item, column, length[order[::GROUP]])


def _proven(
    laid: _Laid,
    products: Floats,
    queries: Floats,
    half_scores: Tensor,
    extra: Entries,
    seen: Entries,
    count: int,
) -> tuple[npt.NDArray[np.bool_], Ints, Floats]:
    """Return whose lists are proven [b], and their places and scores [proven, count].

    A list is not proven where its last score is so near 0, or below it, that bits do not tell which is larger.
    """
    users, groups = len(queries), len(laid.length)
    bits: Bits = half_scores.view(torch.int16).numpy()
    added_row, added_item, added = extra
    lies = added_row, laid.column[added_item]
    bits[lies] = LEAST + 1  # what gets something added is a candidate in any case, unless it was seen
    bits[seen[0], laid.column[seen[1]]] = LEAST
    unseen = bits[lies] != LEAST
    grouped = bits.reshape(users, GROUP, groups)
    top = _number(best := grouped.max(axis=1))  # [b, G]
    slack = (2 * UNIT + UNIT**2 + 2.0**-22 * queries.shape[1]) * np.linalg.norm(queries, axis=1)
    error = slack[:, None].astype(np.float32) * laid.length
    least = np.partition(np.where(best > 0, top * (1 - UNIT), -np.inf) - error, groups - count, axis=1)[:, -count, None]
    cut = (least - error) * np.float32(1 - UNIT)
    proven = (cut > 0).all(axis=1)
    row, group = np.nonzero((top / (1 - UNIT) + error >= least) & proven[:, None])
    member = grouped[row, :, group]  # [n, GROUP]
    found, place = np.nonzero(member >= _bits_below(cut[row, group])[:, None])
    row = np.concatenate([row[found], added_row[unseen]])
    item = np.concatenate([laid.item[place * groups + group[found]], added_item[unseen]])
    value = np.einsum("nd,nd->n", queries[row], products[item])
    value[len(found) :] += added[unseen]
    order = np.lexsort((item, -value, row))
    start = np.searchsorted(row[order], np.flatnonzero(proven))
    kept = order[start[:, None] + np.arange(count)]
    return proven, item[kept], value[kept]


def _number(bits: Bits) -> Floats:
    return (bits.astype(np.int32) << 16).view(np.float32)


def _bits_below(numbers: Floats) -> Bits:
    """Return the bits of the bfloat16 numbers next below, of numbers above 0."""
    return (numbers.view(np.int32) >> 16).astype(np.int16)


def _entries(matrix: sp.csr_matrix | None, start: int, stop: int) -> Entries:
    """Return row, column and value of what stands in rows start:stop, the first row being 0."""
    if matrix is None:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0, dtype=np.float32)
    edge = matrix.indptr[start : stop + 1]
    some = slice(edge[0], edge[-1])
    return np.repeat(np.arange(stop - start), np.diff(edge)), matrix.indices[some], matrix.data[some]
