"""One server for all clients of a module, and the way to it."""

import threading
from http.server import ThreadingHTTPServer

import pytest
from way import Losing, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("clients") / "shop")
    yield server
    if server._process.poll() is None:
        server._process.kill()
        server._process.communicate()


@pytest.fixture(scope="module")
def asked():
    """What was asked of the way that loses answers: (method, path), in order."""
    return []


@pytest.fixture(scope="module")
def losing(server, asked):
    """The address of the way that loses answers, and the list of senders it lost one of."""
    way = ThreadingHTTPServer(("127.0.0.1", 0), Losing)
    way.host, way.lost, way.asked = server.address.removeprefix("http://"), [], asked
    threading.Thread(target=way.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{way.server_port}", way.lost
    way.shutdown()
    way.server_close()
