from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import seen
from habitue.collect.seen import Seen


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 400).map(str), max_size=60), max_size=12), st.integers(2, 40))
def test_it_knows_what_a_set_knows_however_it_is_stored(groups, recent):
    kept, truth = Seen(), set()
    before, seen.RECENT = seen.RECENT, recent
    try:
        for group in groups:
            assert kept.known(group) == [one in truth for one in group]
            kept.add(group, day=20_000)
            truth |= set(group)
        everything = [str(n) for n in range(400)]
        assert kept.known(everything) == [one in truth for one in everything]
    finally:
        seen.RECENT = before


def test_ids_are_forgotten_after_the_horizon_and_not_before(monkeypatch):
    monkeypatch.setattr(seen, "RECENT", 4)
    kept = Seen(days=3)
    for day in range(10):
        kept.add([f"{day}-{n}" for n in range(8)], day=day)
    assert kept.known(["9-0", "8-0", "7-0"]) == [True] * 3
    assert kept.known(["0-0", "1-0", "2-0"]) == [False] * 3


def test_a_clock_that_was_set_back_forgets_nothing(monkeypatch):
    monkeypatch.setattr(seen, "RECENT", 2)
    kept = Seen(days=3)
    kept.add(["a", "b"], day=100)
    kept.add(["c", "d"], day=50)
    kept.add(["e", "f"], day=101)
    assert kept.known(["a", "c", "e"]) == [True] * 3


def test_memory_is_bounded_and_the_latest_stay(monkeypatch):
    monkeypatch.setattr(seen, "RECENT", 100)
    kept = Seen(most=1_000)
    for day in range(50):
        kept.add([f"{day}-{n}" for n in range(100)], day=day)
        assert len(kept) <= 1_000
    assert kept.known(["49-0", "48-0", "0-0", "1-5"]) == [True, True, False, False]


def test_there_are_few_arrays_however_many_ids(monkeypatch):
    monkeypatch.setattr(seen, "RECENT", 10)
    kept = Seen()
    for start in range(0, 5_000, 10):
        kept.add([str(n) for n in range(start, start + 10)], day=1)
    assert len(kept) == 5_000 and len(kept._levels) <= 10
