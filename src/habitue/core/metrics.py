"""Every metric in plain numpy: ranking per user, yes/no forecasts, amounts, and intervals over users.

Ranking metrics read `Places`, made once per model from its scores over the whole catalogue (never sampled). Items
with the same score stand in no order: every ranking metric is its exact expectation over all orders of the tied items
(McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
scores", ECIR 2008), so constant scores earn what chance earns and the order of the catalogue earns nothing.

Forecast metrics take `weight`, how often each row counts. One vector [n] gives one number; resampled counts
[draws, n] give [draws] numbers from a single sort, which is what makes `bootstrap` fast. A metric that has no meaning
on the data (AUC of one class) raises ModelError; on single draws it is NaN and `bootstrap` leaves those out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from habitue.core.errors import ModelError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]  # weight [draws, n] -> [draws]

CELLS = 2_000_000  # draws x rows held at once by `bootstrap`: 16 MB an array
FEW = 8  # relevant items of a user that are placed by counting; more of them by sorting the row once
DEFINED = 0.95  # share of draws that must have a value for an interval to be told


# Ranking ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where the relevant items of each user stand: one row per (user, tie group with a relevant item), best first.

    A tie group is all candidates with one score. Groups ascend by user, then by `above`.
    """

    relevant_per_user: Ints  # [B] relevant items, at least 1
    user: Ints  # [G] index of the user
    above: Ints  # [G] candidates that score strictly higher
    tied: Ints  # [G] candidates with this very score, the relevant ones included
    relevant: Ints  # [G] relevant among the tied
    relevant_above: Ints  # [G] relevant among those above

    def per_user(self, values: Floats) -> Floats:
        """Sum group values [G] to users [B]."""
        return _sums(self.user, values, self.relevant_per_user.size)


def places(scores: npt.NDArray[Any], relevant: sp.csr_matrix, *, masked: sp.csr_matrix | None = None) -> Places:
    """Place the relevant items of each user in the full catalogue; `scores` [B, I], higher = better.

    `relevant` and `masked` [B, <= I]: non-zero = relevant, or no candidate for this user. One row of scores is looked
    at at a time: O(B I log I) time, O(I) memory beyond the arguments. Raises ModelError for a score that is NaN or
    infinite, a user without a relevant item, and a relevant item that is masked.
    """
    wanted = _indices(relevant, scores.shape, "relevant")
    hidden = _indices(masked, scores.shape, "masked") if masked is not None else None
    count = np.diff(wanted.indptr).astype(np.int64)
    if not count.size or not count.all():
        found = f"{int((count == 0).sum()):,} of {count.size:,} users have no relevant item"
        raise _undefined("metrics.places", found, "Leave users without a target out of the slice")
    above, tied = np.empty(wanted.nnz, dtype=np.int64), np.empty(wanted.nnz, dtype=np.int64)
    for b in range(scores.shape[0]):
        row = scores[b]
        if not np.isfinite(row).all():
            raise _undefined("metrics.places", "a score is NaN or infinite", "Mend the model that gave it")
        rows = slice(wanted.indptr[b], wanted.indptr[b + 1])
        mine = row[wanted.indices[rows]]
        if hidden is not None:
            out = hidden.indices[hidden.indptr[b] : hidden.indptr[b + 1]]
            if np.isin(wanted.indices[rows], out).any():
                raise _undefined("metrics.places", "a relevant item is masked", "Mask only what cannot be relevant")
            row = np.delete(row, out)
        above[rows], tied[rows] = _counted(row, mine) if mine.size <= FEW else _sorted(row, mine)
    user = np.repeat(np.arange(count.size), count)
    order = np.lexsort((above, user))
    user, above, tied = user[order], above[order], tied[order]
    start = np.flatnonzero(np.r_[True, (user[1:] != user[:-1]) | (above[1:] != above[:-1])])
    return Places(
        relevant_per_user=count,
        user=user[start],
        above=above[start],
        tied=tied[start],
        relevant=np.diff(np.r_[start, user.size]),
        relevant_above=start - wanted.indptr[user[start]],
    )


