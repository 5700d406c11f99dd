"""The loop: fixed steps, repeatable, resumable to the bit, never from another run's checkpoint."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from habitue.core.errors import ModelError
from habitue.model import train

SCHEDULE = train.Schedule(steps=40, learning_rate=0.05, warmup=4, keep_every=7)
EVERY = train.Recipe(fall="cosine", decay=0.1, average=0.5, patience=4)


def start():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def loss_of(model):
    def loss(step):
        x = torch.randn(16, 4)
        return (model(x)[:, 0] - x.sum(1)).square().mean(), 16

    return loss


def run(folder=None, *, fingerprint="one", seed=1, progress=None, schedule=SCHEDULE):
    model = start()
    train.run(
        model,
        loss_of(model),
        schedule,
        seed=seed,
        validate=(lambda: -error(model)) if schedule.recipe.patience else None,
        folder=folder,
        fingerprint=fingerprint,
        progress=progress,
    )
    return model.state_dict()


def error(model):
    x = torch.eye(4)
    with torch.no_grad():
        return (model(x)[:, 0] - 1).square().mean().item()


def same(one, other):
    return one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)


def test_learns():
    model = start().eval()
    before = error(model)
    model.load_state_dict(run(schedule=train.Schedule(steps=400, learning_rate=0.05)))
    assert error(model) < before / 10


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
    rates = [SCHEDULE.rate(step) for step in range(SCHEDULE.steps)]
    assert rates[0] == pytest.approx(0.05 / 4)
    assert rates.index(max(rates)) == 3
    assert rates[-1] == pytest.approx(0.05 / 40)


def test_a_cosine_falls_late():
    slow = dataclasses.replace(SCHEDULE, recipe=train.Recipe(fall="cosine"))
    assert slow.rate(20) == pytest.approx(0.05 / 2)
    assert slow.rate(10) == pytest.approx(0.05 * (2 + 2**0.5) / 4)
    assert slow.rate(0) == pytest.approx(0.05 / 4)  # the rise is the same
    with pytest.raises(ModelError, match="setting 'fall'.*no fall 'steep'.*linear or cosine"):
        run(schedule=dataclasses.replace(SCHEDULE, recipe=train.Recipe(fall="steep")))


def test_matrices_decay_and_vectors_do_not():
    model = nn.Linear(2, 1)
    before = [p.detach().clone() for p in model.parameters()]
    schedule = train.Schedule(steps=1, learning_rate=0.1, warmup=1, recipe=train.Recipe(decay=0.5))
    train.run(model, lambda _: (0 * model(torch.ones(1, 2)).sum(), 1), schedule, seed=0)
    torch.testing.assert_close(model.weight.detach(), before[0] * (1 - 0.1 * 0.5))
    assert model.bias.detach().equal(before[1])


def walked(recipe, *, validate=None, steps=30):
    """Train one number whose gradient is always 1; return it as it was after each step, and as it ends."""
    model, path = nn.Linear(1, 1, bias=False), []
    nn.init.constant_(model.weight, 3.0)
    trained = train.run(
        model,
        lambda _: (model.weight.sum(), 2),
        train.Schedule(steps=steps, learning_rate=0.1, warmup=1, recipe=recipe),
        seed=0,
        validate=validate and (lambda: validate(model)),
        progress=lambda *_: path.append(model.weight.item()),
    )
    return path, model.weight.item(), trained


def test_the_average_of_the_weights_is_what_stays():
    path, end, _ = walked(train.Recipe(average=0.9))
    mean = 3.0
    for step, weight in enumerate(path):
        kept = min(0.9, (step + 1) / (step + 10))
        mean = kept * mean + (1 - kept) * weight
    assert end == pytest.approx(mean, abs=1e-5) and abs(end - path[-1]) > 0.01


def test_the_average_is_what_validation_looks_at_and_training_goes_on_from_the_weights():
    seen = []
    looked = walked(train.Recipe(average=0.9), validate=lambda m: seen.append((m.weight.item(), m.training)) or 0.0)
    plain = walked(train.Recipe(average=0.9))
    assert looked[0] == plain[0] and looked[1] == plain[1]
    assert len(seen) == 15 and not any(training for _, training in seen)  # every second of 30 steps
    assert seen[-1][0] == pytest.approx(plain[1]) and abs(seen[0][0] - plain[0][1]) > 0.01


def test_training_ends_when_nothing_gets_better_and_the_best_stays():
    metrics = iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.9])
    path, end, trained = walked(train.Recipe(patience=3), validate=lambda _: next(metrics))
    assert trained.steps == len(path) == 10  # looks after steps 2, 4, ... 10; equal is not better
    assert end == path[3]
    assert trained.curve[~np.isnan(trained.curve[:, 4]), 4] == pytest.approx([0.1, 0.3, 0.2, 0.3, 0.25])


def test_without_patience_validation_is_told_and_decides_nothing():
    path, end, trained = walked(train.Recipe(), validate=lambda m: -float(len(str(m))))
    assert trained.steps == 30 and end == path[-1] and np.count_nonzero(~np.isnan(trained.curve[:, 4])) == 15


def test_the_best_of_averaged_weights_stays():
    metrics, seen = iter([0.1, 0.3, *[0.0] * 30]), []
    _, end, _ = walked(
        train.Recipe(average=0.9, patience=2), validate=lambda m: seen.append(m.weight.item()) or next(metrics)
    )
    assert end == seen[1]


def test_the_curve_holds_loss_and_metric_by_step(tmp_path):
    model, losses = start(), []

    def loss(step):
        value, targets = loss_of(model)(step)
        losses.append(value.item())
        return value, targets

    trained = train.run(
        model,
        loss,
        train.Schedule(steps=250, learning_rate=0.01, keep_every=100),
        seed=1,
        validate=lambda: 0.5,
        folder=tmp_path,
    )
    step, targets, cpu_s, told, metric = trained.curve.T
    assert train.CURVE == ("step", "targets", "cpu_s", "loss", "metric")
    # Every third step (100 points a run, about), every 13th for the metric (20 a run), and the last.
    assert step.tolist() == sorted({*range(3, 251, 3), *range(13, 251, 13), 250})
    assert step[~np.isnan(metric)].tolist() == [*range(13, 251, 13), 250] and set(metric[~np.isnan(metric)]) == {0.5}
    assert (targets == 16 * step).all() and (np.diff(cpu_s) >= 0).all() and 0 < cpu_s[-1] < 60
    edges = np.r_[0, step].astype(int)
    assert told == pytest.approx([np.mean(losses[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)])
    rows = train.curve(tmp_path)
    assert [tuple(row) for row in rows[:1]] == [train.CURVE]
    assert [row["loss"] for row in rows] == pytest.approx(told)
    assert rows[0]["metric"] is None and rows[-1]["metric"] == 0.5 and rows[-1]["step"] == 250
    assert train.curve(tmp_path / "none") == []


def test_the_words_beside_the_bar(monkeypatch):
    clock = iter(range(10_000))  # a second passes each time it is looked at
    monkeypatch.setattr(train.time, "perf_counter", lambda: next(clock))
    model, said = nn.Linear(1, 1, bias=False), []
    nn.init.constant_(model.weight, 3.0)
    train.run(
        model,
        lambda step: (model.weight.sum() * 0 + 1.5 + step, 4_000),
        train.Schedule(steps=40, learning_rate=0.1),
        seed=0,
        validate=lambda: 0.07125,
        progress=lambda done, steps, words: said.append(words),
    )
    assert said[0] == "loss 1.500, 4,000 targets/s"
    assert said[1] == "loss 2.500, validation 0.0712, 4,000 targets/s"
    assert said[-1] == "loss 40.500, validation 0.0712, 4,000 targets/s"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_the_step_and_the_setting(tmp_path, bad):
    model = start()

    def loss(step):
        value, targets = loss_of(model)(step)
        return value * (bad if step == 9 else 1), targets

    schedule = train.Schedule(steps=40, learning_rate=0.05, keep_every=1)
    with pytest.raises(ModelError, match="loss of step 10 of 40 is (nan|inf).*Lower `learning_rate` .it is 0.05"):
        train.run(model, loss, schedule, seed=1, folder=tmp_path)
    assert all(p.isfinite().all() for p in model.parameters())
    with safe_open(tmp_path / train.CHECKPOINT, framework="pt") as file:
        assert json.loads(file.metadata()["run"])["book"]["done"] == 9


def test_a_loss_that_is_no_number_from_the_start_blames_the_data():
    model = start()
    with pytest.raises(ModelError, match="loss of step 1 of 40 is nan.*look at values, prices and the products' vect"):
        train.run(model, lambda step: (loss_of(model)(step)[0] * float("nan"), 1), SCHEDULE, seed=1)


def test_a_gradient_that_is_no_number_stops_too():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    with pytest.raises(ModelError, match="loss of step 1 of 40 is 0, or its gradient is no number"):
        train.run(model, lambda _: (model.weight.sqrt().sum(), 1), SCHEDULE, seed=1)


@pytest.mark.parametrize(
    "gone",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_memory_that_ends_names_the_settings(gone):
    def loss(step):
        raise gone

    with pytest.raises(ModelError, match="step 1 needs more memory.*`questions`, `stretches` or `queries`.*`width`"):
        train.run(start(), loss, SCHEDULE, seed=1)


def test_an_accelerator_with_bfloat16_forms_the_loss_in_it(monkeypatch):
    monkeypatch.setattr(train, "half_is_quick", lambda device: device != "old")
    assert train.in_half("cuda") and not train.in_half("old") and not train.in_half("cpu")
    seen, model = [], start()

    def loss(step):
        seen.append(model[0](torch.ones(1, 4)).dtype)
        return loss_of(model)(step)

    for half in (False, True):
        monkeypatch.setattr(train, "in_half", lambda device, half=half: half)
        train.run(model, loss, train.Schedule(steps=1, learning_rate=0.01), seed=1)
    assert seen == [torch.float32, torch.bfloat16]
    assert all(p.dtype == torch.float32 for p in model.parameters()) and not torch.is_autocast_enabled("cpu")


def test_another_error_stays_what_it_is():
    def loss(step):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="^a bug$"):
        train.run(start(), loss, SCHEDULE, seed=1)


def test_a_budget_ends_training_and_the_schedule_is_cut_to_it(monkeypatch):
    clock = iter(i * 1.0 for i in range(10_000))  # a second of CPU each time it is looked at
    monkeypatch.setattr(train.time, "process_time", lambda: next(clock))
    model, seen = start(), []
    done = train.run(
        model,
        loss_of(model),
        train.Schedule(steps=400, learning_rate=0.05, warmup=4),
        seed=1,
        progress=lambda *at: seen.append(at[:2]),
        budget_s=100,
    ).steps
    # 20 steps took 20 seconds, so 80 more fit; the bar then counts to 100, and the rate falls to 0 there.
    assert done == 100 and seen[10] == (11, 400) and seen[30] == (31, 100) and seen[-1] == (100, 100)
    assert train.Schedule(steps=100, learning_rate=0.05, warmup=4).rate(99) == pytest.approx(0.05 / 100)


def test_steps_that_grow_slower_end_at_the_budget(monkeypatch):
    spent, model = [0.0], start()
    monkeypatch.setattr(train.time, "process_time", lambda: spent[0])

    def slower(step):
        spent[0] += 1.0 if spent[0] < 30 else 10.0
        return loss_of(model)(step)

    schedule = train.Schedule(steps=400, learning_rate=0.05, warmup=4)
    assert train.run(model, slower, schedule, seed=1, budget_s=100).steps == 37  # 30 at a second each, 7 at ten


@pytest.mark.slow
def test_processes_of_one_training_end_together_at_their_budget(tmp_path):
    """One of the two is slower: by its own clock each would end at another step, and one wait for the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, __file__, tmp_path], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=100)
    one, other = (int((tmp_path / f"{rank}.txt").read_text()) for rank in (0, 1))
    assert train.TIMED < one == other < 2000


