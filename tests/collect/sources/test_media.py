import hashlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from habitue.collect.sources.media import describe, modality
from habitue.core.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PNG)
    (tmp_path / "pictures" / "SKU1-1.jpg").write_bytes(b"\xff\xd8\xff rest")
    (tmp_path / "pictures" / "SKU1_2.png").write_bytes(PNG)
    (tmp_path / "pictures" / "sub" / "杯子.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    (tmp_path / "pictures" / "sub" / "tool.exe").write_bytes(b"MZ\x00\x01")
    (tmp_path / "pictures" / ".hidden").write_bytes(PNG)
    os.symlink(tmp_path / "secret.png", tmp_path / "pictures" / "link.png")
    os.symlink("loop.png", tmp_path / "pictures" / "loop.png")
    os.symlink("SKU1_2.png", tmp_path / "pictures" / "inside.png")
    return tmp_path / "pictures"


def test_a_folder_by_the_names_of_its_files(folder, read):
    broken = {}
    frame = read(folder, ["path", "name", "owner", "folder", "modality", "sha256"], broken=broken)
    png = hashlib.sha256(PNG).hexdigest()
    assert frame.select("path", "owner", "folder", "modality").rows() == [
        ("SKU1-1.jpg", "SKU1", "pictures", "image"),
        ("SKU1_2.png", "SKU1", "pictures", "image"),
        ("inside.png", "inside", "pictures", "image"),
        ("sub/杯子.wav", "杯子", "sub", "audio"),
    ]
    assert frame["sha256"].to_list()[1:3] == [png, png]
    assert sorted(broken.values()) == ["no_medium", "no_such_file", "path_outside"]


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "sub/../../secret.png", "/etc/passwd", "C:\\x.png", "..\\secret.png", "link.png", "a\x00b"],
)
def test_a_path_never_leads_out_of_the_folder(folder, path):
    assert describe(folder, path) == "path_outside"


def test_what_is_not_there(folder):
    assert describe(folder, "absent.png") == "no_such_file"
    assert describe(folder, "sub") == "no_such_file"
    assert describe(folder, "x" * 5_000) == "no_such_file"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"GIF89a", "image"),
        (b"RIFF....WEBPVP8 ", "image"),
        (b"RIFF....AVI LIST", "video"),
        (b"\x00\x00\x00\x18ftypmp42", "video"),
        (b"\x00\x00\x00\x18ftypavif", "image"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio"),
        (b"fLaC", "audio"),
        (b"ID3\x04", "audio"),
        (b"\x1aE\xdf\xa3", "video"),
        ("good mug, 很好".encode(), "text"),
        ("很好".encode()[:-1], "text"),
        (b"\xff\xff\xff\xff\xff", None),
        (b"MZ\x00", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_modality(head, kind):
    assert modality(head) == kind


def test_an_empty_folder(tmp_path, read):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder is empty"):
        read(tmp_path / "empty", ["path"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.sampled_from(["..", ".", "", "sub", "link.png", "C:", "~", "secret.png"]) | st.text(max_size=6))
)
def test_any_path_of_a_manifest_stays_inside_and_is_a_file_or_a_reason(folder, parts):
    described = describe(folder, "/".join(parts))
    reasons = ("path_outside", "no_such_file", "no_medium")
    assert described in reasons if isinstance(described, str) else set(described) == {"modality", "sha256"}
    secret = hashlib.sha256(PNG).hexdigest()
    inside = {"SKU1_2.png", "inside.png"} & set(parts)
    assert isinstance(described, str) or described["sha256"] != secret or inside


@given(head=st.binary(max_size=64))
def test_any_first_bytes_are_a_modality_or_none(head):
    assert modality(head) in ("image", "audio", "video", "text", None)
