"""Lists beside other libraries: RecTools answers in a process of its own, and where it fails there is no row."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("implicit")
PEERS = Path(__file__).parents[2] / "benchmarks/peers"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Ask a made-up RecTools whose Python is these lines of a shell."""
    monkeypatch.syspath_prepend(PEERS)
    import lists

    monkeypatch.setattr(lists, "rows_of", lambda past, name: {f"{name}_user": np.arange(past)})

    def ask(lines):
        python = tmp_path / lists.RECTOOLS / "bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{lines}\n")
        python.chmod(0o755)
        return lists.rectools(7, 2, tmp_path)

    yield ask
    for name in ("lists", "run"):
        sys.modules.pop(name)


def test_users_a_second_and_memory_are_those_its_driver_tells(asked):
    (one,) = asked('test -f "$1" && test -f "$2" && echo Words && echo \'{"users": 6, "cpu_s": [2, 3], "peak_mb": 9}\'')
    assert one.name == "RecTools SASRec, window 50" and one.values == (3.0, 2.0)
    assert one.cpu_s == 2.5 and one.peak_mb == 9


def test_a_library_that_fails_is_named_with_its_last_words_and_has_no_row(asked, capsys):
    assert asked("echo not here >&2; exit 1") == []
    assert capsys.readouterr().out == "RecTools: failed: not here\n"


def test_peers_are_asked_for_everybody(monkeypatch):
    monkeypatch.syspath_prepend(PEERS)
    import lists

    seen = lists.speed._seen(lists.speed._past(lists.speed.Options(items=120, users=150)))
    runtime = lists.detect(device="cpu")
    told = lists.neighbours(seen, lists.speed.Options(repeats=2), runtime)
    assert [one.name for one in told] == ["implicit ALS", "implicit neighbours"]
    assert all(len(one.values) == 2 and one.values[0] > 150 / 60 for one in told)
    for name in ("lists", "run"):
        sys.modules.pop(name)
