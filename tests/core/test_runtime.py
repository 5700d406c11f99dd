import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl
import torch

from habitue.core import runtime


def test_a_runtime_sets_the_threads_it_names():
    before = torch.get_num_threads()
    try:
        made = runtime.detect(seed=3, threads=1)
        assert (made.seed, made.threads, made.rank, made.world) == (3, 1, 0, 1)
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    finally:
        torch.set_num_threads(before)


def test_the_seed_decides_what_torch_draws():
    runtime.detect(seed=5)
    first = torch.rand(3)
    runtime.detect(seed=5)
    assert torch.equal(first, torch.rand(3))
    runtime.detect(seed=6)
    assert not torch.equal(first, torch.rand(3))


def test_a_device_asked_for_is_taken():
    assert runtime.detect(device="cpu").device == "cpu"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the peak anew")
def test_the_peak_is_that_since_it_was_forgotten():
    large = np.ones(2**25)  # 256 MB
    before = runtime.peak_mb()
    assert before > large.nbytes / 2**20
    del large
    runtime.forget_peak()
    assert runtime.peak_mb() < before - 200
    again = np.ones(2**25)
    assert runtime.peak_mb() > again.nbytes / 2**20


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 2**20)])
def test_without_a_status_the_peak_is_what_the_system_counts(monkeypatch, tmp_path, platform, unit):
    monkeypatch.setattr(runtime, "Path", lambda name: tmp_path / "nothing" / name.lstrip("/"))
    monkeypatch.setattr(runtime, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(runtime.resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=300 * unit))
    runtime.forget_peak()  # no such file: nothing happens
    assert runtime.peak_mb() == 300.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts address space so")
def test_a_modest_process_takes_less_address_space():
    program = """
from habitue.core import runtime
if {modest}:
    runtime.modest()
import threading
import polars as pl
def work():
    pl.DataFrame({{"a": ["x" * 100] * 200_000}}).sort("a")
    text = ["y" * 1000 for _ in range(20_000)]
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmPeak")))
"""
    by_polars = os.environ | {"_RJEM_MALLOC_CONF": "dirty_decay_ms:500,muzzy_decay_ms:1000"}  # as its children find it
    peak = {
        (modest, inherited): int(
            subprocess.check_output(
                [sys.executable, "-c", program.format(modest=modest)],
                env=by_polars if inherited else {k: v for k, v in os.environ.items() if k != "_RJEM_MALLOC_CONF"},
            )
        )
        for modest, inherited in ((True, False), (True, True), (False, False))
    }
    assert peak[True, False] < 0.8 * peak[False, False]
    assert peak[True, True] < 0.8 * peak[False, False]
