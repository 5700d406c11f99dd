"""Which of the trained models answers."""

import pytest

from habitue.core.errors import ModelError, UsageError
from habitue.serve import registry


@pytest.fixture
def models(tmp_path):
    for name in ("20240101T000000Z-a", "20240201T000000Z-b", "20240301T000000Z-c", ".20240401T000000Z-d"):
        (tmp_path / registry.MODEL / name).mkdir(parents=True)
    return tmp_path


def answering(models):
    return [version.name[-1] for version in registry.listed(models) if version.answers]


def test_the_newest_answers_until_one_is_promoted(models, tmp_path):
    assert answering(models) == ["c"] and registry.current(models).name.endswith("c")
    assert registry.promote(models, "20240101T000000Z-a") == "20240301T000000Z-c"
    (models / registry.MODEL / "20240501T000000Z-e").mkdir()
    assert answering(models) == ["a"]
    assert registry.current(tmp_path / "empty") is None


def test_a_rollback_goes_back_one_promotion_at_a_time(models):
    registry.promote(models, "20240101T000000Z-a")
    registry.promote(models, "20240201T000000Z-b")
    assert registry.rollback(models).endswith("a") and answering(models) == ["a"]
    assert registry.rollback(models).endswith("c")


def test_a_rollback_after_training_goes_back_to_what_was_trained_before(models):
    assert registry.rollback(models).endswith("b") and answering(models) == ["b"]
    (models / registry.MODEL / "20240501T000000Z-e").mkdir()
    assert answering(models) == ["b"]  # a new one is not what was asked for
    assert registry.rollback(models).endswith("a")
    with pytest.raises(UsageError, match="no model answered or was trained before"):
        registry.rollback(models)
    assert answering(models) == ["a"]


def test_a_rollback_never_ends_where_it_began(models):
    assert registry.promote(models, "20240301T000000Z-c").endswith("c")  # which answers already
    assert registry.rollback(models).endswith("b") and answering(models) == ["b"]


def test_a_promoted_model_that_was_deleted_lets_the_one_before_answer(models):
    registry.promote(models, "20240101T000000Z-a")
    registry.promote(models, "20240201T000000Z-b")
    (models / registry.MODEL / "20240201T000000Z-b").rmdir()
    assert answering(models) == ["a"]


def test_a_model_there_is_not(models, tmp_path):
    with pytest.raises(UsageError, match="there is no trained model 'x'.*did you mean|there is no trained model 'x'"):
        registry.promote(models, "x")
    with pytest.raises(UsageError, match="Train one: habitue train"):
        registry.promote(tmp_path / "empty", "x")


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1]"])
def test_a_broken_list_is_said_in_words(models, content):
    (models / registry.MODEL / registry.FILE).write_text(content)
    with pytest.raises(ModelError, match="the list of promoted models cannot be read"):
        registry.current(models)


@pytest.mark.parametrize("text", ['["a"]', '{"share": 0.1}', "{"])
def test_a_canary_that_cannot_be_read_is_said(tmp_path, text):
    folder = tmp_path / registry.MODEL
    (folder / "2024").mkdir(parents=True)
    (folder / registry.CANARY).write_text(text)
    with pytest.raises(ModelError, match="the list of promoted models cannot be read"):
        registry.canary(tmp_path)
