"""P5: how many events a second one server takes, each on the disk before its 200.

python benchmarks/speed/collect.py --out benchmarks/speed

`habitue serve` on a fresh workspace; this process is the load and reports its own CPU. Every event is new, of about 600
bytes, with a product, a price and a page, one in fifty by a visitor never met before. Senders keep their connections
and post the next request when the last is answered. The inbox goes into the lake meanwhile, as it always does.
Beside it in the same minute: how often this disk can append and fsync as many bytes as a group holds, alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from habitue.core import workspace
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench

SERVE = [sys.executable, "-c", "from habitue.cli import main; main()", "serve", "--port", "0"]
EVENT = (
    b'{"type":"track","event":"Product Viewed","messageId":"%s","anonymousId":"visitor-%d","timestamp":"%s",'
    b'"properties":{"product_id":"SKU-%d","name":"Stoneware mug, glazed","category":"Home > Kitchen","brand":"Kiln",'
    b'"price":12.5,"currency":"EUR","position":%d,"url":"https://shop.example/p/stoneware-mug-glazed"},'
    b'"context":{"page":{"path":"/p/stoneware-mug-glazed","title":"Stoneware mug"},"locale":"en-GB",'
    b'"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",'
    b'"library":{"name":"analytics.js","version":"next-1.84.3"},"screen":{"width":1920,"height":1080}}}'
)
WAYS = {  # events of a request, connections: requests that wait for the disk together share one fsync
    "batches of 100": (100, 4),
    "batches of 100, 16 senders": (100, 16),
    "single events": (1, 32),
}


class Load:
    """Connections that post as fast as they are answered."""

    def __init__(self, port: int, size: int, connections: int) -> None:
        self.taken: list[tuple[float, float]] = []  # when a request was answered, how long it took; seconds
        self.failed = 0
        self._port, self._size = port, size
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._post) for _ in range(connections)]

    def run(self, seconds: float) -> None:
        """Post for so long."""
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _post(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as there:
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._stop.is_set():
                request = self._request()
                began = time.perf_counter()
                there.sendall(request)
                answer = b""
                while b'{"success":true}' not in answer:
                    more = there.recv(4_096)
                    if not more or b"HTTP/1.1 200" not in answer + more:
                        self.failed += 1
                        return
                    answer += more
                now = time.perf_counter()
                self.taken.append((now, now - began))

    def _request(self) -> bytes:
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()).encode()
        events = []
        for _ in range(self._size):
            n = next(self._numbers)
            visitor = n if n % 50 == 0 else n % 5_003
            events.append(EVENT % (b"%032x" % (n * 7_919), visitor, now, n % 2_000, n % 24))
        path, body = b"/v1/track", events[0]
        if self._size > 1:
            path, body = b"/v1/batch", b'{"batch":[' + b",".join(events) + b'],"sentAt":"' + now + b'"}'
        return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


def measured(way: str, seconds: float, warm_s: float) -> tuple[list[dict[str, object]], int]:
    """Load a fresh server; returns METRICS rows, and how many events it acknowledged."""
    size, connections = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        shop = workspace.init(Path(folder) / "shop")
        server = subprocess.Popen([*SERVE, "-w", shop.root], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        load = Load(port, size, connections)
        cpu, mine, began = _cpu_of(server.pid), _own_cpu(), time.perf_counter()
        load.run(warm_s + seconds)
        wall = time.perf_counter() - began
        server_cpu, own = _cpu_of(server.pid) - cpu, _own_cpu() - mine
        peak, of_child = _peak_mb(server.pid), _cpu_of_children(server.pid)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=300)
        stored = shop.lake.read(EVENTS, columns=["event_id"]).height
    acknowledged = len(load.taken) * size
    assert load.failed == 0 and stored == acknowledged, "an event that was acknowledged is not in the lake"
    late = np.array([(at - began, took) for at, took in load.taken if at - began >= warm_s])
    per_second = np.bincount(np.minimum(late[:, 0] - warm_s, seconds - 1e-9).astype(int)) * size
    medians = [np.median(np.random.default_rng(n).choice(per_second, len(per_second))) for n in range(1_000)]
    low, high = np.quantile(medians, [0.025, 0.975])
    same = {"dataset": "planted-clicks", "protocol": "P5 collect", "model": "habitue serve", "modalities": []}
    same |= {"slice": way, "n": acknowledged, "seeds": 1, "cpu_s": server_cpu, "peak_mb": peak}
    values = {
        "events per second": float(np.median(per_second)),
        "events per CPU-second of the server": acknowledged / server_cpu,
        "p50 ms": float(np.quantile(late[:, 1], 0.5) * 1e3),
        "p99 ms": float(np.quantile(late[:, 1], 0.99) * 1e3),
        "cores of the server": server_cpu / wall,
        "cores of its child": of_child / wall,  # which brings the inbox into the lake; its start counts as well
        "cores of the load": own / wall,
    }
    rows = [same | {"metric": name, "mean": value} for name, value in values.items()]
    rows[0] |= {"low": float(low), "high": float(high)}
    return rows, acknowledged


def disk(size: int, seconds: float = 3.0) -> float:
    """How often a second this disk appends and fsyncs `size` bytes, with nobody else."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.open(Path(folder) / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        content, times, until = os.urandom(size), 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            os.write(file, content)
            os.fsync(file)
            times += 1
        os.close(file)
    return times / seconds


def _cpu_of(pid: int) -> float:
    """CPU-seconds of a process and the children it waited for, as Linux counts them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_children(pid: int) -> float:
    """CPU-seconds of the children that run now."""
    found = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        found += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") * (int(fields[1]) == pid)
    return found


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement (default 15)")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds before it that do not count (default 3)")
    parser.add_argument("--out", type=Path, help="folder for planted-clicks-p5-collect.json")
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    for way, (size, _) in WAYS.items():
        found, acknowledged = measured(way, args.seconds, args.warm)
        syncs = disk(size * 250)
        alone = {"model": "append and fsync alone", "metric": "events per second", "mean": syncs * size}
        rows += [*found, found[0] | alone | {"low": None, "high": None, "cpu_s": None, "peak_mb": None}]
        print(f"{way} ({acknowledged:,} acknowledged)")
        for row in rows[-len(found) - 1 :]:
            print(f"  {row['model']:<24}{row['metric']:<38}{row['mean']:>12,.1f}")
    if args.out is not None:
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        metrics = METRICS.shape(pl.DataFrame(rows, infer_schema_length=None))
        (path,) = bench.write(metrics, args.out, commit=commit.stdout.strip())
        document = json.loads(path.read_text(encoding="utf-8"))
        bench.save(document | {"sentence": sentence(rows)}, path)


def sentence(rows: list[dict[str, object]]) -> str:
    """Say how much of the machine the server had: events per second mean nothing without it."""
    cores = [float(str(row["mean"])) for row in rows if row["metric"] == "cores of the server"]
    return (
        f"The server had {min(cores):.1f} to {max(cores):.1f} of a core and could use one: below that the machine was "
        "busy with other work, and events per CPU-second are the number to go by."
    )


if __name__ == "__main__":
    main()
