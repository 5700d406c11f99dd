import errno
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect import log
from habitue.core.errors import LakeError


def written(folder, *payloads, **more):
    book, cut = log.opened(folder, **more)
    assert cut == 0
    for payload in payloads:
        book.append(payload)
    book.rotate()
    return book


def read(folder):
    return [payload for path in log.segments(folder) for payload in log.records(path)]


def test_what_is_appended_is_read_in_its_order_whatever_bytes_it_holds(tmp_path):
    payloads = [b"one", log.MARK, log.MAGIC * 3, bytes(range(256))]
    written(tmp_path, *payloads)
    assert read(tmp_path) == payloads


def test_a_full_segment_is_closed_and_another_begun(tmp_path):
    book, _ = log.opened(tmp_path, segment_bytes=100)
    for number in range(6):
        book.append(bytes([number]) * 30)
    assert len(book.closed()) == 2
    assert len(read(tmp_path)) == 6
    book.rotate()
    assert len(book.closed()) == 3


def test_no_two_segments_ever_have_one_name_even_when_the_clock_is_set_back(tmp_path, monkeypatch):
    names = []
    for now in (5_000_000, 4_000_000, 4_000_000):  # nanoseconds
        monkeypatch.setattr(log.time, "time_ns", lambda now=now: now)
        book, _ = log.opened(tmp_path)
        book.append(b"a")
        book.rotate()
        book.append(b"b")
        names = [path.stem for path in log.segments(tmp_path)]
    assert names == [f"{5_000 + n:016d}" for n in range(6)]
    monkeypatch.undo()
    written(tmp_path, b"now")
    assert abs(int(log.segments(tmp_path)[-1].stem) / 1e6 - time.time()) < 60


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_a_torn_end_is_cut_and_everything_before_it_stays(tmp_path_factory, payloads, data):
    folder = tmp_path_factory.mktemp("inbox")
    written(folder, *payloads)
    path = log.segments(folder)[0]
    content = path.read_bytes()
    last = len(content) - len(payloads[-1]) - 12
    keep = data.draw(st.integers(last, len(content) - 1))
    path.write_bytes(content[:keep])
    book, cut = log.opened(folder)
    assert cut == keep - last
    assert read(folder) == payloads[:-1]
    book.append(b"after")
    assert read(folder) == [*payloads[:-1], b"after"]


def test_a_file_cut_off_inside_its_first_line_is_removed(tmp_path):
    written(tmp_path, b"x")
    path = log.segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:5])
    _, cut = log.opened(tmp_path)
    assert cut == 5 and log.segments(tmp_path) == []


@pytest.mark.parametrize("place", [16, 20, 24, 28, 30])  # mark, length, checksum, payload
def test_damage_with_good_records_behind_it_is_refused_not_cut(tmp_path, place):
    written(tmp_path, b"first record", b"second record")
    path = log.segments(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(LakeError, match=r"a record at byte 16 is damaged, and there are good ones behind it"):
        log.opened(tmp_path)
    assert path.read_bytes() == content


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / f"{1:016d}.log").write_bytes(b"something else entirely, and long enough")
    with pytest.raises(LakeError, match="Restore the file from a copy"):
        log.opened(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_after_a_failure_nothing_is_trusted_to_that_file(tmp_path, monkeypatch, call):
    book, _ = log.opened(tmp_path)
    book.append(b"kept")
    real = getattr(os, call)

    def full(file, *rest):
        if call == "write":
            real(file, rest[0][:7])  # half of it gets there
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(LakeError, match="cannot be put on the disk \\(No space left on device\\)"):
            book.append(b"lost")
    book.append(b"later")
    assert read(tmp_path) == [b"kept", b"later"]
    assert len(log.segments(tmp_path)) == 2
    assert log.opened(tmp_path)[1] == 0


def test_each_record_is_synced_before_append_returns_and_so_is_a_new_name(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size) or real(file))
    book, _ = log.opened(tmp_path)
    book.append(b"a")
    book.append(b"bb")
    sizes = [16, 16 + 12 + 1, 16 + 12 + 1 + 12 + 2]
    assert [size for size in synced if size in sizes] == sizes
    assert len(synced) == 4  # and the folder's


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path):
    (tmp_path / "inbox").write_text("a file")
    with pytest.raises(LakeError, match="Check the disk's space and the folder's rights"):
        log.opened(tmp_path / "inbox")
