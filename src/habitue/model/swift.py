"""One token at a time through softmax blocks, in NumPy: what `encoder` and `blocks` say, without a tensor.

A single token of width 64 is some forty products of vectors. Each costs PyTorch several microseconds before it begins,
NumPy one; so here a set is appended and a question asked in a fraction of a millisecond. The same formulas in float32,
equal to `blocks.Softmax` to 1e-4 (tests/model/test_live.py); blocks of the other kinds go through `blocks` itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from habitue.model import batches
from habitue.model.batches import Doubles
from habitue.model.blocks import Softmax
from habitue.model.encoder import BOUND, Model
from habitue.model.past import Floats, Ints

EPSILON = np.float32(1e-5)  # of torch's layer norm
ROOT_HALF = np.float32(math.sqrt(0.5))

Affine = tuple[Floats, Floats]  # weight and bias


@dataclass(frozen=True)
class Layer:
    """The weights of one softmax block; matrices stand so that a row vector is multiplied from the left."""

    norm: Affine
    own: Affine  # [D, D]
    seen: Affine  # [D, 2 D]
    out: Affine
    forward_norm: Affine
    wide: Affine
    narrow: Affine
    back: Floats  # [H, window + 1]
    gap: Floats | None  # [H, GAPS]
    nothing: Floats  # [2, H, D / H]


@dataclass(frozen=True)
class Weights:
    """The weights of the whole encoder."""

    items: Floats  # [I, D]
    kind: Floats
    hour: Floats
    weekday: Floats
    centre: Floats
    spread: Floats
    numbers: Affine
    entry: Affine
    exit: Affine
    trend: Affine
    again: tuple[Affine, Affine]  # what a product gains for being in the history: of what is known of it,
    again_customer: Affine  # of the customer,
    again_item: Floats  # [I] and of itself
    layers: tuple[Layer, ...]
    clock: bool


def weights(model: Model) -> Weights | None:
    """Return the model's weights, or None when a block of it is of another kind."""
    if not all(isinstance(block, Softmax) for block in model.blocks):
        return None
    return Weights(
        items=_array(model.items),
        kind=_array(model.kind.weight),
        hour=_array(model.hour.weight),
        weekday=_array(model.weekday.weight),
        centre=_array(model.centre),
        spread=_array(model.spread),
        numbers=_affine(model.numbers),
        entry=_norm(model.entry),
        exit=_norm(model.exit),
        trend=_affine(model.trend),
        again=(_affine(model.again[0]), _affine(model.again[2])),
        again_customer=_affine(model.again_customer),
        again_item=_array(model.again_item),
        layers=tuple(_layer(block) for block in model.blocks if isinstance(block, Softmax)),
        clock=model.clock,
    )


def token(
    w: Weights, basket: Floats | None, kind: int | Ints, hour: int | Ints, weekday: int | Ints, numbers: Floats
) -> Floats:
    """Return what the first block reads of a set, or of a question (basket None), [D]; see `Model.tokens`.

    Of n sets at once, [n, D], with one of each a set.
    """
    x = w.kind[kind]
    if basket is not None:
        x = x + normed(basket, w.entry)
        if w.clock:
            x = x + w.hour[hour] + w.weekday[weekday]
    if w.clock:
        scaled = np.clip((numbers - w.centre) / w.spread, -BOUND, BOUND)
        x = x + _linear(scaled, w.numbers)
    found: Floats = x
    return found


def remember(layer: Layer, x: Floats) -> Floats:
    """Return what sets show to later tokens, [..., 2 D] from [..., D]: keys, then values."""
    return _linear(normed(x, layer.norm), layer.seen)


