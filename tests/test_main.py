"""`python -m habitue` is the command."""

import subprocess
import sys

from habitue import __version__


def test_the_module_is_the_command(tmp_path):
    def said(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-m", "habitue", *words], cwd=tmp_path, capture_output=True, text=True)

    assert __version__ in said("--version").stdout
    failed = said("check", "-w", "none")
    assert failed.returncode != 0 and "this is not a workspace" in failed.stderr
