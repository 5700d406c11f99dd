"""What strangers send as a picture gets a row or a reason from every modality that sees, and never more than that."""

import io
import zipfile

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue import encode
from habitue.encode import fcos, objects, onnx

SEEN = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def file(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def header_of_sixty_thousand() -> bytes:
    sizes = b"\x00\x0b\x08" + (60_000).to_bytes(2, "big") * 2 + b"\x01\x01\x11\x00"
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xc0" + sizes + bytes(200)


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("photo.jpg", file(Image.fromarray(SEEN), "JPEG"))
    return out.getvalue()


IMAGE = Image.fromarray(SEEN)
TURNED = Image.Exif()
TURNED[0x0112] = 6
ROWS = {
    "cmyk": file(IMAGE.convert("CMYK"), "JPEG"),
    "moving gif": file(IMAGE, "GIF", save_all=True, append_images=[IMAGE.rotate(n) for n in range(1, 9)]),
    "turned by its exif": file(IMAGE, "JPEG", exif=TURNED),
    "one pixel": file(Image.new("RGB", (1, 1)), "PNG"),
    "a line": file(Image.new("RGB", (1, 4000), (9, 9, 9)), "PNG"),
    "see-through": file(Image.new("RGBA", (30, 30), (9, 9, 9, 0)), "PNG"),
    "with more behind its end": file(IMAGE, "PNG") + b"\x00" * 999,
}
REASONS = {
    "truncated": (file(IMAGE, "JPEG")[:1500], "broken"),
    "a header of sixty thousand squared": (header_of_sixty_thousand(), "too_large"),
    "a renamed archive": (archive(), "no_picture"),
    "null bytes": (bytes(5000), "no_picture"),
    "null bytes after a good start": (file(IMAGE, "JPEG")[:300] + bytes(3000), "broken"),
    "a page": (b"<html><script>alert(1)</script></html>", "no_picture"),
    "empty": (b"", "no_picture"),
    "null": (None, "no_picture"),
}
CONTENTS = [*ROWS.values(), *(content for content, _ in REASONS.values())]
THINGS = pl.DataFrame({"id": [*ROWS, *REASONS], "bytes": CONTENTS}, schema={"id": pl.String, "bytes": pl.Binary})


def judge(vectors: encode.Vectors, *, silent: tuple[str, ...] = ()) -> None:
    """Every good picture has a row (or, of those in `silent`, a reason of its own), every bad one its reason."""
    told = dict(vectors.refused.select("id", "code").iter_rows())
    assert {i: told.get(i) for i in REASONS} == {i: code for i, (_, code) in REASONS.items()}
    assert all(i not in told or i in silent for i in ROWS), told
    assert np.isfinite(vectors.dense).all()


@pytest.mark.parametrize("name", ["colour", "texture", "photo"])
def test_a_row_or_a_reason(name):
    judge(encode.run(name, THINGS))


def test_a_row_or_a_reason_from_the_detector(monkeypatch):
    class Eyes:
        def run(self, _, given):
            sides = (28, 14, 7)
            return [np.ones((1, c, s, s), dtype=np.float32) for c, s in zip(fcos.CHANNELS, sides, strict=True)]

    monkeypatch.setattr(objects, "network", lambda: None)
    monkeypatch.setattr(onnx, "session", lambda *_, **__: Eyes())
    weights = {name: tensor.detach().numpy() for name, tensor in fcos.Head(2).state_dict().items()}
    judge(encode.run("objects", THINGS, fitted=objects.Detector(("a", "b"), weights)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("picture", ("image-efficientnet-lite0",)),
        ("unsafe", ("image-moderation",)),
        ("writing", ("image-writing", "text-use-multilingual")),
    ],
)
def test_a_row_or_a_reason_from_the_real_networks(name, needs, real_weights):
    for one in needs:
        real_weights(one)
    vectors = encode.run(name, THINGS)
    judge(vectors, silent=tuple(ROWS) if name == "writing" else ())
    if name == "writing":
        assert set(vectors.refused["code"]) <= {"no_writing", *(code for _, code in REASONS.values())}
