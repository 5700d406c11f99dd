"""Words of products as TF-IDF: whole words beside pieces of words, which catch plurals, colours run together and typos.

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
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import SchemaError, SettingsError
from habitue.encode import chinese
from habitue.encode.things import NO_TEXT
from habitue.encode.vectors import Vectors, refusals

ENCODER = "text.tfidf@1"
CHARACTERS = 10_000  # of a longer text only the start is read
NO_KNOWN_WORD = ("no_known_word", "None of its words is in the vocabulary.")
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


@dataclass(frozen=True)
class Terms:
    """The terms of one view, words or pieces, in alphabetical order of their columns."""

    place: dict[str, int]
    idf: npt.NDArray[np.float64]  # [terms]


@dataclass(frozen=True)
class Vocabulary:
    """What was learnt from the texts of one call: pass it as `fitted` to bring other texts into the same columns."""

    config: Config
    views: tuple[Terms, ...]
    chinese: str  # how Chinese was cut into words; empty when there was none

    @property
    def encoder(self) -> str:
        """The encoder's name@version, with the rule for Chinese where it played a part."""
        return f"{ENCODER}+{self.chinese}" if self.chinese else ENCODER


def encode(things: pl.DataFrame, config: Config | None = None, *, fitted: Vocabulary | None = None) -> Vectors:
    """Return one unit row per thing (id, text; or item_id, title), in its order; float32 csr, sorted indices.

    The vocabulary is that of the texts given and nothing else, or `fitted`, whose unknown terms count as absent. A
    null text, or one without a letter or digit, keeps a zero row, `encoded` false and a reason. Chinese is cut into
    words by jieba where the extra "text" is installed, else into pairs of characters; the rule is part of `encoder`.
    Of a text above 10,000 characters the start is read. The same things give the same bytes. O(characters). Raises
    SchemaError when a column is missing or an id comes twice, SettingsError when `fitted` was made with others.
    """
    config = config or (fitted.config if fitted else Config())
    if fitted and fitted.config != config:
        raise SettingsError(
            "encode.text.Config",
            found=f"{config}; the vocabulary was made with {fitted.config}",
            consequence="The columns of the vectors would not mean the same",
            remedy="Pass the settings the vocabulary was made with, or none",
        )
    key, column = ("item_id", "title") if "item_id" in things.columns else ("id", "text")
    _check(things, key, column)
    plain = [_plain(text) for text in things[column]]
    rule = fitted.chinese if fitted else ""
    if any(chinese.HAN.search(text) for text in plain):
        rule = rule or chinese.rule()
    cut = chinese.cutter(rule) if rule else None
    words = [[word for token in WORD.findall(text) for word in (cut(token) if cut else (token,))] for text in plain]
    pieces = [[piece for word in text for piece in _pieces(word, config)] for text in words]
    shares = ((words, 1 - config.piece_weight), (pieces, config.piece_weight))
    views = [(terms, share) for terms, share in shares if share > 0]
    known = fitted or Vocabulary(config, tuple(_terms(terms, config.min_titles) for terms, _ in views), rule)
    parts = [
        _tfidf(terms, columns) * np.sqrt(share) for (terms, share), columns in zip(views, known.views, strict=True)
    ]
    matrix = _unit(sp.hstack(parts, format="csr")).astype(np.float32)
    matrix.sort_indices()
    ids = tuple(things[key])
    encoded = np.diff(matrix.indptr) > 0
    refused = refusals(
        [
            (i, *(NO_KNOWN_WORD if found else NO_TEXT))
            for i, there, found in zip(ids, encoded, words, strict=True)
            if not there
        ]
    )
    return Vectors(ids, matrix, encoded, known.encoder, _digest(known.encoder, config, ids, matrix), refused, known)


def table(vocabulary: Vocabulary) -> pl.DataFrame:
    """Return a vocabulary as rows to keep: view (0 = words, 1 = pieces), term, idf; in the order of the columns."""
    views = [
        pl.DataFrame({"term": list(terms.place), "idf": terms.idf}, schema={"term": pl.String, "idf": pl.Float64})
        for terms in vocabulary.views
    ]
    return pl.concat([rows.with_columns(view=pl.lit(n, dtype=pl.Int32)) for n, rows in enumerate(views)])


def vocabulary(table: pl.DataFrame, config: Config, chinese: str) -> Vocabulary:
    """Return the vocabulary that `table` was made of; `config` and `chinese` are its own."""
    views = table.partition_by("view", maintain_order=True)
    made = (Terms({term: place for place, term in enumerate(rows["term"])}, rows["idf"].to_numpy()) for rows in views)
    return Vocabulary(config, tuple(made), chinese)


def _check(things: pl.DataFrame, key: str, column: str) -> None:
    missing = [c for c in (key, column) if c not in things.columns]
    if missing or things[key].n_unique() < things.height:
        raise SchemaError(
            "encode.text",
            found=f"column '{missing[0]}' is missing" if missing else f"an {key} comes twice",
            consequence="Rows of vectors could not be told apart",
            remedy="Give one row per product with item_id and title, as prepare.catalogue does, or id and text",
        )


def _plain(text: str | None) -> str:
    """Lower-case text, accents taken off; empty for null."""
    if text is None:
        return ""
    plain = unicodedata.normalize("NFKD", text[:CHARACTERS])
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


def _pieces(word: str, config: Config) -> Iterable[str]:
    edged = f"<{word}>"
    for length in range(config.piece_min, min(config.piece_max, len(edged)) + 1):
        for start in range(len(edged) - length + 1):
            yield edged[start : start + length]


def _terms(documents: Sequence[Sequence[str]], min_titles: int) -> Terms:
    titles = Counter(term for terms in documents for term in set(terms))
    place = {term: i for i, term in enumerate(sorted(t for t, n in titles.items() if n >= min_titles))}
    return Terms(place, np.array([np.log((1 + len(documents)) / (1 + titles[term])) + 1 for term in place]))


def _tfidf(documents: Iterable[Sequence[str]], columns: Terms) -> sp.csr_matrix:
    """Return [documents, terms], rows of length 1 or 0."""
    counted = [Counter(terms) for terms in documents]
    kept = [[(columns.place[t], n) for t, n in terms.items() if t in columns.place] for terms in counted]
    places = np.array([place for terms in kept for place, _ in terms], dtype=np.int32)
    counts = np.array([n for terms in kept for _, n in terms], dtype=np.float64)
    starts = np.concatenate([[0], np.cumsum([len(terms) for terms in kept])]).astype(np.int32)
    weights = (1 + np.log(counts)) * columns.idf[places]
    return _unit(sp.csr_matrix((weights, places, starts), shape=(len(counted), len(columns.place))))


def _unit(matrix: sp.csr_matrix) -> sp.csr_matrix:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return sp.csr_matrix(sp.diags(scale) @ matrix)


def _digest(encoder: str, config: Config, ids: Sequence[str], matrix: Any) -> str:
    digest = hashlib.sha256(json.dumps([encoder, asdict(config), list(ids)]).encode())
    for array in (matrix.indptr, matrix.indices, matrix.data):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
