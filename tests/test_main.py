"""`python -m habitue` is the command."""

import subprocess
import sys

import pytest

from habitue import __main__, __version__


def test_the_module_is_the_command(tmp_path):
    def said(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-m", "habitue", *words], cwd=tmp_path, capture_output=True, text=True)

    assert __version__ in said("--version").stdout
    failed = said("check", "-w", "none")
    assert failed.returncode != 0 and "this is not a workspace" in failed.stderr


def test_ctrl_c_while_it_loads_ends_it_without_a_word(monkeypatch, capsys):
    class Pressed:
        def find_spec(self, name, *_):
            if name == "habitue.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "habitue.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130 and not "".join(capsys.readouterr())
