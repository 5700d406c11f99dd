import json

import pytest
from litestar.testing import TestClient

from habitue.core import workspace
from habitue.serve import app


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop")


@pytest.fixture
def client(shop):
    with TestClient(app.create(shop)) as client:
        yield client


@pytest.fixture
def post(client):
    """Send anything as JSON, or bytes as they are; returns the answer."""

    def send(path, body, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post(path, content=content, headers=headers)

    return send
