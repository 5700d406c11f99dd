"""P4: how long one event and the top 100 of 50,000 products after it take over HTTP.

    python benchmarks/speed/answer.py [--items 50000] [--users 2000] [--rate 200] [--seconds 30] [--out FOLDER]

Makes a shop of planted tastes, trains it briefly (how well it ranks is measured elsewhere), starts `habitue serve`
and, from a process of its own, sends one `Product Viewed` and asks for that visitor's first 100 products as soon as its
200 is there, so many times a second, at moments fixed beforehand: what comes late makes all later ones late, and is
counted from the moment it was due. Loopback only. Reported: milliseconds from that moment to the last byte of the list
(and of the event and the list alone), p50 and p99, and the CPU of the server and of whoever makes the load.

`--while-adapting`: the child of the server adapts the model (`habitue models adapt`) for as long as it is measured, one
adapting after the other, and brings what was received into the lake every few seconds. 10,000 orders of the shop's own
tastes come first, so that there is something to adapt to. Reported beside: how much of the measured time an adapting
ran, how many ended, and how often the inbox went into the lake; without any of the two the run fails.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

import habitue
from habitue.collect import synthetic
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench
from habitue.serve import keys, work

HABITUE = [sys.executable, "-c", "from habitue.cli import main; main()"]
PLAN = """
horizon_days = 30

[blend]
views = ["popular", "neighbours", "behaviour"]
weights = [0.2, 0.5, 1.0]

