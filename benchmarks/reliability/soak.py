"""The server under half its load for long: does memory grow, does anything fail, is anything lost?

    python benchmarks/reliability/soak.py [--minutes 30] [--rate 100] [--shop FOLDER] [--out FOLDER]

The shop and the load are those of benchmarks/speed/answer.py: one event and one list of 100 a pair, from a process of
its own, with a turn of compaction every ten seconds, so that a short run meets many; the lake is read again every five
minutes, and the process in the background is started afresh every sixty turns. Every five seconds it is looked at how
much memory the answering process and the one in the background have for themselves (RssAnon; pages of mapped files,
which the system takes back when it likes, are told beside).

Reported: the slope of each in MB an hour over the second half, by least squares over the least of each minute, with its
95 % interval, in which minutes that follow each other and are alike count as fewer (Santer et al., JGR 105, 2000,
equations 3 to 6); p50 and p99; what failed; events acknowledged and not in the lake after the end.

**Flat** is said where the interval holds 0, or the slope is below FLAT of the memory an hour; where the interval is
wider than WIDE of the memory to each side the run was too short to tell, and that is said. The process in the
background is another one after each round: where there were several, flat means that none took more than AGAIN times
what the first took, each at its highest minute, and what came meanwhile: a reading holds every event of the lake, as
training does, so the bytes of those stored since are its own by right. Exits with 1 when anything failed or is missing,
or a process grows.

Memory rises first, and by right, to bounds: the 4,000 customers met last are put together in memory, and the ids of the
20,000 met last are known without a look into the file (420 bytes each). So customers come and go here as they do in a
shop: after `--stay` pairs each has left for good and another has come, which meets both bounds within a quarter of an
hour at 100 pairs a second. With `--stay 0` the same customers ask for ever; each then grows to 64 sets of the
flagship's memory, 92 KB (docs/serve.md), and keeps 29 bytes of every set beyond: 10 MB an hour at 100 a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
import answer

import habitue
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench
from habitue.serve import keys

LOOK_S = 5.0
FLAT = 0.01  # of a process's memory an hour
WIDE = 0.05  # half the interval, as a share of the memory an hour, from which a run tells nothing
AGAIN = 1.05
FEWEST = 8
LOOKS = 12  # a minute


def soak(shop: habitue.Shop, *, items: int, users: int, rate: float, seconds: float, stay: int = 0) -> dict[str, float]:
    """Load the server so long; returns numbers by name."""
    _, key = keys.create(shop.space.state, "secret", rate=100_000.0)
    before = shop.space.lake.read(EVENTS, columns=["event_id"]).height
    command = [*answer.HABITUE, "serve", "-w", str(shop.folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        host, _, port = server.stdout.readline().removeprefix("Listening on http://").strip().partition(":")
        loading = [sys.executable, answer.__file__, "--load", host, port, key, "--items", str(items)]
        loading += ["--users", str(users), "--rate", str(rate), "--seconds", str(seconds), "--stay", str(stay)]
        with tempfile.TemporaryFile("w+") as said:  # what it says at its end is more than a pipe holds
            load = subprocess.Popen(loading, stdout=said, text=True)
            began, seen = time.perf_counter(), []
            while load.poll() is None:
                now = time.perf_counter() - began
                with contextlib.suppress(ValueError, StopIteration, OSError):  # the child is being started afresh
                    (child,) = answer.children(server.pid)
                    looked = [
                        answer.memory_mb(one, kind) for one in (server.pid, child) for kind in ("RssAnon", "VmRSS")
                    ]
                    seen.append((now, *looked, child))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    load.wait(LOOK_S)
            said.seek(0)
            told = json.loads(said.read())
        deaths = counted(f"http://{host}:{port}/metrics", "habitue_background_deaths")
    finally:
        server.terminate()
        server.wait(300)
    events = shop.space.lake.read(EVENTS)
    stored, event_mb = events.height - before, events.estimated_size() / events.height / 1e6
    sent = int(rate * (seconds + answer.WARM_S)) - int(told["failed"])
    times, wall = np.array(told["times"]), np.array(seen)
    found = {
        "minutes": seconds / 60,
        "pairs a second": len(told["times"]) / (told["wall"] - answer.WARM_S),
        "p50 ms": float(np.percentile(times[:, 0], 50)),
        "p99 ms": float(np.percentile(times[:, 0], 99)),
        "failed": float(told["failed"]),
        "acknowledged and not in the lake": float(max(sent - stored, 0)),
        "stored and not acknowledged": float(max(stored - sent, 0)),
        "deaths of the background": deaths,
    }
    rounds = highest(wall[:, 3], wall[:, 5])
    found |= {f"MB of process {n} in the background, its highest minute": size for n, size in enumerate(rounds, 1)}
    found["bytes of an event in a reading"] = 1e6 * event_mb
    for name, column in (("server", 1), ("background", 3)):
        slope, half = trend(minutes(wall[:, 0] / 3_600, np.mean), minutes(wall[:, column], np.min))
        size = float(np.median(wall[len(wall) // 2 :, column]))
        found[f"MB of the {name}"], found[f"MB of the {name} with mapped files"] = size, float(wall[-1, column + 1])
        found[f"MB an hour, {name}"], found[f"MB an hour, {name}, half its interval"] = slope, half
        found[f"% an hour, {name}"] = 100 * slope / size
        found[f"flat, {name}"] = flat(slope, half, size)
    if len(rounds) > 1:
        found["flat, background"] = flat_rounds(rounds, stored * event_mb / len(rounds))
    return found


def minutes(looks: np.ndarray, of: Callable[..., np.ndarray]) -> np.ndarray:
    """Return one number a whole minute of looks, the last ones."""
    return of(looks[len(looks) % LOOKS :].reshape(-1, LOOKS), axis=1)


def highest(size: np.ndarray, process: np.ndarray) -> list[float]:
    """Return of each process that lived for a minute or longer the least memory of its highest minute, in turn."""
    each = [size[process == one] for one in dict.fromkeys(process.tolist())]
    return [float(minutes(one, np.min).max()) for one in each if len(one) >= LOOKS]


def counted(address: str, name: str) -> float:
    """Return one number of /metrics."""
    with urllib.request.urlopen(address, timeout=30) as answered:
        lines = answered.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def flat(slope: float, half: float, size: float) -> float:
    """Return 1 = it does not grow, 0 = it grows, nan = the run was too short to tell. MB an hour, MB."""
    if half > WIDE * size:
        return float("nan")
    return float(slope - half <= 0 or slope < FLAT * size)


def flat_rounds(rounds: list[float], came: float) -> float:
    """Return 1 = no process took more than the first by more than what came since, 0 = one did; `came`: MB a round."""
    return float(all(size <= AGAIN * rounds[0] + n * came for n, size in enumerate(rounds)))


def trend(hours: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """Return the slope of the second half by least squares, and half its 95 % interval, widened for what is alike.

    With fewer than FEWEST values in that half nothing is known of the interval: it is infinite.
    """
    late = slice(len(hours) // 2, None)
    x, y = hours[late] - hours[late].mean(), size[late]
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    if len(x) < FEWEST:
        return slope, float("inf")
    alike = min(max(float(rest[1:] @ rest[:-1] / max(rest @ rest, 1e-12)), 0.0), 0.99)
    independent = max(len(x) * (1 - alike) / (1 + alike), 2.1)
    return slope, float(1.96 * np.sqrt(rest @ rest / (independent - 2) / (x @ x)))


def reported(found: dict[str, float]) -> list[dict[str, object]]:
    """Return metric, mean, low, high of each number; what the run cannot tell is left out."""
    rows: list[dict[str, object]] = []
    for name, value in found.items():
        half = found.get(f"{name}, half its interval")
        half = None if half is None or np.isinf(half) else half
        bounds = {"low": None if half is None else value - half, "high": None if half is None else value + half}
        if not name.endswith("half its interval") and not np.isnan(value):
            rows.append({"metric": name, "mean": value, **bounds})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=100.0, help="pairs a second: half of what it is asked for in P4")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=2_000, help="customers, of the shop and at one time")
    parser.add_argument("--stay", type=int, default=4, help="pairs of each before another comes; 0 = they stay")
    parser.add_argument("--steps", type=int, default=20, help="of the flagship's training")
    parser.add_argument("--shop", type=Path, help="folder to make the shop in, or to find it in; it is written to")
    parser.add_argument("--out", type=Path, help="folder for the JSON document")
    args = parser.parse_args()
    size = {"items": args.items, "users": args.users}
    with tempfile.TemporaryDirectory() as lost:
        folder = args.shop or Path(lost)
        there = (folder / "shop").exists()
        shop = habitue.open(folder / "shop") if there else answer.build(folder, **size, steps=args.steps)
        text = shop.space.plan.read_text()
        if "compact_s = 10.0" not in text:
            shop.space.plan.write_text(text + "\n[collect]\ncompact_s = 10.0\n")
        found = soak(shop, **size, rate=args.rate, seconds=60 * args.minutes, stay=args.stay)
    for name, value in found.items():
        print(f"{name:<44} {value:>12,.2f}")
    grows = [name for name, value in found.items() if name.startswith("flat") and value == 0]
    for name in ("server", "background"):
        told = found[f"flat, {name}"]
        print(f"The {name}: {'too short to tell' if np.isnan(told) else 'flat' if told else 'GROWS'}")
    if args.out is not None:
        about = {"dataset": f"planted {args.items:,} products", "protocol": "soak", "model": "habitue serve"}
        about |= {"modalities": [], "slice": f"{args.rate:g}/s"}
        rows = pl.DataFrame([about | row for row in reported(found)], infer_schema_length=None)
        pairs = int(args.rate * 60 * args.minutes)
        bench.write(METRICS.shape(rows.with_columns(n=pairs, seeds=1)), args.out, commit=answer.commit())
    sys.exit(int(bool(found["failed"] or found["acknowledged and not in the lake"] or grows)))


if __name__ == "__main__":
    main()
