import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from habitue.core import workspace
from habitue.core.schemas import EVENTS

COMMAND = [sys.executable, "-c", "from habitue.cli import main; main()", "serve"]


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop")


def failed(shop, *more):
    done = subprocess.run([*COMMAND, "-w", shop.root, *more], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_server_says_where_it_listens_and_empties_its_inbox_when_it_is_stopped(shop, ending):
    command = [*COMMAND, "-w", shop.root, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        body = json.dumps({"event": "Product Viewed", "userId": "u1"}).encode()
        with urllib.request.urlopen(f"{address}/v1/track", body, timeout=20) as answer:
            assert (answer.status, answer.read()) == (200, b'{"success":true}')
        rebound = urllib.request.Request(f"{address}/v1/users/u1", headers={"Host": "rebound.example"})
        with pytest.raises(urllib.error.HTTPError, match="HTTP Error 421") as refused:
            urllib.request.urlopen(rebound, timeout=20)
        refused.value.close()
        assert failed(shop, "--port", "0") == (
            1,
            f"habitue: {shop.root}/inbox: another writer (process {server.pid}) is "
            "at work. Two writers at once could store the same rows twice. Try again when it has "
            "ended; a server writes as long as it runs, so end habitue serve first.\n",
        )
        server.send_signal(ending)
        assert server.communicate(timeout=60) == ("", "")
        assert server.returncode == 0
    finally:
        server.kill()
    assert shop.lake.read(EVENTS)["kind"].to_list() == ["Product Viewed"]


def test_another_address_takes_keys(shop):
    code, words = failed(shop, "--host", "0.0.0.0")
    assert code == 2 and "'0.0.0.0' can be reached from other machines, and the workspace has no keys" in words


def test_a_port_that_is_taken_is_said_in_words(shop):
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, words = failed(shop, "--port", str(other.getsockname()[1]))
    assert code == 2 and "Stop what listens there, or choose another port" in words


def test_a_core_is_left_to_the_answers_unless_somebody_said_otherwise(shop):
    program = """
import atexit
from habitue.cli import main

def told():
    import numpy
    import polars
    import threadpoolctl
    print(max(one["num_threads"] for one in threadpoolctl.threadpool_info()), polars.thread_pool_size())

atexit.register(told)
main()
"""
    free = {name: told for name, told in os.environ.items() if not name.endswith("_THREADS")}
    cores = os.cpu_count()
    for asked, threads, pool in (
        ({}, 1, max(cores - 1, 1)),
        ({"OMP_NUM_THREADS": "2", "POLARS_MAX_THREADS": "3"}, min(2, cores), 3),
    ):
        command = [sys.executable, "-c", program, "serve", "-w", shop.root, "--host", "0.0.0.0"]
        done = subprocess.run(command, env=free | asked, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.strip() == f"{threads} {pool}"


def _child_of(process):
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end while we look
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process.pid:
                return int(path.parent.name)
    return None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_the_process_in_the_background_may_die_and_nothing_is_lost(shop):
    shop.plan.write_text(shop.plan.read_text() + "\n[collect]\ncompact_s = 0.3\n")
    command = [*COMMAND, "-w", shop.root, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        killed = set()
        for number in range(30):
            body = json.dumps({"event": "Product Viewed", "userId": "u1", "messageId": f"m{number}"}).encode()
            with urllib.request.urlopen(f"{address}/v1/track", body, timeout=20) as answer:
                assert answer.status == 200
            time.sleep(0.1)
            child = _child_of(server)
            if number % 10 == 5 and child is not None:
                os.kill(child, signal.SIGKILL)
                killed.add(child)
        assert killed
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=120)
        assert server.returncode == 0 and said.count("it is started again") == len(killed)
    finally:
        server.kill()
    rows = shop.lake.read(EVENTS)
    assert sorted(rows["event_id"]) == sorted(f"m{number}" for number in range(30))
