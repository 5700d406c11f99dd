"""How what several modalities know of one thing becomes one vector, and how several models' answers become one.

Inside a network there are four ways. Each reads N things as views [N, M, D] (a product's own vector, then one projected
view a modality) and a mask of those present, and each starts as the plain sum of the views, so that what is learnt is
what the way adds:

    concat      the views side by side through a layer, and through a small network beside it
    gate        each view weighed by what all of them say (Arevalo et al., ICLR 2017 workshop, "Gated multimodal units")
    attention   the views present look at each other (Vaswani et al., NIPS 2017); over time the encoder's blocks do
    model       each view through one map that all share and one of its own, shared parts drawn together, own parts away
                from them (Hazarika et al., MM 2020, "MISA", section 3.3; cosines stand for its moments)

and `decision`, behind them, joins the scores of one model a modality: by places (`vote`), by their mean (`average`) or
by weights found on validation (`stacked`). What a thing lacks is stood for by a vector that is learnt; while training,
things lose a modality at random, so that there is something to learn it from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from habitue.core.errors import ModelError
from habitue.encode import space
from habitue.model import seeds
from habitue.model.past import Floats

KINDS = ("seed", "concat", "gate", "attention", "model")
LATE = ("vote", "average", "stacked")
MISSING, THERE, FILLED = 0, 1, 2
CONSTANT = 60.0  # of reciprocal ranks (Cormack, Clarke and Buettcher, SIGIR 2009)
APART = 0.1  # weight of the losses that keep shared and own parts what they are
NEAREST = 5  # examples a missing modality is filled from

Presence = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Config:
    """How the products' modalities become one table. Raises ModelError for a way there is not."""

    kind: str = "seed"  # the table starts as what all modalities say together and is free from there; or KINDS
    drop: float = 0.2  # of the things, share that lose one of the modalities they have, in each step
    fill: bool = False  # a modality that is missing is made up from like products that have it, and marked so

    def __post_init__(self) -> None:
        """Refuse settings that would fuse nothing."""
        if self.kind not in KINDS or not 0 <= self.drop < 1:
            raise ModelError(
                "model.fuse.Config",
                found=f"kind '{self.kind}', drop {self.drop}",
                consequence="How the modalities become one vector is not known",
                remedy=f"Write a kind of {', '.join(KINDS)} (decision: model 'fused') and drop from 0 to below 1",
            )


@dataclass(frozen=True)
class Content:
    """What M modalities say of I products, by name."""

    names: tuple[str, ...]  # ascending
    views: tuple[Floats, ...]  # [I, C] each, mean square 1; zeros where missing
    there: Presence  # [I, M] MISSING, THERE or FILLED


def content(
    words: sp.csr_matrix | None, parts: Sequence[tuple[str, int]], dimensions: int, items: int, *, fill: bool = False
) -> Content:
    """Take `words` [I, V] apart into its modalities, `parts` = name and columns of each in order.

    A row of zeros of a modality = missing. A modality that nobody has is left out. Raises ModelError for parts that are
    not those of `words`, and for NaN or infinite numbers.
    """
    if words is None or not dimensions:
        return Content((), (), np.zeros((items, 0), dtype=np.uint8))
    if sum(width for _, width in parts) != words.shape[1] or len({name for name, _ in parts}) < len(parts):
        raise ModelError(
            "model.fuse, the products' modalities",
            found=f"{', '.join(f'{name} {width:,}' for name, width in parts)} of {words.shape[1]:,} columns",
            consequence="Which numbers belong to which modality is not known",
            remedy="Name each modality once, with its number of columns, in the order they stand in",
        )
    end = np.cumsum([width for _, width in parts])
    views, there, names = [], [], []
    for place in np.argsort([name for name, _ in parts], kind="stable"):
        block = sp.csr_matrix(words[:, end[place] - parts[place][1] : end[place]])
        view = seeds.content(block, dimensions, items)
        if view.shape[1]:
            views.append(view)
            there.append(np.asarray(np.abs(block).sum(axis=1)).ravel() > 0)
            names.append(parts[place][0])
    found = Content(tuple(names), tuple(views), np.array(there, dtype=np.uint8).reshape(len(names), items).T)
    return filled(found) if fill else found


