"""The loop: fixed steps, repeatable, resumable to the bit, never from another run's checkpoint."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from habitue.core.errors import ModelError
from habitue.model import train

SCHEDULE = train.Schedule(steps=40, learning_rate=0.05, warmup=4, keep_every=7)


def start():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def loss_of(model):
    def loss(step):
        x = torch.randn(16, 4)
        return (model(x)[:, 0] - x.sum(1)).square().mean()

    return loss


def run(folder=None, *, fingerprint="one", seed=1, progress=None, schedule=SCHEDULE):
    model = start()
    train.run(model, loss_of(model), schedule, seed=seed, folder=folder, fingerprint=fingerprint, progress=progress)
    return model.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)


def test_learns():
    def error(weights):
        model = start()
        model.load_state_dict(weights)
        x = torch.eye(4)
        return (model.eval()(x)[:, 0] - 1).square().mean().item()

    assert error(run(schedule=train.Schedule(steps=400, learning_rate=0.05))) < error(start().state_dict()) / 10


def test_same_seed_same_weights_other_seed_other_weights():
    assert same(run(), run())
    assert not same(run(), run(seed=2))


def test_the_callers_randomness_is_left_alone():
    model = start()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train.run(model, loss_of(model), SCHEDULE, seed=1)
    assert torch.rand(1).equal(expected)


def test_the_rate_rises_then_falls_to_nothing():
    rates = [train._rate(SCHEDULE, step) for step in range(SCHEDULE.steps)]
    assert rates[0] == pytest.approx(0.05 / 4)
    assert rates.index(max(rates)) == 3
    assert rates[-1] == pytest.approx(0.05 / 40)


def test_a_budget_ends_training_and_the_schedule_is_cut_to_it(monkeypatch):
    clock = iter(i * 1.0 for i in range(10_000))  # a second of CPU each time it is looked at
    monkeypatch.setattr(train.time, "process_time", lambda: next(clock))
    model, seen = start(), []
    done = train.run(
        model,
        loss_of(model),
        train.Schedule(steps=400, learning_rate=0.05, warmup=4),
        seed=1,
        progress=lambda *at: seen.append(at),
        budget_s=100,
    )
    # 20 steps took 20 seconds, so 80 more fit; the bar then counts to 100, and the rate falls to 0 there.
    assert done == 100 and seen[10] == (11, 400) and seen[30] == (31, 100) and seen[-1] == (100, 100)
    assert train._rate(train.Schedule(steps=100, learning_rate=0.05, warmup=4), 99) == pytest.approx(0.05 / 100)


def test_steps_that_grow_slower_end_at_the_budget(monkeypatch):
    spent = [0.0]
    monkeypatch.setattr(train.time, "process_time", lambda: spent[0])

    def slower(*_):
        spent[0] += 1.0 if spent[0] < 30 else 10.0

    model = start()
    schedule = train.Schedule(steps=400, learning_rate=0.05, warmup=4)
    done = train.run(model, loss_of(model), schedule, seed=1, progress=slower, budget_s=100)
    assert done == 37  # 30 at a second each, 7 at ten


def test_no_budget_is_no_limit():
    model = start()
    assert train.run(model, loss_of(model), SCHEDULE, seed=1) == 40
    assert train.run(model, loss_of(model), SCHEDULE, seed=1, budget_s=1e9) == 40


def test_a_killed_process_goes_on_bit_for_bit(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, __file__, tmp_path], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    seen = []
    with train.threads(1):
        resumed = run(tmp_path, progress=lambda done, steps: seen.append((done, steps)))
        assert seen == [(done, 40) for done in range(15, 41)]  # 14 steps were kept, three were lost
        assert same(resumed, run())


def test_a_finished_run_is_read_back_without_a_step(tmp_path):
    first = run(tmp_path)
    seen = []
    assert same(run(tmp_path, progress=lambda *at: seen.append(at)), first)
    assert seen == []
    assert [p.name for p in tmp_path.iterdir()] == [train.CHECKPOINT]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ModelError, match="other data, settings, seed or threads.*Delete the file"):
        run(tmp_path, fingerprint="two")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\x08" + b[1:]])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    run(tmp_path)
    path = tmp_path / train.CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match="cannot be read as a checkpoint.*starts from the first step"):
        run(tmp_path)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with train.threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_large_gradients_are_cut():
    model = nn.Linear(1, 1, bias=False)
    steps = train.Schedule(steps=1, learning_rate=0.1, warmup=1)
    norms = []
    model.weight.register_post_accumulate_grad_hook(lambda p: norms.append(p.grad.norm().item()))
    train.run(model, lambda step: model(torch.full((1, 1), 1e6)).sum(), steps, seed=0)
    assert norms[0] > 1e5 and model.weight.grad.norm() <= train.CLIP


if __name__ == "__main__":  # what test_a_killed_process_goes_on_bit_for_bit kills: it kills itself after step 17
    run(Path(sys.argv[1]), progress=lambda done, steps: os.kill(os.getpid(), signal.SIGKILL) if done == 17 else None)
