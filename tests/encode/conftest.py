"""A folder of weights of its own, and pictures drawn for the purpose."""

import io
from collections.abc import Callable

import numpy as np
import polars as pl
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


class Sounds:
    """Tones and noises, and the files they come in."""

    @staticmethod
    def tone(hertz: float, *, rate: int = 16_000, seconds: float = 1.0, loud: float = 0.5) -> np.ndarray:
        at = np.arange(round(rate * seconds)) / rate
        return (loud * np.sin(2 * np.pi * hertz * at)).astype(np.float32)

    @staticmethod
    def noise(*, rate: int = 16_000, seconds: float = 1.0, loud: float = 0.1, seed: int = 0) -> np.ndarray:
        return (loud * np.random.default_rng(seed).standard_normal(round(rate * seconds))).astype(np.float32)

    @staticmethod
    def file(sound: np.ndarray, *, rate: int = 16_000, subtype: str = "PCM_16", form: str = "WAV") -> bytes:
        """A file of [N] or [N, channels]."""
        import soundfile

        out = io.BytesIO()
        soundfile.write(out, sound, rate, format=form, subtype=subtype)
        return out.getvalue()

    @staticmethod
    def things(*contents: bytes | None) -> pl.DataFrame:
        ids = [f"s{n}" for n in range(len(contents))]
        return pl.DataFrame({"id": ids, "bytes": contents}, schema={"id": pl.String, "bytes": pl.Binary})


@pytest.fixture(scope="session")
def sounds() -> type[Sounds]:
    """What tests of sound are made of."""
    return Sounds