def test_no_budget_is_no_limit():
    model = start()
    assert train.run(model, loss_of(model), SCHEDULE, seed=1).steps == 40
    assert train.run(model, loss_of(model), SCHEDULE, seed=1, budget_s=1e9).steps == 40


@pytest.mark.parametrize("every", [False, True])
def test_a_killed_process_goes_on_bit_for_bit(tmp_path, every):
    """Once with plain settings, once with all that a checkpoint may hold beside: an average, a best, a wait."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, __file__, tmp_path, str(every)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    seen, schedule = [], dataclasses.replace(SCHEDULE, recipe=EVERY if every else train.Recipe())
    with train.threads(1):
        resumed = run(tmp_path, schedule=schedule, progress=lambda done, steps, _: seen.append((done, steps)))
        assert seen[0] == (15, 40)  # 14 steps were kept, three were lost
        whole = []
        assert same(resumed, run(schedule=schedule, progress=lambda done, steps, _: whole.append((done, steps))))
    assert seen == whole[14:] and (len(whole) < 40) == every
    rows = train.curve(tmp_path)
    assert [row["targets"] for row in rows] == [16 * row["step"] for row in rows] and rows[-1]["step"] == len(whole)


def test_a_finished_run_is_read_back_without_a_step(tmp_path):
    first = run(tmp_path)
    seen = []
    assert same(run(tmp_path, progress=lambda *at: seen.append(at)), first)
    assert seen == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [train.CHECKPOINT, train.CURVE_FILE]


def test_a_run_that_ended_early_is_read_back_with_its_best(tmp_path):
    schedule, seen = dataclasses.replace(SCHEDULE, recipe=EVERY), []
    first = run(tmp_path, schedule=schedule)
    assert same(run(tmp_path, schedule=schedule, progress=lambda *at: seen.append(at)), first) and not seen


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
    train.run(model, lambda step: (model(torch.full((1, 1), 1e6)).sum(), 1), steps, seed=0)
    assert norms[0] > 1e5 and model.weight.grad.norm() <= train.CLIP


def one_of_two(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank, model = torch.distributed.get_rank(), start()

    def loss(step):
        until = time.process_time() + (0.001, 0.02)[rank]
        while time.process_time() < until:
            pass
        value, targets = loss_of(model)(step)
        return value / 2, targets

    steps = train.Schedule(steps=2000, learning_rate=0.05)
    done = train.run(model, loss, steps, seed=1, budget_s=(1.0, 1.2)[rank], rank=rank, world=2).steps
    (folder / f"{rank}.txt").write_text(str(done))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # while the interpreter ends a thread of gloo aborts now and then (seen once in forty runs)


def killed_after_step_17(folder: Path, every: bool) -> None:
    run(
        folder,
        schedule=dataclasses.replace(SCHEDULE, recipe=EVERY if every else train.Recipe()),
        progress=lambda done, *_: os.kill(os.getpid(), signal.SIGKILL) if done == 17 else None,
    )


if __name__ == "__main__":  # what the tests start as processes of their own
    if len(sys.argv) == 2:
        one_of_two(Path(sys.argv[1]))
    else:
        killed_after_step_17(Path(sys.argv[1]), sys.argv[2] == "True")