def filled(content: Content) -> Content:
    """Fill what is missing by association: from the nearest products that have it, near in what both have.

    A product that has nothing, or too few pairs to learn from, stays as it is. See `encode.space`.
    """
    views, there = [view.copy() for view in content.views], content.there.copy()
    known = content.there == THERE
    for place, view in enumerate(content.views):
        for other, seen in enumerate(content.views):
            both = known[:, place] & known[:, other]
            asked = (there[:, place] == MISSING) & known[:, other]
            if other == place or not asked.any() or both.sum() < space.LEAST:
                continue
            common = space.fit(seen[both], view[both])
            made = space.fill(common, seen[asked], seen[both], view[both], nearest=min(NEAREST, int(both.sum())))
            views[place][asked] = made * np.linalg.norm(view[both], axis=1).mean()
            there[asked, place] = FILLED
    return Content(content.names, tuple(views), there)


class Sum(nn.Module):
    """id embedding + projected content: what the words say, and what only sales can tell.

    A product without sales keeps the id vector it starts with, zero, so its content speaks for it.
    """

    def __init__(self, items: int, content: int, width: int, *, sold: Tensor) -> None:
        super().__init__()
        self.identity = nn.Parameter(0.02 * torch.randn(items, width) * sold[:, None])
        self.project = nn.Linear(content, width, bias=False)
        nn.init.normal_(self.project.weight, std=0.05)

    def forward(self, content: Tensor) -> Tensor:
        """Return the table [I, D] from content [I, C]."""
        table: Tensor = self.identity + self.project(content)
        return table


