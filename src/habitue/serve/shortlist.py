"""A shortlist of a large catalogue: the products that an answer scores with every view, where all are too many.

Beyond `exact_products` ([serve] in habitue.toml, 200,000 by default) the flagship's products lie in an inverted file
(faiss IVF, inner product): each in the cell of its nearest centre, and a question looks into the `probes` cells nearest
to it alone. A shortlist is what it finds there among the products that fit, and besides

    every product that a closed form says something of (neighbours of what was bought, rules, ...), the best of them
    where they are very many; the customer's own products; the ones everybody buys; those a rule pins or raises

so that only what the flagship alone would have raised can be missed. How much that is is measured when the file is
made, for customers of the shop, against the exact list (`Recall`), and shown: `habitue_retrieval_recall` in /metrics,
`retrieval` in /health/ready, a warning in the log below ENOUGH.

The file is made by the child with the other files of a reading (shop.py), and mapped into memory by the server. Centres
are found once for a model; for a later catalogue its products are put into the cells anew, so that a new product, whose
place in the flagship comes from its content, is found as soon as it is in the catalogue.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from habitue.core.errors import MissingExtraError
from habitue.core.extras import need
from habitue.model.past import Floats, Ints
from habitue.model.quick import Told

FILE, ABOUT = "products.ivf", "retrieval.json"
NEAR = 1_000  # products that the file is asked for, at least; and
TIMES = 4  # so many times the list
MANY = 20_000  # products of one closed form beyond which only its best are taken
FEW = 5_000  # products that fit: so many are all scored
SAMPLE = 4_096  # products drawn once, that stand for those outside a shortlist where a mean is taken
TRAINED = 100  # products a cell that its centre is found from
ROUNDS = 8  # of k-means
PROBES = (32, 64, 128, 256, 512)  # cells looked into: the first with recall GOOD, else the last
GOOD, ENOUGH = 0.97, 0.95  # recall@100
CUSTOMERS = 50  # the recall is measured on

Mask = npt.NDArray[np.bool_]
_log = logging.getLogger("habitue.serve")
_said: set[str] = set()  # in words once


@dataclass(frozen=True)
class Recall:
    """Share of the exact list's first products that the shortlisted one has, over customers of the shop."""

    at_10: float
    at_100: float
    customers: int
    probes: int
    cart_at_100: float | None = None  # of lists beside the products somebody bought last; None = was not measured
    session_at_100: float | None = None


@dataclass(frozen=True)
class Shortlist:
    """An inverted file made ready."""

    index: Any  # faiss.IndexIVF
    sample: Ints  # [S] ascending
    leading: Ints  # [I] products, what everybody buys first
    probes: int
    recall: Recall | None  # None = nobody to measure it on


def possible(products: int) -> bool:
    """Whether faiss is there; where it is not, every product is scored, which is said in the log once."""
    try:
        need("faiss", extra="retrieval", purpose="serve.shortlist")
    except MissingExtraError as error:
        if "faiss" not in _said:
            _said.add("faiss")
            _log.warning("every answer scores all %s products, which takes long: %s", f"{products:,}", error)
        return False
    return True


def write(table: Floats, folder: Path, *, before: Path | None) -> None:
    """Write the inverted file of products [I, E]; `before`: a file of the same model, whose centres are taken.

    About sqrt(I) cells. A million products of 64 numbers: half a minute on one core, half of it for the centres.
    """
    faiss = _faiss()
    table = np.ascontiguousarray(table, dtype=np.float32)
    if before is not None:
        index = faiss.read_index(str(before))
        index.reset()
    else:
        cells = max(int(len(table) ** 0.5), 1)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(table.shape[1]), table.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = ROUNDS, TRAINED, 1
        some = min(len(table), cells * TRAINED)
        index.train(table[np.sort(np.random.default_rng(0).choice(len(table), some, replace=False))])
    index.add(table)
    faiss.write_index(index, str(folder / FILE))


