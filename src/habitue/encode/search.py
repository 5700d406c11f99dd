"""What a search means: the products whose words its words name.

A line that holds a search and no product gets one line a product it means, so a search is a set of products like any
other, of its own kind, to everything that reads histories; nothing else is told of them. A search means the products
whose words are nearest to its own (cosine of TF-IDF, encode/text.py), at most MEANT of them, none below LEAST and none
below SHARE of the nearest. A search whose words no product has means nothing, and its line stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core.schemas import EVENTS, Events, check
from habitue.encode import text
from habitue.encode.vectors import Vectors

SEARCHED = "Products Searched"
MEANT = 8  # products a search, at most
LEAST = 0.1  # cosine; below it a piece of a word agrees by chance
SHARE = 0.6  # of the nearest product's cosine
LETTERS = 300  # of a longer search only the start is read
QUERIES_A_CALL = 512


@dataclass(frozen=True)
class Index:
    """The words of a catalogue, to look searches up in."""

    items: tuple[str, ...]  # I products
    words: sp.csr_matrix  # [V, I] unit columns
    vocabulary: text.Vocabulary | None  # None: no product has words, no search means anything


def index(words: Vectors) -> Index:
    """Return the index of what `text.encode` made of a catalogue."""
    fitted = words.fitted if isinstance(words.fitted, text.Vocabulary) and words.matrix.nnz else None
    return Index(words.ids, sp.csr_matrix(words.matrix.T), fitted)


def products(index: Index, queries: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the products that each search means, the nearest first; products as near come in their order.

    O(products that share a term with it) each.
    """
    found: list[tuple[str, ...]] = []
    if index.vocabulary is None:
        return [()] * len(queries)
    for start in range(0, len(queries), QUERIES_A_CALL):
        some = [query[:LETTERS] for query in queries[start : start + QUERIES_A_CALL]]
        asked = text.encode(
            pl.DataFrame({"id": [str(i) for i in range(len(some))], "text": some}), fitted=index.vocabulary
        )
        near = sp.csr_matrix(asked.matrix @ index.words)
        for row in range(len(some)):
            column = near.indices[near.indptr[row] : near.indptr[row + 1]]
            cosine = near.data[near.indptr[row] : near.indptr[row + 1]]
            kept = cosine >= max(LEAST, SHARE * float(cosine.max(initial=0)))
            order = np.lexsort((column[kept], -cosine[kept]))[:MEANT]
            found.append(tuple(index.items[place] for place in column[kept][order]))
    return found


def meant(events: Events, index: Index) -> Events:
    """Return EVENTS in which each search without a product has a line a product it means; rows in their order.

    Each of them keeps the columns of the search, no quantity and no money among them. O(events + different searches).
    """
    check(events, EVENTS, at="encode.search")
    joined = beside(events, index).explode("meant")
    return EVENTS.shape(joined.with_columns(item_id=pl.coalesce("item_id", "meant")).drop("meant"))


def beside(events: Events, index: Index) -> pl.DataFrame:
    """Return EVENTS with one column more, meant list[str]: of a search without a product what it means, else null."""
    searched = pl.col("query").is_not_null() & pl.col("item_id").is_null()
    queries = events.filter(searched)["query"].unique().sort().to_list()
    told = pl.DataFrame(
        {"query": queries, "meant": [list(found) or None for found in products(index, queries)]},
        schema={"query": pl.String, "meant": pl.List(pl.String)},
    )
    joined = events.join(told, on="query", how="left", maintain_order="left")
    return joined.with_columns(meant=pl.when(searched).then("meant"))
