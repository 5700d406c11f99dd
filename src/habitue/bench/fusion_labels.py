"""The five fusions where a thing has a label and nobody's behaviour: its type told from its title and its picture.

The same ways as in the flagship (model/fuse.py) before one linear layer; `decision` joins the shares of one such
network a modality. A condition `missing p` takes each modality from a share p of the things, each by a hash of its own,
in training and test alike; where nothing is left, the network still has the vectors that stand for what is missing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from habitue.bench import fusion_fits
from habitue.bench.fusion import FUSIONS, Cell
from habitue.core import progress
from habitue.core.runtime import Runtime, forget_peak, peak_mb
from habitue.evaluate.measured import per_user
from habitue.model import fuse, train
from habitue.model.past import Floats, Ints

CONDITIONS = (fusion_fits.AS_IT_IS, "missing 30", "missing 50", "missing 70", "missing 100")
WIDTH, BATCH, PASSES, RATE = 128, 128, 12, 3e-3
LEAST_STEPS = 150
DROP = 0.2
HELD = 0.2  # share of what is learnt from that finds the weights of `stacked`
TRIED = np.linspace(0, 1, 11)


class Teller(nn.Module):
    """Views of a thing -> one vector -> a score a label."""

    def __init__(self, kind: str, content: fuse.Content, labels: int) -> None:
        super().__init__()
        widths = [view.shape[1] for view in content.views]
        self.fused = fuse.Fused(kind, widths, WIDTH, scale=1.0, drop=DROP)
        self.own = nn.Parameter(torch.zeros(WIDTH), requires_grad=False)  # a label has no vector of its own
        self.last = nn.Sequential(nn.LayerNorm(WIDTH), nn.Dropout(0.2), nn.Linear(WIDTH, labels))

    def forward(self, there: Tensor, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the scores [N, labels] and the loss of the way."""
        nobody = there.new_zeros(len(there), 1)
        vectors, apart = self.fused(self.own.expand(len(there), -1), torch.cat([nobody, there], dim=1), rows)
        return self.last(vectors), apart


# Modalities, way and the things learnt from -> answers, and CPU-seconds.
_Trained = dict[tuple[tuple[str, ...], str, bytes], tuple[Floats, float]]


@dataclass(frozen=True)
class _Task:
    """What is asked, and what networks of the same condition have answered: each is trained once, whoever needs it."""

    content: fuse.Content
    truth: Ints
    labels: int
    trained: _Trained
    spent: list[float]  # of every network that a cell is made of


def run(
    content: Mapping[str, sp.csr_matrix],
    truth: Sequence[str],
    *,
    ids: Sequence[str],
    fold: Ints,
    conditions: Sequence[str] = CONDITIONS,
    dimensions: int = 128,
    seeds: int = 1,
    runtime: Runtime,
) -> list[Cell]:
    """Tell every thing's label by networks that did not see it, for every subset, fusion and condition.

    content: modality -> unit rows [N, V]; fold [N] which fold a thing is told in; seeds: networks of each fold, of
    which a thing has the mean share of right answers.
    """
    names = sorted(set(truth))
    place = np.array([names.index(name) for name in truth])
    subsets = [s for size in range(len(content), 0, -1) for s in itertools.combinations(sorted(content), size)]
    cells = []
    jobs = [(condition, subset) for condition in conditions for subset in subsets]
    trained: dict[tuple[str, int], _Trained] = {(c, seed): {} for c in conditions for seed in range(seeds)}
    for condition, subset in progress.track(jobs, "Subsets", total=len(jobs)):
        share = fusion_fits.lost(condition)
        some = {name: content[name] for name in subset}
        some = fusion_fits.missing(some, ids, share) if share else some
        parts = tuple((name, rows.shape[1]) for name, rows in some.items())
        told = fuse.content(sp.csr_matrix(sp.hstack(list(some.values()))), parts, dimensions, len(ids))
        for way in _ways(len(subset)):
            forget_peak()
            right, spent = np.zeros(len(place)), 0.0
            for seed in range(seeds):
                task = _Task(told, place, len(names), trained[condition, seed], [])
                shares = _told(task, fold, way, replace(runtime, seed=runtime.seed + seed))
                right += (shares.argmax(axis=1) == place) / seeds
                spent += sum(task.spent) / seeds
            fusion, _, how = (way or "").partition(" ")
            label = f"network ({how})" if how else "network"
            measured = (per_user("fusion", label, "all", "accuracy", np.arange(len(place)), right),)
            cost = (round(spent, 2), peak_mb())
            cells.append(Cell("network", subset, fusion or None, how, condition, measured, seeds, *cost))
    return cells


