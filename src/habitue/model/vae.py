"""A variational autoencoder over a user's bag of products (Mult-VAE, Liang et al., WWW 2018).

An encoder reads the bag as q(z|x) = N(mean, spread^2); a decoder turns a draw of z into softmax scores of all products.
Learnt is the multinomial log-likelihood of what the user buys (eq. 2), less beta x KL(q, N(0, I)). Both are told per
product to foretell, so beta grows with the size of the user's bag, as in RecVAE (Shenbin et al., WSDM 2020). Rows of
the bag are left out at random (denoising). Asked, z is the mean. A bag is read as a sum of vectors over its rows.

The paper rebuilds a bag from itself. With `ahead` every purchase but a user's first is foretold from the bag before it,
older purchases worth less: a conditional VAE, and much the better one where order matters; where things are bought
again and again it is not (LOG.md, "vae").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from habitue.core.runtime import Runtime
from habitue.core.settings import check_range, tuned
from habitue.model import train
from habitue.model.bags import Bags, lessons, scores
from habitue.model.fuse import Sum
from habitue.model.losses import half_is_quick, set_cross_entropy
from habitue.model.past import FOR_EVER, Floats, Past
from habitue.model.streams import UNSOLD, content, fingerprint, sold

ANSWERS = frozenset({"rank"})
SEEDED = True  # another seed is another model

OF_PRODUCTS = ("read", "goods.identity", "bias")  # weights with a row a product
RISE = 0.3  # of the steps pass until beta is whole (Liang et al., section 2.2.2)
SPREAD = -2.0  # log of the spread at the start: a draw is near its mean until the decoder can read it


@dataclass(frozen=True)
class Config:
    """Settings, picked on the validation of Beauty and of Online Retail (LOG.md, "vae")."""

    hidden: int = tuned(256, values=(128, 256, 512))
    width: int = tuned(64, values=(32, 64, 128))  # of z
    ahead: bool = False  # True: each purchase from the bag before it; False: the bag from itself
    history_half_life_days: float = tuned(120.0, 0.5, FOR_EVER, log=True)  # of a purchase in the bag
    beta: float = tuned(0.01, 1e-4, 1, log=True)
    dropout: float = tuned(0.3, 0.0, 0.7)  # of the bag's rows
    content: int = 0  # dimensions of the products' words; 0 = ids only
    steps: int = tuned(400, 200, 4000, log=True)
    queries: int = 512  # a step
    learning_rate: float = tuned(1e-2, 1e-3, 3e-2, log=True)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing here. Raises SettingsError."""
        positive = ("hidden", "width", "history_half_life_days", "queries", "learning_rate")
        check_range(self, positive=positive, not_negative=("beta", "content", "steps"), part=("dropout",))


# Without a clock a "day" is one step of a user's sequence (bench/sequences.py); LOG.md, "vae".
SEQUENCE = Config(ahead=True, history_half_life_days=2.0, beta=0.003, content=128, steps=800)


@dataclass(frozen=True)
class State:
    """A trained model."""

    config: Config
    items: tuple[str, ...]
    weights: dict[str, Tensor]  # of Model
    words: Tensor  # [I, C] words of the products, projected
    steps: int  # trained; fewer than in `config` where the budget of CPU time ended


class Model(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: Config, *, content: int, sold: Tensor) -> None:
        super().__init__()
        self.read = nn.Parameter(0.3 * torch.randn(len(sold), config.hidden) * sold[:, None])
        self.offset = nn.Parameter(torch.zeros(config.hidden))
        self.mean, self.spread = (nn.Linear(config.hidden, config.width) for _ in range(2))
        nn.init.zeros_(self.spread.weight)
        nn.init.constant_(self.spread.bias, SPREAD)
        self.goods = Sum(len(sold), content, config.width, sold=sold)
        self.bias = nn.Parameter(torch.zeros(len(sold)))

    def encode(self, bags: Bags) -> tuple[Tensor, Tensor]:
        """Return mean and log spread of z, both [Q, D]; a bag's length, of its rows' worth, is brought to 1."""
        unit = bags.total(self.read) / bags.length().clamp_min(1e-6)[:, None]
        hidden = torch.tanh(unit + self.offset)
        return self.mean(hidden), self.spread(hidden)

    def table(self, words: Tensor) -> Tensor:
        """Return the decoder's weights with the bias as last column, [I, D + 1]."""
        return torch.cat([self.goods(words), self.bias[:, None]], dim=1)


