import numpy as np
import pytest

from habitue.core.errors import ModelError
from habitue.evaluate import table
from habitue.evaluate.measured import per_user
from habitue.explain import card, to_markdown

METRICS = table(
    [
        per_user("BASKET", name, "all", "hit@10", np.arange(n), np.arange(n) % 2.0)
        for name, n in (("ease", 100), ("popular", 1))
    ],
    dataset="toy | <b>",
    cpu_s=2.0,
)


def test_a_card_holds_this_models_numbers_and_what_it_was_made_of():
    told = card(METRICS, {"version": "3", "items": 40, "nested": {"not": "shown"}}, model="ease")
    assert told["made_of"] == {"items": 40, "version": "3"}
    assert [(n["metric"], n["mean"], n["n"]) for n in told["numbers"]] == [("hit@10", 0.5, 100)]
    text = to_markdown(told)
    assert "| items | 40 |" in text
    assert "toy \\| &lt;b&gt; | BASKET | all | hit@10 | 0.5 | 0.4 to 0.6 | 100 | 2.0 |" in text
    assert all(limit in text for limit in told["limits"])


def test_an_interval_nobody_can_tell_is_a_dash():
    assert "| hit@10 | 0 | - | 1 | 2.0 |" in to_markdown(card(METRICS, {}, model="popular"))


def test_a_model_without_numbers_gets_no_card():
    with pytest.raises(ModelError, match="no number of model 'behaviour' is in METRICS.*Evaluate it first"):
        card(METRICS, {}, model="behaviour")
