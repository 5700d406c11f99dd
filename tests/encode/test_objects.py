"""Finding products: cut out, pasted, learnt and found again; with a stand-in for the frozen network, and with it."""

import io

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image, ImageDraw

from habitue import encode
from habitue.core.errors import InputError, ModelError, SchemaError, SettingsError
from habitue.encode import boxes, composites, efficientnet, fcos, objects, onnx, weights


def product(kind: str, seed: int, *, ground=(255, 255, 255)) -> np.ndarray:
    """A red bar lying or a blue ring, somewhere on white."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (120, 120), ground)
    draw = ImageDraw.Draw(image)
    left, top = rng.integers(5, 40, 2).tolist()
    if kind == "bar":
        draw.rectangle((left, top, left + 70, top + 25), fill=(200, 30, 30))
    else:
        draw.ellipse((left, top, left + 50, top + 50), outline=(30, 30, 200), width=14)
    return np.asarray(image)


def file(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def shop(count: int, **more) -> pl.DataFrame:
    kinds = ["bar", "ring"] * (count // 2)
    rows = [file(product(kind, n, **more)) for n, kind in enumerate(kinds)]
    return pl.DataFrame({"id": [f"p{n}" for n in range(count)], "bytes": rows, "kind": kinds})


class Eyes:
    """Stands in for the frozen network: mean colours and their spread in each cell, at three grids."""

    def run(self, _, given):
        pictures = torch.from_numpy(given["pictures"]).permute(0, 3, 1, 2).float() / 128 - 1
        grids = []
        for stride, channels in zip((8, 16, 32), fcos.CHANNELS, strict=True):
            mean = torch.nn.functional.avg_pool2d(pictures, stride)
            spread = (torch.nn.functional.avg_pool2d(pictures**2, stride) - mean**2).clamp(min=0).sqrt()
            both = torch.cat([mean, spread], dim=1)
            grids.append(torch.cat([both] * (channels // 6 + 1), dim=1)[:, :channels].numpy())
        return grids


@pytest.fixture
def eyes(monkeypatch):
    monkeypatch.setattr(objects, "network", lambda: None)
    monkeypatch.setattr(onnx, "session", lambda *_, **__: Eyes())


def test_a_box_overlaps_itself_wholly_and_a_stranger_not_at_all():
    one = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    assert boxes.overlap(one, one) == pytest.approx(np.array([[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]]))


def test_of_many_boxes_around_one_thing_the_surest_stays():
    many = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 10, 9]], dtype=float)
    assert boxes.best(many, np.array([0.5, 0.9, 0.3, 0.4]), most=0.5).tolist() == [1, 2]
    assert boxes.best(many[:2], np.array([0.5, 0.9]), most=0.85).tolist() == [1, 0]


def test_a_product_is_cut_from_its_white_tightly():
    photo = product("bar", 0)
    cut = composites.cut(photo)
    assert cut is not None and cut.pixels.shape == (26, 71, 3) and cut.alpha.shape == (26, 71)
    assert (cut.pixels == (200, 30, 30)).all() and cut.alpha.min() > 0.2
    ring = composites.cut(product("ring", 1))
    assert ring is not None and ring.alpha[25, 25] == 1, "white that does not reach the edge belongs to the product"
    assert composites.cut(product("bar", 0, ground=(90, 120, 90))) is None, "not on white"
    assert composites.cut(np.full((50, 50, 3), 255, dtype=np.uint8)) is None, "nothing there"
    dust = photo.copy()
    dust[2, 2] = dust[118, 3] = 0
    assert composites.cut(dust).pixels.shape == (26, 71, 3)


def test_scenes_hold_what_they_say_where_they_say():
    red = composites.Cutout(np.full((20, 40, 3), (255, 0, 0), dtype=np.uint8), np.ones((20, 40), dtype=np.float32))
    ground = np.zeros((224, 224, 3), dtype=np.uint8)
    for seed in range(20):
        made = composites.scene([red], ground, np.random.default_rng(seed))
        there = np.zeros((224, 224), dtype=bool)
        for left, top, right, bottom in np.rint(made.boxes * 224).astype(int):
            there[top:bottom, left:right] = True
        lit = made.pixels[..., 0] > 0
        assert (lit <= there).all() and lit.sum() >= 0.95 * there.sum()
        assert 1 <= len(made.boxes) == len(made.which) <= 3 and ((made.boxes >= 0) & (made.boxes <= 1)).all()
        shared = boxes.overlap(made.boxes, made.boxes) - np.eye(len(made.boxes))
        assert shared.max() <= composites.TOGETHER
    assert not ground.any(), "the background is not painted on"
    one, other = (composites.scene([red], ground, np.random.default_rng(5)).pixels for _ in range(2))
    assert (one == other).all()
    grounds = [composites.background(60, np.random.default_rng(n)) for n in range(8)]
    assert all(g.shape == (60, 60, 3) and g.dtype == np.uint8 for g in grounds)
    assert len({g.tobytes() for g in grounds}) == 8


def test_cells_tell_the_smallest_box_they_lie_near_the_middle_of():
    given = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.6, 0.6]])
    kind, box = fcos.assigned(given, torch.tensor([3, 5]))
    grid = kind.reshape(14, 14)
    assert grid[7, 7] == 5 and grid[0, 0] == -1 and set(kind.tolist()) == {-1, 5}
    assert (box[kind == 5] == given[1]).all()
    alone, _ = fcos.assigned(given[:1], torch.tensor([3]))
    assert (alone == 3).sum() == 4, "within a cell and a half of the middle, though the box is the whole picture"


def test_generalised_overlap_is_that_of_its_formula():
    one = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 3)
    other = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.5, 1.0], [2.0, 0.0, 3.0, 1.0]])
    assert fcos.generalised(one, other).tolist() == pytest.approx([1, 1 / 3, -1 / 3])


def test_a_perfect_answer_costs_little_and_a_wrong_one_more():
    kind, box = fcos.assigned(torch.tensor([[0.3, 0.3, 0.7, 0.7]]), torch.tensor([1]))
    tells = kind >= 0
    logits = torch.full((1, 2, 196), -9.0)
    logits[0, 1, tells] = 9.0
    at = fcos.middles()
    away = torch.cat([at - box[:, :2], box[:, 2:] - at], 1)
    flat = (away[:, [0, 1]].minimum(away[:, [2, 3]]) / away[:, [0, 1]].maximum(away[:, [2, 3]])).clamp(1e-6, 1)
    near = torch.logit(flat.prod(1).sqrt().clamp(1e-4, 1 - 1e-4))[None]
    share = near.sigmoid()[0, tells]
    floor = float(-(share * share.log() + (1 - share) * (1 - share).log()).mean())  # of a share that is no 0 or 1
    right = fcos.loss((logits, box[None], near), kind[None], box[None])
    wrong_kind = fcos.loss((logits.flip(1), box[None], near), kind[None], box[None])
    wrong_box = fcos.loss((logits, (box * 0.5)[None], near), kind[None], box[None])
    assert float(right) == pytest.approx(floor, abs=0.01)
    assert wrong_box > floor + 0.5 and wrong_kind > 5
    nothing = fcos.loss((torch.full((1, 2, 196), -9.0), box[None], near), torch.full((1, 196), -1), box[None])
    assert 0 <= nothing < 0.01


CONFIG = objects.Config(scenes=60, passes=8, learning_rate=4e-3)


def test_it_learns_from_products_on_white_and_finds_others_on_other_grounds(eyes, tmp_path):
    detector = objects.fit(shop(12), CONFIG)
    assert detector.kinds == ("bar", "ring") and (detector.products, detector.left_out) == (12, 0)
    ground = np.full((120, 160, 3), (90, 140, 90), dtype=np.uint8)
    bar = composites.cut(product("bar", 77))
    ground[60:86, 70:141] = bar.pixels
    things = pl.DataFrame({"id": ["new", "broken"], "bytes": [file(ground), b"no picture"]})
    found = objects.boxes(things, detector)
    best = found.row(0, named=True)
    assert best["id"] == "new" and best["kind"] == "bar" and set(found["id"]) == {"new"}
    box = np.array([[best[side] for side in ("left", "top", "right", "bottom")]])
    assert boxes.overlap(box, np.array([[70 / 160, 60 / 120, 141 / 160, 86 / 120]]))[0, 0] > 0.5

    told = encode.run("objects", things, CONFIG, fitted=detector)
    assert told.missing == ("broken",) and told.refused["code"].to_list() == ["no_picture"]
    numbers = dict(zip(objects.names(detector), told.dense[0].tolist(), strict=True))
    assert numbers["bar, how sure"] == pytest.approx(best["score"]) and numbers["boxes"] == found.height
    assert numbers["width of the surest"] == pytest.approx(box[0, 2] - box[0, 0], abs=1e-6)

    objects.save(detector, tmp_path / "found.safetensors")
    again = objects.load(tmp_path / "found.safetensors")
    assert again.sha256 == detector.sha256 and again.kinds == detector.kinds and again.products == 12
    assert objects.boxes(things, again).equals(found)
    other = pl.DataFrame({"id": ["x", "new"], "bytes": [file(product("ring", 5)), file(ground)]})
    alone = encode.run("objects", other, CONFIG, fitted=again)
    assert (alone.dense[1] == told.dense[0]).all(), "the same vector in any company"


def test_the_same_seed_learns_the_same(eyes):
    small = objects.Config(scenes=6, passes=1)
    one = encode.run("objects", shop(6), small)
    two = encode.run("objects", shop(6), small)
    assert one.sha256 == two.sha256 and one.fitted.sha256 == two.fitted.sha256
    other = encode.run("objects", shop(6), objects.Config(scenes=6, passes=1, seed=1))
    assert other.fitted.sha256 != one.fitted.sha256
    assert one.encoder == "picture.objects@1" and one.dense.shape == (6, 7)


def test_what_it_cannot_learn_from_is_said(eyes):
    with pytest.raises(SchemaError, match="none can be learnt without the kind"):
        encode.run("objects", shop(2).drop("kind"))
    with pytest.raises(InputError, match="0 of 4 products are on white and have a kind, of 0 kinds"):
        objects.fit(shop(4, ground=(90, 90, 90)))
    with pytest.raises(InputError, match="2 of 4 products are on white.*of 1 kinds"):
        objects.fit(shop(4).with_columns(kind=pl.Series(["bar", None, "bar", None])))
    with pytest.raises(SettingsError, match="scenes 0"):
        objects.Config(scenes=0)
    with pytest.raises(SettingsError, match="score 1"):
        objects.Config(score=1.0)


def test_a_file_that_is_no_detector_is_named(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"hello")
    with pytest.raises(ModelError, match="a.safetensors: it cannot be read as a detector"):
        objects.load(tmp_path / "a.safetensors")


@pytest.mark.slow
def test_the_exported_grids_are_those_of_the_network(real_weights):
    real_weights("image-efficientnet-lite0")
    network = efficientnet.load(weights.path("image-efficientnet-lite0"), "lite0")
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    session = onnx.session(objects.network(), threads=1, extra="pictures")
    with torch.inference_mode():
        wanted = network.grids(torch.from_numpy(images))
    for grid, said, channels in zip(wanted, session.run(None, {"pictures": images}), fcos.CHANNELS, strict=True):
        assert said.shape[1] == channels and np.abs(said - grid.numpy()).max() <= 1e-3
