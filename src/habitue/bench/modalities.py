"""What a table of items says of them, one matrix a modality: words from texts and lists, vectors from pictures.

text      TF-IDF of the texts beside TF-IDF of each column of listed words
picture   a column of encoded pictures (binary): EfficientNet-Lite before its last layer, less the mean picture
any       a column of lists of numbers is a modality of its own name: vectors that somebody made elsewhere

Rows have length 1, a row of zeros = the item has nothing of that modality. `encode.content.joined` puts some of them
side by side: fusion by concatenation, for every model that reads the items' words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from habitue.core.errors import UsageError, did_you_mean
from habitue.encode import modality as sense
from habitue.encode import text
from habitue.encode.content import centred, unit

TEXT, PICTURE = "text", "picture"
NUMBERS = (pl.List(pl.Float32), pl.List(pl.Float64))


def names(catalogue: pl.DataFrame) -> list[str]:
    """Return the modalities a table of items can give, in the order they are joined."""
    kinds = {column: kind for column, kind in catalogue.schema.items() if column != "item"}
    own = [column for column, kind in kinds.items() if _is_vector(kind)]
    found = [TEXT] * bool(_told(catalogue)) + [PICTURE] * (pl.Binary in kinds.values())
    return [*found, *own]


def matrices(
    catalogue: pl.DataFrame, items: tuple[str, ...], wanted: Sequence[str] = (TEXT,), *, cache: Path | None = None
) -> dict[str, sp.csr_matrix]:
    """Return modality -> [I, V], rows as `items`; `catalogue` has a column `item`, each once; `cache`: of pictures.

    A modality the table does not hold is left out when it is only the usual text. Raises UsageError for one that was
    named and is not there, MissingExtraError and ModelError where pictures cannot be encoded here.
    """
    there = names(catalogue)
    unknown = [name for name in wanted if name not in there and name != TEXT]
    if unknown:
        raise UsageError(
            "--modalities",
            found=f"the table of items holds no '{unknown[0]}'",
            consequence="There is nothing to encode",
            remedy=did_you_mean(unknown[0], there) if there else "Give texts, pictures or vectors with --items",
        )
    ordered = pl.DataFrame({"item": list(items)}).join(catalogue, on="item", how="left", maintain_order="left")
    return {name: _matrix(name, ordered, catalogue, cache) for name in wanted if name in there}


def _matrix(name: str, ordered: pl.DataFrame, catalogue: pl.DataFrame, cache: Path | None) -> sp.csr_matrix:
    if name == TEXT:
        return _text(ordered, _told(catalogue))
    if name == PICTURE:
        column = next(c for c, kind in ordered.schema.items() if kind == pl.Binary)
        with_one = ordered.drop_nulls(column)
        rows = sense.run(PICTURE, with_one.select(id="item", bytes=column), cache=cache)
        return centred(ordered["item"].to_list(), dict(zip(rows.ids, rows.dense, strict=True)), rows.dense.shape[1])
    told = ordered.drop_nulls(name)
    vectors = {i: np.asarray(v, dtype=np.float32) for i, v in told.select("item", name).iter_rows()}
    widths = {len(v) for v in vectors.values()}
    if len(widths) > 1 or not all(np.isfinite(v).all() for v in vectors.values()):
        raise UsageError(
            f"--items, column '{name}'",
            found=f"its vectors have {' or '.join(map(str, sorted(widths)))} numbers"
            if len(widths) > 1
            else "a vector holds NaN, null or an infinite number",
            consequence="They cannot be compared",
            remedy="Give every item a vector of as many finite numbers, or none",
        )
    return centred(ordered["item"].to_list(), vectors, next(iter(widths), 1))


def _told(catalogue: pl.DataFrame) -> list[str]:
    """Return the columns that hold words; further ids do not."""
    kinds = {column: kind for column, kind in catalogue.schema.items() if column != "item"}
    told = [c for c, kind in kinds.items() if kind in (pl.String, pl.List(pl.String)) and not _a_code(catalogue[c])]
    return told + [c for c, kind in kinds.items() if kind in (pl.List(pl.Int32), pl.List(pl.Int64))]


def _a_code(values: pl.Series) -> bool:
    """Tell a column of further ids from one of words: one word each, and hardly one comes twice."""
    if values.dtype != pl.String:
        return False
    there = values.drop_nulls()
    return len(there) > 0 and there.n_unique() > 0.9 * len(there) and not there.str.contains(r"\s").any()


def _is_vector(kind: pl.DataType) -> bool:
    return kind in NUMBERS or (isinstance(kind, pl.Array) and kind.inner.is_float())


def _text(ordered: pl.DataFrame, told: list[str]) -> sp.csr_matrix:
    """Return [I, V]: TF-IDF of the texts beside TF-IDF of the listed words, each of length 1, together of length 1."""
    texts = [c for c in told if ordered.schema[c] == pl.String]
    views = []
    if texts:
        title = pl.concat_str(texts, separator=" ", ignore_nulls=True)
        views.append(text.encode(ordered.select(item_id="item", title=title)).matrix)
    for column in [c for c in told if c not in texts]:
        # A listed word is whole: letters alone, so that nothing cuts it.
        one = pl.col(column).list.eval(pl.concat_str(pl.lit("w"), pl.element().cast(pl.String))).list.join(" ")
        listed = text.Config(piece_weight=0.0)
        views.append(text.encode(ordered.select(item_id="item", title=one), listed).matrix)
    return unit(sp.csr_matrix(sp.hstack(views)))
