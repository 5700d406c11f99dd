import datetime as dt
import os
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import met
from habitue.core.errors import LakeError

SECRET = bytes(32)
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAY = 86_400_000_000


def kept(folder):
    return sorted({n for ids in met.opened(folder, since=LONG_AGO) for n in ids.tolist()})


def test_a_number_is_an_ids_own_and_of_no_use_without_the_secret():
    one, other, again = met.numbers(["a", "b", "a"], SECRET)
    assert one == again != other
    assert met.numbers(["a"], b"1" * 32) != [one]
    assert all(-(2**63) <= n < 2**63 for n in met.numbers(map(str, range(1_000)), SECRET))
    assert met.numbers(["\ud800"], SECRET) != met.numbers(["?"], SECRET)  # half a letter pair, as JSON may hold


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30), max_size=12), st.integers(1, 7))
def test_every_number_is_kept_however_files_are_merged(tmp_path_factory, turns, together):
    folder, before = tmp_path_factory.mktemp("met"), met.TOGETHER
    met.TOGETHER = together
    try:
        for at, turn in enumerate(turns):
            met.add(folder, turn, at=at)
    finally:
        met.TOGETHER = before
    assert kept(folder) == sorted({n for turn in turns for n in turn})
    for ids in met.opened(folder, since=LONG_AGO):
        assert (np.diff(ids.astype(object)) > 0).all()


def test_there_are_few_files_and_those_of_a_later_span_stay_apart(tmp_path):
    for hour in range(24 * 30):
        met.add(tmp_path, range(hour * 100, hour * 100 + 100), at=hour * DAY // 24)
    assert len(kept(tmp_path)) == 72_000 and len(os.listdir(tmp_path)) < 20
    spans = [path.name.split("-")[:2] for path in tmp_path.iterdir()]
    assert max(int(last) - int(first) for last, first in spans) < 4 * DAY
    met.opened(tmp_path, since=LONG_AGO + dt.timedelta(days=20))
    assert 29 * 2_400 - 24 * 2_400 < len(kept(tmp_path)) < 14 * 2_400


def test_a_segment_that_is_written_twice_and_a_draft_that_was_cut_off_do_no_harm(tmp_path):
    met.add(tmp_path, [1, 2], at=5)
    (tmp_path / ".0000000000000007-0000000000000007-ab.ids").write_bytes(b"half")
    met.add(tmp_path, [2, 1], at=5)
    assert kept(tmp_path) == [1, 2] and len(os.listdir(tmp_path)) == 1
    met.add(tmp_path, [], at=6)
    assert kept(tmp_path) == [1, 2]


def test_a_merging_that_was_cut_off_before_the_parts_went_does_no_harm(tmp_path, monkeypatch):
    met.add(tmp_path, [1, 2], at=5)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        met.add(tmp_path, [3], at=6)
    monkeypatch.undo()
    met.add(tmp_path, [4], at=7)
    assert kept(tmp_path) == [1, 2, 3, 4] and len(os.listdir(tmp_path)) <= 2


def test_they_are_built_from_a_lake_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "met"

    def cut_off():
        yield 3, ["a"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        met.build(folder, cut_off(), SECRET)
    assert not folder.exists()
    met.build(folder, [(3, ["a", "b"]), (9, ["c"])], SECRET)
    assert kept(folder) == sorted(met.numbers("abc", SECRET)) and met.whole(folder)
    assert os.listdir(tmp_path) == ["met"] and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(met.opened(folder, since=LONG_AGO + dt.timedelta(days=5))) == 1


def test_files_that_are_gone_or_torn_are_known(tmp_path):
    assert not met.whole(tmp_path / "nothing")
    met.add(tmp_path, [1, 2], at=5)
    assert met.whole(tmp_path)
    (path,) = tmp_path.iterdir()
    for content in (path.read_bytes()[:-1], b""):
        path.write_bytes(content)
        assert not met.whole(tmp_path)


def test_another_secret_has_another_folder(tmp_path):
    assert met.folder_of(tmp_path, SECRET) != met.folder_of(tmp_path, b"1" * 32)


def test_a_disk_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match=r"the ids of what was received cannot be kept \(No space left on device\)"):
        met.add(tmp_path, [1], at=5)
    with pytest.raises(LakeError, match="stays in the inbox until they can; nothing is lost"):
        met.build(tmp_path / "met", [(1, ["a"])], SECRET)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [".met"] and kept(tmp_path) == []
