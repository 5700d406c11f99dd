import hashlib
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
            ("image", png(0), None),
            ("image", None, "mug.png"),
            ("image", png(0), None),
            ("image", png(3)[:150], None),
        ),
        rows(
            ("image", None, "gone.png"),
            ("image", None, "../secret.png"),
            ("image", None, "link.png"),
            ("image", None, None),
            ("image", None, "a\0b"),
            ("audio", b"fLaC" + bytes(40), None),
        ),
    ]
    looked = senses.look(iter(parts), folder=tmp_path / "shop")
    assert looked.rows == {"image": 9, "audio": 1}
    assert looked.sound == {"image": 3, "audio": 1}
    assert {code: count for (_, code), (count, _) in looked.flaws.items()} == {
        "broken": 1,
        "no_file": 2,
        "outside": 2,
        "empty": 1,
    }
    assert senses.scores(looked).select("table", "measure", "score").rows() == [
        ("media", "audio can be opened", 1.0),
        ("media", "image can be opened", 3 / 9),
    ]
    assert "decode to their end" in senses.scores(looked)["formula"][1]
    assert "have a readable header" in senses.scores(looked)["formula"][0]
    found = {one["code"]: one for one in senses.findings(looked)}
    assert set(found) == {"image_unreadable", "audio_header_only", "near_pictures"}
    assert found["image_unreadable"]["rows"] == 6
    assert "2 outside (Its path leads out of the folder it is in.)" in found["image_unreadable"]["sentence"]
    assert found["near_pictures"]["sentence"].startswith("1 of 3 pictures look like another one")


def test_no_media_no_scores(tmp_path):
    looked = senses.look([], folder=tmp_path)
    assert senses.scores(looked).is_empty()
    assert senses.findings(looked) == []


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "big").write_bytes(b"fLaC" + bytes(100))
    monkeypatch.setattr(senses, "LARGEST_FILE", 100)
    looked = senses.look([rows(("audio", None, "big"))], folder=tmp_path)
    assert list(looked.flaws) == [("audio", "too_large")]


def test_an_absolute_path_is_opened_and_a_changed_file_is_told(tmp_path):
    file = tmp_path / "photos/mug.png"
    file.parent.mkdir()
    file.write_bytes(png(1))
    known = hashlib.sha256(png(1)).hexdigest()
    media = rows(("image", None, str(file)), ("image", None, str(file))).with_columns(
        sha256=pl.Series([known, "other"])
    )
    looked = senses.look([media], folder=tmp_path / "shop")
    assert looked.sound == {"image": 1}
    assert looked.flaws == {("image", "changed"): (1, "Its file is no longer the one that was imported.")}
