import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import f1_score

from habitue.bench.tasks import calibrate
from habitue.core import metrics
from habitue.model.tabular import Target


def overconfident(rows, seed=0):
    """Truths drawn from known shares, and shares that are three times too sure."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.5, 1.0, rows)
    truth = (rng.random(rows) < expit(odds)).astype(np.int64)
    yes = expit(3 * odds)
    return Target("binary", truth, ("no", "yes")), np.column_stack([1 - yes, yes])


@pytest.mark.parametrize(("rows", "manner"), [(600, "Platt"), (8000, "isotonic")])
def test_shares_come_true_on_new_rows(rows, manner):
    rule = calibrate.fit(*overconfident(rows), rarer=1)
    assert rule.manner == manner
    target, said = overconfident(4000, seed=1)
    after = rule.shares(said)
    np.testing.assert_allclose(after.sum(axis=1), 1)
    assert after.min() > 0
    assert metrics.ece(target.values, said[:, 1]) > 0.15
    assert metrics.ece(target.values, after[:, 1]) < 0.05
    assert metrics.log_loss(target.values, after[:, 1]) < metrics.log_loss(target.values, said[:, 1]) - 0.1


def test_the_threshold_is_that_of_the_best_f1_of_the_rarer_class():
    target, said = overconfident(3000)
    for rarer in (0, 1):
        rule = calibrate.fit(target, said, rarer=rarer)
        truth = target.values == rarer
        reached = f1_score(truth, said[:, rarer] >= rule.threshold)
        others = [f1_score(truth, said[:, rarer] >= t) for t in np.linspace(0.01, 0.99, 50)]
        assert reached >= max(others) - 1e-12


def test_one_temperature_brings_several_classes_to_what_comes_true():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 4))
    truth = np.array([rng.choice(4, p=p) for p in softmax(logits, axis=1)])
    sure = softmax(4 * logits, axis=1)
    rule = calibrate.fit(Target("classes", truth[:1500], tuple("abcd")), sure[:1500], rarer=0)
    assert rule.manner == "temperature"
    after = rule.shares(sure[1500:])
    np.testing.assert_allclose(after, softmax(logits[1500:], axis=1), atol=0.06)
    assert (after.argmax(axis=1) == sure[1500:].argmax(axis=1)).all()
    assert metrics.ece_of_classes(truth[1500:], after) < 0.06 < metrics.ece_of_classes(truth[1500:], sure[1500:])


def test_without_held_back_rows_nothing_changes():
    rule = calibrate.unchanged()
    said = np.array([[0.25, 0.75]])
    assert rule.shares(said) is said
    assert (rule.manner, rule.threshold) == ("none", 0.5)
