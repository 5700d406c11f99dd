"""One visible training loop: a fixed number of steps, repeatable, and resumable to the bit after a kill.

Everything random in a step is drawn from (seed, step), so a run that was cut off needs no generator's state: the
weights, the optimiser's moments and the number of the next step are the whole of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from habitue.core.errors import ModelError

CHECKPOINT = "checkpoint.safetensors"
BETAS = (0.9, 0.98)
TIMED = 20  # steps from which the cost of one is told
CLIP = 1.0  # largest norm of a step's gradient

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int
    learning_rate: float  # rises over `warmup` steps, then falls linearly to 0 at `steps`
    warmup: int = 50
    keep_every: int = 100  # steps between two checkpoints


def run(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    folder: Path | None = None,
    fingerprint: str = "",
    progress: Progress | None = None,
    budget_s: float | None = None,
    rank: int = 0,
    world: int = 1,
) -> int:
    """Train `model` in place by Adam (Kingma and Ba, 2015) on loss(step), step = 0 ... steps - 1; return steps done.

    `folder` keeps a checkpoint every `keep_every` steps and goes on from the one it finds: the weights at the end are
    those of an uninterrupted run, bit for bit (one machine, build and thread count). `fingerprint` names the run; a
    checkpoint of another run raises ModelError. `progress(done, steps)` is called after every step.

    `world` processes of one torch.distributed group train the same weights: each gives the loss of its share of a step,
    the gradients are added up, and the process of `rank` 0 keeps the checkpoints.

    `budget_s`: CPU-seconds of the process. After TIMED steps the schedule is cut to the steps that fit into what is
    left, so that the learning rate still falls to 0; should they take longer than the first ones, training ends at
    the budget with the weights it has.
    """
    started = time.process_time()
    adam = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate, betas=BETAS)
    first = _resume(folder, model, adam, fingerprint) if folder else 0
    model.train()
    done = first
    while done < schedule.steps:
        if budget_s is not None and done > first:
            schedule = _affordable(schedule, done, done - first, time.process_time() - started, budget_s)
            if done >= schedule.steps:
                break
        step = done
        for group in adam.param_groups:
            group["lr"] = _rate(schedule, step)
        adam.zero_grad()
        with seeded(seed, step):
            loss(step).backward()  # type: ignore[no-untyped-call]
        if world > 1:
            _add_up(model)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        done = step + 1
        if folder and rank == 0 and (done % schedule.keep_every == 0 or done == schedule.steps):
            _keep(folder, model, adam, fingerprint, done)
        if progress:
            progress(done, schedule.steps)
    model.eval()
    return done


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Draw from a generator seeded by `numbers` inside the block; outside, torch's own goes on as if nothing was."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    with torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
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


def _add_up(model: nn.Module) -> None:
    """Give every process the sum of all processes' gradients, in one message."""
    every = [p for p in model.parameters() if p.requires_grad]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in every])
    torch.distributed.all_reduce(flat)
    for parameter, gradient in zip(every, torch.split(flat, [p.numel() for p in every]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def _affordable(schedule: Schedule, done: int, timed: int, spent_s: float, budget_s: float) -> Schedule:
    """Return the schedule cut to what the budget leaves; `timed` steps took `spent_s`."""
    if spent_s >= budget_s:
        return dataclasses.replace(schedule, steps=done)
    if timed == TIMED:
        left = int((budget_s - spent_s) * timed / max(spent_s, 1e-9))
        return dataclasses.replace(schedule, steps=min(schedule.steps, done + left))
    return schedule


def _rate(schedule: Schedule, step: int) -> float:
    return schedule.learning_rate * min(1.0, (step + 1) / schedule.warmup) * (1 - step / schedule.steps)


def _keep(folder: Path, model: nn.Module, adam: torch.optim.Adam, fingerprint: str, done: int) -> None:
    """Write beside, flush, rename: a kill leaves the checkpoint before or this one, never half of it."""
    tensors = {f"weights.{name}": tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    for place, moments in adam.state_dict()["state"].items():
        tensors.update({f"adam.{place}.{name}": torch.as_tensor(value).cpu() for name, value in moments.items()})
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{CHECKPOINT}-{os.getpid()}"
    try:
        about = {"run": json.dumps({"fingerprint": fingerprint, "done": done})}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata=about)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(folder / CHECKPOINT)
    finally:
        beside.unlink(missing_ok=True)


def _resume(folder: Path, model: nn.Module, adam: torch.optim.Adam, fingerprint: str) -> int:
    """Put a checkpoint into model and optimiser; return the number of the next step, 0 when there is none."""
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
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
    return int(about["done"])


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
