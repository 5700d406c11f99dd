"""Run other libraries on the same file and protocol, each in an environment and a process of its own.

    python benchmarks/peers/run.py --events Beauty_sequences.parquet --envs ~/peer-envs --out beauty-peers.json
    python benchmarks/peers/run.py --events F --peers implicit-als,implicit-bm25,rectools-ease --refit

A person runs this by hand: it makes one virtual environment per library below --envs (pip, some hundred MB each), hands
it the events as numbers, takes its ten best items per user, and judges them here, by the metrics every other table has.
Protocol: leave-one-out as `habitue bench ranking` cuts it, full catalogue, history masked; --refit fits with the
validation event too. A library that cannot be installed or fails is named with its last words; the others go on.

cpu_s: CPU-seconds of fit and lists together in the peer's own process, loading left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from habitue.bench import files, protocols, sequences
from habitue.core.schemas import METRICS
from habitue.evaluate import bench, table
from habitue.evaluate.measured import per_user
from habitue.model.past import Past

HERE = Path(__file__).parent
LIST = 10


@dataclass(frozen=True)
class Peer:
    """A library: what pip installs, the script that drives it, and its models."""

    packages: tuple[str, ...]
    script: str
    models: tuple[str, ...]


PEERS = {
    "implicit": Peer(("implicit",), "drive_implicit.py", ("als", "bm25", "cosine")),
    "rectools": Peer(("rectools",), "drive_rectools.py", ("ease", "popular")),
    "rectools-torch": Peer(("rectools[torch]",), "drive_rectools.py", ("sasrec",)),
    "recbole": Peer(("recbole", "numpy<2"), "", ()),  # it names np.float_, which numpy 2 no longer has
    "replay": Peer(("replay-rec", "lightning"), "", ()),
}
# recbole and replay have no driver here: their pace of training is timed by pace.py, their lists are not judged.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=Path, help="any file `habitue bench ranking` reads")
    parser.add_argument("--peers", default="implicit-als,implicit-bm25,rectools-ease", help="library-model, by commas")
    parser.add_argument("--envs", type=Path, default=Path("peer-envs"), help="folder of the virtual environments")
    parser.add_argument("--refit", action="store_true", help="fit with the validation event before the test")
    parser.add_argument("--out", type=Path, help="JSON, the one schema of benchmarks/README.md")
    parser.add_argument("--install", help="only try to install these libraries, by commas, and say how it went")
    asked = parser.parse_args()
    if asked.install:
        for name in asked.install.split(","):
            failed = installed(name, asked.envs)
            print(f"{name}: {failed or 'installed'}")
        return
    if asked.events is None:
        parser.error("--events is missing")
    data = sequences.read(files.read(asked.events, what="--events"))
    test = protocols.leave_one_out(data, protocols.Settings(refit=asked.refit)).test
    target, _ = test.slices["all"]
    users = test.asked
    tables = []
    for name in asked.peers.split(","):
        library, _, model = name.rpartition("-")
        failed = installed(library, asked.envs)
        told = failed or lists(library, model, test, users, asked.envs)
        if isinstance(told, str):
            print(f"{name}: {told}")
            continue
        found, cpu_s, peak_mb = told
        hit = found == target.indices[target.indptr[users]][:, None]
        gain = (hit / np.log2(np.arange(2, LIST + 2))).sum(axis=1)
        protocol = "leave-one-out-refit" if asked.refit else "leave-one-out"
        keys = data.histories.user_keys[users]
        measured = [
            per_user(protocol, name, "all", metric, keys, values.astype(np.float64))
            for metric, values in (("ndcg@10", gain), ("hit@10", hit.any(axis=1)))
        ]
        tables.append(table(measured, dataset=asked.events.stem, modalities=["events"], cpu_s=cpu_s, peak_mb=peak_mb))
        print(
            f"{name}: NDCG@10 {gain.mean():.4f}, hit@10 {hit.any(axis=1).mean():.4f}, {cpu_s:,.1f} CPU-s, "
            f"{peak_mb:,.0f} MB"
        )
    if asked.out and tables:
        bench.save(bench.document(METRICS.shape(pl.concat(tables)), commit=_commit()), asked.out)


def installed(library: str, envs: Path) -> str:
    """Make the library's environment where it is not there; return what pip said last, "" = it is installed."""
    if library not in PEERS:
        return f"no such library; known: {', '.join(PEERS)}"
    folder = envs / library
    if (folder / "ready").exists():
        return ""
    venv.create(folder, with_pip=True)
    packages = [*PEERS[library].packages, "numpy", "scipy"]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        return f"cannot be installed: {last(done.stderr)}"
    (folder / "ready").touch()
    return ""


def lists(
    library: str, model: str, test: protocols.Question, users: np.ndarray, envs: Path
) -> tuple[np.ndarray, float, float] | str:
    """Return the peer's lists [users, LIST] (-1 = no item), CPU-seconds and peak MB; or why there are none."""
    if model not in PEERS[library].models:
        return f"no such model; known: {', '.join(PEERS[library].models) or 'none'}"
    with tempfile.TemporaryDirectory() as folder:
        given, told = Path(folder) / "given.npz", Path(folder) / "told.npz"
        shape = np.array([len(test.fit.known), len(test.fit.items), LIST])
        np.savez(given, shape=shape, asked=users, **rows_of(test.fit, "fit"), **rows_of(test.ask, "ask"))
        process = driven(envs / library, PEERS[library].script, model, given, told)
        if process.returncode:
            return f"failed: {last(process.stderr)}"
        with np.load(told) as found:
            return found["lists"], float(found["cpu_s"]), float(found["peak_mb"])


def driven(environment: Path, script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a driver of this folder in a peer's environment, every library in one thread."""
    python = (environment / "bin" / "python").absolute()  # resolved, it would leave the environment
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [str(word) for word in (python, HERE / script, *words)]
    with tempfile.TemporaryDirectory() as folder:  # a peer may leave files where it runs
        return subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, cwd=folder)


def rows_of(past: Past, name: str) -> dict[str, np.ndarray]:
    """Users, items and steps of a past, the oldest first."""
    every = past.histories
    owner = every.set_user[every.row_set]
    step = every.row_set - every.set_start[owner]
    return {f"{name}_user": owner, f"{name}_item": every.row_item.astype(np.int64), f"{name}_step": step}


def last(words: str) -> str:
    """Return the last line that a program said, at most 300 letters of it."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
