"""Pictures and sentences through the real encoders."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue.bench.tasks import Columns, Plan, run, running
from habitue.core.errors import HabitueError
from habitue.core.runtime import Runtime
from habitue.encode import acoustics

ROWS = 60


def photo(red: bool, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 60, size=(48, 48, 3), dtype=np.uint8)
    noise[..., 0 if red else 2] += 150
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.slow
def test_broken_pictures_keep_their_row_and_are_counted(tmp_path, real_weights):
    real_weights("image-efficientnet-lite0")
    red = np.arange(ROWS) % 2 == 0
    (tmp_path / "photos").mkdir()
    for i in range(ROWS):
        (tmp_path / "photos" / f"{i}.png").write_bytes(photo(bool(red[i]), i))
    (tmp_path / "photos" / "3.png").write_bytes(b"no picture at all")
    paths = [f"photos/{i}.png" for i in range(ROWS)]
    paths[5], paths[7] = "photos/absent.png", None
    path = tmp_path / "goods.parquet"
    pl.DataFrame({"photo": paths, "colour": np.where(red, "red", "blue")}).write_parquet(path)
    plan = Plan("category", Columns("colour", pictures=("photo",)), models=("profile",), folds=3)
    outcome = run(path, plan, runtime=Runtime())
    vectors = outcome.data.table.vectors["photo (picture)"]
    assert np.flatnonzero(np.isnan(vectors).any(axis=1)).tolist() == [3, 5, 7]
    assert sum("of 60 rows have no vector; for example" in note for note in outcome.notes) >= 1
    told = running.predictions(outcome).filter(pl.col("model") == "profile")
    assert told.height == ROWS
    seen = told.filter(~pl.col("row").is_in([3, 5, 7]))
    assert (seen["label"] == seen["answer"]).mean() > 0.9
    assert outcome.data.modalities == ("picture",)


def test_sounds_become_the_vectors_of_the_encoders_named(tmp_path):
    import soundfile

    high = np.arange(ROWS) % 2 == 0
    rng = np.random.default_rng(0)
    at = np.arange(8_000) / 16_000
    voices = []
    for up in high:
        file = io.BytesIO()
        sound = 0.4 * np.sin(2 * np.pi * (300 if up else 120) * rng.uniform(0.9, 1.1) * at)
        soundfile.write(file, sound + 0.01 * rng.standard_normal(at.size), 16_000, format="WAV")
        voices.append(file.getvalue())
    voices[3], voices[5] = b"no sound at all", None
    path = tmp_path / "calls.parquet"
    pl.DataFrame({"voice": voices, "who": np.where(high, "child", "man")}).write_parquet(path)
    columns = Columns("who", sounds=("voice",))
    plan = Plan("who", columns, models=("linear",), folds=3, encoders=("spectrogram", "acoustics"))
    outcome = run(path, plan, runtime=Runtime())
    table = outcome.data.table
    assert table.columns == ("voice (spectrogram)", "voice (acoustics)")
    rows = table.vectors["voice (acoustics)"]
    assert rows.shape == (ROWS, 110) and table.vectors["voice (spectrogram)"].shape == (ROWS, 1280)
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == [3, 5]
    pitch = rows[:, acoustics.NAMES.index("pitch, mean (octaves above 100 Hz)")]
    assert (pitch[high & ~np.isnan(pitch)] > 2 * np.log2(2.5)).all(), "in halves of an octave, its scale"
    assert outcome.data.modalities == ("sound",)
    assert sum("'voice': 2 of 60 rows have no vector" in note for note in outcome.notes) == 1
    told = running.predictions(outcome).filter(pl.col("model") == "linear", ~pl.col("row").is_in([3, 5]))
    assert (told["label"] == told["answer"]).mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "weights"), [("sentence", "text-use-multilingual"), ("minilm-en", "text-minilm-en")]
)
def test_sentences_beside_n_grams(tmp_path, real_weights, encoder, weights):
    real_weights(weights)
    good = np.arange(ROWS) % 2 == 0
    words = {True: ["lovely", "wonderful", "great", "perfect"], False: ["awful", "broken", "terrible", "poor"]}
    texts = [f"a {words[bool(g)][i // 2 % 4]} thing" for i, g in enumerate(good)]
    texts[4] = None
    path = tmp_path / "reviews.parquet"
    pl.DataFrame({"said": texts, "mood": np.where(good, "good", "bad")}).write_parquet(path)
    columns = Columns("mood", texts=("said",))
    plan = Plan("sentiment", columns, models=("profile",), folds=3, encoders=(encoder,), cache=tmp_path / "kept")
    outcome = run(path, plan, runtime=Runtime())
    assert outcome.data.table.columns == ("said", f"said ({encoder})")
    auc = outcome.judged.table.filter(pl.col("metric") == "auc", pl.col("model") == "profile")["mean"][0]
    assert auc > 0.9
    assert any((tmp_path / "kept").rglob("*.safetensors"))


def test_without_weights_the_command_that_brings_them_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HABITUE_MODELS", str(tmp_path / "nothing"))
    path = tmp_path / "reviews.parquet"
    pl.DataFrame({"said": ["fine", "poor"] * 20, "mood": ["good", "bad"] * 20}).write_parquet(path)
    plan = Plan("sentiment", Columns("mood", texts=("said",)), encoders=("sentence",), folds=2)
    with pytest.raises(HabitueError, match="habitue models fetch"):
        run(path, plan, runtime=Runtime())
