"""What a picture shows, in words: the classes of ImageNet with their shares, a bridge from pictures to texts.

The last layer of the picture encoder's network (weights `image-efficientnet-lite0`) and WordNet's words for its
thousand classes (`image-labels`). It knows dogs better than dresses: of shop photos the words are hints, not tags.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import softmax

from habitue.encode import onnx, picture, weights
from habitue.encode.pixels import decoded
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Refusal

NAME = "image-labels"
SCHEMA = {"id": pl.String, "label": pl.String, "share": pl.Float64}


def told(things: pl.DataFrame, config: picture.Config | None = None, *, most: int = 5) -> pl.DataFrame:
    """Return (id, label, share) with the `most` likeliest of the 1,000 classes, the likeliest first.

    Shares of all classes sum to 1. Pictures that cannot be seen have no row; encode.run says why. Raises
    MissingExtraError without the extra "pictures", ModelError without the weights.
    """
    config = config or picture.Config()
    check(things, of=("path", "bytes"), where="encode.labels")
    if not things.height:
        return pl.DataFrame(schema=SCHEMA)
    named, (weight, bias) = names(), _layer(config.size)
    session = onnx.session(picture.model(config), threads=config.threads, extra="pictures")
    side, ids, rows = picture.SIDES[config.size], things["id"].to_list(), []
    seen = decoded(things, np.ascontiguousarray, side=side, largest=config.largest, workers=config.workers, square=True)
    for place, made in seen:
        if not isinstance(made, Refusal):
            shares = softmax(weight @ picture.run(session, [made])[0].astype(np.float64) + bias)
            best = np.argsort(-shares, kind="stable")[:most]
            rows += [(ids[place], named[i], float(shares[i])) for i in best]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def sentences(things: pl.DataFrame, config: picture.Config | None = None, *, most: int = 5) -> pl.DataFrame:
    """Return (id, text), the labels of each picture in one line, ready for `encode.run("sentence", ...)`.

    A picture that cannot be seen has no row.
    """
    lines = told(things, config, most=most).group_by("id", maintain_order=True).agg(pl.col("label"))
    return lines.select("id", text=pl.col("label").list.join(", "))


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Return the first word of WordNet for each class, in the order of the network. Raises ModelError."""
    order = weights.path(NAME, 0).read_text(encoding="utf-8").split()
    lines = (line.partition("\t") for line in weights.path(NAME, 1).read_text(encoding="utf-8").splitlines())
    words = {synset: lemma.partition(",")[0].strip() for synset, _, lemma in lines}
    return tuple(words[synset] for synset in order)


@lru_cache(maxsize=2)
def _layer(size: str) -> tuple[npt.NDArray[np.float64], Dense]:
    """Return the weight [1000, 1280] and bias of the last layer; only tensors are unpickled."""
    import torch

    state = torch.load(weights.path(f"image-efficientnet-{size}"), weights_only=True, map_location="cpu")
    return state["_fc.weight"].double().numpy(), state["_fc.bias"].double().numpy()
