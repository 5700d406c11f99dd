"""R3: the fuzzer of every parser finds what is wrong, and no longer finds anything."""

import importlib
import json
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from habitue.collect import lines
from habitue.collect.wires.body import BodyError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks/reliability/fuzz"
GROUPS = ("wires", "files", "settings", "media")


class Refused(Exception):
    pass


@pytest.fixture(scope="module")
def fuzz():
    """The fuzzer's files as modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        names = ("changes", "loop", *(f"of_{group}" for group in GROUPS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def only(fuzz):
    """Fuzz one parser for a moment; returns counts and what fails."""

    def run(read, *good, whole=None, seconds=0.2, refuses=(Refused, BodyError), counted=("rows",), **more):
        bodies = tuple(one if isinstance(one, bytes) else json.dumps(one).encode() for one in good)
        one = fuzz.loop.Parser("one", bodies, read, whole)
        counts, failures = fuzz.loop.fuzzed(
            fuzz.loop.Group("one", "habitue", (one,), refuses, counted, **more), seconds, 0
        )
        return counts, [failure.words for failure in failures.values()]

    return run


@pytest.mark.parametrize(
    ("name", "least"), [("wires", 20_000), ("files", 5_000), ("settings", 5_000), ("media", 9_000)]
)
def test_the_committed_result_has_no_failure(fuzz, name, least):
    told = json.loads((ROOT / "benchmarks/reliability/none-r3-fuzz.json").read_text(encoding="utf-8"))["rows"]
    found = {row["metric"]: row["mean"] for row in told if row["slice"] == name}
    group = getattr(fuzz, f"of_{name}").GROUP
    assert found["inputs"] > least and found["inputs kept"] > 30 and found["parsers"] == len(group.parsers)
    assert found["kinds of failure"] == 0 and found["slowest input, ms"] < 1_000 * group.latest_s


@pytest.mark.parametrize("name", GROUPS)
def test_every_good_input_is_read(fuzz, name):
    """Else what is made of it would be refused at the first step."""
    for parser in getattr(fuzz, f"of_{name}").GROUP.parsers:
        for body in parser.good:
            told = parser.read(body)
            assert sum(told.values()) > 0 or b"previousId" in body or b"identify" in body, parser.name


def test_an_exception_is_a_failure_and_a_refusal_is_none(only):
    counts, failures = only(lambda _body: 1 / 0, {"a": 1})
    assert counts["kinds of failure"] == 1 and "ZeroDivisionError('division by zero')" in failures[0]

    def refuses(_body):
        raise Refused("in words")

    counts, failures = only(refuses, {"a": 1})
    assert failures == [] and counts["refused whole"] == counts["inputs"] > 5


def test_a_panic_is_a_failure_though_it_is_no_exception(only):
    def panics(_body):
        raise BaseException("called `Result::unwrap()` on an `Err` value")

    assert "unwrap" in only(panics, b"a")[1][0]


@pytest.mark.parametrize("words", ["", "no column '\x1b[2J'", "half \ud83d"])
def test_a_refusal_that_cannot_be_printed_is_a_failure(only, words):
    def refuses(_body):
        raise Refused(words)

    assert only(refuses, b"a")[1][0].startswith("a refusal")


def test_what_was_accepted_and_cannot_be_gone_on_with_is_a_failure(only, fuzz):
    def breaks(_body):
        raise AssertionError("3 rows stored, 4 said")

    def accepts(body):
        return Counter(rows=len(fuzz.of_files.text()) if lines.moment(body.decode(errors="replace")) else 0)

    counts, failures = only(accepts, b"2026-05-01", whole=breaks, seconds=0.5)
    assert "3 rows stored, 4 said" in failures[0] and counts["rows"] > 0


def test_what_the_log_cannot_be_read_back_from_is_a_failure(only, fuzz):
    event = {"event_id": "e", "at": "2026-05-01T11:59:00Z", "kind": "a", "user_id": "u", "line": "no number"}
    wire = fuzz.of_wires.wire("one", lambda _body: iter([(1, event)]), [{}])
    _, failures = only(wire.read, {}, whole=wire.whole)
    assert len(failures) == 1 and "no number" in failures[0]


def test_two_ways_that_do_not_agree_are_a_failure(only, fuzz, monkeypatch):
    parser = next(one for one in fuzz.of_wires.GROUP.parsers if one.name == "segment, one")
    real = lines._plain
    monkeypatch.setattr(
        lines, "_plain", lambda *a: None if real(*a) is None else (real(*a)[0] | {"kind": "x"}, real(*a)[1])
    )
    _, failures = only(parser.read, *parser.good)
    assert len(failures) == 1 and "the fast way says" in failures[0]


def test_a_guess_that_says_more_than_is_read_is_a_failure(only, fuzz, monkeypatch):
    monkeypatch.setattr(fuzz.of_files, "rows", lambda _mapping: Counter(rows=1))
    _, failures = only(fuzz.of_files.guessed, fuzz.of_files.GOOD, seconds=0.0)
    assert "3 of 3 rows said, 1 read" in failures[0] or "2 of 3 rows said, 1 read" in failures[0]


def test_slow_inputs_and_much_memory_are_failures(only):
    _, failures = only(lambda _body: Counter(), {}, latest_s=0.0)
    assert any("seconds of CPU" in words for words in failures)
    _, failures = only(lambda _body: Counter(), {}, most_mb=-1.0)
    assert any("MB more than before" in words for words in failures)


def test_new_steps_are_found_from_a_body_that_has_few(only, fuzz):
    parser = next(one for one in fuzz.of_wires.GROUP.parsers if one.name == "segment, one")
    counts, failures = only(parser.read, {}, parser.good[0], seconds=1.5, counted=("refused alone",))
    assert failures == [] and counts["inputs kept"] > 10 and counts["refused alone"] > 0


def test_a_process_that_dies_is_a_failure_with_the_input_it_was_reading(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "fuzz")
    (folder / "of_settings.py").write_text(
        "import os\nfrom loop import Group, Parser\n"
        "one = Parser('one', (b'the last words',), lambda body: os._exit(7))\n"
        "GROUP = Group('settings', 'habitue', (one,), (), ())\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        told = runpy.run_path(str(folder / "__main__.py"))["apart"]("settings", 1.0, 0)
        for name in ("changes", "loop"):
            sys.modules.pop(name, None)
    assert told["counts"]["kinds of failure"] == 1
    assert told["failures"][0][0] == "one" and "ended with 7" in told["failures"][0][1]
    assert told["failures"][0][2] == "dGhlIGxhc3Qgd29yZHM="
