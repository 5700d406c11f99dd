"""One small network, the same for every task and every representation: what can be read off a frozen vector?

x -> linear(hidden) -> GELU -> dropout -> linear(answers), logistic loss, AdamW with a cosine, the mean of a few starts.
Its settings were chosen once on earlier windows for vectors and hand aggregates together (LOG.md, "universal profile").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from habitue.core.runtime import Runtime
from habitue.model import train

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """The settings of every probe."""

    hidden: int = 256
    input_dropout: float = 0.2
    dropout: float = 0.5
    learning_rate: float = 3e-4
    weight_decay: float = 0.1
    passes: int = 15
    batch: int = 256
    starts: int = 2


def answer(known: Floats, targets: Floats, asked: Floats, config: Config, *, runtime: Runtime) -> Floats:
    """Learn `targets` [n, answers] of 0 and 1 from `known` [n, P]; return the logits for `asked`, [m, answers].

    O(starts x passes x n x P x hidden). The same seed, machine, build and threads give the same numbers.
    """
    inputs, wanted, new = (torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32)) for v in (known, targets, asked))
    told = np.zeros((len(asked), targets.shape[1]), dtype=np.float32)
    for start in range(config.starts):
        with train.seeded(runtime.seed + start), train.threads(runtime.threads):
            network = _learnt(inputs, wanted, config)
            with torch.inference_mode():
                told += network.eval()(new).numpy() / config.starts
    return told


def _learnt(inputs: torch.Tensor, wanted: torch.Tensor, config: Config) -> nn.Sequential:
    last = nn.Linear(config.hidden, wanted.shape[1])
    network = nn.Sequential(
        nn.Dropout(config.input_dropout),
        nn.Linear(inputs.shape[1], config.hidden),
        nn.GELU(),
        nn.Dropout(config.dropout),
        last,
    )
    share = wanted.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    with torch.no_grad():  # from the share of yes on: else the first passes go into learning how rare it is
        last.bias.copy_(torch.log(share / (1 - share)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = -(-len(inputs) // config.batch) * config.passes
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(config.passes):
        for rows in torch.split(torch.randperm(len(inputs)), config.batch):
            optimiser.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(network(inputs[rows]), wanted[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network
