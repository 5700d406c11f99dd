"""One space for two modalities, learnt from pairs: the words and the picture of one product end near each other.

`cca`: canonical correlations (Hotelling 1936) with a ridge on both covariances (Vinod 1976), directions weighted by
their correlation (Gong et al. 2014, IJCV 106, section 3.3). `contrastive`: two linear maps that begin at those of
`cca` and learn by the symmetric loss of Radford et al. 2021 ("Learning transferable visual models from natural
language supervision", figure 3); how long is found on pairs held back, then it learns that long from all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.encode.vectors import Dense, unit

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
LEAST = 8  # pairs


@dataclass(frozen=True)
class Config:
    """How the space is learnt. Raises SettingsError for settings that make no sense."""

    method: Literal["cca", "contrastive"] = "cca"  # contrast bought nothing on 1,743 titles and photos (LOG.md)
    width: int = 128  # of the space
    ridge: float = 0.3  # of the mean variance, added to every direction before they are held against each other
    power: float = 1.0  # of the correlation by which a direction counts
    temperature: float = 0.05  # of the loss
    learning_rate: float = 3e-4
    decay: float = 0.1
    batch: int = 256
    passes: int = 60
    patience: int = 6  # passes without a better loss on held-back pairs
    held: float = 0.15  # share of the pairs that is held back

    def __post_init__(self) -> None:
        """Refuse settings that would learn nothing."""
        numbers = min(self.ridge, self.temperature, self.learning_rate) > 0 and self.power >= 0 and 0 < self.held < 0.5
        whole = min(self.width, self.passes, self.patience) >= 1 and self.batch >= 2
        if self.method not in ("cca", "contrastive") or not numbers or not whole:
            raise SettingsError(
                "encode.space.Config",
                found=f"method '{self.method}', width {self.width}, ridge {self.ridge}, power {self.power}, "
                f"temperature {self.temperature}, batch {self.batch}, held {self.held}",
                consequence="No common space could be learnt",
                remedy="Give cca or contrastive, numbers above 0, a batch from 2 and held below a half",
            )


@dataclass(frozen=True)
class Side:
    """How one modality comes into the space."""

    mean: Floats  # [D]
    map: Floats  # [D, W]


@dataclass(frozen=True)
class Space:
    """What was learnt."""

    left: Side
    right: Side
    correlations: Floats  # [W] of the pairs it was learnt from, strongest first
    passes: int = 0  # of the contrastive part; 0 = the start was best, or there was none


def fit(left: Dense, right: Dense, config: Config | None = None, *, runtime: Runtime | None = None) -> Space:
    """Learn from pairs: row i of `left` float32[N, D] belongs to row i of `right` float32[N, E].

    O(N (D^2 + E^2) + D^3 + E^3), and passes x N (D + E) W for `contrastive`. Raises ModelError for other numbers of
    rows, fewer than 8 pairs, and values that are no number.
    """
    config, runtime = config or Config(), runtime or Runtime()
    a, b = left.astype(np.float64), right.astype(np.float64)
    found = ""
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        found = f"the shapes are {a.shape} and {b.shape}"
    elif len(a) < LEAST:
        found = f"there are {len(a)} pairs"
    elif not (np.isfinite(a).all() and np.isfinite(b).all()):
        found = "a vector holds a number that is not finite"
    if found:
        raise ModelError(
            "encode.space.fit",
            found=found,
            consequence="Nothing can be learnt from them",
            remedy=f"Give at least {LEAST} pairs of vectors, a row each on both sides",
        )
    if config.method == "cca":
        return _correlated(a, b, config)
    return _contrasted(a, b, config, runtime)


def place(side: Side, rows: Dense) -> Dense:
    """Return unit rows float32[N, W] in the space."""
    return unit((rows.astype(np.float64) - side.mean) @ side.map)


def ranks(asked: Dense, found: Dense) -> npt.NDArray[np.int64]:
    """Return at which place the row of `found` [N, W] that belongs to each of `asked` comes: 1 = nearest, ties half.

    O(N^2 W) in blocks of 1,024.
    """
    told = []
    for start in range(0, len(asked), 1_024):
        near = asked[start : start + 1_024].astype(np.float64) @ found.T.astype(np.float64)
        own = near[np.arange(len(near)), np.arange(start, start + len(near))][:, None]
        told.append(1 + (near > own).sum(axis=1) + ((near == own).sum(axis=1) - 1) // 2)
    return np.concatenate(told).astype(np.int64) if told else np.zeros(0, dtype=np.int64)


def fill(space: Space, known: Dense, examples: Dense, shown: Dense, *, nearest: int = 5) -> Dense:
    """Return what the right modality of `known` [N, D] may look like: the mean of that of its nearest examples.

    `examples` [M, D] are left vectors whose right vectors `shown` [M, E] are there. The answer float32[N, E] is made
    up by association: whoever keeps it marks it as filled. O(N M W).
    """
    if not 1 <= nearest <= len(examples) or len(examples) != len(shown):
        raise ModelError(
            "encode.space.fill",
            found=f"nearest is {nearest}, of {len(examples)} examples with {len(shown)} vectors to show",
            consequence="Nothing can be filled in",
            remedy="Give examples with a vector each, and nearest up to their number",
        )
    near = place(space.left, known) @ place(space.right, shown).T
    some = np.argpartition(-near, nearest - 1, axis=1)[:, :nearest]
    return unit(shown[some].mean(axis=1))


def _correlated(a: Floats, b: Floats, config: Config) -> Space:
    means = a.mean(axis=0), b.mean(axis=0)
    a, b = a - means[0], b - means[1]
    roots = [_root(x, config.ridge) for x in (a, b)]
    u, strength, v = np.linalg.svd(roots[0] @ (a.T @ b / len(a)) @ roots[1], full_matrices=False)
    kept = min(config.width, strength.size)
    weight = strength[:kept] ** config.power
    maps = roots[0] @ u[:, :kept] * weight, roots[1] @ v[:kept].T * weight
    return Space(Side(means[0], maps[0]), Side(means[1], maps[1]), strength[:kept])


def _root(x: Floats, ridge: float) -> Floats:
    """Return (covariance + ridge x mean variance)^(-1/2)."""
    spread = x.T @ x / len(x)
    values, vectors = np.linalg.eigh(
        spread + ridge * max(float(np.trace(spread)) / len(spread), 1e-12) * np.eye(len(spread))
    )
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def _contrasted(a: Floats, b: Floats, config: Config, runtime: Runtime) -> Space:
    """Find on held-back pairs how many passes help, then make as many over all pairs."""
    order = np.random.default_rng(runtime.seed).permutation(len(a))
    held, learn = np.split(order, [max(2, round(config.held * len(a)))])
    _, passes = _passes(a, b, learn, held, config, config.passes, runtime.seed)
    found, _ = _passes(a, b, order, None, config, passes, runtime.seed)
    return replace(found, passes=passes)


def _passes(
    a: Floats, b: Floats, learn: Rows, held: Rows | None, config: Config, most: int, seed: int
) -> tuple[Space, int]:
    """Return the space after the pass with the least loss on `held` (after the last without it), and which it was."""
    import torch
    from torch.nn import functional

    start = _correlated(a[learn], b[learn], config)
    rng = np.random.default_rng(seed)

    def ready(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        pair = a[rows] - start.left.mean, b[rows] - start.right.mean
        return torch.from_numpy(pair[0].astype(np.float32)), torch.from_numpy(pair[1].astype(np.float32))

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        near = functional.normalize(x @ maps[0], dim=1) @ functional.normalize(y @ maps[1], dim=1).T
        own = torch.arange(len(x))
        near = near / config.temperature
        return (functional.cross_entropy(near, own) + functional.cross_entropy(near.T, own)) / 2

    firsts = [m / np.sqrt((m**2).mean()) for m in (start.left.map, start.right.map)]  # of size 1, as AdamW steps are
    maps = [torch.from_numpy(m.astype(np.float32)).requires_grad_() for m in firsts]
    steps = torch.optim.AdamW(maps, lr=config.learning_rate, weight_decay=config.decay)
    x, y = ready(learn)
    best, kept, at = np.inf, [m.detach().clone() for m in maps], 0
    for done in range(most + 1):
        with torch.no_grad():
            now = -float(done) if held is None else float(loss(*ready(held)))
        if now < best - 1e-4:
            best, kept, at = now, [m.detach().clone() for m in maps], done
        if done == most or done - at >= config.patience:
            break
        for rows in np.array_split(rng.permutation(len(learn)), max(1, len(learn) // config.batch)):
            steps.zero_grad()
            loss(x[rows], y[rows]).backward()  # type: ignore[no-untyped-call]
            steps.step()
    sides = [Side(side.mean, m.double().numpy()) for side, m in zip((start.left, start.right), kept, strict=True)]
    return Space(sides[0], sides[1], start.correlations), at
