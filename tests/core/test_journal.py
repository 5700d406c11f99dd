import os

import pytest

from habitue.core import journal
from habitue.core.errors import LakeError


def test_what_is_written_is_read_and_nothing_is_nothing(tmp_path):
    assert journal.entries(tmp_path) == {}
    journal.write(tmp_path, {"events": 3, "items": -1})
    assert journal.entries(tmp_path) == {"events": 3, "items": -1}
    assert os.listdir(tmp_path) == [journal.NAME]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_note_that_cannot_be_read(tmp_path, content):
    (tmp_path / journal.NAME).write_bytes(content)
    with pytest.raises(LakeError, match="unfinished change cannot be read.*nothing is read or written.*from a copy"):
        journal.entries(tmp_path)


def test_a_full_disk(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match=r"cannot be written \(No space left.*Nothing was changed.*disk's space"):
        journal.write(tmp_path, {"events": 3})
    assert journal.entries(tmp_path) == {}