[blend.behaviour]
steps = {steps}
content = 0
loss = "gbce"
"""
SETS = 12  # orders a customer has on average
WARM_S = 5.0  # not counted
COMPACT_S = 30.0  # between two turns of the inbox into the lake, while adapting


def build(folder: Path, *, items: int, users: int, steps: int, orders: int = SETS) -> habitue.Shop:
    """Make and train the shop: 50 tastes, each customer buys three products of one taste an order."""
    shop = habitue.init(folder / "shop")
    shop.space.plan.write_text(PLAN.format(steps=steps) + shop.space.plan.read_text())
    rng = np.random.default_rng(0)
    count = users * orders
    user = np.repeat(rng.integers(0, users, count), 3)
    taste = user % 50
    item = taste + 50 * rng.integers(0, items // 50, len(user))
    item[:items] = np.arange(items)[: len(item)]  # every product is known
    day = np.repeat(rng.integers(0, 300, count), 3)
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=310)
    frame = pl.DataFrame({"item": item, "n": np.repeat(np.arange(count), 3), "day": day, "person": user})
    frame = frame.select(
        order=pl.format("o{}", "n"),
        item=pl.format("p{}", "item"),
        title=pl.format("product {}", "item"),
        quantity=1,
        at=(pl.lit(start) + pl.duration(days="day", seconds=pl.col("n") % 86_400)).dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
        price=9.5,
        user=pl.format("u{}", "person"),
    )
    frame.write_csv(folder / "orders.csv")
    (folder / "orders.toml").write_text(synthetic.ORDERS)
    shop.import_(folder / "orders.csv")
    shop = habitue.open(folder / "shop")
    shop.train()
    return shop


async def load(
    host: str, port: int, key: str, *, items: int, users: int, rate: float, seconds: float, stay: int = 0
) -> None:
    """Send and ask at fixed moments; print one line of JSON: milliseconds of each, from the moment it was due."""
    rng = np.random.default_rng(1)
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(64):
        free.put_nowait(await asyncio.open_connection(host, port))
    times: list[tuple[float, float, float]] = []
    failed = 0

    async def one(number: int, due: float) -> None:
        nonlocal failed
        connection = await free.get()
        try:
            left = number // (users * stay) * users if stay else 0  # customers who came and went
            user, item = f"u{left + rng.integers(users)}", f"p{rng.integers(items)}"
            now = dt.datetime.now(dt.UTC).isoformat()
            event = {"event": "Product Viewed", "userId": user, "messageId": f"m{number}-{key[-6:]}", "timestamp": now}
            event["properties"] = {"product_id": item}
            began = time.perf_counter()
            first = await _post(connection, "/v1/track", event, key)
            stored = time.perf_counter()
            second = await _post(connection, "/v1/recommendations", {"user_id": user, "n": 100}, key)
            done = time.perf_counter()
            if first == second == 200:
                times.append((1000 * (done - due), 1000 * (stored - began), 1000 * (done - stored)))
            else:
                failed += 1
        finally:
            free.put_nowait(connection)

    start = time.perf_counter() + 0.5
    tasks = []
    for number in range(int(rate * (seconds + WARM_S))):
        due = start + number / rate
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    wall = time.perf_counter() - start
    cpu = time.process_time()
    print(json.dumps({"times": times[int(rate * WARM_S) :], "failed": failed, "wall": wall, "cpu": cpu}))


async def _post(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, body: dict[str, object], key: str
) -> int:
    reader, writer = connection
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
    if path == "/v1/track":
        content = json.dumps({**body, "writeKey": key}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    told = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in told.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    await reader.readexactly(length)
    return int(told.split(b" ", 2)[1])


@dataclass
class Busy:
    """What the child of the server does meanwhile: it is told to adapt whenever it is not at it."""

    state: Path
    end: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        """Queue one adapting after the other until `end`; one that an earlier server left is gone on with."""
        while not self.end.wait(0.2):
            newest = work.listed(self.state, kind="adapt", newest=1)
            if not newest or newest[0].state not in (work.WAITING, work.RUNNING):
                work.submit(self.state, "adapt", {"reason": "its speed is measured"})

    def told(self, began: float, ended: float) -> dict[str, object]:
        """Return the share of that time in which an adapting ran, and what came of those that ended."""
        jobs = work.listed(self.state, kind="adapt", newest=1_000)
        spans = [(job.started_at, job.ended_at or ended) for job in jobs if job.started_at is not None]
        ran = sum(max(min(stop, ended) - max(start, began), 0.0) for start, stop in spans)
        failed = [job.words for job in jobs if job.state == work.FAILED]
        words = [str(job.result.get("words")) for job in jobs if job.state == work.DONE]
        return {"adapting": ran / (ended - began), "adapted": len(words), "words": words, "adapt_failed": failed}


def newer(shop: habitue.Shop, folder: Path, *, items: int, users: int, orders: int = 10_000) -> None:
    """Let orders of the same tastes come since the shop was trained, and the inbox be emptied often."""
    rng = np.random.default_rng(2)
    user = np.repeat(rng.integers(0, users, orders), 3)
    frame = pl.DataFrame({"person": user, "item": user % 50 + 50 * rng.integers(0, items // 50, len(user))})
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    number = pl.Series(np.repeat(np.arange(orders), 3))
    frame = frame.select(
        order=pl.format("since{}", number),
        item=pl.format("p{}", "item"),
        title=pl.format("product {}", "item"),
        quantity=1,
        at=(pl.lit(start) + pl.duration(seconds=10 * number)).dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
        price=9.5,
        user=pl.format("u{}", "person"),
    )
    (folder / "since.toml").write_text(synthetic.ORDERS)
    frame.write_csv(folder / "since.csv")
    shop.import_(folder / "since.csv")
    plan = shop.space.plan.read_text()
    if "\n[collect]" not in plan:
        # Each model that is promoted leaves a third of these orders to the next.
        shop.space.plan.write_text(f"{plan}\n[collect]\ncompact_s = {COMPACT_S}\n\n[adapt]\nleast_orders = 10\n")


def commits(shop: habitue.Shop) -> int:
    """Return how often the lake's events were written."""
    return len(list((shop.space.lake.root / EVENTS.name / "_delta_log").glob("*.json")))


