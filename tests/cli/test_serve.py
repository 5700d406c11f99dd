import json
import signal
import socket
import subprocess
import sys
import urllib.request

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
        assert failed(shop, "--port", "0") == (
            1,
            f"habitue: {shop.root}/inbox: another writer (process {server.pid}) is "
            "at work. Two writers at once could store the same rows twice. Try again when it has ended.\n",
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
