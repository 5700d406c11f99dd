"""R3: a coverage fuzzer on every parser: whatever bytes come, rows, a refusal in words, soon, and nothing else.

python benchmarks/reliability/fuzz --seconds 600 --out benchmarks/reliability

    wires       what trackers send, past HTTP: inflated, parsed, typed, packed for the log; from the log to tables
    files       what `habitue import` and `--guess` read: text, JSON, XML, pages, Parquet, Excel, archives, SQLite;
                into a workspace, and the same file again, which must add nothing; and tables named to `habitue bench`
    settings    habitue.toml, mappings, rules, recipes, moments
    media       pictures, sounds, videos and texts, as the server looks at them and as they are decoded

Each parser begins with good inputs, made here. An input is one that was changed, in its bytes, its words or its values;
one that reaches a step from line to line of our code that none has reached before is kept and changed further. A group
has a process of its own, so that one that dies or hangs is a failure as well, with the input that did it. Failures:

* an exception that is no refusal in words (of a server a 500, of a command a traceback), or a panic of a library;
* a refusal that cannot be printed;
* what was accepted and cannot be read back, or breaks its table's contract;
* the fast way to type an event (`lines._plain`) says otherwise than the careful one;
* an input that takes longer than its group may, or a group that takes more memory than it may.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
from loop import SHOWN, Group, fuzzed

from habitue.core import runtime
from habitue.core.schemas import METRICS
from habitue.evaluate import bench

GROUPS = {"files": 0.55, "wires": 0.15, "media": 0.2, "settings": 0.1}  # and their shares of the seconds


def group(name: str) -> Group:
    """Load a group, and nothing that only others need."""
    found: Group = importlib.import_module(f"of_{name}").GROUP
    return found


def alone(name: str, seconds: float, seed: int, last: Path) -> dict[str, Any]:
    """Fuzz a group in this process; what is returned can be written as JSON."""
    counts, failures = fuzzed(group(name), seconds, seed, last)
    told = [[one.parser, one.words, base64.b64encode(one.body).decode()] for one in failures.values()]
    return {"counts": counts, "failures": told}


def apart(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz a group in a process of its own; one that dies is a failure with the input that it was reading."""
    with tempfile.TemporaryDirectory() as lost:
        last = Path(lost) / "last"
        command = [sys.executable, str(Path(__file__).parent), "--group", name, "--last", str(last)]
        command += ["--seconds", str(seconds), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True)
        if done.stdout.strip():
            return dict(json.loads(done.stdout))
        parser, _, body = last.read_bytes().partition(b"\n") if last.exists() else (b"all", b"", b"")
        said = done.stderr.decode(errors="replace")[-SHOWN:]
        fault = [parser.decode(), f"the process ended with {done.returncode}: {said}", base64.b64encode(body).decode()]
        return {"counts": {"inputs": 0.0, "kinds of failure": 1.0}, "failures": [fault]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="of CPU, for all groups together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", choices=GROUPS, help="this one alone, in this process, for all the seconds")
    parser.add_argument("--last", type=Path, help="file for the input that is being read")
    parser.add_argument("--out", type=Path, help="folder for none-r3-fuzz.json")
    args = parser.parse_args()
    runtime.modest()
    if args.group is not None:
        with tempfile.TemporaryDirectory() as lost:
            print(json.dumps(alone(args.group, args.seconds, args.seed, args.last or Path(lost) / "last")))
        return
    rows: list[dict[str, object]] = []
    failed = False
    with ThreadPoolExecutor(2) as pool:
        every = {name: pool.submit(apart, name, args.seconds * share, args.seed) for name, share in GROUPS.items()}
    for name, share in GROUPS.items():
        told = every[name].result()
        same = {
            "dataset": "none",
            "protocol": "R3 fuzz",
            "model": "habitue",
            "modalities": [],
            "slice": name,
        }
        same |= {"n": int(told["counts"]["inputs"]), "seeds": 1, "cpu_s": args.seconds * share}
        rows += [same | {"metric": metric, "mean": count} for metric, count in told["counts"].items()]
        print(f"{name}:", ", ".join(f"{metric} {count:,.0f}" for metric, count in told["counts"].items()), flush=True)
        for one, words, body in told["failures"]:
            print(f"  {one}: {words}\n    {base64.b64decode(body)[:SHOWN]!r}", flush=True)
        failed |= bool(told["failures"])
    if args.out is not None:
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        frame = pl.DataFrame(rows, infer_schema_length=None)
        bench.write(METRICS.shape(frame), args.out, commit=commit.stdout.strip())
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
