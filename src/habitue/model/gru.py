"""A recurrent net over a user's sets: GRU4Rec, with the whole softmax and one table for items in and out.

Hidasi, Karatzoglou, Baltrunas and Tikk, "Session-based recommendations with recurrent neural networks", ICLR 2016.
What was seen up to set t is h_t = GRU(x_t, h_t-1) (Cho et al., 2014), or with `cell = "lstm"` an LSTM's (Hochreiter and
Schmidhuber, 1997), which also keeps a memory beside h; item i then scores (W h_t + c) . table_i. Sets, lessons and loss
are those of streams.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model import streams, train
from habitue.model.past import Floats, Past

ANSWERS = frozenset({"rank"})
SEEDED = True  # another seed is another model

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class Config:
    """Settings, picked on Beauty's and MovieLens-1M's validation (LOG.md, "recurrent and convolutional nets")."""

    cell: str = "gru"  # or "lstm", as dear and on two data sets worse (LOG.md, "An LSTM in the place of the GRU")
    width: int = tuned(64, values=(32, 64, 128))
    hidden: int = tuned(128, values=(64, 128, 256))
    dropout: float = tuned(0.3, 0.1, 0.6)
    window: int = 200  # sets a stretch
    content: int = 128  # dimensions of the products' words; 0 = ids only
    passes: int = tuned(10, 3, 40, log=True)
    steps: int = 40_000  # at most
    stretches: int = tuned(64, values=(16, 32, 64, 128))  # a step, at most (streams.Course)
    learning_rate: float = tuned(6e-3, 5e-4, 2e-2, log=True)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        positive = ("width", "hidden", "window", "passes", "stretches", "learning_rate")
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


class Model(streams.Net):
    """Tokens in, what to look for out."""

    def __init__(self, config: Config, read: streams.Reader) -> None:
        super().__init__()
        self.read = read
        if config.cell not in CELLS:
            raise SettingsError(
                "model.gru.cell",
                found=f"there is no cell '{config.cell}'",
                consequence="How the net remembers is not known",
                remedy=did_you_mean(config.cell, CELLS),
            )
        self.gru = CELLS[config.cell](config.width, config.hidden)  # either; artefacts know it by this name
        self.drop = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """Return [N, D] from the tokens x [N, D], stretch after stretch; `place` [N] of each in its stretch.

        The net takes one step for the first sets of all stretches, one for the second ones, and so on: longer
        stretches come first (streams.collate), so those still there are the first ones.
        """
        moments = torch.argsort(place, stable=True)
        still_there = torch.bincount(place).cpu()
        hidden: Tensor = self.gru(PackedSequence(x[moments], still_there))[0].data
        answer: Tensor = self.out(self.drop(hidden[torch.argsort(moments)]))
        return answer


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: train.Progress | None = None,
) -> State:
    """Train; 6 I D multiplications a lesson, and 6 (D + H) 3 H for the net, an LSTM's 4 H.

    `folder`, `progress`: see train.run. Same seed, machine, build and threads: the same State, bit for bit. Raises
    ModelError when nobody bought a second time, SettingsError for a cell that there is not.
    """
    lessons = streams.lessons(past, window=config.window, model="model.gru")
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
    """Return float32 [B, I], logits of the next purchase at `past.as_of`; O(sets in the window x H^2 + B I D).

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
