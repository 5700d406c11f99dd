"""Convolutions over a user's sets: NextItNet, with sets for clicks and one table for items in and out.

Yuan, Karatzoglou, Arapakis, Jose and He, "A simple convolutional generative network for next item recommendation", WSDM
2019: residual blocks of two causal convolutions, dilated d and 2d, each followed by layer norm and ReLU (their figure
3b). Set t is seen by the sets after it through the gaps of the dilations: `field` says how far back. Sets, lessons and
loss are those of streams.py. Caser was tried and was worse (LOG.md, "recurrent and convolutional nets").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model import streams, train
from habitue.model.past import Floats, Past

ANSWERS = frozenset({"rank"})
SEEDED = True  # another seed is another model


@dataclass(frozen=True)
class Config:
    """Settings, picked on Beauty's and MovieLens-1M's validation (LOG.md, "recurrent and convolutional nets")."""

    width: int = tuned(64, values=(32, 64, 128))
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 4)  # of a block's first convolution; its second one reaches twice as far
    dropout: float = tuned(0.3, 0.1, 0.6)
    window: int = 200  # sets a stretch
    content: int = 128  # dimensions of the products' words; 0 = ids only
    passes: int = tuned(10, 3, 40, log=True)
    steps: int = 40_000  # at most
    stretches: int = tuned(64, values=(16, 32, 64, 128))  # a step, at most (streams.Course)
    learning_rate: float = tuned(6e-3, 5e-4, 2e-2, log=True)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        positive = ("width", "kernel", "window", "passes", "stretches", "learning_rate")
        check_range(self, positive=positive, not_negative=("content", "steps"), part=("dropout",))


# Without a clock a "day" is one step of a sequence (bench/sequences.py): the pause between two sets is always the same.
SEQUENCE = Config()


@dataclass(frozen=True)
class State:
    """A trained net and what it was trained on."""

    config: Config
    items: tuple[str, ...]
    kinds: tuple[str, ...]
    content: Floats  # [I, C] words of the items, projected
    weights: dict[str, Tensor]  # of Model
    popular: Floats  # [I] log of the sales: what a stranger is told
    steps: int  # trained
    planned: int  # more than `steps` where the budget of CPU time ended


class Block(nn.Module):
    """Two convolutions beside a way past them."""

    def __init__(self, config: Config, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilations = config.kernel, (dilation, 2 * dilation)
        self.mix = nn.ModuleList(nn.Linear(config.kernel * config.width, config.width) for _ in self.dilations)
        self.norm = nn.ModuleList(nn.LayerNorm(config.width) for _ in self.dilations)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Return [N, D] from [N, D]."""
        hidden = x
        for mix, norm, dilation in zip(self.mix, self.norm, self.dilations, strict=True):
            hidden = torch.relu(norm(mix(before(hidden, place, count=self.kernel, gap=dilation))))
        answer: Tensor = x + self.drop(hidden)
        return answer


class Model(streams.Net):
    """Tokens in, what to look for out."""

    def __init__(self, config: Config, read: streams.Reader) -> None:
        super().__init__()
        self.read = read
        self.blocks = nn.ModuleList(Block(config, dilation) for dilation in config.dilations)
        self.norm = nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Return [N, D] from the tokens x [N, D], stretch after stretch; `place` [N] of each in its stretch."""
        for block in self.blocks:
            x = block(x, place)
        answer: Tensor = self.out(self.drop(self.norm(x)))
        return answer


def before(x: Tensor, place: Tensor, *, count: int, gap: int) -> Tensor:
    """Return each token and the ones `gap`, 2 `gap` ... before it, side by side [N, count x D]; 0 before the first.

    A causal convolution over tokens that lie one after the other is this and one matrix product.
    """
    back = torch.arange(count, device=x.device) * gap
    at = torch.arange(len(x), device=x.device)[:, None] - back
    at = torch.where(place[:, None] >= back, at, len(x))
    return nn.functional.pad(x, (0, 0, 0, 1))[at].flatten(1)


def field(config: Config) -> int:
    """Return how many sets, itself counted, a set sees."""
    return 1 + sum((config.kernel - 1) * 3 * dilation for dilation in config.dilations)


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: train.Progress | None = None,
) -> State:
    """Train; 6 I D multiplications a lesson, and 12 x kernel x D^2 a block for the net.

    `folder`, `progress`: see train.run. Same seed, machine, build and threads: the same State, bit for bit. Raises
    ModelError when nobody bought a second time.
    """
    lessons = streams.lessons(past, window=config.window, model="model.cnn")
    content = streams.content(past.words, config.content, len(past.items))
    with train.seeded(runtime.seed), train.threads(runtime.threads):
        model = Model(config, _reader(config, past.histories.kinds, content, lessons.met))
        done, planned = streams.learn(
            model,
            lessons,
            content,
            streams.Course(config.passes, config.steps, config.stretches, config.learning_rate),
            runtime=runtime,
            folder=folder,
            fingerprint=streams.fingerprint(past, config, runtime) if folder else "",
            progress=progress,
        )
    return State(
        config=config,
        items=past.items,
        kinds=past.histories.kinds,
        content=content,
        weights=streams.weights(model),
        popular=streams.popular(past),
        steps=done,
        planned=planned,
    )


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I], logits of the next purchase at `past.as_of`; O(sets in the window x D^2 + B I D).

    A user without a set is told what sells most; an item the state has never met scores as low as the lowest.
    """
    with train.seeded(0):  # the weights drawn here are replaced at once
        model = Model(
            state.config, _reader(state.config, state.kinds, state.content, np.ones(len(state.items), dtype=bool))
        )
    model.load_state_dict(state.weights)
    trained = streams.Trained(model, state.items, state.kinds, state.content, state.popular)
    return streams.scores(trained, past, window=state.config.window)


def _reader(config: Config, kinds: tuple[str, ...], content: Floats, met: streams.Bools) -> streams.Reader:
    return streams.Reader(config.width, kinds=len(kinds), content=content.shape[1], met=met, dropout=config.dropout)
