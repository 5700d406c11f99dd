import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from habitue.core import progress


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def able(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Put a terminal in the place of stderr (not in a fixture: pytest puts its own back before the test)."""
    kept, sys.stderr = sys.stderr, Terminal()
    try:
        yield sys.stderr
    finally:
        sys.stderr = kept


def test_a_person_sees_the_stage_and_stdout_stays_clean(capsys):
    with terminal() as screen, progress.stage("Reading orders"):
        print('{"json": 1}')
    assert "Reading orders" in screen.getvalue()
    assert capsys.readouterr().out == '{"json": 1}\n'


def test_a_person_sees_the_bar_and_stdout_stays_clean(capsys):
    with terminal() as screen:
        for letter in progress.track(iter("abc"), "Scoring", total=3):
            print(letter)
    assert "Scoring" in screen.getvalue()
    assert capsys.readouterr().out == "a\nb\nc\n"


def test_a_person_sees_what_is_told_beside_the_bar():
    with terminal() as screen:
        with progress.steps("Training") as advance:
            advance(1, 2)
            advance(2, 2, "loss 6.125, 14,000 targets/s")
        with progress.quiet(), progress.steps("hidden") as advance:
            advance(1, 2, "hidden")
    assert "Training" in screen.getvalue() and "loss 6.125, 14,000 targets/s" in screen.getvalue()
    assert "hidden" not in screen.getvalue()


def test_a_stage_inside_another_is_silent():
    with terminal() as screen, progress.stage("outer"), progress.stage("inner"):
        assert list(progress.track([1], "deeper")) == [1]
    assert "outer" in screen.getvalue()
    assert "inner" not in screen.getvalue() and "deeper" not in screen.getvalue()


def test_quiet_is_silent_and_ends():
    with terminal() as screen:
        with progress.quiet(), progress.stage("hidden"):
            assert list(progress.track([1], "hidden")) == [1]
        assert screen.getvalue() == ""
        with progress.stage("shown"):
            pass
    assert "shown" in screen.getvalue()


def test_a_pipe_gets_nothing(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress.stage("hidden"):
        assert list(progress.track([1, 2], "hidden")) == [1, 2]
    assert pipe.getvalue() == ""


def test_an_error_passes_and_the_next_stage_is_shown():
    with terminal() as screen:
        with pytest.raises(KeyError), progress.stage("first"):
            raise KeyError
        with progress.stage("second"):
            pass
    assert "second" in screen.getvalue()
