"""Event ids for files that bring none: the same row has the same id in whatever file, place or format it comes.

    id = BLAKE2b-128(key = the workspace's secret; source, canonical row, n)      n = earlier identical rows of the file

So the same file again, a re-ordered copy or a longer export brings only ids that are new, while exact repeats inside a
file stay apart. The canonical row is made of the typed values under their stored names, ascending, so neither the order
of columns nor the file format shows. It holds the raw user id, hence the secret: over everything else a row tells, a
bare hash would let anybody find the customer by trying out all numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl


def event_ids(rows: pl.DataFrame, *, source: str, secret: bytes) -> pl.Series:
    """Return one id (str, 32 hex digits) a row of typed values: text, f64 or UTC moments under their stored names.

    Floats count by their bits and moments by microseconds, so nothing is rounded or formatted. About 2 us a row.
    """
    fields = [_field(rows[name]) for name in sorted(rows.columns)]
    texts = pl.DataFrame(fields).select(row=pl.concat_str(pl.all()))
    texts = texts.select(pl.concat_str("row", pl.int_range(pl.len()).over("row")))
    return _hashed(texts["row"], source=source, secret=secret).alias("event_id")


def keyed(ids: pl.Series, *, source: str, secret: bytes) -> pl.Series:
    """Hash ids that a reader made of an event's whole content, for the same reason: they could be tried out."""
    return _hashed(ids, source=source, secret=secret)


def keyed_one(event_id: str, *, source: str, secret: bytes) -> str:
    """Hash one id as `keyed` does."""
    return hashlib.blake2b(f"{len(source)}:{source};{event_id}".encode(), digest_size=16, key=secret).hexdigest()


def _hashed(texts: pl.Series, *, source: str, secret: bytes) -> pl.Series:
    start = hashlib.blake2b(f"{len(source)}:{source};".encode(), digest_size=16, key=secret)
    hashed = [pl.Series(texts.name, [], dtype=pl.String)]
    for part in texts.to_frame().iter_slices(20_000):  # as Python objects, texts take five times the memory
        ids = []
        for text in part.to_series():
            digest = start.copy()
            digest.update(text.encode())
            ids.append(digest.hexdigest())
        hashed.append(pl.Series(texts.name, ids, dtype=pl.String))
    return pl.concat(hashed)


def _field(values: pl.Series) -> pl.Series:
    """Write each value as name, length and text, so that no two rows can run together into the same letters."""
    if values.dtype == pl.Float64:
        bits = pl.Series(values.fill_null(0.0).to_numpy().view(np.int64))
        text = bits.set(values.is_null(), None).cast(pl.String)
    elif isinstance(values.dtype, pl.Datetime):
        text = values.dt.epoch("us").cast(pl.String)
    else:
        text = values.cast(pl.String)
    name = values.name
    column = text.to_frame("text")
    written = pl.concat_str(pl.lit(f"{name}="), pl.col("text").str.len_bytes(), pl.lit(":"), "text", pl.lit(";"))
    return column.select(written.fill_null(f"{name}-;").alias(name))[name]
