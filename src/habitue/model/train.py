"""One visible training loop: a fixed number of steps, repeatable, and resumable to the bit after a kill.

Everything random in a step is drawn from (seed, step), so a run that was cut off needs no generator's state: the
weights, the optimiser's moments, the weights' average, the best weights so far and a small book of numbers are the
whole of it. The book holds the learning curve: loss and metric by step, targets and CPU-seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from habitue.core.errors import ModelError
from habitue.model.losses import half_is_quick, out_of_memory

CHECKPOINT, CURVE_FILE = "checkpoint.safetensors", "curve.csv"
BETAS = (0.9, 0.98)
TIMED = 20  # steps from which the cost of one is told
CLIP = 1.0  # largest norm of a step's gradient
METRIC = "validation"
POINTS = 100  # of a learning curve, about
CHECKS = 20  # of the metric in a run
CURVE = ("step", "targets", "cpu_s", "loss", "metric")  # columns of a learning curve

Progress = Callable[[int, int, str], None]
Loss = Callable[[int], tuple[Tensor, int]]  # step -> its loss, and how many targets that is the mean of


@dataclass(frozen=True)
class Recipe:
    """How a step is taken, and when to stop; what each setting brought: LOG.md, "the loop"."""

    fall: str = "linear"  # of the rate to 0: "linear" or "cosine" (Loshchilov and Hutter, ICLR 2017, eq. 5)
    decay: float = 0.0  # of the weights that are matrices, decoupled (AdamW; Loshchilov and Hutter, ICLR 2019)
    average: float = 0.0  # share that the weights' running average keeps in a step; 0 = the last weights count
    patience: int = 0  # looks at validation (CHECKS in a run) without a better metric that end it; 0 = none is held


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int
    learning_rate: float  # rises over `warmup` steps, then falls to 0 at `steps`
    recipe: Recipe = field(default_factory=Recipe)
    warmup: int = 50
    keep_every: int = 100  # steps between two checkpoints

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0. Raises ModelError for a fall that there is not."""
        rise, left = min(1.0, (step + 1) / self.warmup), 1 - step / self.steps
        if self.recipe.fall == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        elif self.recipe.fall != "linear":
            raise ModelError(
                "model.train.Recipe, setting 'fall'",
                found=f"there is no fall '{self.recipe.fall}'",
                consequence="The learning rate of a step is not known",
                remedy="Write linear or cosine",
            )
        return self.learning_rate * rise * left


@dataclass(frozen=True)
class Trained:
    """What a run has to tell beside the weights."""

    steps: int  # done
    curve: npt.NDArray[
        np.float64
    ]  # [N, 5], see CURVE: loss = mean over the steps since the row before, metric NaN where not looked at


@dataclass
class _Book:
    """What a checkpoint holds beside tensors."""

    done: int = 0
    targets: int = 0
    cpu_s: float = 0.0
    losses: list[float] = field(default_factory=list)  # since the newest point of the curve
    metric: float = math.nan  # as it was last looked at; NaN = not since the newest point
    curve: list[list[float]] = field(default_factory=list)
    best: float = -math.inf
    waited: int = 0  # looks at validation since the best

    def point(self) -> None:
        """Add a row to the curve."""
        self.curve.append([self.done, self.targets, self.cpu_s, float(np.mean(self.losses)), self.metric])
        self.losses, self.metric = [], math.nan

    def said(self) -> str:
        """Return loss and metric in words, for whoever waits."""
        loss = float(np.mean(self.losses)) if self.losses else self.curve[-1][3]
        looked = [m for *_, m in self.curve if not math.isnan(m)]
        return f"loss {loss:.3f}" + (f", {METRIC} {looked[-1]:.4f}" if looked else "")


