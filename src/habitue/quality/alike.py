"""Near duplicates: texts that share most of their letter groups, and pictures that look the same when small."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from habitue.core.metrics import Ints
from habitue.core.schemas import Items
from habitue.quality.ledger import Finding, plain

BANDS, BAND = 20, 6  # of hash values: texts of similarity s meet in a band with probability 1 - (1 - s^6)^20
HASHES = BANDS * BAND
TITLE, TEXT = 3, 5  # letters of a group: long texts of one language share most groups of three
CHUNK = 2_000  # texts whose hashes are held at once: 120 x the letters of 2,000 texts
BITS_APART = 5  # of 64: below the 8 that an eighth of the hash may hide
Words = frozenset[str]
Near = Callable[[int, int], bool]


@dataclass(frozen=True)
class Config:
    """What counts as nearly the same."""

    similarity: float = 0.8  # Jaccard of letter groups from which two texts are near duplicates
    most: int = 100_000  # different texts looked at; beyond it the first ones


def normal(text: str) -> str:
    """Return a text in lower case, its letters and digits alone, single blanks between words."""
    return " ".join(re.findall(r"\w+", text.lower()))


def groups(texts: Sequence[str], config: Config | None = None, *, gram: int = TITLE) -> Ints:
    """Return the group [N] of each text; texts of one group are near duplicates, linked directly or through others.

    Signatures by MinHash (Broder 1997), candidates by banding (Leskovec, Rajaraman and Ullman, "Mining of Massive
    Datasets", 3.4), every candidate held against its exact Jaccard similarity. Equal texts are always of one group; a
    text of no letters is alone. Groups of letters are `gram` long. Groups are numbered by
    their first text. O(N x letters x 120), memory O(N x 120).
    """
    config = config or Config()
    every = [normal(text) for text in texts]
    different = list(dict.fromkeys(text for text in every if text))[: config.most]
    place = {text: i for i, text in enumerate(different)}
    shingles = [_shingles(text, gram) for text in different]
    near = _linked(
        _signatures(shingles), len(different), lambda a, b: _jaccard(shingles[a], shingles[b]) >= config.similarity
    )
    alone = len(different)
    found = []
    for text in every:
        if text in place:
            found.append(int(near[place[text]]))
        else:
            alone += 1
            found.append(alone)
    return _renumbered(np.array(found, dtype=np.int64))


def looking(hashes: Sequence[int], *, bits: int = BITS_APART) -> Ints:
    """Return the group [N] of each picture by its difference hash (64 bits): at most `bits` bits apart, or linked.

    Two hashes at most 7 bits apart share one of their 8 bytes, so comparing within equal bytes misses none.
    """
    array = np.array(hashes, dtype=np.uint64)
    eighths = array.view(np.uint8).reshape(-1, 8) if array.size else np.zeros((0, 8), np.uint8)
    keys = eighths.astype(np.int64)[:, :, None]
    return _renumbered(_linked(keys, array.size, lambda a, b: (int(array[a]) ^ int(array[b])).bit_count() <= bits))


def same_items(items: Items, sold: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, keep: products that are one product written twice, and the code that stays.

    Two codes are one when they equal each other but for case, blanks and signs, and their commonest titles are near
    duplicates. The code with more rows in `sold` (item_id) stays, the alphabetically first on a tie.
    """
    titles = (
        items.drop_nulls("title")
        .group_by("item_id", "title")
        .len()
        .sort("item_id", "len", "title", descending=[False, True, False])
    ).unique("item_id", keep="first", maintain_order=True)
    coded = titles.with_columns(code=pl.col("item_id").str.to_uppercase().str.replace_all(r"[^\p{L}\p{N}]", ""))
    coded = coded.filter(pl.len().over("code") > 1)
    coded = coded.with_columns(group=pl.Series(groups(coded["title"].to_list()), dtype=pl.Int64))
    counted = sold.group_by("item_id").agg(rows=pl.len())
    coded = coded.join(counted, on="item_id", how="left").with_columns(pl.col("rows").fill_null(0))
    coded = coded.sort("rows", "item_id", descending=[True, False])
    coded = coded.with_columns(keep=pl.col("item_id").first().over("code", "group"))
    return coded.filter(pl.col("item_id") != pl.col("keep")).select("item_id", "keep").sort("item_id")


def alike(tables: Mapping[str, pl.DataFrame], config: Config | None = None) -> list[Finding]:
    """Return the findings about near duplicates among titles and free texts."""
    return list(_alike(tables, config or Config()))


def _alike(tables: Mapping[str, pl.DataFrame], config: Config) -> Iterator[Finding]:
    titles = tables["items"].drop_nulls("title").group_by("item_id").agg(pl.col("title").mode().sort().first())
    named = titles.sort("item_id")
    if named.height > 1:
        of = pl.Series("group", groups(named["title"].to_list(), config))
        kin = named.with_columns(of).filter(pl.len().over("group") > 1)
        if kin.height:
            largest = (
                kin.group_by("group")
                .agg(pl.col("title").sort(), pl.len())
                .sort("len", "group", descending=[True, False])
            )
            example = " / ".join(largest["title"][0].to_list()[:3])
            yield plain(
                "near_titles",
                "items",
                "consistency",
                f"{kin.height:,} products in {largest.height:,} groups have nearly the same title (for example: "
                f"{example}). Sizes and colours of one product look so, and so does one product entered twice.",
                kin.height,
                "kept; the repair merge_items joins those whose codes are alike as well",
            )
    for table, column in (("events", "text"), ("examples", "text"), ("outside", "text")):
        frame = tables.get(table)
        if frame is None or column not in frame.columns:
            continue
        texts = frame[column].drop_nulls()
        texts = texts.filter(texts.str.len_chars() >= 20)  # "very good" is said by many
        if texts.len() < 2:
            continue
        sizes = np.bincount(groups(texts.head(config.most).to_list(), config, gram=TEXT))
        again = int((sizes[sizes > 1] - 1).sum())
        if again:
            yield plain(
                "near_texts",
                table,
                "consistency",
                f"{again:,} of {texts.len():,} longer texts in {table}.{column} nearly repeat another one.",
                again,
                "kept; a text that stands on both sides of a fold makes a score too good",
            )


def _shingles(text: str, gram: int) -> Words:
    return frozenset(text[i : i + gram] for i in range(max(len(text) - gram + 1, 1)))


def _jaccard(a: Words, b: Words) -> float:
    both = len(a & b)
    return both / (len(a) + len(b) - both)


def _signatures(shingles: Sequence[Words]) -> npt.NDArray[np.int64]:
    """Return [N, BANDS, BAND] least hash values; the hash functions are (a x + b) mod 2^61 - 1 in wrapped int64."""
    rng = np.random.default_rng(0)
    a = rng.integers(1, 1 << 62, HASHES, dtype=np.uint64) | np.uint64(1)
    b = rng.integers(0, 1 << 62, HASHES, dtype=np.uint64)
    made = np.empty((len(shingles), HASHES), dtype=np.uint64)
    for start in range(0, len(shingles), CHUNK):
        part = shingles[start : start + CHUNK]
        letters = pl.Series([gram for words in part for gram in sorted(words)], dtype=pl.String)
        x = letters.hash(0).to_numpy()
        ends = np.r_[0, np.cumsum([len(words) for words in part])]
        for k in range(HASHES):
            mixed = x * a[k] + b[k]
            mixed ^= mixed >> np.uint64(29)  # the low bits of a product know little of the high ones
            made[start : start + len(part), k] = np.minimum.reduceat(mixed, ends[:-1])
    return made.view(np.int64).reshape(-1, BANDS, BAND)


def _linked(keys: npt.NDArray[np.int64], n: int, near: Near) -> Ints:
    """Return the connected component of each of n things, an edge between two that agree in a band and are `near`.

    In a band each thing is held against the leader of its bucket; one that is not near starts another leader, so a
    bucket of equal things costs one look a thing.
    """
    edges: list[tuple[int, int]] = []
    for band in range(keys.shape[1] if n else 0):
        leaders: dict[bytes, list[int]] = {}
        rows = np.ascontiguousarray(keys[:, band])
        for i in range(n):
            bucket = leaders.setdefault(rows[i].tobytes(), [])
            leader = next((one for one in bucket if near(one, i)), None)
            if leader is None:
                bucket.append(i)
            else:
                edges.append((leader, i))
    if not edges:
        return np.arange(n, dtype=np.int64)
    left, right = np.array(edges, dtype=np.int64).T
    graph = sp.coo_matrix((np.ones(left.size, dtype=np.int8), (left, right)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _renumbered(found: Ints) -> Ints:
    """Number groups by their first member, without gaps."""
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    order = np.empty(first.size, dtype=np.int64)
    order[np.argsort(first)] = np.arange(first.size)
    return np.asarray(order[inverse])