def measure(
    shop: habitue.Shop, *, items: int, users: int, rate: float, seconds: float, adapting: bool = False
) -> dict[str, object]:
    """Start the server and the load; return what they told, and the server's CPU and memory."""
    _, key = keys.create(shop.space.state, "secret", rate=100_000.0)
    server = subprocess.Popen([*HABITUE, "serve", "-w", shop.folder, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        began = time.perf_counter()
        address = server.stdout.readline().removeprefix("Listening on http://").strip()
        ready = time.perf_counter() - began
        host, _, port = address.partition(":")
        before = {one: _cpu(one) for one in (server.pid, *children(server.pid))}
        command = [sys.executable, __file__, "--load", host, port, key]
        command += ["--items", str(items), "--users", str(users), "--rate", str(rate), "--seconds", str(seconds)]
        busy, written, start = Busy(shop.space.state), commits(shop), time.time()
        keeping = threading.Thread(target=busy.keep, daemon=True)
        if adapting:
            keeping.start()
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        if adapting:
            busy.end.set()
            keeping.join()
            told |= busy.told(start, time.time()) | {"compactions": commits(shop) - written}
            if not told["adapting"] or not told["compactions"] or told["adapt_failed"]:
                share, times, failed = told["adapting"], told["compactions"], told["adapt_failed"]
                raise SystemExit(f"Adapting {share:.0%} of the time, {times} times into the lake, failed: {failed}")
        spent = {one: _cpu(one) - before[one] for one in before}
        return told | {
            "server_cpu": spent.pop(server.pid),
            "background_cpu": sum(spent.values()),
            "peak_mb": memory_mb(server.pid, "VmHWM"),
            "ready": ready,
        }
    finally:
        server.terminate()
        server.wait(120)


def report(told: dict[str, object], *, items: int, rate: float) -> pl.DataFrame:
    """METRICS: one row a number."""
    times = np.array(told["times"])
    rng = np.random.default_rng(0)
    rows = []

    def row(model: str, metric: str, mean: float, low: float | None = None, high: float | None = None) -> None:
        protocol = "P4 answer while adapting" if "adapting" in told else "P4 answer"
        about = {"dataset": f"planted {items:,} products", "protocol": protocol, "model": model, "modalities": []}
        about |= {"slice": f"{rate:g}/s", "metric": metric, "mean": mean, "low": low, "high": high}
        rows.append(about | {"n": len(times), "seeds": 1, "cpu_s": None, "peak_mb": told["peak_mb"]})

    for column, model in enumerate(("event and list", "event", "list")):
        drawn = rng.choice(times[:, column], size=(1_000, len(times)))
        for share in (50, 99):
            low, high = np.quantile(np.percentile(drawn, share, axis=1), [0.025, 0.975])
            row(model, f"p{share} ms", float(np.percentile(times[:, column], share)), float(low), float(high))
    wall = float(told["wall"])  # type: ignore[arg-type]
    row("event and list", "a second", len(times) / (wall - WARM_S))
    row("event and list", "failed", float(told["failed"]))  # type: ignore[arg-type]
    row("server", "share of a core", float(told["server_cpu"]) / wall)  # type: ignore[arg-type]
    row("server", "CPU ms a pair", 1000 * float(told["server_cpu"]) / (len(times) + rate * WARM_S))  # type: ignore[arg-type]
    row("background", "share of a core", float(told["background_cpu"]) / wall)  # type: ignore[arg-type]
    row("load", "share of a core", float(told["cpu"]) / wall)  # type: ignore[arg-type]
    row("server", "seconds until it listens", float(told["ready"]))  # type: ignore[arg-type]
    if "adapting" in told:
        row("background", "share of the time adapting", float(told["adapting"]))  # type: ignore[arg-type]
        row("background", "adaptings ended", float(told["adapted"]))  # type: ignore[arg-type]
        row("background", "times into the lake", float(told["compactions"]))  # type: ignore[arg-type]
    return METRICS.shape(pl.DataFrame(rows))


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process: int, kind: str) -> float:
    """Return a process's memory: "VmRSS" now, "VmHWM" at most so far."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / 1024


def children(process: int) -> list[int]:
    """Return the processes it started."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def commit() -> str:
    """Return the commit this file stands at."""
    head = ["git", "rev-parse", "HEAD"]
    return subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=400, help="of the flagship's training")
    parser.add_argument("--rate", type=float, nargs="+", default=[200.0, 100.0], help="events and lists a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--shop", type=Path, help="folder to make the shop in, or to find it in (default: made and lost)"
    )
    parser.add_argument("--while-adapting", action="store_true", help="let the child adapt and compact meanwhile")
    parser.add_argument("--out", type=Path, help="folder for the JSON document")
    parser.add_argument("--stay", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=3, metavar=("HOST", "PORT", "KEY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = {"items": args.items, "users": args.users}
    if args.load:
        host, port, key = args.load
        asyncio.run(load(host, int(port), key, **size, rate=args.rate[0], seconds=args.seconds, stay=args.stay))
        return
    with tempfile.TemporaryDirectory() as lost:
        folder = args.shop or Path(lost)
        there = (folder / "shop").exists()
        shop = habitue.open(folder / "shop") if there else build(folder, **size, steps=args.steps)
        if args.while_adapting:
            newer(shop, folder, **size)
        more = {"seconds": args.seconds, "adapting": args.while_adapting}
        told = {rate: measure(shop, **size, rate=rate, **more) for rate in args.rate}
    for one in told.values():
        print("\n".join(one.get("words", [])))  # type: ignore[call-overload]
    metrics = pl.concat([report(one, items=args.items, rate=rate) for rate, one in told.items()])
    for row in metrics.iter_rows(named=True):
        print(f"{row['slice']:<8} {row['model']:<16} {row['metric']:<26} {row['mean']:.2f}")
    if args.out is not None:
        bench.write(metrics, args.out, commit=commit())


if __name__ == "__main__":
    main()