def run(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    *,
    seed: int,
    validate: Callable[[], float] | None = None,
    folder: Path | None = None,
    fingerprint: str = "",
    progress: Progress | None = None,
    budget_s: float | None = None,
    rank: int = 0,
    world: int = 1,
) -> Trained:
    """Train `model` in place by AdamW on loss(step), step = 0 ... steps - 1.

    `validate()`, higher is better, is asked of the model as it would answer now, CHECKS times in a run; with
    `patience` so many looks without a better one end the run, and the best weights are those it ends with.

    `folder` keeps a checkpoint every `keep_every` steps and goes on from the one it finds: the weights at the end are
    those of an uninterrupted run, bit for bit (one machine, build and thread count). `fingerprint` names the run; a
    checkpoint of another run raises ModelError. `progress(done, steps, words)` is called after every step.

    `world` processes of one torch.distributed group train the same weights: each gives the loss of its share of a step,
    the gradients are added up, and the process of `rank` 0 keeps the checkpoints.

    `budget_s`: CPU-seconds of the process. After TIMED steps the schedule is cut to the steps that fit into what is
    left, so that the learning rate still falls to 0; should they take longer than the first ones, training ends at
    the budget with the weights it has. Of several processes the mean of their clocks and budgets counts.

    On an accelerator that has bfloat16 the loss is formed under autocast. Raises ModelError when a loss or gradient is
    no number any more, and when memory ends.
    """
    recipe, device = schedule.recipe, next(model.parameters()).device.type
    adam = _adam(model, recipe)
    live = dict(model.named_parameters())
    averaged = _copy(live) if recipe.average else {}
    best: dict[str, Tensor] = {}
    book = _resume(folder, model, adam, averaged, best, fingerprint) if folder else _Book()
    first, cpu_s, started, clock = book.done, book.cpu_s, time.process_time(), time.perf_counter()
    targets_before = book.targets
    model.train()
    while book.done < schedule.steps and not _waited_enough(book, recipe):
        if budget_s is not None and book.done > first:
            spent_s, all_s = _agreed(model, world, book.cpu_s - cpu_s, budget_s)
            schedule = _affordable(schedule, book.done, book.done - first, spent_s, all_s)
            if book.done >= schedule.steps:
                break
        step = book.done
        for group in adam.param_groups:
            group["lr"] = schedule.rate(step)
        adam.zero_grad()
        with seeded(seed, step), _memory_in_words(step):
            with torch.autocast(device, torch.bfloat16, enabled=in_half(device)):
                value, targets = loss(step)
            value.backward()  # type: ignore[no-untyped-call]
        told, targets = _add_up(model, value, targets) if world > 1 else (float(value.detach()), targets)
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), CLIP))
        if not math.isfinite(told) or not math.isfinite(norm):
            raise _no_number(step, told, schedule)
        adam.step()
        for name, mean in averaged.items():  # an average of few steps is theirs, not that of where they began
            mean.lerp_(live[name].detach(), 1 - min(recipe.average, (step + 1) / (step + 10)))
        book.done, book.targets = step + 1, book.targets + targets
        book.losses.append(told)
        if validate and _due(book.done, schedule.steps, CHECKS):
            with _answering(model, averaged):
                book.metric = validate()
                book.waited += 1
                if book.metric > book.best:
                    book.best, book.waited, best = book.metric, 0, _copy(live)
        book.cpu_s = cpu_s + time.process_time() - started
        ends = book.done == schedule.steps or _waited_enough(book, recipe)
        if _due(book.done, schedule.steps, POINTS) or ends or not math.isnan(book.metric):
            book.point()
        if folder and rank == 0 and (book.done % schedule.keep_every == 0 or ends):
            _keep(folder, model, adam, averaged, best, fingerprint, book)
        if progress:
            pace = (book.targets - targets_before) / max(time.perf_counter() - clock, 1e-9)
            progress(book.done, schedule.steps, f"{book.said()}, {pace:,.0f} targets/s")
    _put(model, (best if recipe.patience else {}) or averaged)
    model.eval()
    return Trained(book.done, np.array(book.curve, dtype=np.float64).reshape(-1, len(CURVE)))


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Draw from a generator seeded by `numbers` inside the block; outside, torch's own goes on as if nothing was."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    with torch.random.fork_rng():
        number = int.from_bytes(digest[:7], "big")
        if torch.accelerator.is_available():
            torch.manual_seed(number)
        else:  # torch.manual_seed keeps a traceback a call for the accelerators that are not there, 1.5 ms each
            torch.default_generator.manual_seed(number)
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block; sums depend on it in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_half(device: str) -> bool:
    """Tell whether a step's products are formed in bfloat16: on an accelerator that has it.

    On a processor only the softmax over the products is (losses.half_is_quick): the rest is too small to gain.
    """
    return device != "cpu" and half_is_quick(device)


