"""habitue models canary, rollback and adapt: what they say, and what they refuse."""

import pytest

import habitue
from habitue import adapting
from habitue.cli import model, models
from habitue.core.errors import LakeError, ModelError, UsageError
from habitue.serve import keys, operational, registry
from habitue.shop import Trained


@pytest.fixture
def shop(tmp_path):
    made = habitue.init(tmp_path / "shop")
    for name in ("20240101", "20240201"):
        (made.space.models / registry.MODEL / name).mkdir(parents=True)
    return made


def test_a_model_is_tried_out_and_the_try_out_ends(shop, capsys):
    models.canary("20240101", share=0.25, workspace=shop.folder)
    assert "20240101 answers 25% of the customers" in capsys.readouterr().out
    models.trained(shop.folder)
    assert "20240101  25% try it" in capsys.readouterr().out
    assert registry.canary(shop.space.models) == registry.Canary("20240101", 0.25)
    models.rollback(workspace=shop.folder)
    assert "20240201 answers again" in capsys.readouterr().out
    assert registry.canary(shop.space.models) is None


def test_a_training_says_which_model_answers_when_it_is_another(shop, capsys, monkeypatch):
    new = shop.space.models / registry.MODEL / "20240201"
    made = Trained(new, None, {"weights": {"popular": 1.0}, "as_of": "2024-02-01"})
    monkeypatch.setattr(habitue.Shop, "train", lambda *_, **__: made)
    model.train(shop.folder)
    assert "answering" not in capsys.readouterr().out, "it answers itself"
    registry.promote(shop.space.models, "20240101")
    model.train(shop.folder)
    assert "20240101 goes on answering until: habitue models promote 20240201" in capsys.readouterr().out


def test_what_changes_the_model_that_answers_stands_in_the_audit_log(shop):
    models.canary("20240101", share=0.25, workspace=shop.folder)
    models.promote("20240101", workspace=shop.folder)
    models.rollback(workspace=shop.folder)
    with pytest.raises(UsageError, match="there is no trained model"):
        models.promote("2023", workspace=shop.folder)  # nothing was changed
    assert [line[1:] for line in reversed(keys.audit(shop.space.state))] == [
        ("command", "models canary", "20240101, 25%"),
        ("command", "models promote", "20240101"),
        ("command", "models rollback", "20240201"),
    ]


def test_nothing_is_promoted_where_it_cannot_be_written_down(shop):
    shop.space.state.mkdir(exist_ok=True)
    (shop.space.state / operational.FILE).write_bytes(b"no database" * 100)
    with pytest.raises(LakeError, match="cannot be used"):
        models.promote("20240101", workspace=shop.folder)
    assert registry.current(shop.space.models).name == "20240201"


def test_what_cannot_be_tried_out_is_refused(shop):
    with pytest.raises(UsageError, match="'20240201' answers everybody already"):
        models.canary("20240201", share=0.1, workspace=shop.folder)
    with pytest.raises(UsageError, match=r"there is no trained model '2024'.*Did you mean"):
        models.canary("2024", share=0.1, workspace=shop.folder)
    with pytest.raises(UsageError, match="a share of 1"):
        models.canary("20240101", share=1.0, workspace=shop.folder)


def test_adapting_says_what_came_of_it(shop, capsys, monkeypatch):
    monkeypatch.setattr(
        adapting, "adapt", lambda space, plan, said, asked_by: {"words": "Refused: it may be worse", "low": -0.1}
    )
    models.adapt(workspace=shop.folder)
    assert capsys.readouterr().out == "Refused: it may be worse\n"
    models.adapt(workspace=shop.folder, as_json=True)
    assert '"low": -0.1' in capsys.readouterr().out


def test_a_shop_without_a_model_has_nothing_to_adapt(tmp_path):
    habitue.init(tmp_path / "bare")
    with pytest.raises(ModelError, match="there is no trained model"):
        models.adapt(workspace=tmp_path / "bare")
