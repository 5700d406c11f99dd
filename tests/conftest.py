"""What several tests share: the whole demo, run once, as its user runs it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HABITUE = str(Path(sys.executable).with_name("habitue"))


@dataclass(frozen=True)
class Demo:
    """One finished `habitue demo`; `peak_mb` is the largest resident size of its process."""

    workspace: Path
    printed: str
    seconds: float
    peak_mb: float

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.workspace / "reports/demo.json").read_text(encoding="utf-8"))

    @property
    def page(self) -> Path:
        return self.workspace / "reports/demo.html"


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Demo:
    """Run `command --workspace folder/shop` in `folder`, with nothing to read from."""
    start = time.perf_counter()
    with open(folder / "printed.txt", "w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            [*command, "--workspace", str(folder / "shop")],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        printed.seek(0)
        text = printed.read()
    assert process.returncode == 0, text
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kibibytes elsewhere
    return Demo(folder / "shop", text, seconds, peak)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo of this checkout with its default seed; minutes, so only slow tests may ask for it."""
    return _run([HABITUE, "demo"], tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def run_demo() -> Callable[..., Demo]:
    """The function behind `demo`, for a test that needs another one."""
    return _run