class Fused(nn.Module):
    """An own vector and the rows of M modalities -> one vector: the views, what stands for missing ones, and a way."""

    def __init__(self, kind: str, widths: Sequence[int], width: int, *, scale: float, drop: float) -> None:
        """`scale`: root mean square of what the modalities of a thing add at the start."""
        super().__init__()
        size = scale / max(len(widths), 1) ** 0.5
        self.project = nn.ModuleList(nn.Linear(count, width, bias=False) for count in widths)
        for layer, count in zip(self.project, widths, strict=True):
            layer.weight = nn.Parameter(size * _turn(count, width))
        self.missing = nn.Parameter(torch.zeros(len(widths) + 1, width))
        self.made_up = nn.Parameter(torch.zeros(len(widths) + 1, width))
        self.way = WAYS[kind](len(widths) + 1, width)
        self.drop = drop

    def forward(self, own: Tensor, there: Tensor, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the vectors [N, D] and the loss of the way itself (0 but for `model`).

        own [N, D]; rows [N, C] a modality; there [N, 1 + M] of MISSING, THERE, FILLED, of the own vector first.
        """
        views = torch.stack([own, *(layer(row) for layer, row in zip(self.project, rows, strict=True))], dim=1)
        present = there != MISSING
        if self.training and self.drop:
            present = lost(present, self.drop)
        views = views + self.made_up * (there == FILLED)[:, :, None]
        views = torch.where(present[:, :, None], views, self.missing)
        # Of a thing of which nothing is known every view counts: they are the vectors that stand for missing ones.
        seen = present | ~present.any(dim=1, keepdim=True)
        vectors: Tensor = self.way(views, seen)
        return vectors, self.way.apart(views, seen)


class Table(nn.Module):
    """The products' table out of their own vectors and their content, made anew each step."""

    there: Tensor

    def __init__(self, config: Config, content: Content, width: int, *, sold: Tensor, scale: float) -> None:
        super().__init__()
        widths = [view.shape[1] for view in content.views]
        self.fused = Fused(config.kind, widths, width, scale=scale, drop=config.drop)
        there = np.c_[(sold.cpu().numpy() > 0).astype(np.uint8), content.there]
        self.register_buffer("there", torch.from_numpy(there), persistent=False)
        self.names = [f"view_{name}" for name in content.names]
        for name, view in zip(self.names, content.views, strict=True):
            self.register_buffer(name, torch.from_numpy(view), persistent=False)

    def forward(self, own: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the table [I, D] and the loss of the way; `there` [I, 1 + M] instead of what is there."""
        rows = [getattr(self, name) for name in self.names]
        told: tuple[Tensor, Tensor] = self.fused(own, self.there if there is None else there, rows)
        return told

    def strangers(self, own: Tensor) -> Tensor:
        """Return the table [I, D] were nothing sold yet: what content alone says."""
        there = self.there.clone()
        there[:, 0] = MISSING
        table: Tensor = self(own, there)[0]
        return table


class Customer(nn.Module):
    """A customer's answer (behaviour) and what is known of the person (traits) -> one answer."""

    def __init__(self, config: Config, traits: int, width: int) -> None:
        super().__init__()
        kind = "concat" if config.kind == "seed" else config.kind
        self.traits = traits
        self.fused = Fused(kind, [traits], width, scale=0.1, drop=0.0)
        self.drop = config.drop

    def forward(self, answer: Tensor, traits: Tensor | None = None) -> Tensor:
        """Return [Q, D] of answers [Q, D]; `traits` [Q, U], a row of zeros = nothing is known, None = of nobody."""
        if traits is None or not traits.shape[1]:
            traits = answer.new_zeros(len(answer), self.traits)
        known = (traits != 0).any(dim=1)
        if self.training and self.drop:
            known = known & (torch.rand(len(known), device=known.device) >= self.drop)
        there = torch.stack([torch.ones_like(known), known], dim=1).to(torch.uint8)
        whole: Tensor = self.fused(answer, there, [traits])[0]
        return whole


class _Way(nn.Module):
    """Views [N, M, D] and which of them count [N, M] -> [N, D]."""

    def apart(self, views: Tensor, seen: Tensor) -> Tensor:  # noqa: ARG002
        """Return the loss of the way itself."""
        return views.new_zeros(())


class Concat(_Way):
    """The views side by side, missing ones as the vectors that stand for them."""

    def __init__(self, many: int, width: int) -> None:
        super().__init__()
        self.join = nn.Linear(many * width, width)
        self.more = nn.Sequential(nn.Linear(many * width, width), nn.GELU(), _nothing(width, width))
        with torch.no_grad():
            self.join.weight.copy_(torch.eye(width).repeat(1, many))
            self.join.bias.zero_()

    def forward(self, views: Tensor, seen: Tensor) -> Tensor:  # noqa: ARG002
        """Return [N, D]."""
        side_by_side = views.flatten(1)
        joined: Tensor = self.join(side_by_side) + self.more(side_by_side)
        return joined


class Gate(_Way):
    """A weight from 0 to 2 a view, told by all of them; a missing one has none."""

    def __init__(self, many: int, width: int) -> None:
        super().__init__()
        self.weigh = _nothing(many * width, many)

    def forward(self, views: Tensor, seen: Tensor) -> Tensor:
        """Return [N, D]."""
        return (self.weights(views, seen)[:, :, None] * views).sum(dim=1)

    def weights(self, views: Tensor, seen: Tensor) -> Tensor:
        """Return what each view counts for, [N, M]; 1 at the start."""
        return 2 * torch.sigmoid(self.weigh(views.flatten(1))) * seen


class Attention(_Way):
    """Each view present takes up what the others show it, then they are added."""

    def __init__(self, many: int, width: int) -> None:
        super().__init__()
        self.name = nn.Parameter(0.02 * torch.randn(many, width))
        self.norm = nn.LayerNorm(width)
        self.ask, self.show, self.say = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = _nothing(width, width)

    def forward(self, views: Tensor, seen: Tensor) -> Tensor:
        """Return [N, D]."""
        x = self.norm(views) + self.name
        near = self.ask(x) @ self.show(x).transpose(1, 2) / views.shape[2] ** 0.5
        share = torch.softmax(near.masked_fill(~seen[:, None, :], -torch.inf), dim=2)
        added: Tensor = ((views + self.out(share @ self.say(x))) * seen[:, :, None]).sum(dim=1)
        return added


class Shared(_Way):
    """Each view through a map that all share, and through one of its own."""

    def __init__(self, many: int, width: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(0.5 * torch.eye(width))
        self.own = nn.Parameter(0.5 * torch.eye(width).repeat(many, 1, 1))

    def forward(self, views: Tensor, seen: Tensor) -> Tensor:
        """Return [N, D]."""
        shared, own = self.both(views)
        return ((shared + own) * seen[:, :, None]).sum(dim=1)

    def both(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return shared and own parts [N, M, D]."""
        return views @ self.shared, torch.einsum("nmd,mde->nme", views, self.own)

    def apart(self, views: Tensor, seen: Tensor) -> Tensor:
        """Return APART x (1 - cosine of shared parts of one thing, + squared cosine of shared and own part)."""
        shared, own = (nn.functional.normalize(part, dim=2, eps=1e-6) for part in self.both(views))
        pairs = (seen[:, :, None] & seen[:, None, :]).float().triu(1)
        unlike = ((1 - shared @ shared.transpose(1, 2)) * pairs).sum() / pairs.sum().clamp_min(1)
        alike = ((shared * own).sum(dim=2).square() * seen).sum() / seen.sum().clamp_min(1)
        return APART * (unlike + alike)


WAYS: Mapping[str, type[_Way]] = {"concat": Concat, "gate": Gate, "attention": Attention, "model": Shared}


def lost(present: Tensor, share: float) -> Tensor:
    """Return the mask [N, M] after a `share` of the things lost one of what they have; nobody loses the last one."""
    luck = torch.rand(present.shape, device=present.device).masked_fill(~present, -1.0)
    one = nn.functional.one_hot(luck.argmax(dim=1), present.shape[1]).bool()
    unlucky = (torch.rand(len(present), device=present.device) < share) & (present.sum(dim=1) > 1)
    return present & ~(one & unlucky[:, None])


def decided(scores: Sequence[Floats], how: str, weights: Sequence[float] | None = None) -> Floats:
    """Return one table of scores [B, I] out of several models', each row comparable within itself alone.

    vote: reciprocal ranks added up, equal scores sharing their places; average: mean of the standardised scores;
    stacked: their sum by `weights`. Raises ModelError for another way, other shapes, and scores that are no number.
    """
    found = ""
    if how not in LATE or (how == "stacked") != (weights is not None):
        found = f"the way '{how}'{' without' if weights is None else ' with'} weights"
    elif not scores or len({one.shape for one in scores}) > 1 or (weights is not None and len(weights) != len(scores)):
        found = f"scores of the shapes {[one.shape for one in scores]} and {weights} as weights"
    elif not all(np.isfinite(one).all() for one in scores):
        found = "a score that is NaN or infinite"
    if found:
        raise ModelError(
            "model.fuse.decided",
            found=found,
            consequence="There is no one answer of them",
            remedy=f"Give finite scores of one shape and a way of {', '.join(LATE)}; weights with stacked only",
        )
    if how == "vote":
        votes: Floats = np.sum([1 / (CONSTANT + _places(one)) for one in scores], axis=0).astype(np.float32)
        return votes
    parts = [standard(one) for one in scores]
    shares = np.full(len(parts), 1 / len(parts)) if weights is None else np.asarray(weights, dtype=np.float64)
    told: Floats = np.sum([w * one for w, one in zip(shares.astype(np.float32), parts, strict=True)], axis=0)
    return told


def _places(scores: Floats) -> npt.NDArray[np.float64]:
    """Return the place of each score in its row, 1 = best, the mean place where several are equal."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-scores, axis=1))


def standard(scores: Floats) -> Floats:
    """Bring each row to mean 0 and spread 1; a row without differences says nothing and becomes 0."""
    middle = scores - scores.mean(axis=1, keepdims=True)
    spread = middle.std(axis=1, keepdims=True)
    result: Floats = np.divide(middle, spread, out=np.zeros_like(middle), where=spread > 0)
    return result


def _nothing(inputs: int, outputs: int) -> nn.Linear:
    """Return a layer that starts at 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _turn(inputs: int, outputs: int) -> Tensor:
    """Return [outputs, inputs], a random turn of the first directions: content comes strongest first."""
    kept = min(inputs, outputs)
    turn = torch.zeros(outputs, inputs)
    turn[:, :kept] = torch.linalg.qr(torch.randn(outputs, outputs))[0][:, :kept]
    return turn
