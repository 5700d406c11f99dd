import io

import numpy as np
import polars as pl
from PIL import Image

from habitue.quality import senses


def png(seed: int) -> bytes:
    made = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC).save(made, "PNG")
    return made.getvalue()


def rows(*media: tuple[str, bytes | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(media, schema={"modality": pl.String, "bytes": pl.Binary, "path": pl.String}, orient="row")


def test_every_medium_is_opened(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/mug.png").write_bytes(png(1))
    (tmp_path / "secret.png").write_bytes(png(2))
    (tmp_path / "shop/link.png").symlink_to(tmp_path / "secret.png")
    parts = [
        rows(
            ("picture", png(0), None),
            ("picture", None, "mug.png"),
            ("picture", png(0), None),
            ("picture", png(3)[:150], None),
        ),
        rows(
            ("picture", None, "gone.png"),
            ("picture", None, "../secret.png"),
            ("picture", None, "link.png"),
            ("picture", None, None),
            ("picture", None, "a\0b"),
            ("sound", b"fLaC" + bytes(40), None),
        ),
    ]
    looked = senses.look(iter(parts), folder=tmp_path / "shop")
    assert looked.rows == {"picture": 9, "sound": 1}
    assert looked.sound == {"picture": 3, "sound": 1}
    assert {code: count for (_, code), (count, _) in looked.flaws.items()} == {
        "broken": 1,
        "no_file": 2,
        "outside": 2,
        "empty": 1,
    }
    assert senses.scores(looked).select("table", "measure", "score").rows() == [
        ("media", "picture can be opened", 3 / 9),
        ("media", "sound can be opened", 1.0),
    ]
    assert "decode to their end" in senses.scores(looked)["formula"][0]
    assert "have a readable header" in senses.scores(looked)["formula"][1]
    found = {one["code"]: one for one in senses.findings(looked)}
    assert set(found) == {"picture_unreadable", "sound_header_only", "near_pictures"}
    assert found["picture_unreadable"]["rows"] == 6
    assert "2 outside (Its path leads out of the shop's folder.)" in found["picture_unreadable"]["sentence"]
    assert found["near_pictures"]["sentence"].startswith("1 of 3 pictures look like another one")


def test_no_media_no_scores(tmp_path):
    looked = senses.look([], folder=tmp_path)
    assert senses.scores(looked).is_empty()
    assert senses.findings(looked) == []


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "big").write_bytes(b"fLaC" + bytes(100))
    monkeypatch.setattr(senses, "LARGEST_FILE", 100)
    looked = senses.look([rows(("sound", None, "big"))], folder=tmp_path)
    assert list(looked.flaws) == [("sound", "too_large")]
