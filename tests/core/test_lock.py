import os
import subprocess
import sys
import threading

import pytest

from habitue.core.errors import LakeError
from habitue.core.lock import exclusive

HOLD = """
import sys, pathlib
from habitue.core.lock import exclusive
with exclusive(pathlib.Path(sys.argv[1]), wait_s=5):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_same_thread_may_take_it_again(tmp_path):
    with exclusive(tmp_path / ".lock", wait_s=1) as outer, exclusive(tmp_path / ".lock", wait_s=1) as inner:
        assert (outer, inner) == (True, False)
    with exclusive(tmp_path / ".lock", wait_s=1) as again:
        assert again


def test_another_process_is_refused_in_words_that_name_it(tmp_path, other):
    with pytest.raises(LakeError, match=rf"another writer \(process {other.pid}\) is at work.*Try again"):
        with exclusive(tmp_path / ".lock", wait_s=0.1):
            pass


def test_a_killed_process_lets_go(tmp_path, other):
    other.kill()
    other.wait()
    with exclusive(tmp_path / ".lock", wait_s=0.1) as held:
        assert held


def test_who_waits_gets_it(tmp_path, other):
    threading.Timer(0.2, other.stdin.close).start()
    with exclusive(tmp_path / ".lock", wait_s=10):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_another_thread_is_refused(tmp_path):
    refused = []

    def try_it():
        try:
            with exclusive(tmp_path / ".lock", wait_s=0.05):
                pass
        except LakeError as error:
            refused.append(str(error))

    with exclusive(tmp_path / ".lock", wait_s=1):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1 and "this one" in refused[0]


def test_an_exception_inside_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / ".lock", wait_s=1):
        raise ZeroDivisionError
    with exclusive(tmp_path / ".lock", wait_s=1) as held:
        assert held


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match=r"the folder cannot be written.*can still be read"):
        with exclusive(tmp_path / "file" / ".lock", wait_s=1):
            pass


def test_the_next_thread_gets_it_once_it_is_free(tmp_path):
    got = []

    def take():
        with exclusive(tmp_path / ".lock", wait_s=1) as held:
            got.append(held)

    with exclusive(tmp_path / ".lock", wait_s=1), exclusive(tmp_path / ".lock", wait_s=1):
        pass
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert got == [True]


def test_the_folder_is_made_and_an_older_name_is_overwritten(tmp_path):
    path = tmp_path / "a" / "b" / ".lock"
    with exclusive(path, wait_s=1):
        pass
    path.write_text("99999999999999")
    with exclusive(path, wait_s=1):
        assert path.read_text() == str(os.getpid())
