"""R1: a server that is killed at random moments loses no event it acknowledged, and stores none twice.

python benchmarks/reliability/kill.py --kills 100 --out benchmarks/reliability

Two senders post batches to `habitue serve`; what got no answer they post again, with the same ids. The server is ended
by SIGKILL at random moments: while it starts, while it receives, while it brings its inbox into the lake (three times a
second here). In the end it is stopped, and every id is counted in the lake.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import polars as pl

from habitue.core import workspace
from habitue.core.schemas import EVENTS, METRICS
from habitue.evaluate import bench

SERVE = [sys.executable, "-c", "from habitue.cli import main; main()", "serve", "--port", "0"]
BATCH = 10
SENDERS = 2
STARTING = 0.2  # of the kills come while the server starts


class Senders:
    """Threads that post numbered events until they are told to stop, and remember what was acknowledged."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.acknowledged: list[str] = []
        self.sent: set[str] = set()
        self.repeats = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(SENDERS)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        number, waiting = 0, None
        while not self._stop.is_set():
            if waiting is None:
                ids = [f"{sender}-{number + i}" for i in range(BATCH)]
                number += BATCH
                waiting = ids
            elif self.address is not None:
                self.repeats += 1
            self.sent.update(waiting)
            if self._posted(waiting):
                self.acknowledged += waiting
                waiting = None

    def _posted(self, ids: list[str]) -> bool:
        if self.address is None:
            time.sleep(0.02)
            return False
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        one = {"type": "track", "event": "Product Viewed", "timestamp": now, "properties": {"product_id": "A"}}
        batch = [one | {"messageId": i, "anonymousId": f"visitor {hash(i) % 500}"} for i in ids]
        try:
            there = http.client.HTTPConnection(self.address, timeout=5)
            try:
                there.request("POST", "/v1/batch", json.dumps({"batch": batch}))
                answer = there.getresponse()
                return answer.status == 200 and answer.read() == b'{"success":true}'
            finally:
                there.close()
        except (OSError, http.client.HTTPException):
            return False


def killed(folder: Path, kills: int, seed: int, *, seconds: float = math.inf) -> dict[str, float]:
    """Kill a server `kills` times, or for so many seconds; returns the counts of what came of it."""
    shop, chance = workspace.init(folder), random.Random(seed)
    shop.plan.write_text(shop.plan.read_text() + "\n[collect]\ncompact_s = 0.3\n")
    done, while_starting, until = 0, 0, time.monotonic() + seconds
    with Senders() as senders:
        while done < kills and time.monotonic() < until:
            done += 1
            server = subprocess.Popen([*SERVE, "-w", folder], stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            if chance.random() < STARTING:
                time.sleep(chance.uniform(0.0, 2.0))
                while_starting += 1
            else:
                senders.address = server.stdout.readline().rpartition("//")[2].strip()
                time.sleep(chance.uniform(0.0, 1.5))
            senders.address = None
            server.kill()
            server.communicate()
        server = subprocess.Popen([*SERVE, "-w", folder], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        senders.address = server.stdout.readline().rpartition("//")[2].strip()
        time.sleep(0.5)
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=120)
    return {
        "kills": done,
        "kills while starting": while_starting,
        "batches sent again": senders.repeats,
        **counted(shop, senders.acknowledged, senders.sent),
    }


def counted(shop: workspace.Workspace, acknowledged: list[str], sent: set[str]) -> dict[str, float]:
    """Hold what was acknowledged against what is stored."""
    rows = shop.lake.read(EVENTS, columns=["event_id", "line"])
    stored = set(rows["event_id"])
    return {
        "events acknowledged": len(acknowledged),
        "events stored": len(stored),
        "acknowledged and lost": len(set(acknowledged) - stored),
        "stored twice": rows.height - rows.unique().height,
        "stored and never sent": len(stored - sent),
        "segments left in the inbox": len(list((shop.root / "inbox").glob("*.log"))),
    }


def report(found: dict[str, float]) -> pl.DataFrame:
    """METRICS: one row a count."""
    same = {"dataset": "none", "protocol": "R1 kill -9", "model": "habitue serve", "modalities": [], "slice": "all"}
    rows = [same | {"metric": name, "mean": float(count)} for name, count in found.items()]
    return METRICS.shape(pl.DataFrame(rows).with_columns(n=int(found["kills"]), seeds=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long, however many there were")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for none-r1-kill-9.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = killed(Path(folder) / "shop", args.kills, args.seed, seconds=args.seconds)
    for name, count in found.items():
        print(f"{name:<28} {count:>9,.0f}")
    if args.out is not None:
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        bench.write(report(found), args.out, commit=commit.stdout.strip())
    sys.exit(int(bool(found["acknowledged and lost"] or found["stored twice"])))


if __name__ == "__main__":
    main()
