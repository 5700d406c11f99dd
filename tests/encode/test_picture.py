"""Pictures: decoded whatever they are, refused in words when they cannot be, the same vector in any company."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue import encode
from habitue.core.errors import MissingExtraError, ModelError
from habitue.encode import colour, efficientnet, onnx, picture, pixels, texture, weights


def file(image: Image.Image, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def noise(seed: int = 0, size=(120, 90)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def things(*contents: bytes | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [f"p{n}" for n in range(len(contents))], "bytes": contents}, schema={"id": pl.String, "bytes": pl.Binary}
    )


def seen(content: bytes, *, side: int = 32, square: bool = False) -> np.ndarray:
    ((_, made),) = pixels.decoded(things(content), lambda p: p, side=side, largest=10**6, workers=1, square=square)
    assert isinstance(made, np.ndarray), made
    return made


RED = Image.new("RGB", (30, 20), (200, 20, 20))
USABLE = {
    "rgb": file(RED),
    "jpeg": file(RED, "JPEG"),
    "cmyk": file(RED.convert("CMYK"), "JPEG"),
    "webp": file(RED, "WEBP"),
    "gif": file(RED, "GIF"),
    "bmp": file(RED, "BMP"),
    "tiff": file(RED, "TIFF"),
    "grey": file(RED.convert("L")),
    "one bit": file(RED.convert("1")),
    "one pixel": file(Image.new("RGB", (1, 1))),
    "a line": file(Image.new("RGB", (999, 1))),
    "palette": file(RED.convert("P")),
    "grey with alpha": file(Image.new("LA", (3, 3))),
    "sixteen bits": file(Image.new("I;16", (9, 9), 30000)),
    "moving": file(RED, "GIF", save_all=True, append_images=[noise()]),
}
REFUSED = {
    "cut off": (file(noise(), "JPEG")[:2000], "broken", "broken or cut off"),
    "cut off png": (file(noise())[:500], "broken", "broken or cut off"),
    "text": (b"hello", "no_picture", "no picture of a known format"),
    "empty": (b"", "no_picture", "no picture of a known format"),
    "null": (None, "no_picture", "There is no picture"),
    "large": (file(Image.new("1", (2000, 1000))), "too_large", "more than 1,000,000 pixels"),
    "bomb": (file(Image.new("1", (20000, 10000))), "too_large", "more than 1,000,000 pixels"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no_picture", "no picture of a known format"),
}


@pytest.mark.parametrize("name", USABLE)
def test_what_people_upload_is_decoded(name):
    got = seen(USABLE[name])
    assert got.dtype == np.uint8 and max(got.shape[:2]) == 32 and got.shape[2] == 3


@pytest.mark.parametrize("modality", [colour, texture])
def test_a_picture_that_cannot_be_used_has_a_reason_and_stops_nothing(modality):
    contents = [USABLE["rgb"], *(content for content, _, _ in REFUSED.values()), USABLE["jpeg"]]
    name = modality.__name__.rpartition(".")[2]
    vectors = encode.run(name, things(*contents), modality.Config(largest=10**6))
    assert vectors.encoded.tolist() == [True, *[False] * len(REFUSED), True]
    assert vectors.refused["code"].to_list() == [code for _, code, _ in REFUSED.values()]
    for sentence, (_, _, words) in zip(vectors.refused["sentence"], REFUSED.values(), strict=True):
        assert words in sentence


def test_a_file_that_is_not_there_has_a_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(USABLE["rgb"])
    paths = [str(tmp_path / "a.png"), str(tmp_path / "none.png"), str(tmp_path), "a\x00b"]
    vectors = encode.run("colour", pl.DataFrame({"id": list("abcd"), "path": paths}))
    assert vectors.missing == ("b", "c", "d") and set(vectors.refused["code"]) == {"no_file"}


def test_a_file_above_256_mb_is_not_read(tmp_path, monkeypatch):
    from habitue.encode import things as content

    monkeypatch.setattr(content, "LARGEST_FILE", 100)
    (tmp_path / "a.png").write_bytes(bytes(101))
    assert content.read_file(str(tmp_path / "a.png")) is None
    (tmp_path / "a.png").write_bytes(bytes(100))
    assert content.read_file(str(tmp_path / "a.png")) == bytes(100)


def test_a_turned_picture_is_turned_back():
    upright = Image.new("RGB", (40, 20), (0, 0, 255))
    upright.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    assert np.abs(seen(file(turned, exif=exif)).astype(int) - seen(file(upright)).astype(int)).max() <= 2


def test_what_is_transparent_is_white():
    assert (seen(file(Image.new("RGBA", (8, 8), (9, 9, 9, 0)))) == 255).all()
    half = seen(file(Image.new("RGBA", (8, 8), (0, 0, 0, 128))))
    assert half.min() == half.max() == pytest.approx(127, abs=1)


def test_sixteen_bits_become_eight():
    assert np.unique(seen(USABLE["sixteen bits"])).tolist() == [30000 // 257]


def test_the_middle_square_is_what_the_network_sees():
    wide = Image.new("RGB", (90, 30), (255, 255, 255))
    wide.paste((0, 0, 0), (30, 0, 60, 30))
    assert seen(file(wide), side=30, square=True).max() < 30
    assert seen(file(wide), side=30).shape == (10, 30, 3)


def test_pictures_come_in_their_order_however_many_threads():
    contents = [file(Image.new("RGB", (4, 4), (n, n, n))) for n in range(200)]
    got = list(pixels.decoded(things(*contents), lambda p: int(p[0, 0, 0]), side=4, largest=99, workers=4))
    assert got == [(n, n) for n in range(200)]


def test_lab_is_that_of_the_standard():
    known = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20), (0, 0, 255): (32.30, 79.19, -107.86)}
    got = colour.lab(np.array(list(known), dtype=np.uint8))
    assert got == pytest.approx(np.array(list(known.values())), abs=0.05)
    assert colour.lab(np.zeros((1, 3), dtype=np.uint8))[0] == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_cosine_of_colours_is_the_coefficient_of_their_histograms(draw):
    plain = [file(Image.new("RGB", (8, 8), c)) for c in ((200, 20, 20), (20, 20, 200))]
    both = Image.new("RGB", (8, 8), (200, 20, 20))
    both.paste((20, 20, 200), (0, 0, 8, 4))
    rows = encode.run("colour", things(*plain, file(both)), colour.Config(side=8)).dense
    assert rows[0] @ rows[1] == 0
    assert rows[2] @ rows[0] == pytest.approx(np.sqrt(0.5), abs=0.02)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [((250, 250, 250), "white"), ((15, 15, 15), "black"), ((205, 20, 25), "red"), ((30, 80, 200), "blue")]
    + [((20, 30, 70), "navy"), ((245, 220, 40), "yellow"), ((40, 150, 60), "green"), ((128, 128, 128), "grey")]
    + [((240, 125, 20), "orange"), ((100, 60, 30), "brown"), ((240, 120, 170), "pink"), ((110, 40, 140), "purple")],
)
def test_colours_have_the_names_shops_write(rgb, name):
    on_white = Image.new("RGB", (40, 40), (255, 255, 255))
    on_white.paste(rgb, (10, 10, 30, 30))
    for image in (on_white, Image.new("RGB", (40, 40), rgb)):
        assert colour.names(things(file(image)), colour.Config(side=40)).row(0) == (
            "p0",
            name,
            pytest.approx(1.0, abs=0.2),
        )


def test_shares_of_colours_are_told_largest_first_and_small_ones_left_out():
    image = Image.new("RGB", (100, 100), (200, 20, 20))
    image.paste((20, 60, 200), (0, 0, 100, 30))
    image.paste((245, 220, 40), (0, 96, 100, 100))
    got = colour.names(things(file(image), b"broken"), colour.Config(side=100))
    assert got["colour"].to_list() == ["red", "blue"] and got["id"].to_list() == ["p0", "p0"]
    assert got["share"].to_list() == pytest.approx([0.66, 0.30], abs=0.02)


def test_texture_sees_patterns_not_brightness():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::4] = stripes[1::4] = 120
    across, brighter, along = stripes, stripes + 100, stripes.transpose(1, 0, 2)
    contents = [file(Image.fromarray(np.ascontiguousarray(p))) for p in (across, brighter, along)] + [file(noise())]
    rows = encode.run("texture", things(*contents), texture.Config(side=64)).dense
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-5)
    assert rows[0] @ rows[2] < 0.9 and rows[0] @ rows[3] < 0.9
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)


def test_uniform_patterns_are_those_with_two_changes_at_most():
    table = texture._uniform()
    assert len(set(table)) == 59 and (table == 58).sum() == 256 - 58
    assert table[0b00001111] != 58 and table[0b01010101] == 58


def test_flat_pictures_are_one_pattern():
    row = encode.run("texture", things(file(Image.new("RGB", (40, 40), (90, 90, 90))))).dense[0]
    assert sorted(np.flatnonzero(row).tolist()) == [0, 59, 118]


@pytest.mark.parametrize("name", ["picture", "colour", "texture"])
def test_a_missing_extra_is_named(name, models, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    monkeypatch.setattr(picture, "model", lambda _: None)
    monkeypatch.setattr(onnx, "session", lambda *_, **__: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[pictures\]'"):
        encode.run(name, things(USABLE["rgb"]))


def test_without_weights_the_command_that_brings_them_is_named(models):
    with pytest.raises(ModelError, match="weights 'image-efficientnet-lite0': they are not on.*models fetch image-eff"):
        encode.run("picture", things(USABLE["rgb"]))


def test_speed_is_no_part_of_the_key_of_a_picture():
    one, two = picture.encoder(picture.Config()), picture.encoder(picture.Config(batch=1, workers=1, threads=2))
    assert one.key == two.key and one.dimension == 1280
    assert one.key != picture.encoder(picture.Config(size="lite1")).key


@pytest.fixture
def network(real_weights):
    real_weights("image-efficientnet-lite0")
    return efficientnet.load(weights.path("image-efficientnet-lite0"), "lite0")


@pytest.mark.slow
def test_the_exported_network_computes_what_torch_computes(network):
    import torch

    images = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(images)).numpy()
    session = onnx.session(picture.model(picture.Config()), threads=1, extra="pictures")
    assert np.abs(session.run(None, {"pictures": images})[0] - wanted).max() <= 1e-4


@pytest.mark.slow
def test_the_network_knows_what_a_photograph_shows(network):
    """Two photographs that scikit-learn ships: a Chinese palace (class 698) and a flower, the daisy (985)."""
    import torch
    from sklearn.datasets import load_sample_images

    found = []
    for photograph in load_sample_images().images:
        square = seen(file(Image.fromarray(photograph)), side=224, square=True)
        with torch.inference_mode():
            scores = network.classes(network(torch.from_numpy(square[None].copy())))
        found.append(int(scores.argmax()))
    assert found == [698, 985]


@pytest.mark.slow
def test_a_picture_has_the_same_vector_in_any_company(real_weights):
    real_weights("image-efficientnet-lite0")
    contents = [file(noise(n, (60 + 7 * n, 90)), "JPEG") for n in range(9)]
    rows = encode.run("picture", things(*contents, b"broken")).dense
    assert encode.run("picture", things(*contents, b"broken")).missing == ("p9",)
    alone = np.vstack([encode.run("picture", things(c)).dense for c in contents])
    large = encode.run("picture", things(*contents[::-1]), picture.Config(batch=32, workers=4)).dense[::-1]
    assert (rows[:9] == alone).all() and (rows[:9] == large).all()
    assert np.linalg.norm(rows[:9], axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_products_of_one_kind_are_near_each_other(real_weights):
    """On $HABITUE_DATA/fashion_small: the nearest picture is of the same type far more often than chance."""
    import os
    from pathlib import Path

    if "HABITUE_DATA" not in os.environ:
        pytest.skip("HABITUE_DATA is not set")
    real_weights("image-efficientnet-lite0")
    shop = pl.read_parquet(Path(os.environ["HABITUE_DATA"]) / "fashion_small/fashion_products.parquet").head(500)
    vectors = encode.run("picture", shop.select(id=pl.col("ProductId").cast(pl.String), bytes="jpg"))
    likeness = vectors.dense @ vectors.dense.T
    np.fill_diagonal(likeness, -1)
    kind = shop["ProductType"].to_numpy()
    assert (kind[likeness.argmax(axis=1)] == kind).mean() > 0.6


def header(width: int, height: int, form: str) -> bytes:
    """A file that says it is that large and holds nothing of it."""
    import struct
    import zlib

    if form == "JPEG":
        size = struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
        return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xc0" + size + bytes(200)
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (body, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_header_of_sixty_thousand_squared_costs_nothing(form):
    import tracemalloc

    tracemalloc.start()
    vectors = encode.run("colour", things(header(60_000, 60_000, form), USABLE["rgb"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors.refused.rows() == [("p0", "too_large", "The picture has more than 50,000,000 pixels.")]
    assert vectors.encoded.tolist() == [False, True] and peak < 50e6
    honest = encode.run("colour", things(header(60, 60, form)))
    assert honest.refused["code"].to_list() == ["broken"], "a header alone, of a size that would be decoded"


def test_a_renamed_archive_is_no_picture():
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", USABLE["jpeg"])
    assert encode.run("colour", things(packed.getvalue())).refused["code"].to_list() == ["no_picture"]


def test_no_prefix_of_a_picture_brings_anything_down():
    for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        whole = file(noise(size=(40, 30)), form)
        cuts = [whole[:end] for end in range(0, len(whole), max(1, len(whole) // 25))]
        vectors = encode.run("colour", things(*cuts))
        assert set(vectors.refused["id"]) == {
            i for i, there in zip(vectors.ids, vectors.encoded, strict=True) if not there
        }
        assert vectors.refused.height > 5, form
