import gzip
import io
import os
import stat
import struct
import zipfile
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits
from habitue.core.errors import HabitueError, InputError

CSV = b"a,b\n1,2\n3,4\n"


def gz(content: bytes) -> bytes:
    """Without the time it was made at: the same bytes, and so the same name of a test, in every process."""
    return gzip.compress(content, mtime=0)


def zipped(*members: tuple[str, bytes], **info: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            for key, value in info.items():
                setattr(member, key, value)
            archive.writestr(member, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "packed",
    [
        gz(CSV),
        gz(CSV[:4]) + gz(CSV[4:]),
        zipped(("x.csv", CSV)),
        zipped(("__MACOSX/._x.csv", b"?"), (".DS_Store", b"?"), ("x/", b""), ("x/y.csv", CSV)),
        gz(zipped(("x.csv", CSV))),
        zipped(("x.gz", gz(CSV))),
    ],
    ids=["gzip", "two members", "zip", "a Mac's zip", "zip in gzip", "gzip in zip"],
)
def test_archives_are_taken_off_whatever_the_name(tmp_path, packed, read):
    (tmp_path / "data.csv").write_bytes(packed)
    assert read(tmp_path / "data.csv", ["a", "b"]).rows() == [("1", "2"), ("3", "4")]


def test_zstandard(tmp_path, read):
    zstd = pytest.importorskip("backports.zstd", reason="zstandard is not installed")
    (tmp_path / "a").write_bytes(zstd.compress(CSV))
    assert read(tmp_path / "a", ["b"])["b"].to_list() == ["2", "4"]
    (tmp_path / "a").write_bytes(zstd.compress(CSV * 50_000)[:-9])
    with pytest.raises(InputError, match="the archive is cut off or damaged after"):
        read(tmp_path / "a", ["b"])


def test_zstandard_without_its_package(tmp_path, read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "backports.zstd", None)
    (tmp_path / "a").write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(HabitueError, match=r"'backports.zstd' is not installed.*habitue\[zstd\]"):
        read(tmp_path / "a", ["b"])


@pytest.mark.parametrize("wrap", [gz, lambda content: zipped(("bomb.csv", content))])
def test_an_archive_that_inflates_without_end_stops_in_words(tmp_path, wrap, read):
    bomb = wrap(b"a,b\n" + b"1,2\n" * 5_000_000)
    assert len(bomb) < 80_000  # 20 MB
    (tmp_path / "bomb").write_bytes(bomb)
    with pytest.raises(InputError, match=r"inflates to more than 5,000 kB.*nothing was stored.*--max-bytes"):
        read(tmp_path / "bomb", ["a"], limits=Limits(max_bytes=5_000_000))
    with pytest.raises(InputError, match=r"more than 1,000 rows.*--max-rows"):
        read(tmp_path / "bomb", ["a"], limits=Limits(max_rows=1_000))


def test_a_lie_about_the_size_does_not_help_a_zip(tmp_path, read):
    packed = bytearray(zipped(("x.csv", b"a,b\n" + b"1,2\n" * 1_000_000)))
    at = packed.rfind(b"PK\x01\x02")
    packed[at + 24 : at + 28] = struct.pack("<I", 10)  # it says it is ten bytes long
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(InputError, match="cut off or damaged|inflates to more"):
        read(tmp_path / "a.zip", ["a"], limits=Limits(max_bytes=1_000_000))


@pytest.mark.parametrize("name", ["../../etc/cron.d/x.csv", "/etc/passwd", "C:\\Windows\\x.csv", "a/../../b.csv"])
def test_a_member_with_a_path_is_only_a_stream(tmp_path, name, read):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.zip").write_bytes(zipped((name, CSV)))
    before = sorted(tmp_path.rglob("*"))
    assert read(folder / "a.zip", ["a"]).height == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped(("a.csv", CSV), ("../b.csv", CSV)), r"holds 2 files \(a.csv, b.csv\).*one by one"),
        (zipped(), "the archive holds no file.*nothing to import"),
        (zipped(("a.csv", b"/etc/passwd"), external_attr=(stat.S_IFLNK | 0o777) << 16), "a symbolic link"),
        (gz(CSV)[:-9], "cut off or damaged"),
        (gz(CSV)[:5], "cut off or damaged"),
        (zipped(("a.csv", CSV))[:-30], "cut off or damaged after 0"),
        (gz(gz(gz(gz(CSV)))), "more than 3 archives inside each other"),
        (gz(b"")[:10] + b"\xff" * 50, "cut off or damaged"),
    ],
    ids=[
        "two files",
        "no file",
        "a symbolic link",
        "gzip without its end",
        "five bytes of gzip",
        "zip without its end",
        "four in each other",
        "gzip of nothing",
    ],
)
def test_what_cannot_be_unpacked_is_one_sentence(tmp_path, content, words, read):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=words) as raised:
        read(tmp_path / "a.zip", ["a"])
    assert "\n" not in str(raised.value)


def test_a_locked_zip(tmp_path, read):
    packed = bytearray(zipped(("a.csv", CSV)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.find(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(InputError, match="locked with a password"):
        read(tmp_path / "a.zip", ["a"])


def test_a_damaged_byte_in_the_middle_is_noticed(tmp_path, read):
    packed = bytearray(gz(os.urandom(200_000).hex().encode() + b"\n"))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "a.gz").write_bytes(packed)
    with pytest.raises(InputError, match="cut off or damaged"):
        read(tmp_path / "a.gz")


@settings(deadline=None)
@given(head=st.sampled_from([b"\x1f\x8b", b"PK\x03\x04", b""]), content=st.binary(max_size=300))
@example(head=b"", content=b"{}")
def test_any_bytes_are_rows_or_one_sentence(tmp_path_factory, head, content, read):
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(head + content)
    try:
        read(path)
    except HabitueError as error:
        assert "\n" not in str(error)


@settings(deadline=None)
@given(content=st.binary(min_size=1, max_size=200), at=st.integers(0, 400))
def test_a_zip_with_one_byte_changed_is_rows_or_one_sentence(tmp_path_factory, content, at, read):
    packed = bytearray(zipped(("a.csv", b"a,b\n" + zlib.compress(content).hex().encode() + b",1\n")))
    packed[at % len(packed)] ^= 0x41
    path = tmp_path_factory.mktemp("any") / "a.zip"
    path.write_bytes(packed)
    try:
        read(path)
    except HabitueError as error:
        assert "\n" not in str(error)
