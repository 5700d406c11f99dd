"""The probe learns what a vector holds, and nothing where it holds nothing."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from habitue.bench import probe
from habitue.core.runtime import Runtime

RUNTIME = Runtime(seed=3, threads=1)
QUICK = probe.Config(hidden=16, learning_rate=1e-2, passes=10, batch=64)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(800, 6)).astype(np.float32)
    answers = np.c_[vectors[:, 0] + vectors[:, 1] > 0.5, vectors[:, 2] * vectors[:, 3] > 0].astype(np.float32)
    return vectors, answers


def test_reads_sums_and_products_off_customers_it_has_not_met(planted):
    vectors, answers = planted
    patient = dataclasses.replace(QUICK, passes=40, input_dropout=0.0, dropout=0.0)
    told = probe.answer(vectors[:600], answers[:600], vectors[600:], patient, runtime=RUNTIME)
    assert told.shape == (200, 2)
    assert roc_auc_score(answers[600:, 0], told[:, 0]) > 0.95
    assert roc_auc_score(answers[600:, 1], told[:, 1]) > 0.75  # no line tells it


def test_shuffled_answers_teach_nothing(planted):
    vectors, answers = planted
    areas = []
    for seed in range(5):
        mixed = answers[np.random.default_rng(seed).permutation(600)]
        told = probe.answer(vectors[:600], mixed, vectors[600:], QUICK, runtime=RUNTIME)
        areas.append(roc_auc_score(answers[600:, 0], told[:, 0]))
    assert 0.35 < np.mean(areas) < 0.65


def test_the_same_seed_gives_the_same_bits_and_another_does_not(planted):
    vectors, answers = planted
    one, again, other = (
        probe.answer(vectors[:200], answers[:200], vectors[200:], QUICK, runtime=Runtime(seed=seed))
        for seed in (1, 1, 9)
    )
    assert one.tobytes() == again.tobytes() != other.tobytes()


def test_says_the_share_of_yes_where_the_vector_says_nothing():
    nothing = np.zeros((400, 3), dtype=np.float32)
    answers = (np.arange(400) % 10 == 0).astype(np.float32)[:, None]
    told = probe.answer(nothing, answers, nothing[:2], QUICK, runtime=RUNTIME)
    np.testing.assert_allclose(1 / (1 + np.exp(-told)), 0.1, atol=0.04)
