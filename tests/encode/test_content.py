"""What is known of products: senses side by side, by hand, as of a moment."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue.core.errors import PluginError, SettingsError
from habitue.core.schemas import MEDIA
from habitue.encode import content, text
from habitue.encode.content import Config

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
CATALOGUE = pl.DataFrame(
    {"item_id": list("abcd"), "title": ["red cup", "blue cup", None, "plate"]}, schema_overrides={"title": pl.String}
)


@pytest.fixture
def media(tmp_path):
    """Pictures of one colour each: (item, colour, days before NOW or None)."""

    def make(*pictures, owner="item", modality="image"):
        rows = []
        for n, (item, colour, before) in enumerate(pictures):
            path = tmp_path / f"{owner}-{n}.png"
            Image.new("RGB", (64, 64), colour).save(path)
            if colour == "black":  # a broken one
                path.write_bytes(path.read_bytes()[:40])
            at = None if before is None else NOW - dt.timedelta(days=before)
            rows.append({"media_id": f"{owner}{n}", "owner": owner, "owner_id": item, "modality": modality, "at": at})
        kept = {"path": pl.Series([str(tmp_path / f"{owner}-{n}.png") for n in range(len(rows))])}
        frame = pl.DataFrame(rows, schema_overrides={"at": pl.Datetime("us", "UTC")}).with_columns(**kept)
        return MEDIA.shape(frame.with_columns(sha256=pl.col("media_id"), source=pl.lit("t"), import_id=pl.lit("t")))

    return make


def about(media, *senses, catalogue=CATALOGUE, cache=None):
    return content.about(catalogue, media, as_of=NOW, words=text.Config(), config=Config(tuple(senses)), cache=cache)


def test_without_senses_it_is_the_words():
    found = about(MEDIA.empty())
    words = text.encode(CATALOGUE)
    assert found.parts == (("text", words.matrix.shape[1]),)
    np.testing.assert_array_equal(found.matrix.toarray(), words.matrix.toarray())
    assert found.words.sha256 == words.sha256


def test_senses_stand_side_by_side_and_rows_have_length_one(media):
    pictures = media(("a", "red", 3), ("b", "blue", None), ("c", "red", 1))
    found = about(pictures, "colour")
    (_, words), (name, colours) = found.parts
    assert name == "colour" and found.matrix.shape == (4, words + colours)
    length = np.linalg.norm(found.matrix.toarray(), axis=1)
    np.testing.assert_allclose(length, 1, rtol=1e-5)
    half = np.linalg.norm(found.matrix[:, :words].toarray(), axis=1)
    np.testing.assert_allclose(half, [0.5**0.5, 0.5**0.5, 0, 1], rtol=1e-5)  # c has no title, d no picture
    seen = found.matrix[:, words:].toarray()
    assert seen[0] @ seen[2] > 0 > seen[0] @ seen[1]  # red is like red; blue lies on the other side of the mean


def test_only_pictures_of_these_products_that_were_there_by_then_and_can_be_opened(media, tmp_path):
    wanted = about(media(("a", "red", 3), ("b", "blue", 3), ("c", "green", None)), "colour").matrix.toarray()
    more = media(
        ("a", "red", 3),
        ("b", "blue", 3),
        ("c", "green", None),
        ("d", "yellow", 0),
        ("z", "white", 3),
        ("d", "black", 3),
    )
    others = [
        media(("a", "white", 3), owner="event"),
        media(("b", "white", 3), owner="user").with_columns(owner_id=None),
    ]
    found = about(pl.concat([more, *others]), "colour").matrix.toarray()
    np.testing.assert_array_equal(found, wanted)
    assert found[3, :].any() and not found[3, -320:].any()


def test_of_several_pictures_the_mean_is_taken(media):
    found = about(media(("a", "red", 3), ("a", "blue", 3), ("b", "red", 3), ("c", "blue", 3)), "colour")
    seen = found.matrix[:, -320:].toarray()
    assert abs(seen[0]).max() < 1e-6  # half of each: the mean of all
    assert seen[1] @ seen[2] < 0


def test_what_was_encoded_is_kept(media, tmp_path, monkeypatch):
    pictures = media(("a", "red", 3), ("b", "blue", 3))
    first = about(pictures, "colour", cache=tmp_path / "vectors")
    for path in pictures["path"]:
        assert any((tmp_path / "vectors").rglob("*")), path
    monkeypatch.setattr("habitue.encode.colour.decoded", lambda *_, **__: pytest.fail("it was encoded again"))
    again = about(pictures, "colour", cache=tmp_path / "vectors")
    np.testing.assert_array_equal(again.matrix.toarray(), first.matrix.toarray())


def test_nothing_is_known_of_a_shop_without_titles_and_pictures(media):
    bare = CATALOGUE.with_columns(title=pl.lit(None, dtype=pl.String))
    assert about(MEDIA.empty(), "colour", catalogue=bare).matrix is None
    only = about(media(("a", "red", 3), ("b", "blue", 3)), "colour", catalogue=bare)
    assert only.parts == (("colour", 320),) and only.matrix[:2].nnz and not only.matrix[2:].nnz
    nobody = content.about(CATALOGUE.clear(), MEDIA.empty(), as_of=NOW, words=text.Config(), config=Config())
    assert nobody.matrix is None and nobody.parts == ()


@pytest.mark.parametrize(
    ("senses", "error", "message"),
    [
        (("colour", "colour"), SettingsError, "'colour' is there twice.*Name it once"),
        (("text",), SettingsError, "'text' is always read.*Leave it out"),
        (("signals",), SettingsError, "'signals' reads neither titles nor pictures"),
        (("colours",), PluginError, "no file 'habitue/encode/colours.py'.*colour"),
    ],
)
def test_a_sense_that_cannot_be_read_is_refused(senses, error, message):
    with pytest.raises(error, match=message):
        about(MEDIA.empty(), *senses)


def test_each_file_that_says_what_it_reads_reads_it():
    from habitue.core import plugins

    files = ("picture", "colour", "texture", "photo", "sound", "acoustics", "speech", "spectrogram", "video")
    told = {
        name: plugins.load("encode", name, contract=content.CONTRACT).MEDIUM for name in (*files, "sentence", "static")
    }
    assert {name for name, medium in told.items() if medium == "image"} == {"picture", "colour", "texture", "photo"}
    assert {told[name] for name in ("sound", "acoustics", "speech", "spectrogram")} == {"audio"}
    assert told["video"] == "video" and told["sentence"] == told["static"] == "title"
