"""R3: the fuzzer of the wires finds what is wrong, and no longer finds anything."""

import json
import runpy
from pathlib import Path

import pytest

from habitue.collect import lines
from habitue.collect.wires.body import BodyError

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/reliability/fuzz.py"))
HOW = SCRIPT["fuzzed"].__globals__


@pytest.fixture
def only(monkeypatch):
    """Fuzz one wire for a moment; returns what fails."""

    def fuzz(read, *good, seconds=0.2):
        monkeypatch.setitem(HOW, "WIRES", {"one": (read, list(good))})
        return SCRIPT["fuzzed"](seconds, 0)

    return fuzz


def test_the_committed_result_has_no_failure():
    path = ROOT / "benchmarks/reliability/none-r3-fuzz.json"
    found = {row["metric"]: row["mean"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert found["inputs"] > 50_000 and found["wires"] == len(SCRIPT["WIRES"]) and found["inputs kept"] > 60
    assert found["kinds of failure"] == 0 and found["slowest input, ms"] < 1_000


def test_an_exception_is_a_failure_and_a_refused_body_is_none(only):
    counts, failures = only(lambda _body: 1 / 0, {"a": 1})
    assert counts["kinds of failure"] == 1 and failures[0][:2] == ("one", "ZeroDivisionError('division by zero')")

    def refuses(_body):
        raise BodyError("invalid_json", "-")

    counts, failures = only(refuses, {"a": 1})
    assert failures == [] and counts["bodies refused"] == counts["inputs"] > 5


def test_what_the_log_cannot_be_read_back_from_is_a_failure(only):
    event = {"event_id": "e", "at": "2026-05-01T11:59:00Z", "kind": "a", "user_id": "u", "line": "no number"}
    _, failures = only(lambda _body: iter([(1, event)]), {})
    assert len(failures) == 1 and "no number" in failures[0][1]


def test_two_ways_that_do_not_agree_are_a_failure(only, monkeypatch):
    read, good = SCRIPT["WIRES"]["segment, one"]
    real = lines._plain
    monkeypatch.setattr(
        lines, "_plain", lambda *a: None if real(*a) is None else (real(*a)[0] | {"kind": "x"}, real(*a)[1])
    )
    _, failures = only(read, *good)
    assert len(failures) == 1 and "the fast way says" in failures[0][1]


def test_slow_inputs_are_failures(only, monkeypatch):
    monkeypatch.setitem(HOW, "LATEST_S", 0.0)
    _, failures = only(lambda _body: iter(()), {})
    assert any("seconds of CPU" in words for _, words, _ in failures)


def test_new_steps_are_found_from_a_body_that_has_few(only):
    read, _ = SCRIPT["WIRES"]["segment, one"]
    counts, failures = only(read, {}, SCRIPT["TRACK"], seconds=1.5)
    assert failures == [] and counts["inputs kept"] > 10 and counts["lines refused"] > 0
