"""What was sensed of a person over time, told by a small network that learns from labelled series.

Where `signals` counts what a window is like, this learns which shapes matter: three convolutions over time, a gated
recurrent unit (Cho et al. 2014) over what they see, and the mean over time, on windows of a regular clock
(`signals.steady`). It learns from `things` with a column `label`; an id's row is the mean over its windows. Which of
the two is better depends on how much is labelled: docs/encode.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor, nn

from habitue.core.errors import InputError, SchemaError, SettingsError, did_you_mean
from habitue.core.progress import steps
from habitue.encode import signals
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected
from habitue.prepare.augment import series as altering

FURTHEST = 8.0  # standard deviations, beyond which a value tells no more
Windows = npt.NDArray[np.float32]  # [W, 2 S, T] values in standard deviations, then where there are some


@dataclass(frozen=True)
class Config:
    """Which signals, on which clock, and how the network learns. Raises SettingsError for what makes no sense."""

    signals: signals.Config = field(default_factory=lambda: signals.Config(cutoff_hz=0.5))
    width: int = 32
    passes: int = 30
    batch: int = 32
    learning_rate: float = 3e-3
    dropout: float = 0.3
    augment: tuple[str, ...] = ()  # of prepare.augment.series, done anew in each pass
    mixed: float = 0.0  # alpha of mixed samples; 0 = none
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that would learn nothing."""
        wrong = [name for name in self.augment if name not in altering.METHODS]
        small = min(self.width, self.passes, self.batch, self.threads) < 1 or self.learning_rate <= 0
        if wrong or small or not 0 <= self.dropout < 1 or self.mixed < 0:
            raise SettingsError(
                "encode.temporal.Config",
                found=f"there is no method '{wrong[0]}'"
                if wrong
                else f"width {self.width}, passes {self.passes}, batch {self.batch}, learning_rate "
                f"{self.learning_rate:g}, dropout {self.dropout:g}, mixed {self.mixed:g}",
                consequence="Nothing could be learnt",
                remedy=did_you_mean(wrong[0], altering.METHODS) if wrong else "Give numbers from 1, and shares below 1",
            )

    @property
    def ticks(self) -> int:
        """Values of one window."""
        return round(self.signals.window_s * self.signals.rate_hz)


@dataclass(frozen=True)
class Fitted:
    """What was learnt: classes, scales of the signals, weights."""

    classes: tuple[str, ...]
    middle: npt.NDArray[np.float64]  # [S]
    spread: npt.NDArray[np.float64]
    weights: dict[str, npt.NDArray[np.float32]]
    config: Config  # it learnt with; signals and width must be these when it is asked

    @property
    def sha256(self) -> str:
        """Equal digests, equal answers."""
        state = hashlib.sha256(repr(self.classes).encode() + self.middle.tobytes() + self.spread.tobytes())
        for name in sorted(self.weights):
            state.update(name.encode() + self.weights[name].tobytes())
        return state.hexdigest()


