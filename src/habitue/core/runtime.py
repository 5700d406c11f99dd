"""Where a run happens: device, threads and seed, built once and passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runtime:
    """One process of a run."""

    device: str = "cpu"
    seed: int = 0
    threads: int = 2
    rank: int = 0
    world: int = 1


def detect(*, seed: int = 0, threads: int | None = None, device: str | None = None) -> Runtime:
    """Build the Runtime of this process and set torch's threads and deterministic algorithms.

    `device` None picks an accelerator when torch sees one. Results repeat for the same seed, machine, build and
    thread count.
    """
    import os

    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = threads or cores
    torch.set_num_threads(count)
    torch.manual_seed(seed)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
    return Runtime(device=device, seed=seed, threads=count)