def _adam(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW; vectors (biases, gains, one number a product) do not decay."""
    every = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
    ]
    fused = {p.device.type for p in every} <= {"cpu", "cuda"}  # one pass over a tensor for nine
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, fused=fused)


def _add_up(model: nn.Module, loss: Tensor, targets: int) -> tuple[float, int]:
    """Give every process the sum of all processes' gradients, losses and targets, in one message."""
    every = [p for p in model.parameters() if p.requires_grad]
    told = torch.stack([loss.detach().float(), torch.tensor(float(targets), device=loss.device)])
    flat = torch.cat([told, *((torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in every)])
    torch.distributed.all_reduce(flat)
    for parameter, gradient in zip(every, torch.split(flat[2:], [p.numel() for p in every]), strict=True):
        parameter.grad = gradient.view_as(parameter)
    return float(flat[0]), int(flat[1])


def _agreed(model: nn.Module, world: int, *numbers: float) -> list[float]:
    """Return the means over all processes: one that ended by its own clock would leave the others waiting for it."""
    if world == 1:
        return list(numbers)
    told = torch.tensor(numbers, device=next(model.parameters()).device)
    torch.distributed.all_reduce(told)
    means: list[float] = (told / world).tolist()
    return means


def _affordable(schedule: Schedule, done: int, timed: int, spent_s: float, budget_s: float) -> Schedule:
    """Return the schedule cut to what the budget leaves; `timed` steps took `spent_s`."""
    if spent_s >= budget_s:
        return dataclasses.replace(schedule, steps=done)
    if timed == TIMED:
        left = int((budget_s - spent_s) * timed / max(spent_s, 1e-9))
        return dataclasses.replace(schedule, steps=min(schedule.steps, done + left))
    return schedule


def _due(done: int, steps: int, times: int) -> bool:
    """Tell whether something that happens about `times` times in a run is to happen after this step."""
    return done == steps or done % math.ceil(steps / times) == 0


def _waited_enough(book: _Book, recipe: Recipe) -> bool:
    return 0 < recipe.patience <= book.waited


def _copy(weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _put(model: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(weights[name])


@contextmanager
def _answering(model: nn.Module, averaged: dict[str, Tensor]) -> Iterator[None]:
    """Let the model answer as it would if training ended here: nothing dropped, the averaged weights in place."""
    live = _copy(dict(model.named_parameters())) if averaged else {}
    _put(model, averaged)
    model.eval()
    try:
        yield
    finally:
        _put(model, live)
        model.train()


@contextmanager
def _memory_in_words(step: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            "training",
            found=f"step {step + 1} needs more memory than there is",
            consequence="It ends here; a checkpoint keeps what was learnt before",
            remedy="Ask less in a step (setting `questions`, `stretches` or `queries`), or take a smaller `width`",
        ) from error


def _no_number(step: int, loss: float, schedule: Schedule) -> ModelError:
    """Return the error of a loss or a gradient that is no number; in the first step the rate had no part in it."""
    first = "The data hold a number that is none, or one too large: look at values, prices and the products' vectors"
    later = f"Lower `learning_rate` (it is {schedule.learning_rate:g}; a third of it is a good next try)"
    return ModelError(
        "training",
        found=f"the loss of step {step + 1} of {schedule.steps} is {loss:g}, or its gradient is no number",
        consequence="Every weight would be spoilt by the next step; nothing of this step is kept",
        remedy=later if step else first,
    )


def _keep(
    folder: Path,
    model: nn.Module,
    adam: torch.optim.AdamW,
    averaged: dict[str, Tensor],
    best: dict[str, Tensor],
    fingerprint: str,
    book: _Book,
) -> None:
    """Write beside, flush, rename: a kill leaves the checkpoint before or this one, never half of it."""
    named = {"weights": model.state_dict(), "average": averaged, "best": best}
    tensors = {f"{part}.{name}": t.detach().cpu() for part, some in named.items() for name, t in some.items()}
    for place, moments in adam.state_dict()["state"].items():
        tensors.update({f"adam.{place}.{name}": torch.as_tensor(value).cpu() for name, value in moments.items()})
    folder.mkdir(parents=True, exist_ok=True)
    about = {"run": json.dumps({"fingerprint": fingerprint, "book": dataclasses.asdict(book)})}
    _replace(
        folder / CHECKPOINT,
        lambda beside: save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, about),
    )
    rows = [",".join("" if math.isnan(v) else f"{v:.9g}" for v in point) for point in book.curve]
    _replace(folder / CURVE_FILE, lambda beside: beside.write_text("\n".join([",".join(CURVE), *rows, ""])))


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _resume(
    folder: Path,
    model: nn.Module,
    adam: torch.optim.AdamW,
    averaged: dict[str, Tensor],
    best: dict[str, Tensor],
    fingerprint: str,
) -> _Book:
    """Put a checkpoint into model, optimiser, average and best; return its book, an empty one when there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return _Book()
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            path.name,
            found=f"it cannot be read as a checkpoint ({type(error).__name__})",
            consequence="Training cannot go on from it",
            remedy="Delete the file; training then starts from the first step",
        ) from error
    if about["fingerprint"] != fingerprint:
        raise ModelError(
            path.name,
            found="it was written by a run with other data, settings, seed or threads",
            consequence="Going on from it would mix two models",
            remedy="Delete the file, or give this run a folder of its own",
        )
    model.load_state_dict(_below(tensors, "weights."))
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in _below(tensors, "adam.").items():
        place, _, kind = name.partition(".")
        moments.setdefault(int(place), {})[kind] = tensor
    adam.load_state_dict({**adam.state_dict(), "state": moments})
    device = next(model.parameters()).device
    for part, some in (("average.", averaged), ("best.", best)):
        some.update({name: tensor.to(device) for name, tensor in _below(tensors, part).items()})
    return _Book(**about["book"])


def curve(folder: Path) -> list[dict[str, float | None]]:
    """Return the rows of the learning curve that lies beside a checkpoint, by CURVE; none without one."""
    path = folder / CURVE_FILE
    if not path.exists():
        return []
    lines = path.read_text().splitlines()[1:]
    numbers = ([float(v) if v else None for v in line.split(",")] for line in lines)
    return [dict(zip(CURVE, row, strict=True)) for row in numbers]


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
