"""R3: whatever the server's own description allows, and what it does not, is answered without a 5xx and without a hang.

python benchmarks/reliability/openapi.py --seconds 240 --out benchmarks/reliability

A server of a small trained shop runs as its user runs it; schemathesis reads /openapi.json and sends valid and invalid
requests to every route but /v1/live (a stream that does not end). Checked of each answer: no 5xx, within LATEST_S, a
status and a content type that the description names. In the end the same server answers a good question.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import polars as pl

import habitue
from habitue.collect import synthetic
from habitue.core.schemas import METRICS
from habitue.evaluate import bench

SERVE = [sys.executable, "-c", "from habitue.cli import main; main()", "serve", "--port", "0"]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
LATEST_S = 10.0


def trained(folder: Path) -> Path:
    """Make and train a small shop; its customers and products are called 0, 1, 2, ..., as whoever guesses ids tries."""
    shop = habitue.init(folder)
    shop.space.plan.write_text(synthetic.PLAN + shop.space.plan.read_text())
    events = synthetic.shop(users=60, items=24, days=400)
    orders = events.select(
        "title",
        "quantity",
        "price",
        order="order_id",
        at=pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%S"),
        item=pl.col("item_id").rank("dense") - 1,
        user=pl.col("user_key").rank("dense") - 1,
    )
    orders.write_csv(folder / "orders.csv")
    (folder / "orders.toml").write_text(synthetic.ORDERS)
    shop.import_(folder / "orders.csv")
    habitue.open(folder).train()
    return folder


def memory_mb(process: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmRSS"))


def fuzzed(folder: Path, seconds: int, seed: int) -> tuple[dict[str, float], list[str]]:
    """Fuzz a server of this workspace; returns the counts, and what failed in words."""
    server = subprocess.Popen([*SERVE, "-w", folder], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        before, told = memory_mb(server.pid), folder / "schemathesis.json"
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--checks", CHECKS]
        command += ["--exclude-path", "/v1/live", "--request-timeout", str(LATEST_S), "--seed", str(seed)]
        command += ["--max-time", str(seconds), "--continue-on-failure", "--report", "json", "--no-color"]
        command += ["--report-json-path", str(told), "--suppress-health-check", "all", "--warnings", "off"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 300)
        print(ran.stdout[-6_000:], ran.stderr[-2_000:])
        after = memory_mb(server.pid)
        with urllib.request.urlopen(f"{address}/v1/recommendations?n=3", timeout=LATEST_S) as answer:
            assert len(json.load(answer)["items"]) == 3
        with urllib.request.urlopen(f"{address}/metrics", timeout=LATEST_S) as answer:
            counted = counts(answer.read().decode())
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=60)
    finally:
        server.kill()
        server.communicate()
    failures = sorted(set(re.findall(r"^- (.+)$", ran.stdout, flags=re.MULTILINE)))
    return {
        **counted,
        "kinds of failure": len(failures),
        "memory before, MB": round(before),
        "memory after, MB": round(after),
        "exit code of the server": code,
    }, failures


def counts(metrics: str) -> dict[str, float]:
    """Return requests, answers by class and the slowest, from what the server itself counted."""
    labels = r'\{route="([^"]+)",method="(\w+)",code="(\d+)",le="([^"]+)"\}'
    found = re.findall(rf"^habitue_http_request_duration_seconds_bucket{labels} (\d+)", metrics, flags=re.MULTILINE)
    whole = [(route, code, int(count)) for route, _, code, limit, count in found if limit == "+Inf"]
    within = sum(int(count) for _, _, _, limit, count in found if limit == "10")
    requests = sum(count for _, _, count in whole)
    return {
        "routes": len({route for route, _, _ in whole}),
        "requests": requests,
        "answered 2xx": sum(count for _, code, count in whole if code[0] == "2"),
        "answered 4xx": sum(count for _, code, count in whole if code[0] == "4"),
        "answered 5xx": sum(count for _, code, count in whole if code[0] == "5"),
        "later than 10 s": requests - within,
    }


def report(found: dict[str, float]) -> pl.DataFrame:
    """METRICS: one row a count."""
    same = {"dataset": "none", "protocol": "R3 openapi", "model": "habitue serve", "modalities": [], "slice": "all"}
    rows = [same | {"metric": name, "mean": float(count)} for name, count in found.items()]
    return METRICS.shape(pl.DataFrame(rows).with_columns(n=int(found["requests"]), seeds=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for none-r3-openapi.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found, failures = fuzzed(trained(Path(folder) / "shop"), args.seconds, args.seed)
    for name, count in found.items():
        print(f"{name:<28} {count:>9,.0f}")
    print(*failures, sep="\n")
    if args.out is not None:
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        bench.write(report(found), args.out, commit=commit.stdout.strip())
    sys.exit(int(bool(found["answered 5xx"] or found["later than 10 s"] or failures)))


if __name__ == "__main__":
    main()
