import os
import threading

import pytest

from habitue.core import durable


def test_what_is_written_is_there_and_its_name_is_on_the_disk_after_it(tmp_path, monkeypatch):
    path, synced, real = tmp_path / "a.json", [], os.fsync

    def noted(file):
        synced.append((os.fstat(file).st_ino, path.exists()))
        real(file)

    monkeypatch.setattr(os, "fsync", noted)
    durable.write(path, [b"12", b"", b"345"])
    assert path.read_bytes() == b"12345" and os.listdir(tmp_path) == ["a.json"]
    assert synced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_when_it_fails_what_was_there_is_there_still(tmp_path, monkeypatch, call):
    path = tmp_path / "a.json"
    durable.write(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, call) if call == "fsync" else (type(path), call)), full)
    with pytest.raises(OSError, match="No space left"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.json"]


def test_of_many_threads_one_wins_and_the_file_is_whole(tmp_path):
    path, contents = tmp_path / "a", [bytes([65 + i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=durable.write, args=(path, one)) for one in contents for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents and os.listdir(tmp_path) == ["a"]
