"""Groups of points by three methods, and which of them to believe.

A grouping is believed when it comes back: the customers are split into halves at random, each half is grouped by
itself, and the second half is also assigned by the groups of the first, which never saw it. The adjusted Rand index of
the two answers is the stability (Lange, Roth, Braun and Buhmann, "Stability-based validation of clustering solutions",
2004; the idea of Ben-Hur, Elisseeff and Guyon, 2002). It is 1 when the halves agree and 0 when they agree as by lot.

Few groups are stable without being useful, so what is ranked is stability x told apart: the chance that two customers
drawn at random fall into two different groups (Simpson's index; two halves 0.50, six sixths 0.83). Groupings within one
standard error of the best are equals; of them the one whose groups lie furthest apart on the half left out (silhouette,
Rousseeuw 1987) is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

METHODS = ("kmeans", "hdbscan", "mixture")
NONE = -1  # the label of a customer in no group
COUNTS = (2, 3, 4, 5, 6, 7, 8)
SHARES = (0.02, 0.05, 0.10)  # of the customers: the least size of a group of HDBSCAN
SHRINKAGE = 0.1  # added to every variance of a mixture: 0.1 of the variance of a column at its usual spread
SILHOUETTE_ROWS, SILHOUETTE_DRAWS = 1500, 2
FITTED_ROWS = 20_000  # more customers than these are assigned, not fitted
STARTS = 5  # of k-means; fewer measure the luck of a start, not the grouping
BLOCK = 50_000  # points assigned at once


@dataclass(frozen=True)
class Candidate:
    """A method and its one setting."""

    method: str  # kmeans, mixture or hdbscan
    shape: str = ""  # of a mixture: "diag" or "full"
    count: int = 0  # groups; 0 for hdbscan, which finds their number
    share: float = 0.0  # hdbscan: least share of the customers in a group

    @property
    def said(self) -> str:
        """The candidate in words."""
        match self.method:
            case "kmeans":
                return f"k-means, {self.count} groups"
            case "mixture":
                shape = {"diag": "diagonal", "full": "full"}[self.shape]
                return f"Gaussian mixture ({shape}), {self.count} groups"
            case _:
                return f"HDBSCAN, groups of at least {self.share:.0%}"


@dataclass(frozen=True)
class Fitted:
    """A grouping that any point can be asked about."""

    candidate: Candidate
    groups: int  # K; labels are 0..K-1
    estimator: KMeans | GaussianMixture | None
    rows: Floats | None  # hdbscan: the points it was fitted on, and their labels
    labels: Ints | None


@dataclass(frozen=True)
class Assigned:
    """The answer about B points."""

    labels: Ints  # [B] group, or NONE
    distance: Floats | None  # [B] k-means: to the group's centre; hdbscan: to the nearest customer it was fitted on
    probability: Floats | None  # [B] mixture: of the group, given the point


def grid(rows: int, *, methods: Sequence[str], count: int | None, least: int) -> list[Candidate]:
    """Return what is tried for `rows` customers: groups of at least `least` must be possible on average."""
    counts = [count] if count is not None else [k for k in COUNTS if rows >= 2 * least * k or k == 2]
    found = []
    for method in methods:
        if method == "hdbscan":
            found += [Candidate(method, share=s) for s in SHARES if s * rows >= least or s == SHARES[-1]]
        else:
            shapes = ("diag", "full") if method == "mixture" else ("",)
            found += [Candidate(method, shape=shape, count=k) for shape in shapes for k in counts]
    return found


def fit(candidate: Candidate, points: Floats, *, seed: int, least: int = 2, starts: int = STARTS) -> Fitted:
    """Group the points [B, D]. HDBSCAN may find no group at all: then K is 0."""
    match candidate.method:
        case "kmeans":
            model = KMeans(candidate.count, n_init=starts, random_state=seed).fit(points)
            return Fitted(candidate, candidate.count, model, None, None)
        case "mixture":
            variance = float(points.var(axis=0).mean())
            mixture = GaussianMixture(
                candidate.count,
                covariance_type=candidate.shape,
                reg_covar=max(SHRINKAGE * variance, 1e-9),
                n_init=1,
                max_iter=60,
                tol=1e-2,
                random_state=seed,
            )
            return Fitted(candidate, candidate.count, _quietly(mixture, points), None, None)
        case _:
            size = min(max(least, round(candidate.share * len(points)), 2), len(points))
            found = HDBSCAN(min_cluster_size=size, min_samples=min(10, size), copy=True).fit(points)
            labels = np.asarray(found.labels_, dtype=np.int64)
            return Fitted(candidate, int(labels.max()) + 1, None, points, labels)


def assign(fitted: Fitted, points: Floats) -> Assigned:
    """Return group, distance and probability of points that need not have been fitted; O(points x groups).

    A point has the group of its nearest centre (k-means), its likeliest component (mixture), or that of its nearest
    customer among the fitted ones, who may be in none (HDBSCAN).
    """
    parts = [_assign(fitted, points[i : i + BLOCK]) for i in range(0, max(len(points), 1), BLOCK)]
    labels = np.concatenate([part[0] for part in parts])
    number = np.concatenate([part[1] for part in parts])
    mixture = fitted.candidate.method == "mixture"
    return Assigned(labels, None if mixture else number, number if mixture else None)


def compare(
    points: Floats, candidates: Sequence[Candidate], *, draws: int, rows: int, least: int, seed: int
) -> Iterator[dict[str, object]]:
    """Yield a row of the table of `choose` for each candidate, measured on at most `rows` customers."""
    rng = np.random.default_rng(seed)
    sample = points[np.sort(rng.permutation(len(points))[:rows])]
    halves = []
    for _ in range(draws):
        order = rng.permutation(len(sample))
        halves.append((np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])))
    for place, candidate in enumerate(candidates):
        yield {"place": place, "said": candidate.said} | _measured(candidate, sample, halves, least, seed)


def choose(table: pl.DataFrame) -> list[int]:
    """Return the places of all candidates, the one to take first.

    `table`: a row a candidate with place, stability, error (standard error of it), apart, silhouette.
    """
    scored = table.with_columns(score=pl.col("stability") * pl.col("apart"), slack=pl.col("error") * pl.col("apart"))
    scored = scored.sort("score", "place", descending=[True, False])
    best = scored.row(0, named=True)
    equal = (pl.col("score") >= best["score"] - best["slack"]).alias("equal")
    ranked = scored.with_columns(equal).with_columns(
        by=pl.when("equal").then(pl.col("silhouette").fill_null(-1.0)).otherwise(-2.0)
    )
    return ranked.sort("equal", "by", "score", "place", descending=[True, True, True, False])["place"].to_list()


def jaccard(points: Floats, fitted: Fitted, *, draws: int, rows: int, seed: int) -> Floats:
    """Return how well each group comes back when the customers are drawn again [K], 0 to 1 (Hennig 2007).

    The mean Jaccard similarity of a group with its best match over bootstraps, on at most `rows` customers.
    """
    rng = np.random.default_rng(seed)
    sample = points[np.sort(rng.permutation(len(points))[:rows])]
    labels = assign(fitted, sample).labels
    found = np.zeros((draws, fitted.groups))
    for draw in range(draws):
        drawn = rng.integers(len(sample), size=len(sample))
        again = fit(fitted.candidate, sample[drawn], seed=seed + draw)
        seen = np.unique(drawn)
        found[draw] = _best_match(labels[seen], assign(again, sample[seen]).labels, fitted.groups, again.groups)
    return np.asarray(found.mean(axis=0))


def _best_match(one: Ints, two: Ints, k: int, l: int) -> Floats:  # noqa: E741
    """Return for each of the `k` groups of `one` its largest Jaccard similarity with a group of `two` [k]."""
    both = np.zeros((k + 1, l + 1))
    np.add.at(both, (one, two), 1)  # the label -1 counts in the last row and column
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    return np.asarray((both / np.maximum(either, 1))[:k, :l].max(axis=1, initial=0.0))


def _measured(
    candidate: Candidate, sample: Floats, halves: list[tuple[Ints, Ints]], least: int, seed: int
) -> dict[str, object]:
    agree, apart, groups, smallest, none, lie = [], [], [], [], [], []
    for draw, (left, right) in enumerate(halves):
        half = max(2, least // 2)
        ours, theirs = (fit(candidate, sample[rows], seed=seed + draw, least=half) for rows in (left, right))
        for model, own, rows in ((ours, theirs, right), (theirs, ours, left)):
            told, kept = assign(model, sample[rows]).labels, assign(own, sample[rows]).labels
            sizes = np.bincount(told[told >= 0], minlength=max(model.groups, 1)) / len(told)
            covered = float(sizes.sum())
            agree.append(float(adjusted_rand_score(kept, told)) if model.groups > 1 and own.groups > 1 else 0.0)
            apart.append(covered**2 - float((sizes**2).sum()))
            groups.append(int((sizes > 0).sum()))
            smallest.append(float(sizes.min()))
            none.append(float((told < 0).mean()))
            if draw < SILHOUETTE_DRAWS:
                lie.append(_silhouette(sample[rows], told))
    known = [x for x in lie if x is not None]
    return {
        "groups": float(np.mean(groups)),
        "stability": float(np.mean(agree)),
        "error": float(np.std(agree) / np.sqrt(len(agree))),
        "apart": float(np.mean(apart)),
        "silhouette": float(np.mean(known)) if known else None,
        "smallest": float(np.mean(smallest)),
        "none": float(np.mean(none)),
    }


def _silhouette(points: Floats, labels: Ints) -> float | None:
    """Return the mean silhouette of the customers in a group; None with fewer than two groups."""
    inside = np.flatnonzero(labels >= 0)[:SILHOUETTE_ROWS]
    if not 1 < len(np.unique(labels[inside])) < len(inside):
        return None
    return float(silhouette_score(points[inside], labels[inside]))


def _assign(fitted: Fitted, points: Floats) -> tuple[Ints, Floats]:
    match fitted.estimator:
        case KMeans() as model:
            apart = model.transform(points)
            return apart.argmin(axis=1).astype(np.int64), apart.min(axis=1)
        case GaussianMixture() as mixture:
            likely = mixture.predict_proba(points)
            return likely.argmax(axis=1).astype(np.int64), likely.max(axis=1)
        case _:
            assert fitted.rows is not None and fitted.labels is not None
            distance, nearest = NearestNeighbors(n_neighbors=1).fit(fitted.rows).kneighbors(points)
            return fitted.labels[nearest[:, 0]], distance[:, 0]


def _quietly(mixture: GaussianMixture, points: Floats) -> GaussianMixture:
    """Fit; a mixture that has not settled after its steps is as good as it is, and stability tells how good."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(points)