def look(layer: Layer, x: Floats, shown: Floats, gap: Doubles | None) -> Floats:
    """Return [D] from [D]: a token that sees `shown` [T, 2 D], oldest first; `gap` [T] days to each, None = no clock.

    softmax(q k' / sqrt(D / H) + bias) v, then the feed-forward layer; `Softmax.mix` and `Block.finish`.
    """
    sets, width = len(shown), len(x)
    heads = len(layer.back)
    query = _linear(normed(x, layer.norm), layer.own).reshape(heads, -1, 1)
    both = shown.reshape(sets, 2, heads, width // heads).transpose(1, 2, 0, 3)  # [2, H, T, D / H]
    key, value = np.concatenate([layer.nothing[:, :, None], both], axis=2)
    score = (key @ query)[:, :, 0] / np.float32(math.sqrt(width // heads))  # [H, T + 1]
    bias = layer.back[:, sets:0:-1]
    if layer.gap is not None and gap is not None:
        bias = bias + layer.gap[:, batches.gaps(gap)]
    score[:, 1:] += bias
    score = np.exp(score - score.max(axis=1, keepdims=True))
    score /= score.sum(axis=1, keepdims=True)
    return _finished(layer, x, (score[:, None] @ value).reshape(width))


def gain(w: Weights, answer: Floats, item: Ints, met: Floats) -> Floats:
    """Return [n] what n products gain for being in the history, told by `met` (batches.met_before); `Model.gain`."""
    (wide, narrow), (customer, level) = w.again, w.again_customer
    habit = _linear(_bent(_linear(met, wide)), narrow)[:, 0]
    found: Floats = habit + w.again_item[item] + (answer @ customer + level)[0]
    return found


def stretch(layer: Layer, x: Floats, at: Doubles | None) -> Floats:
    """Return [T, D] from [T, D]: all sets of a stretch at once, each sees itself and those before; `look` of each.

    `at`: their moments in days, None = no clock.
    """
    sets, width = x.shape
    heads = len(layer.back)
    y = normed(x, layer.norm)
    query = _linear(y, layer.own).reshape(sets, heads, -1).transpose(1, 0, 2)  # [H, T, D / H]
    both = _linear(y, layer.seen).reshape(sets, 2, heads, -1).transpose(1, 2, 0, 3)
    key, value = np.concatenate([layer.nothing[:, :, None], both], axis=2)  # [H, T + 1, D / H]
    score = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(width // heads))  # [H, T, T + 1]
    place = np.arange(sets)
    back = place[:, None] - place + 1  # 1 = itself
    bias = layer.back[:, np.maximum(back, 0)]
    if layer.gap is not None and at is not None:
        bias = bias + layer.gap[:, batches.gaps(at[:, None] - at)]
    score[:, :, 1:] += np.where(back > 0, bias, -np.inf)
    score = np.exp(score - score.max(axis=2, keepdims=True))
    score /= score.sum(axis=2, keepdims=True)
    return _finished(layer, x, (score @ value).transpose(1, 0, 2).reshape(sets, width))


def normed(x: Floats, affine: Affine) -> Floats:
    """Bring each vector [..., D] to mean 0 and spread 1, scale and shift (Ba, Kiros and Hinton, 2016, eq. 4)."""
    size = x.shape[-1]
    result: Floats
    if x.ndim == 1:  # numbers in the place of arrays of one number: half the time
        centred = x - np.add.reduce(x) / np.float32(size)
        centred *= np.float32(1 / math.sqrt(np.dot(centred, centred) / size + EPSILON))
        result = centred * affine[0]
    else:
        mean = np.add.reduce(x, axis=-1, keepdims=True) / np.float32(size)
        centred = x - mean.astype(np.float32, copy=False)
        square = np.add.reduce(centred * centred, axis=-1, keepdims=True) / np.float32(size)
        spread = np.sqrt(square + EPSILON).astype(np.float32, copy=False)
        result = centred / spread * affine[0]
    result += affine[1]
    return result


def _finished(layer: Layer, x: Floats, mixed: Floats) -> Floats:
    """Add what was seen, and what the feed-forward layer makes of it; `Block.finish`."""
    x = x + _linear(mixed, layer.out)
    inner = _linear(normed(x, layer.forward_norm), layer.wide)
    found: Floats = x + _linear(_bent(inner), layer.narrow)
    return found


def _bent(x: Floats) -> Floats:
    """GELU (Hendrycks and Gimpel, 2016, eq. 1)."""
    found: Floats = (x * (np.float32(0.5) * (1 + erf(x * ROOT_HALF)))).astype(np.float32, copy=False)
    return found


def _linear(x: Floats, affine: Affine) -> Floats:
    result: Floats = x @ affine[0]
    result += affine[1]
    return result


def _layer(block: Softmax) -> Layer:
    (weight, bias), own = _affine(block.all_three), block.own_width
    return Layer(
        norm=_norm(block.before_attention),
        own=(np.ascontiguousarray(weight[:, :own]), bias[:own]),
        seen=(np.ascontiguousarray(weight[:, own:]), bias[own:]),
        out=_affine(block.out),
        forward_norm=_norm(block.before_forward),
        wide=_affine(block.wide),
        narrow=_affine(block.narrow),
        back=_array(block.back),
        gap=None if block.gap is None else _array(block.gap),
        nothing=_array(block.nothing)[:, :, 0],
    )


def _array(tensor: object) -> Floats:
    found: Floats = tensor.detach().numpy()  # type: ignore[attr-defined]
    return found


def _affine(layer: object) -> Affine:
    return np.ascontiguousarray(_array(layer.weight).T), _array(layer.bias)  # type: ignore[attr-defined]


def _norm(layer: object) -> Affine:
    return _array(layer.weight), _array(layer.bias)  # type: ignore[attr-defined]
