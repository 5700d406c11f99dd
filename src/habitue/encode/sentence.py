"""Sentences of 16 languages as 512 numbers: Universal Sentence Encoder Multilingual 3 in ONNX Runtime.

Yang et al. 2019, "Multilingual universal sentence encoder for semantic retrieval", the convolutional model; weights
`text-use-multilingual`. The file quantises what flows between its layers by the range in the batch, so that a text's
vector depends on its neighbours (cosine down to .991). `_still` gives the twelve places fixed ranges instead, once,
beside the weights: as near to the unquantised model as the file is at batch 32, as fast, and the same vector in any
company (docs/decisions/009).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.core.errors import SettingsError
from habitue.core.extras import need
from habitue.encode import onnx, weights
from habitue.encode.things import NO_TEXT, check, texts
from habitue.encode.vectors import Dense, Encoder, Vectors, assemble, refusals, unit

MEDIUM = "title"  # content.py
NAME = "text-use-multilingual"
DIMENSION = 512
RECIPE = "still@1"
# Range of each quantised place, in the order of the graph: 5 % and 95 % quantiles of the least and greatest value in
# batches of four, over 2,400 English and Chinese reviews, titles and questions; the widest of the four kinds.
RANGES = (
    (-19.23, 22.58),
    (-15.55, 12.78),
    (-13.32, 13.78),
    (-15.85, 15.24),
    (-15.55, 53.29),
    (-13.32, 67.32),
    (-15.85, 49.36),
    (-4.79, 12.54),
    (-4.28, 3.87),
    (0.0, 7.95),
    (0.0, 11.28),
    (0.0, 7.58),
)


@dataclass(frozen=True)
class Config:
    """How texts become vectors. Raises SettingsError for settings that make no sense."""

    characters: int = 2_000  # of a longer text only the start is read
    batch: int = 64  # texts at a time at most; changes the speed, not the vectors
    together: int = 3_000  # characters at a time at most: long texts pad each other
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that would encode nothing."""
        if min(self.characters, self.batch, self.together, self.threads) < 1:
            raise SettingsError(
                "encode.sentence.Config",
                found=f"characters {self.characters}, batch {self.batch}, together {self.together}, "
                f"threads {self.threads}",
                consequence="No text could be encoded",
                remedy="Give numbers from 1",
            )


def encoder(config: Config) -> Encoder:
    """Return what decides a vector beside its text."""
    sha256 = weights.named(NAME).files[0].sha256
    return Encoder("text.sentence@1", DIMENSION, {"characters": config.characters, "form": RECIPE}, sha256)


def encode(things: pl.DataFrame, config: Config | None = None) -> Vectors:
    """Return one unit row per thing (id, text); float32[I, 512]. A text of nothing but blanks gets a reason.

    Control characters count as blanks; of a long text the first `characters` are read. The order of the things does
    not show in their vectors: 2,999 of 3,000 were equal bit for bit at batch 1 and 64, the other's cosine was above
    .999. Raises MissingExtraError without the extra "text", ModelError without the weights.
    """
    config = config or Config()
    check(things, of=("text",), where="encode.sentence")
    places, lines = texts(things, characters=config.characters)
    ids = things["id"].to_list()
    refused = refusals([(ids[i], *NO_TEXT) for i in sorted(set(range(len(ids))) - set(places))])
    rows = np.zeros((len(lines), DIMENSION), dtype=np.float32)
    if lines:
        session = onnx.session(
            weights.derived(NAME, RECIPE, _still), threads=config.threads, extra="text", strings=True
        )
        order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
        for batch in _batches(order, lines, config):
            rows[batch] = _run(session, [lines[i] for i in batch])
    return assemble(ids, encoder(config), np.array(places, dtype=np.intp), unit(rows), refused)


def _batches(order: list[int], lines: list[str], config: Config) -> list[list[int]]:
    """Cut `order`, shortest first, into batches of alike lengths."""
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (
            len(batches[-1]) >= config.batch or len(lines[i]) * (len(batches[-1]) + 1) > config.together
        ):
            batches.append([])
        batches[-1].append(i)
    return batches


def _run(session: Any, lines: list[str]) -> Dense:
    rows: Dense = session.run(None, {"inputs": np.array(lines, dtype=object)})[0]
    return rows


def _still(source: Path, target: Path) -> None:
    """Write the model with fixed ranges in place of those of each batch. Reads and writes 72 MB, once."""
    model_format = need("onnx", extra="text", purpose="encode.sentence")
    model = model_format.load(str(source))
    ranges = iter(RANGES)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            low, high = next(ranges)
            _, scale_name, zero_name = node.output
            scale = np.float32((high - low) / 255)
            for name, value in ((scale_name, scale), (zero_name, np.uint8(round(-low / float(scale))))):
                model.graph.initializer.append(model_format.numpy_helper.from_array(np.array(value), name))
            inputs = [node.input[0], scale_name, zero_name]
            node = model_format.helper.make_node("QuantizeLinear", inputs, node.output[:1], name=node.name)
        nodes.append(node)
    assert next(ranges, None) is None, "the graph is that of the pinned file"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model_format.save(model, str(target))
