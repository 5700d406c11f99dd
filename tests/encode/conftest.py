"""A folder of weights of its own, and pictures drawn for the purpose."""

import io
from collections.abc import Callable

import pytest


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty folder of weights."""
    monkeypatch.setenv("HABITUE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="session")
def draw() -> Callable[..., bytes]:
    """Draw a picture of one colour with a darker square in it; returns the file's bytes."""
    from PIL import Image

    def make(colour, size=(60, 40), form="PNG", **options) -> bytes:
        picture = Image.new("RGB", size, colour)
        picture.paste(tuple(c // 2 for c in colour), (0, 0, size[0] // 4, size[1] // 4))
        file = io.BytesIO()
        picture.save(file, form, **options)
        return file.getvalue()

    return make
