"""Products as vectors before and after training: where a table starts, and what words foretell of the untrained."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from habitue.model.past import Floats, Histories, Ints, check_words

SMALL = 0.01  # root mean square of the noise on the table that training starts from
NEAR = 5  # sets; products met within so many of each other are met together
SIMILAR = 8  # products whose vectors a product new to a model borrows
RIDGE = 0.01  # of the mean diagonal, for the vectors that words foretell


def content(words: sp.csr_matrix | None, dimensions: int, items: int) -> Floats:
    """Return the words' leading singular vectors [I, C], mean square 1; C = 0 without words."""
    if words is None or not words.count_nonzero() or not dimensions:
        return np.zeros((items, 0), dtype=np.float32)
    check_words(words)
    kept = min(dimensions, *words.shape)
    left, size, _ = randomized_svd(words, kept, random_state=0)
    content = left * size
    scaled: Floats = (content / np.sqrt(np.square(content).mean())).astype(np.float32)
    return scaled


def start(content: Floats, every: Histories, *, width: int, scale: float) -> Tensor:
    """Return the vectors training starts from [I, D]: what the words say, without words what is met together.

    Turned at random, so that no axis is special. LOG.md, "the table's seed": on Beauty .0735 against .0686 for an id
    embedding beside a projection of the words.
    """
    told = content[:, :width] if content.shape[1] else together(every, len(content), width)
    items = torch.from_numpy(told)
    turn = torch.linalg.qr(torch.randn(width, width))[0][: items.shape[1]]
    seeded: Tensor = scale * (items / items.square().mean().sqrt().clamp_min(1e-9)) @ turn
    return seeded + SMALL * torch.randn_like(seeded)


def together(every: Histories, items: int, dimensions: int) -> Floats:
    """Return [I, D], a factorisation of how much oftener than by chance two products are met near each other.

    Singular vectors times the roots of the singular values of the positive pointwise mutual information (Levy and
    Goldberg, NIPS 2014, section 3.3); near: in the same set or in one of the NEAR sets after it, O(rows x NEAR).
    """
    sets = sp.csr_matrix(
        (np.ones(len(every.row_item), dtype=np.float32), every.row_item, every.row_start),
        shape=(len(every.set_at), items),
    )
    pairs = sp.csr_matrix((items, items), dtype=np.float32)
    for ahead in range(NEAR + 1):
        now = np.flatnonzero(np.arange(len(every.set_at)) + ahead < every.set_start[every.set_user + 1])
        pairs = pairs + sets[now].T @ sets[now + ahead]
    pairs = sp.coo_matrix(pairs + pairs.T)
    apart = pairs.row != pairs.col
    row, column, count = pairs.row[apart], pairs.col[apart], pairs.data[apart]
    if not len(count):
        return np.zeros((items, 1), dtype=np.float32)
    often = np.bincount(row, weights=count, minlength=items)
    information = np.log(count * count.sum() / (often[row] * often[column]))
    positive = sp.csr_matrix((np.maximum(information, 0), (row, column)), shape=(items, items))
    left, size, _ = randomized_svd(positive, min(dimensions, items), random_state=0)
    factors: Floats = (left * np.sqrt(size)).astype(np.float32)
    return factors


def foretold(content: Floats, vectors: Floats, sold: Floats) -> Floats:
    """Return the vectors [I, D] that a ridge regression on the words foretells, products with more sales counting more.

    Without words, or without any product of zero sales to speak for, the mean.
    """
    weight = np.log1p(sold)[:, None]
    mean = (weight * vectors).sum(axis=0) / max(float(weight.sum()), 1e-9)
    centred = (weight * content).sum(axis=0) / max(float(weight.sum()), 1e-9)
    inputs = content - centred
    gram = inputs.T @ (weight * inputs)
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / max(len(gram), 1) + 1e-6
    told: Floats = (mean + inputs @ np.linalg.solve(gram, inputs.T @ (weight * (vectors - mean)))).astype(np.float32)
    return told


def borrowed(table: Floats, index: Ints, words: sp.csr_matrix | None) -> Floats:
    """Return the vectors [J, D] of J products: row `index` of `table` [I, D] where it is not -1.

    A product that is not in the table gets the mean of the SIMILAR ones there whose words [J, V] are nearest, weighed
    by how near, and without any such the mean of the table. O(new x known).
    """
    known, new = np.flatnonzero(index >= 0), np.flatnonzero(index < 0)
    found = np.zeros((len(index), table.shape[1]), dtype=np.float32)
    found[known] = table[index[known]]
    if not len(new) or not len(table):
        return found
    found[new] = table.mean(axis=0)
    if words is not None and len(known):
        like = (words[new] @ words[known].T).toarray()
        count = min(SIMILAR, like.shape[1])
        like[like < -np.partition(-like, count - 1, axis=1)[:, [count - 1]]] = 0
        some = like.sum(axis=1) > 0
        found[new[some]] = like[some] / like[some].sum(axis=1, keepdims=True) @ found[known]
    return found
