"""Altered copies are learnt from and never answered: rows that are asked, and what reads them, stay as they were."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue.bench.tasks import Columns, Plan, augmenting, reading, run
from habitue.bench.tasks.augmenting import Augment
from habitue.core.errors import SettingsError, UsageError
from habitue.core.runtime import Runtime
from habitue.model.tabular import Clock, Table, linear, stacked

WORDS = {"good": "lovely great order arrived on time", "bad": "broken item, I want a refund for this order"}
ROWS = 40


def rows() -> pl.DataFrame:
    mood = ["good", "bad"] * (ROWS // 2)
    said = [f"{WORDS[m]} number {n % 7}" for n, m in enumerate(mood)]
    said[5] = None
    return pl.DataFrame({"said": said, "stars": np.arange(ROWS) % 5, "mood": mood})


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "reviews.parquet"
    rows().write_parquet(path)
    return path


COLUMNS = Columns("mood", texts=("said",))
AUGMENT = Augment(("synonym", "deletion"), copies=2, seed=3)


def test_copies_are_beside_the_rows_and_the_rows_are_as_they_were(table):
    plain = reading.read(table, COLUMNS, task="mood")
    more = reading.read(table, COLUMNS, task="mood", augment=AUGMENT)
    again = reading.read(table, COLUMNS, task="mood", augment=AUGMENT)
    assert (plain.table.texts["said"] != more.table.texts["said"]).nnz == 0
    assert plain.copies == () and len(more.copies) == 2
    for copy, other in zip(more.copies, again.copies, strict=True):
        assert (copy.texts["said"] != more.table.texts["said"]).nnz > ROWS
        assert (copy.texts["said"] != other.texts["said"]).nnz == 0, "one seed, one copy"
        assert copy.frame.equals(more.table.frame)
        assert copy.texts["said"][5].nnz == 0, "what is not there is not in the copy"
    assert (more.copies[0].texts["said"] != more.copies[1].texts["said"]).nnz > 0


def test_a_lesson_holds_the_copies_of_its_rows_alone_and_their_labels(table):
    data = reading.read(table, COLUMNS, task="mood", augment=AUGMENT)
    some = np.array([2, 9, 30])
    lesson, target = data.lesson(some)
    assert lesson.height == 9
    assert target.values.tolist() == data.target.values[some].tolist() * 3
    for n, one in enumerate((data.table, *data.copies)):
        assert (lesson.texts["said"][3 * n : 3 * n + 3] != one.texts["said"][some]).nnz == 0
    assert lesson.group.tolist() == [0, 1, 2] * 3, "a row and its copies are on one side of every inner fold"
    alone, target = reading.read(table, COLUMNS, task="mood").lesson(some)
    assert alone.height == 3 and alone.group is None and target.values.size == 3


def test_what_was_learnt_from_copies_scores_a_row_the_same_whether_copies_exist_or_not(table):
    data = reading.read(table, COLUMNS, task="mood", augment=AUGMENT)
    state = linear.fit(*data.lesson(np.arange(20)), linear.Config(), runtime=Runtime(), clock=Clock())
    asked = np.arange(20, ROWS)
    with_copies = linear.answer(state, data.table.take(asked))
    without = linear.answer(state, reading.read(table, COLUMNS, task="mood").table.take(asked))
    assert (with_copies == without).all()


def test_the_bench_learns_from_copies_and_answers_every_row_once(table):
    plan = Plan("mood", COLUMNS, models=("linear",), folds=2, augment=AUGMENT)
    outcome = run(table, plan, runtime=Runtime())
    linear_ = next(one for one in outcome.answers if one.model == "linear")
    assert sorted(linear_.row.tolist()) == list(range(ROWS))
    plain = run(table, Plan("mood", COLUMNS, models=("linear",), folds=2), runtime=Runtime())
    other = next(one for one in plain.answers if one.model == "linear")
    assert (linear_.row == other.row).all() and not np.allclose(linear_.said, other.said)


def test_groups_stay_groups_when_copies_are_stacked():
    one = Table(pl.DataFrame({"a": [1.0, 2.0]}), {}, {"v": np.eye(2, dtype=np.float32)}, np.array([4, 4]))
    both = stacked([one, one])
    assert both.group.tolist() == [4, 4, 4, 4] and both.height == 4
    assert both.frame["a"].to_list() == [1, 2, 1, 2] and both.vectors["v"].shape == (4, 2)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_pictures_and_sounds_are_altered_and_broken_ones_have_none(tmp_path, sound_file):
    (tmp_path / "a.png").write_bytes(png(0))
    frame = pl.DataFrame({"photo": ["a.png", "none.png", None], "voice": [sound_file, b"no sound", None]})
    columns = Columns("mood", pictures=("photo",), sounds=("voice",))
    (copy,) = augmenting.copies(frame, columns, Augment(("flip", "gain")), folder=tmp_path)
    assert copy.schema["photo"] == pl.Binary and copy["photo"].is_null().to_list() == [False, True, True]
    seen = np.asarray(Image.open(io.BytesIO(copy["photo"][0])))
    small = np.asarray(Image.open(tmp_path / "a.png").resize((256, 171), Image.Resampling.BICUBIC, reducing_gap=3.0))
    assert np.abs(seen[:, ::-1].astype(int) - small).max() <= 1
    assert copy["voice"].is_null().to_list() == [False, True, True] and copy["voice"][0] != sound_file


@pytest.fixture
def sound_file() -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(8000) / 9), 16_000, format="WAV")
    return file.getvalue()


def test_a_method_that_is_not_there_or_has_nothing_to_alter_is_named(table):
    with pytest.raises(SettingsError, match="there is no method 'synonim'.*Did you mean 'synonym'"):
        Augment(("synonim",))
    with pytest.raises(SettingsError, match="0 copies by 1 methods"):
        Augment(("flip",), copies=0)
    with pytest.raises(UsageError, match="'flip' alters a picture, and no column of pictures is named"):
        reading.read(table, COLUMNS, task="mood", augment=Augment(("flip",)))


def test_the_command_line_turns_copies_on_and_they_are_off_otherwise(table, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from habitue.bench import tasks
    from habitue.cli import app

    plans = []

    def run_(path, plan, **_):
        plans.append(plan)
        raise UsageError("stop", found="seen", consequence="none", remedy="none")

    monkeypatch.setattr(tasks, "run", run_)
    command = ["bench", "tasks", "--data", str(table), "--label", "mood", "--text", "said"]
    CliRunner().invoke(app, [*command, "--augment", "synonym, swap", "--copies", "3", "--seed", "7"])
    CliRunner().invoke(app, command)
    assert plans[0].augment == Augment(("synonym", "swap"), copies=3, seed=7) and plans[1].augment is None