def with_one(z: Tensor) -> Tensor:
    """Return [Q, D + 1]: the number the bias is multiplied by."""
    return F.pad(z, (0, 1), value=1.0)


def divergence(mean: Tensor, log_spread: Tensor) -> Tensor:
    """Return KL(N(mean, spread^2), N(0, I)) of each row of [Q, D], in nats (Kingma and Welling, 2014, appendix B)."""
    return 0.5 * (mean.square() + (2 * log_spread).exp() - 2 * log_spread - 1).sum(dim=1)


def fit(
    past: Past,
    config: Config,
    *,
    runtime: Runtime,
    folder: Path | None = None,
    progress: train.Progress | None = None,
) -> State:
    """Train for `config.steps` steps; about 40 ms a step of 512 bags and 12,000 products on one core.

    A step costs 6 x queries x I x D multiplications, and 16 bytes x I x (hidden + D) of memory to and fro. `folder`,
    `progress`: see train.run. Same seed, machine, build and threads: the same State, bit for bit. Raises ModelError
    when there is nothing to learn from.
    """
    taught = lessons(past, model="model.vae", ahead=config.ahead)
    met = sold(past)
    words = torch.from_numpy(content(past.words, config.content, len(past.items)))
    shown = words.to(runtime.device)
    unsold = torch.from_numpy(np.where(met, 0, UNSOLD).astype(np.float32)).to(runtime.device)
    half = half_is_quick(runtime.device)

    with train.seeded(runtime.seed), train.threads(runtime.threads):
        model = Model(config, content=words.shape[1], sold=torch.from_numpy(met.astype(np.float32))).to(runtime.device)

        def loss(step: int) -> tuple[Tensor, int]:
            chosen = taught.drawn(step, config.queries, seed=runtime.seed)
            bags, wanted = taught.asked(chosen, half_life_days=config.history_half_life_days, device=runtime.device)
            mean, log_spread = model.encode(bags.thinned(config.dropout))
            z = mean + torch.randn_like(mean) * log_spread.exp()
            each = z.new_full((len(z),), 1 / len(z))
            told = set_cross_entropy(
                with_one(z), model.table(shown), target=wanted, weight=each, bias=unsold, half=half
            )
            beta = config.beta * min(1.0, (step + 1) / (RISE * config.steps))
            return told + beta * divergence(mean, log_spread).mean(), len(z)

        trained = train.run(
            model,
            loss,
            train.Schedule(config.steps, config.learning_rate),
            seed=runtime.seed,
            folder=folder,
            fingerprint=fingerprint(past, config, runtime) if folder else "",
            progress=progress,
            budget_s=runtime.budget_s,
        )
    reached = torch.from_numpy(met) | words.any(dim=1)
    with torch.no_grad():  # of a product never sold nothing is known but its words, and that it is no favourite
        model.bias[unsold < 0] = model.bias[unsold == 0].min()
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return State(
        config=config,
        items=tuple(item for item, there in zip(past.items, reached, strict=True) if there),
        weights=weights | {name: weights[name][reached] for name in OF_PRODUCTS},
        words=words[reached],
        steps=trained.steps,
    )


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I], logits of the next set; O(rows x hidden + B x I x D).

    A user without a history gets the scores of an empty bag, which rows left out at random taught it; a product the
    state has never met, and one without sales and words at the fit, the lowest of its row.
    """
    with train.seeded(0):  # the weights drawn here are replaced at once
        model = Model(state.config, content=state.words.shape[1], sold=torch.ones(len(state.items)))
    model.load_state_dict(state.weights)
    model.eval()
    with torch.inference_mode():
        table = model.table(state.words)

    def answer(bags: Bags) -> Tensor:
        return with_one(model.encode(bags)[0]) @ table.T

    return scores(past, state.items, answer, half_life_days=state.config.history_half_life_days)
