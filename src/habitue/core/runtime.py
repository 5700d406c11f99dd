"""Where a run happens: device, threads, seed and folders, built once and passed in."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_JEMALLOC = "_RJEM_MALLOC_CONF"
_MODEST = "retain:false,narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0"


@dataclass(frozen=True)
class Runtime:
    """One process of a run."""

    device: str = "cpu"
    seed: int = 0
    threads: int = 1
    rank: int = 0
    world: int = 1
    budget_s: float | None = None  # CPU-seconds after which training ends with what it has; None = no limit


def modest() -> None:
    """Give address space back that is not used, for a process that is limited in it (`ulimit -v`).

    glibc keeps pools of 64 MB for up to eight threads a core, jemalloc (in Polars) whatever it once had, in four pools
    a core: an import of 300 MB went from 1,220 to 780 MB of address space (LOG.md). Only on Linux, and for Polars only
    before it is loaded. Polars writes its own wishes into the environment, where programs it starts find them: ours
    stand behind them, and of two words jemalloc takes the last.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and no pools
        if mallopt is not None:
            mallopt(-8, 1)  # M_ARENA_MAX
        inherited = [told for told in (os.environ.get(_JEMALLOC), _MODEST) if told]
        os.environ[_JEMALLOC] = ",".join(inherited)


def leave_a_core() -> None:
    """Let BLAS and OpenMP work in the thread that calls them, and Polars on all cores but one; programs started too.

    For a process that answers many small questions beside one that works on tables. OpenBLAS's second thread spins for
    its next piece of work, and at 200 answers a second never rests: on 2 cores `habitue serve` took 1.4 of them so, and
    .5 with one thread (LOG.md). Before any of these libraries is loaded; who set OMP_NUM_THREADS, POLARS_MAX_THREADS
    and their like keeps what was set.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, os.environ.get("OMP_NUM_THREADS", "1"))
    os.environ.setdefault("POLARS_MAX_THREADS", str(max((os.cpu_count() or 1) - 1, 1)))


def give_back() -> None:
    """Give back to the system what the C library holds free in its pools: after work on large tables. Only on Linux."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none, and needs none
        trim(0)


def detect(*, seed: int = 0, threads: int = 1, device: str | None = None) -> Runtime:
    """Build the Runtime of this process; set the threads of torch and BLAS, and torch's deterministic algorithms.

    One thread by default: the models of a shop are thousands of small operations. On 2 cores a second thread made the
    flagship's training 3.6 times slower, and on a busy machine EASE's solve 12 times (LOG.md). `device` None picks an
    accelerator when torch sees one. Results repeat for the same seed, machine, build and thread count.

    Under `torchrun` the processes join here; each has its `rank` of `world`, and an accelerator of its own.
    """
    import threadpoolctl
    import torch

    threadpoolctl.threadpool_limits(threads)  # of every BLAS and OpenMP loaded by now, for good
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Runtime(device=device, seed=seed, threads=threads)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    return Runtime(device=device, seed=seed, threads=threads, rank=torch.distributed.get_rank(), world=world)


def models_folder() -> Path:
    """Return where pretrained weights lie: $HABITUE_MODELS, else `habitue/models` in the user's cache folder.

    The cache folder is $XDG_CACHE_HOME or ~/.cache, and ~/Library/Caches on macOS. Makes nothing.
    """
    named = os.environ.get("HABITUE_MODELS")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/habitue/models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "habitue/models"


def signing_key() -> bytes | None:
    """Return the key that receipts are signed with, $HABITUE_SIGNING_KEY; None when it is not set."""
    return os.environ.get("HABITUE_SIGNING_KEY", "").encode() or None


def named_threads() -> int | None:
    """Return OMP_NUM_THREADS; None when it is not set or no number."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdigit() else None


def free_memory() -> int | None:
    """Return the bytes of memory a program may still take; None where the system does not tell."""
    about = Path("/proc/meminfo")
    for line in about.read_text().splitlines() if about.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 2**10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):  # macOS has no such name
        return None


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process with `changes`, for a program it starts."""
    return os.environ | changes


def peak_mb() -> float:
    """Return the largest resident memory of this process, MB: since `forget_peak` where the kernel tells, else ever."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # macOS counts bytes, Linux kilobytes


def forget_peak() -> None:
    """Let the kernel count the peak anew, where it can (Linux); elsewhere the peak stays that of the process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