def _ways(many: int) -> Sequence[str | None]:
    if many < 2:
        return [None]
    return [f for f in FUSIONS if f != "decision"] + [f"decision {how}" for how in fuse.LATE]


def _told(task: _Task, fold: Ints, way: str | None, runtime: Runtime) -> Floats:
    """Return the shares [N, labels] of each thing from the networks of the other folds."""
    shares = np.zeros((len(task.truth), task.labels), dtype=np.float32)
    for one in np.unique(fold):
        learn, ask = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
        shares[ask] = _answers(task, learn, ask, way, runtime)
    return shares


def _answers(task: _Task, learn: Ints, ask: Ints, way: str | None, runtime: Runtime) -> Floats:
    if way is None or not way.startswith("decision"):
        return _trained(task, learn, ask, way or "concat", runtime)
    members = [_only(task, n) for n in range(len(task.content.names))]
    if not members:  # every modality is missing altogether
        return _trained(task, learn, ask, "concat", runtime)
    how = way.partition(" ")[2]
    weights = None
    if how == "stacked":
        luck = np.random.default_rng(runtime.seed).random(len(learn)) < HELD
        views = [_trained(one, learn[~luck], learn[luck], "concat", runtime) for one in members]
        weights = _weights(views, task.truth[learn[luck]])
    views = [np.log(_trained(one, learn, ask, "concat", runtime) + 1e-6) for one in members]
    return fuse.decided(views, how, weights)


def _only(task: _Task, n: int) -> _Task:
    """Return the task with one of its modalities."""
    content = task.content
    one = fuse.Content((content.names[n],), (content.views[n],), content.there[:, [n]])
    return replace(task, content=one)


def _weights(views: Sequence[Floats], truth: Ints) -> tuple[float, ...]:
    """Return the weight of the first view, tried in tenths, at which most is hit; the others share the rest evenly."""
    if len(views) == 1:
        return (1.0,)
    logs = [fuse.standard(np.log(view + 1e-6)) for view in views]
    rest = np.mean(logs[1:], axis=0)
    hits = [float(((w * logs[0] + (1 - w) * rest).argmax(axis=1) == truth).mean()) for w in TRIED]
    first = float(TRIED[int(np.argmax(hits))])
    return (first, *[(1 - first) / (len(views) - 1)] * (len(views) - 1))


def _trained(task: _Task, learn: Ints, ask: Ints, kind: str, runtime: Runtime) -> Floats:
    """Return the shares [A, labels] of the things `ask`, of a network trained on the things `learn`."""
    key = (task.content.names, kind, learn.tobytes())
    if key not in task.trained:
        began = time.process_time()
        shares = _fit(task, learn, ask, kind, runtime)
        task.trained[key] = shares, time.process_time() - began
    shares, spent = task.trained[key]
    task.spent.append(spent)
    return shares


def _fit(task: _Task, learn: Ints, ask: Ints, kind: str, runtime: Runtime) -> Floats:
    rows = [torch.from_numpy(view) for view in task.content.views]
    there = torch.from_numpy(np.ascontiguousarray(task.content.there))
    truth = torch.from_numpy(task.truth)
    with train.seeded(runtime.seed), train.threads(runtime.threads):
        model = Teller(kind, task.content, task.labels)
        a_pass = -(-len(learn) // BATCH)
        passes = max(PASSES, -(-LEAST_STEPS // a_pass))
        adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
        fall = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, passes * a_pass)
        model.train()
        for _ in range(passes):
            for some in torch.split(torch.from_numpy(learn)[torch.randperm(len(learn))], BATCH):
                adam.zero_grad()
                scores, apart = model(there[some], [row[some] for row in rows])
                loss = nn.functional.cross_entropy(scores, truth[some], label_smoothing=0.1) + apart
                loss.backward()
                adam.step()
                fall.step()
        model.eval()
        with torch.inference_mode():
            asked = torch.from_numpy(ask)
            scores, _ = model(there[asked], [row[asked] for row in rows])
            shares: npt.NDArray[np.float32] = torch.softmax(scores, dim=1).numpy()
    return shares
