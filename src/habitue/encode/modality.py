"""The one way into every modality: a file that defines Config and encode(things, config) -> Vectors.

A modality whose vectors do not depend on each other also defines encoder(config) -> Encoder. Its vectors are kept by
content hash when a cache is given, equal things are encoded once, and a run goes in blocks behind a progress bar. One
that learns from the things (a vocabulary, means) takes and returns `fitted` instead, and is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from habitue.core import plugins
from habitue.core.errors import PluginError, UsageError
from habitue.core.progress import steps
from habitue.encode import cache as kept
from habitue.encode.things import SENSES, check, contents
from habitue.encode.vectors import Dense, Encoder, Vectors, assemble, refusals

CONTRACT = ("Config", "encode")
BLOCK = 512  # things encoded, then written, at a time: what an interrupted run loses at most


def run(
    modality: str, things: pl.DataFrame, config: Any = None, *, cache: Path | None = None, fitted: Any = None
) -> Vectors:
    """Encode `things` (id and one of text, path, bytes; for "table" id and columns) and return one row per id.

    `modality` is a file of encode/ or a dotted name of your own; `config` its Config (default: Config()); `cache` a
    workspace's `vectors` folder; `fitted` that of earlier Vectors. Raises PluginError when the file breaks the
    contract, SchemaError when `things` does, and what the modality raises.
    """
    module = plugins.load("encode", modality, contract=CONTRACT)
    config = module.Config() if config is None else config
    if not isinstance(config, module.Config):
        raise UsageError(
            f"encode.run('{modality}')",
            found=f"the settings are {type(config).__module__}.{type(config).__qualname__}",
            consequence=f"They are not those of {module.__name__}",
            remedy=f"Pass {module.__name__}.Config(...)",
        )
    if hasattr(module, "encoder"):
        check(things, of=SENSES, where=f"encode.{modality}")
        return _row_wise(modality, module, things, config, cache)
    vectors = module.encode(things, config) if fitted is None else module.encode(things, config, fitted=fitted)
    return _checked(vectors, things, None, module)


def _row_wise(modality: str, module: ModuleType, things: pl.DataFrame, config: Any, cache: Path | None) -> Vectors:
    """Encode what is not kept yet, each content once, block by block."""
    encoder: Encoder = module.encoder(config)
    hashes = contents(things)
    first = {content: place for place, content in reversed(list(enumerate(hashes)))}  # of equal things the first
    shelf = kept.folder(cache, modality, encoder) if cache else None
    known = kept.read(shelf, first, encoder) if shelf else {}
    places = sorted(place for content, place in first.items() if content not in known)
    reasons: dict[bytes, tuple[str, str]] = {}

    def keep(block: list[int], part: Vectors) -> None:
        rows, encoded = part.dense, part.encoded
        new = [hashes[place] for place, there in zip(block, encoded, strict=True) if there]
        known.update(zip(new, rows[encoded], strict=True))
        told = {i: (code, sentence) for i, code, sentence in part.refused.iter_rows()}
        reasons.update((hashes[p], told[i]) for p, i in zip(block, part.ids, strict=True) if i in told)
        if shelf:
            kept.write(shelf, new, rows[encoded], encoder)

    _blocks(module, things, config, encoder, places, keep)
    if shelf:
        kept.compact(shelf, encoder)
    there = [place for place, content in enumerate(hashes) if content in known]
    rows = (
        np.stack([known[hashes[place]] for place in there]) if there else np.zeros((0, encoder.dimension), np.float32)
    )
    ids = things["id"].to_list()
    refused = refusals([(i, *reasons[content]) for i, content in zip(ids, hashes, strict=True) if content in reasons])
    return assemble(ids, encoder, np.array(there, dtype=np.intp), rows, refused)


def _blocks(
    module: ModuleType,
    things: pl.DataFrame,
    config: Any,
    encoder: Encoder,
    places: list[int],
    keep: Callable[[list[int], Vectors], None],
) -> None:
    with steps(f"Encode {encoder.name}") as advance:
        for start in range(0, len(places), BLOCK):
            block = places[start : start + BLOCK]
            part = things[block]
            keep(block, _checked(module.encode(part, config), part, encoder, module))
            advance(start + len(block), len(places))


def _checked(vectors: Vectors, things: pl.DataFrame, encoder: Encoder | None, module: ModuleType) -> Vectors:
    """Return `vectors` when they are what the contract says. Raises PluginError naming what is wrong."""
    rows: Dense = vectors.matrix
    key = "id" if "id" in things.columns else "item_id"
    found = ""
    if list(vectors.ids) != things[key].to_list():
        found = "its ids are not those it was given, in their order"
    elif rows.shape[0] != things.height or len(vectors.encoded) != things.height:
        found = f"it returned {rows.shape[0]} rows for {things.height} things"
    elif encoder is not None and rows.shape[1] != encoder.dimension:
        found = f"its rows have {rows.shape[1]} numbers; its encoder() says {encoder.dimension}"
    elif not np.isfinite(getattr(rows, "data", rows) if not isinstance(rows, np.ndarray) else rows).all():
        found = "a vector holds a number that is not finite"
    elif set(vectors.missing) != set(vectors.refused["id"]):
        found = "a thing has neither a vector nor a reason in `refused`, or it has both"
    if found:
        raise PluginError(
            f"encode '{module.__name__}'",
            found=found,
            consequence="Vectors would be given to the wrong things, or none would be noticed",
            remedy="Return habitue.encode.Vectors: one row per id, float32, and a reason for each id without one",
        )
    return vectors
