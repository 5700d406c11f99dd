"""What is written in pictures: marks to rectangles, rectangles to strips, columns to letters; and the real networks."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

from habitue import encode
from habitue.core.errors import MissingExtraError, ModelError, SettingsError
from habitue.encode import onnx, sentence, weights, writing
from habitue.encode.vectors import Encoder, Vectors


def picture(*lines: str, size=(640, 300), angle: float = 0, form: str = "PNG") -> bytes:
    image = Image.new("RGB", size, (240, 240, 230))
    draw = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        draw.text((40, 30 + 80 * n), line, font=ImageFont.load_default(42), fill=(20, 20, 40))
    out = io.BytesIO()
    image.rotate(angle, fillcolor=(240, 240, 230), resample=Image.Resampling.BICUBIC).save(out, form)
    return out.getvalue()


def things(*contents: bytes | None) -> pl.DataFrame:
    ids = [f"p{n}" for n in range(len(contents))]
    return pl.DataFrame({"id": ids, "bytes": contents}, schema={"id": pl.String, "bytes": pl.Binary})


def test_the_smallest_rectangle_is_found_however_it_is_turned():
    grid = np.stack(np.meshgrid(np.linspace(0, 100, 21), np.linspace(0, 20, 9)), axis=-1).reshape(-1, 2)
    for degrees in (0, 10, -25, 44):
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        got = writing.rectangle(grid @ turn + 50)
        wanted = np.array([(0, 0), (100, 0), (100, 20), (0, 20)]) @ turn + 50
        assert got == pytest.approx(wanted, abs=0.01), degrees
    line = writing.rectangle(np.array([[0.0, 0.0], [3.0, 0.0], [9.0, 0.0]]))
    assert np.ptp(line, axis=0).tolist() == [9, 0]


def test_a_rectangle_grows_on_every_side():
    grown = writing.grown(np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 20.0], [10.0, 20.0]]), 3)
    assert grown.tolist() == [[7, 7], [33, 7], [33, 23], [7, 23]]


def test_lines_come_in_the_order_of_reading():
    marks = np.zeros((200, 300), dtype=np.float32)
    marks[100:112, 10:100] = marks[102:114, 150:260] = marks[20:34, 180:280] = 0.9
    marks[180:182, 10:60] = 0.9  # too flat
    marks[150:165, 10:90] = 0.4  # not sure enough
    got = writing.found(marks, 10)
    left = [round(float(corners[:, 0].min())) for corners in got]
    assert len(got) == 3 and left[0] > 160 and left[1] < 10 and 130 < left[2] < 150
    assert all(float(c[:, 1].max()) > 33 for c in got)
    assert len(writing.found(marks, 1)) == 1 and writing.found(np.zeros((9, 9), np.float32), 5) == []


def test_a_strip_is_upright_and_a_tall_one_is_laid_down():
    pixels = np.full((100, 200, 3), 255, dtype=np.uint8)
    pixels[40:60, 50:150] = (200, 0, 0)
    pixels[40:60, 50:60] = (0, 0, 200)
    got = writing.strip(pixels, np.array([[50.0, 40.0], [150.0, 40.0], [150.0, 60.0], [50.0, 60.0]]))
    assert got.shape == (48, 240, 3)
    assert got[24, 5].tolist() == [0, 0, 200] and got[24, 200].tolist() == [200, 0, 0]
    tall = writing.strip(
        pixels.transpose(1, 0, 2), np.array([[40.0, 50.0], [60.0, 50.0], [60.0, 150.0], [40.0, 150.0]])
    )
    assert tall.shape == (48, 240, 3) and {tuple(tall[24, n].tolist()) for n in (5, 234)} == {(0, 0, 200), (200, 0, 0)}


def test_columns_are_spelt_without_repeats_and_blanks():
    signs = ("", "a", "b", " ")
    columns = np.full((7, 4), 0.01)
    for n, sign in enumerate((1, 1, 0, 1, 3, 2, 2)):
        columns[n, sign] = 0.9 if n else 0.5
    text, share = writing.spelt(columns, signs)
    assert text == "aa b" and share == pytest.approx((0.5 + 0.9 * 3) / 4)
    assert writing.spelt(np.eye(4)[[0, 0]], signs) == ("", 0.0)


@pytest.fixture
def reader(monkeypatch):
    """A dark stripe is a line, and every line says `mug`; its meaning is how long it is."""

    class Finder:
        def get_inputs(self):
            return [type("Input", (), {"name": "x"})]

        def run(self, _, given):
            (grey,) = given.values()
            return [(grey.mean(axis=1, keepdims=True) < 0).astype(np.float32)]

    class Reader(Finder):
        def run(self, _, given):
            return [np.eye(5, dtype=np.float32)[[1, 1, 0, 2, 3]][None]]

        def get_modelmeta(self):
            return type("About", (), {"custom_metadata_map": {"character": "m\nu\ng"}})

        def get_outputs(self):
            return [type("Output", (), {"shape": [1, 5, 5]})]

    def words(_, texts):
        matrix = np.array([[len(t)] * 3 for t in texts["text"]], dtype=np.float32)
        return Vectors(tuple(texts["id"]), matrix, np.ones(texts.height, dtype=bool), "text.sentence@1", "")

    monkeypatch.setattr(weights, "path", lambda name, part=0: part)
    monkeypatch.setattr(onnx, "session", lambda part, **_: (Finder, Reader)[part]())
    monkeypatch.setattr(sentence, "encoder", lambda _: Encoder("text.sentence@1", 3, {}, "w"))
    monkeypatch.setattr(writing.modality, "run", words)


def striped(*tops: int) -> bytes:
    pixels = np.full((96, 96, 3), 255, dtype=np.uint8)
    for top in tops:
        pixels[top : top + 12, 10:80] = 0
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_lines_of_a_picture_are_one_text_with_one_vector(reader):
    asked = things(striped(10, 50), striped(), striped(30), b"no picture")
    config = writing.Config(side=96)
    lines = writing.told(asked, config)
    assert lines.rows() == [("p0", 0, "mug", 1.0), ("p0", 1, "mug", 1.0), ("p2", 0, "mug", 1.0)]
    assert writing.sentences(lines).rows() == [("p0", "mug mug"), ("p2", "mug")]
    vectors = encode.run("writing", asked, config)
    assert vectors.dense[:, 0].tolist() == [7, 0, 3, 0] and vectors.missing == ("p1", "p3")
    assert dict(vectors.refused.select("id", "code").iter_rows()) == {"p1": "no_writing", "p3": "no_picture"}
    assert encode.run("writing", asked[1:2], config).missing == ("p1",)
    assert encode.run("writing", asked.clear(), config).dense.shape == (0, 3)


def test_settings_that_read_nothing_are_refused():
    with pytest.raises(SettingsError, match="side 8, least 0.5"):
        writing.Config(side=8)
    with pytest.raises(SettingsError, match="least 1, lines 100"):
        writing.Config(least=1)


def test_without_weights_the_command_that_brings_them_is_named(models):
    with pytest.raises(ModelError, match="habitue models fetch image-writing"):
        encode.run("writing", things(picture("mug")))


def test_a_missing_extra_is_named(models, monkeypatch):
    monkeypatch.setattr(weights, "path", lambda name, part=0: part)
    monkeypatch.setattr(onnx, "session", lambda *_, **__: None)
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[pictures\]'"):
        writing.told(things(picture("mug")))


@pytest.mark.slow
def test_it_reads_what_is_written_turned_or_not(real_weights):
    real_weights("image-writing")
    real_weights("text-use-multilingual")
    asked = things(
        picture("SALE 50% OFF", "Running shoes", "$29.99 only today!"), picture("SALE 50% OFF", angle=14), picture()
    )
    lines = writing.told(asked)
    assert lines.filter(pl.col("id") == "p0")["text"].to_list() == [
        "SALE 50% OFF",
        "Running shoes",
        "$29.99 only today!",
    ]
    assert lines.filter(pl.col("id") == "p1")["text"].to_list() == ["SALE 50% OFF"] and lines["share"].min() > 0.9
    vectors = encode.run("writing", asked)
    assert vectors.missing == ("p2",)
    words = encode.run("sentence", pl.DataFrame({"id": ["s"], "text": ["SALE 50% OFF"]}))
    assert vectors.dense[1] @ words.dense[0] > 0.999
    assert (encode.run("writing", asked[1:2]).dense[0] == vectors.dense[1]).all(), "in any company"
