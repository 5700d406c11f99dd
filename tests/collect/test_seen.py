import datetime as dt

from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import met, seen
from habitue.collect.seen import Seen

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
MICROS = int(NOW.timestamp() * 1e6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 400), max_size=60), st.booleans())), st.integers(2, 40))
def test_it_knows_what_a_set_knows_whether_in_memory_or_in_files(tmp_path_factory, groups, recent):
    folder = tmp_path_factory.mktemp("met")
    kept, truth, waiting = Seen(folder), set(), set()
    before, seen.RECENT = seen.RECENT, recent
    try:
        for number, (group, is_turn) in enumerate(groups):
            assert kept.known(group) == [one in truth for one in group]
            kept.add(group)
            truth |= set(group)
            waiting |= set(group)
            if is_turn:
                turn = kept.turn()
                met.add(folder, waiting, at=MICROS + number)
                kept.written(turn, now=NOW)
                waiting = set()
            assert len(waiting) <= len(kept) <= sum(len(told) for told, _ in groups)
        everything = list(range(400))
        assert kept.known(everything) == [one in truth for one in everything]
    finally:
        seen.RECENT = before


def test_what_came_during_a_turn_stays_in_memory_and_so_does_all_of_a_turn_that_failed(tmp_path):
    kept = Seen(tmp_path)
    kept.add([1, 2])
    kept.turn()  # and its writing fails
    kept.add([3])
    second = kept.turn()
    kept.add([4])
    met.add(tmp_path, [1, 2, 3], at=MICROS)
    kept.written(second, now=NOW)
    assert len(kept) == 1 and kept.known([1, 2, 3, 4, 5]) == [True, True, True, True, False]


def test_two_turns_at_once_let_go_only_what_is_written(tmp_path):
    kept = Seen(tmp_path)
    kept.add(range(10))
    first = kept.turn()
    kept.add([10])
    kept.turn()
    met.add(tmp_path, range(10), at=MICROS)
    kept.written(first, now=NOW)
    assert len(kept) == 1 and kept.known([9, 10, 11]) == [True, True, False]


def test_a_turn_empties_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(seen, "RECENT", 100)
    kept = Seen(tmp_path)
    for start in range(0, 5_000, 50):
        kept.add(range(start, start + 50))
    assert len(kept) == 5_000 and len(kept._levels) <= 10
    turn = kept.turn()
    met.add(tmp_path, range(5_000), at=MICROS)
    kept.written(turn, now=NOW)
    assert len(kept) == 0 and kept.known([0, 4_999, 5_000]) == [True, True, False]


def test_ids_are_forgotten_after_the_horizon_and_not_before(tmp_path):
    day = 86_400_000_000
    for ago in range(60):
        met.add(tmp_path, [ago], at=MICROS - ago * day)
    kept = Seen(tmp_path, days=30)
    kept.written(kept.turn(), now=NOW)
    assert kept.known(list(range(30))) == [True] * 30
    assert kept.known([36, 40, 59]) == [False] * 3  # a file holds some days together: a few more are known
