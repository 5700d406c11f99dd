"""How a photo was taken: each number moves with what it names, and with nothing else."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter

from habitue import encode
from habitue.encode import photo


def told(*images: Image.Image) -> list[dict[str, float]]:
    files = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append(file.getvalue())
    rows = encode.run("photo", pl.DataFrame({"id": [str(n) for n in range(len(files))], "bytes": files})).dense
    return [dict(zip(photo.NAMES, row.tolist(), strict=True)) for row in rows]


def product(*, ground=(255, 255, 255), size=(256, 256), box=(78, 78, 178, 178), seed=0) -> Image.Image:
    """A patterned square on a plain ground."""
    image = Image.new("RGB", size, ground)
    pattern = np.random.default_rng(seed).integers(0, 200, (box[3] - box[1], box[2] - box[0], 3), dtype=np.uint8)
    image.paste(Image.fromarray(pattern), box[:2])
    return image


def test_blur_is_seen_and_moves_little_else():
    sharp = product()
    one, two = told(sharp, sharp.filter(ImageFilter.GaussianBlur(4)))
    assert one["sharpness"] > 4 > two["sharpness"] + 1
    assert one["brightness"] == pytest.approx(two["brightness"], abs=0.03)
    assert one["background, share of the edge"] == two["background, share of the edge"] == 1


def test_a_flat_picture_is_flat():
    (flat,) = told(Image.new("RGB", (64, 64), (119, 119, 119)))
    for name in ("sharpness", "contrast", "product, share of the picture", "product, off centre"):
        assert flat[name] == pytest.approx(0, abs=1e-6)
    assert flat["brightness"] == pytest.approx(0.5, abs=0.01) and flat["colourfulness"] == pytest.approx(0, abs=1e-6)


def test_light_and_contrast():
    dark, bright = told(product(ground=(20, 20, 20)), product(ground=(250, 250, 250)))
    assert dark["background, brightness"] < 0.1 and bright["background, brightness"] > 0.95
    assert dark["brightness"] < bright["brightness"]
    (half,) = told(Image.fromarray(np.repeat(np.repeat([[0, 255]], 64, 0), 32, 1).astype(np.uint8)))
    assert half["contrast"] == pytest.approx(0.5, abs=0.005)


def test_colourfulness_is_that_of_the_formula():
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    r, g, b = (pixels[..., c] / 255 for c in range(3))
    rg, yb = r - g, 0.5 * (r + g) - b
    wanted = np.sqrt(rg.var() + yb.var()) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)
    got = photo._numbers(pixels)
    assert got[photo.NAMES.index("colourfulness")] == pytest.approx(wanted, rel=1e-5)
    (grey,) = told(Image.fromarray(pixels).convert("L"))
    assert grey["colourfulness"] == pytest.approx(0, abs=1e-6)


def test_the_product_is_what_is_not_background():
    (middle,) = told(product(ground=(200, 220, 250)))
    assert middle["product, share of the picture"] == pytest.approx((100 / 256) ** 2, rel=0.03)
    assert middle["product, off centre"] == pytest.approx(0, abs=0.02)
    (corner,) = told(product(box=(20, 20, 120, 120)))
    wanted = np.hypot(127.5 - 69.5, 127.5 - 69.5) / (np.hypot(256, 256) / 2)
    assert corner["product, off centre"] == pytest.approx(wanted, abs=0.02)


def test_a_busy_background_is_told_from_a_plain_one():
    rng = np.random.default_rng(2)
    busy = Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8))
    plain, cluttered = told(product(), busy)
    assert plain["background, share of the edge"] == 1 and cluttered["background, share of the edge"] < 0.2


def test_the_shape_of_the_picture_is_told():
    wide, tall = told(Image.new("RGB", (200, 100)), Image.new("RGB", (100, 200)))
    assert (wide["width to height"], tall["width to height"]) == (1, -1)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 2), (3, 300)])
def test_the_smallest_pictures_do_no_harm(size):
    (got,) = told(Image.new("RGB", size, (10, 200, 30)))
    assert all(np.isfinite(list(got.values())))
