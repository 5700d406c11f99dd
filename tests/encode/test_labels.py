"""Pictures in words."""

import io

import numpy as np
import polars as pl
import pytest

from habitue.core.errors import ModelError
from habitue.encode import labels, onnx, picture, weights


def file(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def things(*contents: bytes) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"p{n}" for n in range(len(contents))], "bytes": contents})


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three classes whose scores are how red, green and blue a picture is."""
    (tmp_path / "order").write_text("n3\nn1\nn2\n")
    (tmp_path / "words").write_text("n1\tcup, mug\nn2\tsea\nn3\trose, wild rose\nn4\tnobody\n")
    monkeypatch.setattr(weights, "path", lambda name, part=0: tmp_path / ("order", "words")[part])
    monkeypatch.setattr(labels, "_layer", lambda size: (np.eye(3) / 10, np.zeros(3)))
    monkeypatch.setattr(picture, "model", lambda config: None)
    monkeypatch.setattr(picture, "run", lambda session, seen: np.stack([s.mean(axis=(0, 1)) for s in seen]))
    monkeypatch.setattr(onnx, "session", lambda *_, **__: None)
    labels.names.cache_clear()
    yield
    labels.names.cache_clear()


def test_the_likeliest_classes_come_first_by_their_first_word(small):
    red, blue = (np.full((9, 9, 3), c, dtype=np.uint8) for c in ((200, 100, 0), (0, 50, 250)))
    got = labels.told(things(file(red), b"broken", file(blue)), most=2)
    assert got["id"].to_list() == ["p0", "p0", "p2", "p2"]
    assert got["label"].to_list() == ["rose", "cup", "sea", "cup"]
    scores = np.exp(np.array([20.0, 10.0, 0.0]))
    assert got["share"].to_list()[:2] == pytest.approx(list(scores[:2] / scores.sum()))
    assert labels.sentences(things(file(red)), most=3).rows() == [("p0", "rose, cup, sea")]
    assert labels.told(things(file(red)).clear()).height == 0


def test_without_the_words_the_command_that_brings_them_is_named(models):
    labels.names.cache_clear()
    with pytest.raises(ModelError, match="habitue models fetch image-labels"):
        labels.told(things(file(np.zeros((4, 4, 3), dtype=np.uint8))))


@pytest.mark.slow
def test_photographs_are_named_by_what_they_show(real_weights):
    """Two photographs that scikit-learn ships: a Chinese palace and a flower."""
    from sklearn.datasets import load_sample_images

    real_weights("image-efficientnet-lite0")
    real_weights("image-labels")
    labels.names.cache_clear()
    assert len(labels.names()) == 1000
    got = labels.told(things(*(file(photograph) for photograph in load_sample_images().images)), most=1)
    assert got["label"].to_list() == ["palace", "daisy"]