class Network(nn.Module):
    """Windows to 2 W numbers, and those to classes."""

    def __init__(self, channels: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        sizes = [channels, width, width, width]
        self.look = nn.Sequential(
            *(
                part
                for one, other in zip(sizes, sizes[1:], strict=False)
                for part in (
                    nn.Conv1d(one, other, 5, padding=2),
                    nn.GroupNorm(1, other),
                    nn.ReLU(),
                    nn.AvgPool1d(2, ceil_mode=True),
                )
            )
        )
        self.follow = nn.GRU(width, width, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.told = nn.Linear(2 * width, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """[B, 2 S, T] -> [B, 2 W]: the mean over time of what is seen, and where following it ends."""
        seen = self.look(windows)
        _, last = self.follow(seen.transpose(1, 2))
        return torch.cat([seen.mean(dim=2), last[0]], dim=1)


def encode(things: pl.DataFrame, config: Config | None = None, *, fitted: Fitted | None = None) -> Vectors:
    """Return one row per thing (id and series) with 2 x width numbers, not of length 1.

    Without `fitted` the network learns first from the same things, which then need a column `label` (`fit`). An id with
    none of the signals gets a reason, not a row.
    """
    config = config or Config()
    learnt = fitted or fit(things, config)
    seen, _ = _answered(things, learnt, config)
    by = Encoder("signals.temporal@1", 2 * config.width, _settings(config), learnt.sha256)
    why = Refusal("no_signal", f"None of {', '.join(config.signals.signals)} was sensed.")
    made = collected(things["id"].to_list(), by, [(n, seen.get(n, why)) for n in range(things.height)])
    return Vectors(made.ids, made.matrix, made.encoded, made.encoder, made.sha256, made.refused, learnt)


def answer(things: pl.DataFrame, fitted: Fitted, config: Config | None = None) -> npt.NDArray[np.float64]:
    """Return shares [I, classes]: the mean over an id's windows; an id without a signal gets equal shares."""
    _, shares = _answered(things, fitted, config or Config())
    alike = np.full(len(fitted.classes), 1 / len(fitted.classes))
    return (
        np.stack([shares.get(n, alike) for n in range(things.height)]) if things.height else np.zeros((0, alike.size))
    )


def fit(things: pl.DataFrame, config: Config | None = None) -> Fitted:
    """Learn from things (id, series of `signals.series`, label); an id without a label or a signal is not read.

    AdamW with one rise and fall of the rate; O(passes x windows x ticks x width^2). The same things, settings and
    threads give the same network. Raises SchemaError, and InputError for fewer than two labels.
    """
    config = config or Config()
    if "label" not in things.columns:
        raise SchemaError(
            "encode.temporal",
            found=f"the columns are {', '.join(things.columns)}",
            consequence="There is no network, and none can be learnt without labels",
            remedy="Give `fitted`, what was learnt before, or a column `label`",
        )
    labels = things["label"].cast(pl.String)
    classes = tuple(sorted(labels.drop_nulls().unique()))
    clocks = _clocks(things, config)
    known = [n for n in sorted(clocks) if labels[n] is not None]
    if len({labels[n] for n in known}) < 2:
        raise InputError(
            "encode.temporal",
            found=f"{len(known)} of {things.height} series have a signal and a label, of "
            f"{len({labels[n] for n in known})} kinds",
            consequence="There is nothing to tell apart",
            remedy="Give series of two labels or more",
        )
    every = np.concatenate([clocks[n] for n in known], axis=1)
    middle = np.nan_to_num(np.array([np.nanmean(row) if np.isfinite(row).any() else 0.0 for row in every]))
    spread = np.array([np.nanstd(row) if np.isfinite(row).any() else 1.0 for row in every])
    spread = np.where(spread > 1e-12, spread, 1.0)
    windows = [_windows((clocks[n] - middle[:, None]) / spread[:, None], config) for n in known]
    kinds = np.concatenate([np.full(len(w), classes.index(labels[n])) for w, n in zip(windows, known, strict=True)])
    return Fitted(classes, middle, spread, _learnt(np.concatenate(windows), kinds, len(classes), config), config)


def _learnt(
    windows: npt.NDArray[np.float64], kinds: npt.NDArray[np.int64], classes: int, config: Config
) -> dict[str, npt.NDArray[np.float32]]:
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    rng = np.random.default_rng(config.seed)
    wanted = torch.nn.functional.one_hot(torch.from_numpy(kinds), classes).float()
    try:
        with torch.random.fork_rng(), steps("Learn from series") as advance:
            torch.manual_seed(config.seed)
            network = Network(2 * windows.shape[1], classes, config.width, config.dropout)
            adam = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
            total = -(-len(windows) // config.batch) * config.passes
            plan = torch.optim.lr_scheduler.OneCycleLR(adam, config.learning_rate, total_steps=total)
            for done in range(config.passes):
                altered = windows
                for name in config.augment:
                    altered = np.stack([altering.METHODS[name](one, rng) for one in altered])
                rows = torch.from_numpy(_seen(altered))
                for some in torch.split(torch.randperm(len(rows)), config.batch):
                    x, y = rows[some], wanted[some]
                    if config.mixed:
                        share = torch.from_numpy(rng.beta(config.mixed, config.mixed, (len(some), 1))).float()
                        other = torch.randperm(len(some))
                        x, y = (
                            share[..., None] * x + (1 - share[..., None]) * x[other],
                            share * y + (1 - share) * y[other],
                        )
                    adam.zero_grad()
                    value = torch.nn.functional.cross_entropy(network.told(network.drop(network(x))), y)
                    value.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    adam.step()
                    plan.step()
                advance(done + 1, config.passes)
    finally:
        torch.set_num_threads(before)
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


def _answered(
    things: pl.DataFrame, fitted: Fitted, config: Config
) -> tuple[dict[int, Dense], dict[int, npt.NDArray[np.float64]]]:
    """Return for each place with a signal its row and its shares; each by itself, so neighbours do not show."""
    if (config.signals, config.width) != (fitted.config.signals, fitted.config.width):
        raise SettingsError(
            "encode.temporal",
            found="the signals, their clock or the width are not those that the network learnt with",
            consequence="It would be shown something else than it knows",
            remedy="Ask with the Config it was learnt with: fitted.config",
        )
    network = Network(2 * len(fitted.middle), len(fitted.classes), config.width, config.dropout)
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in fitted.weights.items()})
    network.eval()
    rows, shares = {}, {}
    with torch.inference_mode():
        for place, clock in _clocks(things, config).items():
            scaled = (clock - fitted.middle[:, None]) / fitted.spread[:, None]
            seen = network(torch.from_numpy(_seen(_windows(scaled, config))))
            rows[place] = seen.mean(dim=0).numpy()
            shares[place] = network.told(seen).softmax(dim=1).mean(dim=0).double().numpy()
    return rows, shares


def _clocks(things: pl.DataFrame, config: Config) -> dict[int, npt.NDArray[np.float64]]:
    """Return for each place with a signal its signals on one clock, [S, ticks], NaN where nothing was sensed."""
    by = config.signals
    signals.check_series(things.select("id", "series") if {"id", "series"} <= set(things.columns) else things)
    parts = signals.parts(things, by)
    made = {}
    for place, told in parts.items():
        first = min(float(at[0]) for at, _ in told.values())
        steady = {name: (float(at[0]) - first, signals.steady(at, value, by)[0]) for name, (at, value) in told.items()}
        late = {name: (round(begin * by.rate_hz), clock) for name, (begin, clock) in steady.items()}
        length = max(start + clock.size for start, clock in late.values())
        whole = np.full((len(by.signals), length), np.nan)
        for name, (start, clock) in late.items():
            whole[by.signals.index(name), start : start + clock.size] = clock
        made[place] = whole
    return made


def _windows(clock: npt.NDArray[np.float64], config: Config) -> npt.NDArray[np.float64]:
    """Return [W, S, T] from [S, ticks], a step apart and one at the end; those that hold nothing are left out.

    A short series is one window with nothing behind its end.
    """
    ticks, step = config.ticks, max(1, round(config.signals.step_s * config.signals.rate_hz))
    if clock.shape[1] < ticks:
        clock = np.pad(clock, ((0, 0), (0, ticks - clock.shape[1])), constant_values=np.nan)
    last = clock.shape[1] - ticks
    starts = sorted({*range(0, last + 1, step), last})
    made = np.stack([clock[:, s : s + ticks] for s in starts])
    some = np.isfinite(made).any(axis=(1, 2))
    return made[some]


def _seen(windows: npt.NDArray[np.float64]) -> Windows:
    """Return [W, 2 S, T]: values drawn in to FURTHEST, 0 where there is none, and whether there is one."""
    there = np.isfinite(windows)
    return np.concatenate([np.where(there, windows, 0.0).clip(-FURTHEST, FURTHEST), there], axis=1).astype(np.float32)


def _settings(config: Config) -> dict[str, object]:
    by = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(config.signals).items()}
    return by | {"width": config.width}
