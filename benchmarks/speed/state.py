"""How soon a shop of many customers is ready, and what a customer costs in memory.

    python benchmarks/speed/state.py [--users 100000] [--orders 4] [--shop FOLDER] [--out FOLDER]

Makes a shop of planted tastes, trains it briefly (answer.py), starts `habitue serve`, waits until /health/ready says
yes, and asks for a list for one customer after the other: as many as are kept in memory, and twice as many again, which
must not make the process larger. Memory is what the system says of the process (VmRSS); loopback only.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import tempfile
import time
from pathlib import Path

import answer
import polars as pl

import habitue
from habitue.core.schemas import METRICS
from habitue.evaluate import bench
from habitue.serve import keys, state

FIRST = 200  # customers asked about before memory is looked at: what every answer needs is loaded then


def measure(shop: habitue.Shop, *, users: int, hot: int) -> dict[str, float]:
    """Start the server and ask; returns seconds, MB and KB by name."""
    _, key = keys.create(shop.space.state, "secret", rate=100_000.0)
    began = time.perf_counter()
    command = [*answer.HABITUE, "serve", "-w", str(shop.folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("Listening on http://").strip()
        there = http.client.HTTPConnection(address, timeout=60)
        while _get(there, "/health/ready") != 200:
            time.sleep(0.05)
        told = {"seconds until it is ready": time.perf_counter() - began}
        told["MB of the server when ready"] = answer.memory_mb(server.pid, "VmRSS")
        child = answer.children(server.pid)
        told["MB of the background when ready"] = sum(answer.memory_mb(one, "VmRSS") for one in child)
        sizes = []
        for number in range(hot * 3):
            if number in (FIRST, hot, hot * 3 - 1):
                sizes.append(answer.memory_mb(server.pid, "VmRSS"))
            body = json.dumps({"user_id": f"u{number % users}", "n": 10})
            there.request("POST", "/v1/recommendations", body, {"X-API-Key": key})
            there.getresponse().read()
        told["KB a shopper in memory"] = 1024 * (sizes[1] - sizes[0]) / (hot - FIRST)
        told[f"MB after {hot:,} customers"], told[f"MB after {hot * 3:,} customers"] = sizes[1:]
        return told
    finally:
        server.terminate()
        server.wait(120)


def _get(there: http.client.HTTPConnection, path: str) -> int:
    there.request("GET", path)
    found = there.getresponse()
    found.read()
    return found.status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--orders", type=int, default=4, help="of a customer, three products each")
    parser.add_argument("--steps", type=int, default=20, help="of the flagship's training")
    parser.add_argument("--hot", type=int, default=state.HOT, help="shoppers the server keeps in memory")
    parser.add_argument("--shop", type=Path, help="folder to make the shop in, or to find it in")
    parser.add_argument("--out", type=Path, help="folder for the JSON document")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as lost:
        folder = args.shop or Path(lost)
        if (folder / "shop").exists():
            shop = habitue.open(folder / "shop")
        else:
            folder.mkdir(exist_ok=True)
            shop = answer.build(folder, items=args.items, users=args.users, steps=args.steps, orders=args.orders)
        told = measure(shop, users=args.users, hot=args.hot)
    rows = [
        {
            "dataset": f"planted {args.users:,} customers",
            "protocol": "ready and memory",
            "model": "habitue serve",
            "modalities": [],
            "slice": f"{args.orders} orders of 3",
            "metric": name,
            "mean": value,
        }
        for name, value in told.items()
    ]
    for name, value in told.items():
        print(f"{name:<36} {value:>10,.1f}")
    if args.out is not None:
        found = METRICS.shape(pl.DataFrame(rows).with_columns(n=args.users, seeds=1))
        bench.write(found, args.out, commit=answer.commit())


if __name__ == "__main__":
    main()
