"""The pace of training beside other libraries: each in a process of its own, and one that fails is named."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

PEERS = Path(__file__).parents[2] / "benchmarks/peers"
DRIVER = """import json, sys
import numpy as np
_, given, loss, window, steps = sys.argv
rows = len(np.load(given)["fit_user"])
if loss == "gBCE":
    raise SystemExit("no such loss here")
print("Some words of a library first")
print(json.dumps({"targets": rows * int(window), "cpu_s": float(steps)}))
"""


@pytest.fixture
def pace(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(PEERS)
    import pace

    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    python = tmp_path / "its/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(pace, "PEERS", {"it": ("its", str(driver), ("softmax", "gBCE"))})
    monkeypatch.setattr(pace, "rows_of", lambda past, name: {f"{name}_user": np.arange(past)})
    yield pace
    for name in ("pace", "run"):
        sys.modules.pop(name)


def test_targets_a_second_are_those_its_driver_tells(pace, tmp_path):
    assert pace.peer("it", SimpleNamespace(fit=7), "softmax", 50, 4, tmp_path) == [7 * 50 / 4]


def test_a_library_that_fails_is_named_with_its_last_words_and_has_no_row(pace, tmp_path, capsys):
    assert pace.peer("it", SimpleNamespace(fit=7), "gBCE", 50, 4, tmp_path) == []
    assert capsys.readouterr().out == "it: failed: no such loss here\n"


def test_every_driver_named_is_there_and_its_library_can_be_installed(monkeypatch):
    monkeypatch.syspath_prepend(PEERS)
    import pace
    import run

    for environment, script, losses in pace.PEERS.values():
        assert environment in run.PEERS and (PEERS / script).exists() and losses
    for name in ("pace", "run"):
        sys.modules.pop(name)
