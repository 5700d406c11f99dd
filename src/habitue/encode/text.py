"""Words of products as TF-IDF: whole words beside pieces of words, which catch plurals, colours run together and typos.

A modality is one file that defines Config and encode(catalogue, config) -> Vectors.

tf-idf of a term in a title: (1 + ln count) x (ln((1 + titles) / (1 + titles with it)) + 1), as in scikit-learn's
`TfidfTransformer(sublinear_tf=True)`. Words and pieces are brought to length 1 each, weighted, put side by side and
brought to length 1 again: a cosine is a weighted mean of the cosine of words and the cosine of pieces.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import SchemaError, SettingsError
from habitue.encode.vectors import Vectors

ENCODER = "text.tfidf@1"
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Config:
    """How titles become vectors. Raises SettingsError for numbers that make no sense."""

    piece_min: int = 3  # letters of the shortest piece of a word, its two edges counted as letters
    piece_max: int = 4
    piece_weight: float = (
        0.5  # share of the cosine that pieces decide; 0.25 to 0.5 agree best with what is bought together
    )
    min_titles: int = 1  # a term in fewer titles is left out

    def __post_init__(self) -> None:
        """Refuse settings that would encode nothing."""
        fine = 1 <= self.piece_min <= self.piece_max and 0 <= self.piece_weight <= 1 and self.min_titles >= 1
        if not fine:
            raise SettingsError(
                "encode.text.Config",
                found=f"pieces of {self.piece_min} to {self.piece_max} letters, weight {self.piece_weight}, terms in "
                f"at least {self.min_titles} titles",
                consequence="No title could be encoded",
                remedy="Give 1 <= piece_min <= piece_max, 0 <= piece_weight <= 1 and min_titles >= 1",
            )


def encode(catalogue: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per product of `catalogue` (item_id, title), in its order; float32, sorted indices.

    The vocabulary is that of the titles given and nothing else. A null title, or one without a letter or digit, keeps
    a zero row and `encoded` false. The same catalogue gives the same bytes. O(letters of all titles). Raises
    SchemaError when a column is missing or an item_id comes twice.
    """
    config = config or Config()
    _check(catalogue)
    words = [_words(title) for title in catalogue["title"]]
    pieces = [[piece for word in title for piece in _pieces(word, config)] for title in words]
    shares = ((words, 1 - config.piece_weight), (pieces, config.piece_weight))
    views = [_tfidf(terms, config.min_titles) * np.sqrt(share) for terms, share in shares if share > 0]
    matrix = _unit(sp.hstack(views, format="csr")).astype(np.float32)
    matrix.sort_indices()
    ids = tuple(catalogue["item_id"])
    encoded = np.diff(matrix.indptr) > 0
    return Vectors(ids, matrix, encoded, ENCODER, _digest(config, ids, matrix))


def _check(catalogue: pl.DataFrame) -> None:
    missing = [c for c in ("item_id", "title") if c not in catalogue.columns]
    if missing or catalogue["item_id"].n_unique() < catalogue.height:
        raise SchemaError(
            "encode.text",
            found=f"column '{missing[0]}' is missing" if missing else "an item_id comes twice",
            consequence="Rows of vectors could not be told apart",
            remedy="Give one row per product with item_id and title, as prepare.catalogue does",
        )


def _words(title: str | None) -> list[str]:
    """Lower-case words of letters and digits, accents taken off."""
    if title is None:
        return []
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    return WORD.findall(plain.lower())


def _pieces(word: str, config: Config) -> Iterable[str]:
    edged = f"<{word}>"
    for length in range(config.piece_min, min(config.piece_max, len(edged)) + 1):
        for start in range(len(edged) - length + 1):
            yield edged[start : start + length]


def _tfidf(documents: Iterable[Sequence[str]], min_titles: int) -> sp.csr_matrix:
    """Return [documents, terms in alphabetical order], rows of length 1 or 0."""
    counted = [Counter(terms) for terms in documents]
    titles = Counter(term for terms in counted for term in terms)
    place = {term: i for i, term in enumerate(sorted(t for t, n in titles.items() if n >= min_titles))}
    idf = np.array([np.log((1 + len(counted)) / (1 + titles[term])) + 1 for term in place])
    kept = [[(place[t], n) for t, n in terms.items() if t in place] for terms in counted]
    columns = np.array([column for terms in kept for column, _ in terms], dtype=np.int32)
    counts = np.array([n for terms in kept for _, n in terms], dtype=np.float64)
    starts = np.concatenate([[0], np.cumsum([len(terms) for terms in kept])]).astype(np.int32)
    weights = (1 + np.log(counts)) * idf[columns]
    return _unit(sp.csr_matrix((weights, columns, starts), shape=(len(counted), len(place))))


def _unit(matrix: sp.csr_matrix) -> sp.csr_matrix:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return sp.csr_matrix(sp.diags(scale) @ matrix)


def _digest(config: Config, ids: Sequence[str], matrix: sp.csr_matrix) -> str:
    digest = hashlib.sha256(json.dumps([ENCODER, asdict(config), list(ids)]).encode())
    for array in (matrix.indptr, matrix.indices, matrix.data):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