def _counted(row: npt.NDArray[Any], mine: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Return how many of `row` are above each of `mine`, and how many equal to it; O(row x mine)."""
    return (row > mine[:, None]).sum(axis=1), (row == mine[:, None]).sum(axis=1)


def _sorted(row: npt.NDArray[Any], mine: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """The same by sorting; O(row log row)."""
    row = np.sort(row)
    right = np.searchsorted(row, mine, side="right")
    return row.size - right, right - np.searchsorted(row, mine, side="left")


def ndcg_at(at: Places, k: int) -> Floats:
    """Return NDCG@k [B]: sum over relevant places p <= k of 1 / log2(p + 1), over its largest possible value.

    Binary gains; the largest value has min(k, relevant) items on top. A tie group of n at places a + 1 .. a + n with r
    relevant gives r / n of the discounts of its places. Järvelin and Kekäläinen, TOIS 2002; ties: module docstring.
    """
    discount = 1 / np.log2(np.arange(2, _reach(at, k) + 2))
    upto = np.r_[0.0, np.cumsum(discount)]
    gain = at.relevant / at.tied * (upto[_first(at.above + at.tied, k)] - upto[_first(at.above, k)])
    ideal: Floats = upto[_first(at.relevant_per_user, k)]
    return at.per_user(gain) / ideal


def recall_at(at: Places, k: int) -> Floats:
    """Return recall@k [B]: expected relevant items among the first k, over all relevant items of the user."""
    return _found(at, k) / at.relevant_per_user


def precision_at(at: Places, k: int) -> Floats:
    """Return precision@k [B]: expected relevant items among the first k, over k (also when k exceeds the catalogue)."""
    return _found(at, k) / k


def hit_at(at: Places, k: int) -> Floats:
    """Return hit rate@k [B]: probability that at least one relevant item is among the first k.

    A tie group of n with r relevant and m of its places within k misses with probability C(n - r, m) / C(n, m), the
    hypergeometric one; the orders of different groups are independent, so the misses multiply.
    """
    within = np.clip(_first(np.full_like(at.above, k), k) - at.above, 0, at.tied)
    miss = np.ones(at.above.size)
    for i in range(int(within.max(initial=0))):
        left = np.maximum(at.tied - at.relevant - i, 0) / np.maximum(at.tied - i, 1)
        miss *= np.where(i < within, left, 1.0)
    every = np.ones(at.relevant_per_user.size)
    np.multiply.at(every, at.user, miss)
    return 1 - every


def reciprocal_rank(at: Places) -> Floats:
    """Return [B] the expected 1 / place of the first relevant item (Voorhees, TREC-8 1999), over the whole catalogue.

    In the first group, n tied with r relevant after a others: P(first relevant is later than its j-th) is
    prod_{i < j} (n - r - i) / (n - i). O(largest such n) passes over the users.
    """
    first = at.relevant_above == 0  # one group a user, users ascending
    above, tied, relevant = at.above[first], at.tied[first], at.relevant[first]
    total, later = np.zeros(above.size), np.ones(above.size)
    for i in range(int((tied - relevant).max(initial=0)) + 1):
        still = later * np.maximum(tied - relevant - i, 0) / np.maximum(tied - i, 1)
        total += (later - still) / (above + i + 1)
        later = still
    return total


def map_at(at: Places, k: int) -> Floats:
    """Return average precision@k [B]: mean over relevant places p <= k of (relevant items up to p) / p.

    The mean is over min(k, relevant). Within a tie group (a above, n tied, r relevant, s relevant above) place a + i
    is relevant with probability r / n and then has s + 1 + (i - 1)(r - 1)/(n - 1) relevant up to it (McSherry and
    Najork 2008, section 3); the sum over i is written with harmonic numbers.
    """
    upto = np.r_[0.0, np.cumsum(1 / np.arange(1, _reach(at, k) + 1))]
    start, end = _first(at.above, k), _first(at.above + at.tied, k)
    slope = (at.relevant - 1) / np.maximum(at.tied - 1, 1)
    flat = at.relevant_above + 1 - slope * (at.above + 1)
    part = at.relevant / at.tied * (flat * (upto[end] - upto[start]) + slope * (end - start))
    return at.per_user(part) / _first(at.relevant_per_user, k)


# Yes/no forecasts ---------------------------------------------------------------------------------------------------


def auc(truth: npt.ArrayLike, score: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return P(score of a yes > score of a no) + half P(equal): the Mann-Whitney statistic over its largest value.

    Mann and Whitney 1947; Hanley and McNeil 1982. Raises ModelError when `truth` holds one class only.
    """
    y, s, w = _yes_no("metrics.auc", truth, score, weight)
    _two_classes("metrics.auc", y)
    yes, no = _by_level(s, y, w)
    below = np.cumsum(no, axis=-1) - no
    return _ratio((yes * (below + no / 2)).sum(-1), yes.sum(-1) * no.sum(-1))


def average_precision(truth: npt.ArrayLike, score: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return sum over distinct scores, high to low, of (recall gained) x precision there; no interpolation.

    Rows with one score enter together (Davis and Goadrich 2006; scikit-learn's definition). Raises ModelError when
    nothing is true.
    """
    y, s, w = _yes_no("metrics.average_precision", truth, score, weight)
    _some_yes("metrics.average_precision", y)
    yes, no = (part[..., ::-1] for part in _by_level(s, y, w))
    hit, all_ = np.cumsum(yes, axis=-1), np.cumsum(yes + no, axis=-1)
    precision = np.divide(hit, all_, out=np.zeros_like(hit), where=all_ > 0)
    return _ratio((yes * precision).sum(-1), yes.sum(-1))


def log_loss(truth: npt.ArrayLike, probability: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return -mean(y ln p + (1 - y) ln(1 - p)), nats; p is clipped to [2^-52, 1 - 2^-52] (Good 1952)."""
    y, p, w = _chance("metrics.log_loss", truth, probability, weight)
    p = np.clip(p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return mean(-(y * np.log(p) + (1 - y) * np.log1p(-p)), weight=w)


def brier(truth: npt.ArrayLike, probability: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return mean((p - y)^2) (Brier 1950)."""
    y, p, w = _chance("metrics.brier", truth, probability, weight)
    return mean((p - y) ** 2, weight=w)


@dataclass(frozen=True)
class Bins:
    """Rows grouped by forecast probability; empty bins are left out."""

    forecast: Floats  # [bins] mean forecast
    observed: Floats  # [bins] share that came true
    n: Ints  # [bins] rows


def calibration(truth: npt.ArrayLike, probability: npt.ArrayLike, *, bins: int = 10) -> Bins:
    """Return forecast against observed share in `bins` intervals of equal width; p = 1 is in the last one."""
    y, p, _ = _chance("metrics.calibration", truth, probability, None)
    bin_ = _bin(p, bins)
    n = np.bincount(bin_, minlength=bins)
    full = n > 0
    return Bins(_sums(bin_, p, bins)[full] / n[full], _sums(bin_, y, bins)[full] / n[full], n[full])


def ece(truth: npt.ArrayLike, probability: npt.ArrayLike, *, bins: int = 10, weight: Floats | None = None) -> Floats:
    """Return the expected calibration error: sum over bins of (share of rows) x |mean forecast - share true|.

    Equal-width bins (Naeini, Cooper and Hauskrecht, AAAI 2015). Biased upwards where bins hold few rows.
    """
    y, p, w = _chance("metrics.ece", truth, probability, weight)
    in_bin = np.eye(bins)[_bin(p, bins)]  # [n, bins]
    return _ratio(np.abs(w @ (in_bin * (p - y)[:, None])).sum(-1), w.sum(-1))


def gain(truth: npt.ArrayLike, score: npt.ArrayLike, *, share: float, weight: Floats | None = None) -> Floats:
    """Return the share of all that is true found among the `share` of rows that score highest; 0 <= share <= 1.

    Rows at the edge with one score count in proportion: the expectation over their orders. Raises ModelError when
    nothing is true. Lift at 10 % is gain(share=0.1) / 0.1.
    """
    y, s, w = _yes_no("metrics.gain", truth, score, weight)
    _some_yes("metrics.gain", y)
    yes, no = (part[..., ::-1] for part in _by_level(s, y, w))
    rows = yes + no
    above = np.cumsum(rows, axis=-1) - rows
    room = np.clip(share * rows.sum(-1, keepdims=True) - above, 0, rows)
    inside = np.divide(room, rows, out=np.zeros_like(rows), where=rows > 0)
    return _ratio((yes * inside).sum(-1), yes.sum(-1))


def f1(truth: npt.ArrayLike, said: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return 2 TP / (2 TP + FP + FN) of the answers `said` (van Rijsbergen 1979); 0 when no answer is a hit."""
    y, s, w = _yes_no("metrics.f1", truth, said, weight)
    _some_yes("metrics.f1", y)
    return _ratio(2 * (w * y * s).sum(-1), (w * y).sum(-1) + (w * s).sum(-1))


def best_threshold(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[float, float]:
    """Return (t, F1): `score >= t` has the largest F1 there is; of equals the highest t. Choose it on other rows."""
    y, s, w = _yes_no("metrics.best_threshold", truth, score, None)
    _some_yes("metrics.best_threshold", y)
    yes, no = (part[::-1] for part in _by_level(s, y, w))
    every = 2 * np.cumsum(yes) / (yes.sum() + np.cumsum(yes + no))
    best = int(np.argmax(every))
    return float(np.unique(s)[::-1][best]), float(every[best])


# One of several classes ---------------------------------------------------------------------------------------------


def accuracy(truth: npt.ArrayLike, said: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return the share of rows whose class was said."""
    y, s, w = _aligned("metrics.accuracy", truth, said, weight)
    return mean((y == s).astype(np.float64), weight=w)


def macro_f1(truth: npt.ArrayLike, said: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return the mean over classes of 2 TP / (2 TP + FP + FN), each class counting the same (Sokolova, Lapalme 2009).

    The classes are those that are true or said of some row (scikit-learn's definition); in a draw that holds none of
    a class it is left out. O(draws x rows).
    """
    y, s, w = _aligned("metrics.macro_f1", truth, said, weight)
    classes, codes = np.unique(np.r_[y, s], return_inverse=True)
    rows, n = np.arange(y.size), y.size
    true, guess = (sp.csr_matrix((np.ones(n), (rows, c)), shape=(n, classes.size)) for c in (codes[:n], codes[n:]))
    both = np.atleast_2d(w) @ (true + guess)
    hit = np.atleast_2d(w) @ true.multiply(guess).tocsr()
    each = np.divide(2 * hit, both, out=np.full(both.shape, np.nan), where=both > 0)
    told = np.isfinite(each)
    return _ratio(np.where(told, each, 0).sum(-1), told.sum(-1)).reshape(w.shape[:-1])


def macro_recall(truth: npt.ArrayLike, said: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return the mean over the true classes of the share of their rows that were said: unweighted average recall.

    In a draw that holds none of a class it is left out (Schuller et al. 2009, section 5). O(draws x rows).
    """
    y, s, w = _aligned("metrics.macro_recall", truth, said, weight)
    classes, codes = np.unique(y, return_inverse=True)
    true = sp.csr_matrix((np.ones(y.size), (np.arange(y.size), codes)), shape=(y.size, classes.size))
    rows = np.atleast_2d(w) @ true
    hit = np.atleast_2d(w) @ true.multiply((y == s)[:, None].astype(np.float64)).tocsr()
    each = np.divide(hit, rows, out=np.full(rows.shape, np.nan), where=rows > 0)
    told = np.isfinite(each)
    return _ratio(np.where(told, each, 0).sum(-1), told.sum(-1)).reshape(w.shape[:-1])


def log_loss_of_classes(truth: npt.ArrayLike, shares: Floats, *, weight: Floats | None = None) -> Floats:
    """Return -mean(ln p of the true class), nats, p clipped as in `log_loss`; `shares` [n, classes]."""
    y, p = _shares("metrics.log_loss_of_classes", truth, shares)
    given = np.clip(p[np.arange(y.size), y], np.finfo(np.float64).eps, 1.0)
    return mean(-np.log(given), weight=weight)


def ece_of_classes(truth: npt.ArrayLike, shares: Floats, *, bins: int = 10, weight: Floats | None = None) -> Floats:
    """Return the expected calibration error of the likeliest class: its share against how often it is right.

    Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3; bins as in `ece`.
    """
    y, p = _shares("metrics.ece_of_classes", truth, shares)
    return ece(p.argmax(axis=1) == y, np.minimum(p.max(axis=1), 1.0), bins=bins, weight=weight)


# Amounts ------------------------------------------------------------------------------------------------------------


def mean(values: Floats, *, weight: Floats | None = None) -> Floats:
    """Return sum(w x) / sum(w)."""
    w = np.ones(values.size) if weight is None else weight
    return _ratio(w @ values, w.sum(-1))


def mae(actual: npt.ArrayLike, forecast: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return mean |forecast - actual|, in their unit."""
    a, f, w = _aligned("metrics.mae", actual, forecast, weight)
    return mean(np.abs(f - a), weight=w)


def rmse(actual: npt.ArrayLike, forecast: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return the root of mean (forecast - actual)^2, in their unit."""
    a, f, w = _aligned("metrics.rmse", actual, forecast, weight)
    return np.sqrt(mean((f - a) ** 2, weight=w))


def r2(actual: npt.ArrayLike, forecast: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return 1 - sum (forecast - actual)^2 / sum (actual - mean)^2; negative = worse than the mean."""
    a, f, w = _aligned("metrics.r2", actual, forecast, weight)
    _varied("metrics.r2", a, "actual values")
    middle = a - a.mean()  # a spread near 0 survives squaring only around the middle
    spread = mean(middle**2, weight=w) - mean(middle, weight=w) ** 2
    return 1 - _ratio(mean((f - a) ** 2, weight=w), spread)


def bias(actual: npt.ArrayLike, forecast: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return sum(forecast) / sum(actual) - 1: -0.3 = 30 % of the total was not foreseen. Raises when the total is 0."""
    a, f, w = _aligned("metrics.bias", actual, forecast, weight)
    if a.sum() == 0:
        raise _undefined("metrics.bias", "the actual values add up to 0", "Measure where something happened")
    return _ratio(w @ f, w @ a) - 1


def spearman(actual: npt.ArrayLike, forecast: npt.ArrayLike, *, weight: Floats | None = None) -> Floats:
    """Return Pearson's correlation of the average ranks (Spearman 1904). Raises when either side is constant."""
    a, f, w = _aligned("metrics.spearman", actual, forecast, weight)
    _varied("metrics.spearman", a, "actual values")
    _varied("metrics.spearman", f, "forecasts")
    x, y = _midranks(a, w), _midranks(f, w)
    total = w.sum(-1, keepdims=True)
    x -= (w * x).sum(-1, keepdims=True) / total
    y -= (w * y).sum(-1, keepdims=True) / total
    return _ratio((w * x * y).sum(-1), np.sqrt((w * x * x).sum(-1) * (w * y * y).sum(-1)))


# Intervals ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A statistic of n rows with its 95 % interval; the bounds are None where the rows cannot tell one."""

    mean: float
    low: float | None
    high: float | None
    n: int


def bootstrap(statistics: Sequence[Statistic], n: int, *, draws: int = 1000, seed: int = 0) -> list[Estimate]:
    """Return each statistic of n rows with the 2.5 % and 97.5 % quantiles over resampled rows.

    Percentile bootstrap (Efron and Tibshirani 1993, chapter 13). All statistics see the same draws, and the same
    (n, seed) always gives the same draws: the difference of two statistics of the same users is a paired comparison.
    Bounds are None for one row, and when more than 5 % of the draws leave the statistic undefined. A draw costs
    O(n) beyond the statistic; at most 2,000,000 weights are held at once.
    """
    rng = np.random.default_rng(seed)
    whole = [float(statistic(np.ones((1, n)))[0]) for statistic in statistics]
    drawn: list[list[Floats]] = [[] for _ in statistics]
    step = max(1, CELLS // n)
    for start in range(0, draws if n > 1 else 0, step):
        size = min(step, draws - start)
        rows = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        weight = np.bincount(rows.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        for parts, statistic in zip(drawn, statistics, strict=True):
            parts.append(statistic(weight))
    estimates = []
    for value, parts in zip(whole, drawn, strict=True):
        sample = np.concatenate([np.zeros(0), *parts])
        defined = sample[np.isfinite(sample)]
        if n > 1 and defined.size >= DEFINED * draws:
            low, high = (float(q) for q in np.quantile(defined, [0.025, 0.975]))
            estimates.append(Estimate(value, low, high, n))
        else:
            estimates.append(Estimate(value, None, None, n))
    return estimates


# Shared -------------------------------------------------------------------------------------------------------------


def _indices(matrix: sp.csr_matrix, shape: tuple[int, ...], name: str) -> sp.csr_matrix:
    """Return the matrix with each non-zero cell once, columns ascending."""
    if matrix.shape[0] != shape[0] or matrix.shape[1] > shape[1]:
        found = f"`{name}` is {matrix.shape[0]:,} x {matrix.shape[1]:,}, scores are {shape[0]:,} x {shape[1]:,}"
        raise _undefined("metrics.places", found, "Build both over the same users and items")
    clean = sp.csr_matrix(matrix, copy=True)
    clean.sum_duplicates()
    clean.eliminate_zeros()
    return clean


def _first(place: Ints, k: int) -> Ints:
    if k < 1:
        raise _undefined("metrics", f"k is {k}", "Ask for at least the first 1")
    return np.minimum(place, k)


def _reach(at: Places, k: int) -> int:
    """Return the last place any formula looks at."""
    last = max(int((at.above + at.tied).max(initial=1)), int(at.relevant_per_user.max(initial=1)))
    return min(last, k) if k > 0 else 1


def _found(at: Places, k: int) -> Floats:
    within = _first(at.above + at.tied, k) - _first(at.above, k)
    return at.per_user(at.relevant / at.tied * within)


def _aligned(
    where: str, left: npt.ArrayLike, right: npt.ArrayLike, weight: Floats | None
) -> tuple[Floats, Floats, Floats]:
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise _undefined(where, f"truth and forecast have shapes {a.shape} and {b.shape}", "Give one of each a row")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise _undefined(where, "a truth or forecast is NaN or infinite", "Mend the model that gave it")
    return a, b, np.ones(a.size) if weight is None else np.asarray(weight, dtype=np.float64)


def _yes_no(
    where: str, truth: npt.ArrayLike, score: npt.ArrayLike, weight: Floats | None
) -> tuple[Floats, Floats, Floats]:
    y, s, w = _aligned(where, truth, score, weight)
    if not np.isin(y, (0, 1)).all():
        raise _undefined(where, "a truth is neither 0 nor 1", "Give yes/no truths")
    return y, s, w


def _chance(
    where: str, truth: npt.ArrayLike, probability: npt.ArrayLike, weight: Floats | None
) -> tuple[Floats, Floats, Floats]:
    y, p, w = _yes_no(where, truth, probability, weight)
    if p.min() < 0 or p.max() > 1:
        raise _undefined(where, f"forecasts run from {p.min():g} to {p.max():g}", "Give probabilities, 0 to 1")
    return y, p, w


def _shares(where: str, truth: npt.ArrayLike, shares: Floats) -> tuple[Ints, Floats]:
    y, p = np.asarray(truth, dtype=np.int64), np.asarray(shares, dtype=np.float64)
    if p.ndim != 2 or y.shape != p.shape[:1] or not y.size or y.min() < 0 or y.max() >= p.shape[1]:
        raise _undefined(where, f"truth and shares have shapes {y.shape} and {p.shape}", "Give one share a class")
    if not (np.isfinite(p).all() and p.min() >= 0 and np.allclose(p.sum(axis=1), 1, atol=1e-6)):
        raise _undefined(where, "a row's shares do not add up to 1", "Mend the model that gave them")
    return y, p


def _two_classes(where: str, y: Floats) -> None:
    if y.min() == y.max():
        found = f"all {y.size:,} rows are {'yes' if y[0] else 'no'}"
        raise _undefined(where, found, "Measure where both happened, or leave this metric out")


def _some_yes(where: str, y: Floats) -> None:
    if not y.any():
        raise _undefined(where, f"none of {y.size:,} rows is yes", "Measure where it happened at least once")


def _varied(where: str, values: Floats, name: str) -> None:
    if values.min() == values.max():
        raise _undefined(where, f"the {name} are all the same", "Leave this metric out: it has no value here")


def _by_level(score: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weight of yes and of no at each distinct score, ascending: [..., levels] each."""
    order = np.argsort(score, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    yes = np.add.reduceat((weight * y)[..., order], start, axis=-1)
    return yes, np.add.reduceat(weight[..., order], start, axis=-1) - yes


def _midranks(values: Floats, weight: Floats) -> Floats:
    """Return the average rank of every row [..., n] when row i stands there weight[i] times."""
    _, level = np.unique(values, return_inverse=True)
    order = np.argsort(level, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(level[order]) != 0])
    rows = np.add.reduceat(weight[..., order], start, axis=-1)
    rank: Floats = np.cumsum(rows, axis=-1) - rows / 2 + 0.5
    return rank[..., level]


def _bin(probability: Floats, bins: int) -> Ints:
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def _sums(group: Ints, values: Floats, groups: int) -> Floats:
    """Sum `values` by group: [groups]."""
    return np.asarray(np.bincount(group, weights=values, minlength=groups), dtype=np.float64)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0))


def _undefined(where: str, found: str, remedy: str) -> ModelError:
    return ModelError(where, found=found, consequence="The metric would have no meaning there", remedy=remedy)
