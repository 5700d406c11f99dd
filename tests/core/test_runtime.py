import threadpoolctl
import torch

from habitue.core import runtime


def test_a_runtime_sets_the_threads_it_names():
    before = torch.get_num_threads()
    try:
        made = runtime.detect(seed=3, threads=1)
        assert (made.seed, made.threads, made.rank, made.world) == (3, 1, 0, 1)
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    finally:
        torch.set_num_threads(before)


def test_the_seed_decides_what_torch_draws():
    runtime.detect(seed=5)
    first = torch.rand(3)
    runtime.detect(seed=5)
    assert torch.equal(first, torch.rand(3))
    runtime.detect(seed=6)
    assert not torch.equal(first, torch.rand(3))


def test_a_device_asked_for_is_taken():
    assert runtime.detect(device="cpu").device == "cpu"
