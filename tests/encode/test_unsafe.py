"""Is a picture safe to show: what the network is given, and what the real one says of ordinary photographs."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue import encode
from habitue.core.errors import ModelError, SettingsError
from habitue.encode import onnx, unsafe, weights


def file(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def things(*contents: bytes | None) -> pl.DataFrame:
    ids = [f"p{n}" for n in range(len(contents))]
    return pl.DataFrame({"id": ids, "bytes": contents}, schema={"id": pl.String, "bytes": pl.Binary})


RED = file(np.full((60, 90, 3), (200, 20, 10), dtype=np.uint8))


def test_the_network_gets_blue_first_less_the_means_and_its_answer_is_the_row(monkeypatch):
    given = []

    class Network:
        def get_inputs(self):
            return [type("Input", (), {"name": "pictures"})]

        def run(self, _, asked):
            given.append(asked["pictures"])
            return [np.array([[0.75, 0.25]], dtype=np.float32)]

    monkeypatch.setattr(weights, "path", lambda *_: None)
    monkeypatch.setattr(onnx, "session", lambda *_, **__: Network())
    vectors = encode.run("unsafe", things(RED, b"no picture", None))
    assert vectors.dense.tolist() == [[0.75, 0.25], [0, 0], [0, 0]] and vectors.encoded.tolist() == [True, False, False]
    assert vectors.refused["code"].to_list() == ["no_picture", "no_picture"]
    (seen,) = given
    assert seen.shape == (1, 224, 224, 3) and seen[0, 100, 100] == pytest.approx([10 - 104, 20 - 117, 200 - 123], abs=3)
    assert encode.run("unsafe", things()).dense.shape == (0, 2)


def test_without_weights_the_command_that_brings_them_is_named(models):
    with pytest.raises(ModelError, match="habitue models fetch image-moderation"):
        encode.run("unsafe", things(RED))


def test_settings_that_see_nothing_are_refused():
    with pytest.raises(SettingsError, match="largest 0, workers 2"):
        unsafe.Config(largest=0)


@pytest.mark.slow
def test_a_palace_and_a_flower_are_safe(real_weights):
    from sklearn.datasets import load_sample_images

    real_weights("image-moderation")
    photos = things(*(file(photo) for photo in load_sample_images().images), RED)
    shares = encode.run("unsafe", photos).dense
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5) and (shares[:2, 1] < 0.01).all()
    assert (encode.run("unsafe", photos[1:2]).dense[0] == shares[1]).all(), "in any company"