def opened(folder: Path, trend: Floats) -> Shortlist | None:
    """Map the inverted file of a folder; None where there is none, or faiss is not installed here. O(I log I)."""
    if not (folder / FILE).exists() or not possible(len(trend)):
        return None
    faiss = _faiss()
    told = json.loads((folder / ABOUT).read_text(encoding="utf-8")) if (folder / ABOUT).exists() else None
    recall = None if told is None else Recall(**told)
    drawn = np.random.default_rng(0).choice(len(trend), min(SAMPLE, len(trend)), replace=False)
    index = faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP)
    faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0  # it would start 32 threads at every question
    return Shortlist(
        index=index,
        sample=np.sort(drawn).astype(np.int64),
        leading=np.argsort(-trend, kind="stable").astype(np.int64),
        probes=PROBES[-1] if recall is None else recall.probes,
        recall=recall,
    )


def keep(recall: Recall, folder: Path) -> None:
    """Write beside the file how good it is; a warning goes to the log where that is not good enough."""
    (folder / ABOUT).write_text(json.dumps(asdict(recall)), encoding="utf-8")
    if recall.at_100 < ENOUGH:
        _log.warning(
            "shortlists miss products: recall@10 %.3f, recall@100 %.3f of the exact lists of %d customers; "
            "[serve] exact_products in habitue.toml says from how many products on lists are shortened",
            recall.at_10,
            recall.at_100,
            recall.customers,
        )


def found(shortlist: Shortlist, vector: Floats, fits: Mask, count: int) -> Ints:
    """Return the products that fit, at most `count`, that the inverted file finds for a question [E]."""
    faiss = _faiss()
    more: dict[str, Any] = {}
    if not fits.all():
        bits = np.packbits(fits, bitorder="little")
        more["sel"] = faiss.IDSelectorBitmap(bits)
    _, places = shortlist.index.search(
        vector[None], count, params=faiss.SearchParametersIVF(nprobe=shortlist.probes, **more)
    )
    hits: Ints = places[0][places[0] >= 0].astype(np.int64)
    return hits


def candidates(
    shortlist: Shortlist,
    vector: Floats,
    told: Sequence[Told],
    *,
    fits: Mask,
    count: int,
    more: Ints,
    raised: Mask | None,
) -> Ints:
    """Return the products [C] that fit and are to be scored for a list of `count`, ascending.

    `more` are taken in any case; of those `raised` by a rule the best are sought for themselves.
    """
    if np.count_nonzero(fits) <= FEW:
        return np.flatnonzero(fits)
    wide = max(NEAR, TIMES * count)
    parts = [found(shortlist, vector, fits, wide), more]
    leading = shortlist.leading
    for start in range(0, len(leading), wide):  # mostly the first few fit
        some = leading[start : start + wide]
        parts.append(some[fits[some]][:count])
        if len(parts[-1]):
            break
    if raised is not None and (raised := raised & fits).any():
        parts.append(
            np.flatnonzero(raised) if np.count_nonzero(raised) <= FEW else found(shortlist, vector, raised, wide)
        )
    for one in told:
        at = one.places[fits[one.places]]
        if len(at) > MANY:
            added = one.added[fits[one.places]]
            at = at[np.argpartition(-added, wide)[:wide]]
        parts.append(at)
    return every(parts, fits)


def every(parts: Sequence[Ints], fits: Mask) -> Ints:
    """Return the products that are in any of the parts and fit, ascending: marks are told apart faster than numbers."""
    met = np.zeros(len(fits), dtype=bool)
    for part in parts:
        met[part] = True
    return np.flatnonzero(met & fits)


def weights(places: Ints, chosen: Ints, size: int) -> npt.NDArray[np.float64]:
    """Return how many products each of `places` stands for: itself where it was chosen, else a share of the others."""
    own = np.isin(places, chosen, assume_unique=True)
    others = np.count_nonzero(~own)
    weight = np.ones(len(places))
    if others:
        weight[~own] = max(size - len(chosen), 0) / others
    return weight


def _faiss() -> Any:
    return need("faiss", extra="retrieval", purpose="serve.shortlist")
