"""What is known of the products of a catalogue beside their sales: one matrix a sense, side by side for the models.

text        TF-IDF of the titles (text.py), always
picture ... whatever `senses` of habitue.toml names: files of encode/ that read MEDIA of products (`MEDIUM` says which:
            image, audio or video), or their titles (`title`)

A product with several pictures has the mean of their vectors. What all products have in common is taken away, as
pictures of one shop are alike in most of their numbers, and rows are brought to length 1; a row of zeros = a product
without that sense. Vectors are kept by content (cache.py): what was encoded once is not encoded again.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core import plugins
from habitue.core.errors import SettingsError
from habitue.core.schemas import MEDIA, Media, check
from habitue.encode import modality, text
from habitue.encode.vectors import Vectors

TEXT = "text"
TITLE = "title"
CONTRACT = (*modality.CONTRACT, "MEDIUM")


@dataclass(frozen=True)
class Config:
    """What models read of products beside titles and sales. Raises SettingsError for a sense named twice."""

    senses: tuple[str, ...] = ()  # files of encode/, e.g. picture, colour, sound, video, sentence

    def __post_init__(self) -> None:
        """Refuse a sense that would count twice."""
        twice = sorted({name for name in self.senses if [*self.senses, TEXT].count(name) > 1})
        if twice:
            raise SettingsError(
                "content.senses",
                found=f"'{twice[0]}' is there twice" if twice[0] != TEXT else "'text' is always read",
                consequence="It would count twice",
                remedy="Name it once" if twice[0] != TEXT else "Leave it out",
            )


@dataclass(frozen=True)
class Content:
    """Every sense of I products, in the order of `words.ids`."""

    words: Vectors  # of the titles
    matrix: sp.csr_matrix | None  # [I, V] unit rows, all senses side by side; None when nothing is known of any product
    parts: tuple[tuple[str, int], ...]  # each sense and its columns, in order


def about(
    catalogue: pl.DataFrame,
    media: Media,
    *,
    as_of: dt.datetime,
    words: text.Config,
    config: Config,
    cache: Path | None = None,
) -> Content:
    """Encode what was known of a catalogue (item_id, title) strictly before `as_of`; MEDIA without a time counts.

    Raises SettingsError for a sense that does not read products, PluginError for one there is not, MissingExtraError
    and ModelError where it cannot be encoded here. Media that cannot be opened are left out (`habitue check` lists
    them).
    """
    titles = _titles(tuple(catalogue["item_id"]), tuple(catalogue["title"]), words)
    found = {TEXT: titles.matrix} if titles.matrix.shape[1] else {}
    for name in config.senses:
        matrix = _sense(name, catalogue, media, as_of, cache)
        if matrix.nnz:
            found[name] = matrix
    matrix = joined(found)
    return Content(titles, matrix, tuple((name, part.shape[1]) for name, part in found.items()))


@functools.lru_cache(maxsize=2)
def _titles(items: tuple[str, ...], titles: tuple[str | None, ...], words: text.Config) -> Vectors:
    """Encode titles; a server reads the same catalogue again and again, and an adapting reads it beside (2)."""
    catalogue = pl.DataFrame({"item_id": items, "title": titles}, schema={"item_id": pl.String, "title": pl.String})
    return text.encode(catalogue, words)


def joined(content: Mapping[str, sp.csr_matrix]) -> sp.csr_matrix | None:
    """Put senses side by side, rows of length 1 again; None without any. O(numbers)."""
    several = list(content.values())
    if len(several) < 2:
        return several[0] if several else None
    return unit(sp.csr_matrix(sp.hstack(several)))


def centred(ids: list[str], vectors: Mapping[str, np.ndarray], width: int) -> sp.csr_matrix:
    """Return [I, width], unit rows of what is left of each vector without the mean of all; zeros for who has none."""
    matrix = np.zeros((len(ids), width), dtype=np.float32)
    there = np.array([i in vectors and bool(vectors[i].any()) for i in ids], dtype=bool)
    if there.any():
        rows = np.stack([vectors[i] for i, known in zip(ids, there, strict=True) if known])
        matrix[there] = rows - rows.mean(axis=0)
    return unit(sp.csr_matrix(matrix))


def unit(rows: sp.csr_matrix) -> sp.csr_matrix:
    """Bring every row to length 1; a row of zeros stays one."""
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1))).ravel()
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return sp.csr_matrix(sp.diags_array(scale) @ rows).astype(np.float32)


def _sense(name: str, catalogue: pl.DataFrame, media: Media, as_of: dt.datetime, cache: Path | None) -> sp.csr_matrix:
    medium = getattr(plugins.load("encode", name, contract=modality.CONTRACT), "MEDIUM", None)
    if medium is None:
        raise SettingsError(
            "content.senses",
            found=f"'{name}' reads neither titles nor pictures, sounds or films of products",
            consequence="The customer model cannot read it",
            remedy="Name an encoder that does: picture, colour, texture, photo, sound, video, sentence; docs/encode.md",
        )
    ids = catalogue["item_id"].to_list()
    if medium == TITLE:
        things, owner = catalogue.drop_nulls("title").select(id="item_id", text="title"), None
    else:
        check(media, MEDIA, at="encode.content")
        theirs = media.filter(
            pl.col("owner") == "item", pl.col("modality") == medium, pl.col("owner_id").is_in(ids)
        ).filter(pl.col("at").is_null() | (pl.col("at") < as_of))
        theirs = theirs.unique("media_id", keep="first", maintain_order=True).sort("media_id")
        things, owner = (
            theirs.select(id="media_id", path="path"),
            dict(theirs.select("media_id", "owner_id").iter_rows()),
        )
    if things.is_empty():
        return sp.csr_matrix((len(ids), 0), dtype=np.float32)
    rows = modality.run(name, things, cache=cache)
    several: dict[str, list[np.ndarray]] = {}
    for thing, row, there in zip(rows.ids, rows.dense, rows.encoded, strict=True):
        if there:
            several.setdefault(owner[thing] if owner else thing, []).append(row)
    return centred(ids, {item: np.mean(some, axis=0) for item, some in several.items()}, rows.dense.shape[1])
