"""docs/serve.md does what it says: its commands and its Python against a server that really runs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from habitue.serve import answers, keys, metrics, rules

PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
HABITUE = [sys.executable, "-c", "from habitue.cli import main; main()"]


def column(header):
    """The words in backticks of the first column of a table."""
    table = PAGE[PAGE.index(header) :].split("\n\n", 1)[0]
    return [word for line in table.splitlines()[2:] for word in re.findall("`([^`]+)`", line.split("|")[1])]


def test_the_table_of_parameters_is_what_the_route_takes():
    assert column("| parameter | what it is |") == [field.name for field in answers.RECOMMENDATIONS]


def test_the_table_of_placements_is_complete():
    assert tuple(column("| placement | ranks by |")) == rules.PLACEMENTS


def test_the_table_of_metrics_names_what_there_is():
    made = metrics.Metrics()
    named = set(column("| metric | labels |"))
    assert {m.name for m in vars(made).values()} <= named


@pytest.mark.slow
def test_the_examples_run(trained, tmp_path):
    (tmp_path / "shop").symlink_to(trained.root)
    secret, write = (keys.create(trained.state, kind)[1] for kind in ("secret", "write"))
    command = [*HABITUE, "serve", "-w", trained.root, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().removeprefix("Listening on ").strip()
        path = tmp_path / "bin"
        path.mkdir()
        (path / "habitue").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{HABITUE[2]}" "$@"\n')
        (path / "habitue").chmod(0o755)
        env = os.environ | {"SECRET": secret, "WRITE": write, "PATH": f"{path}:{os.environ['PATH']}"}
        printed = []
        for language, text in BLOCKS:
            host, _, port = address.removeprefix("http://").partition(":")
            text = text.replace("http://127.0.0.1:8080", address).replace('"127.0.0.1", 8080', f'"{host}", {port}')
            if language == "sh" and "habitue serve" not in text and ("curl" not in text or shutil.which("curl")):
                done = subprocess.run(["sh", "-ec", text], cwd=tmp_path, env=env, capture_output=True, text=True)
                assert done.returncode == 0, (text, done.stderr)
                printed.append(done.stdout)
            elif language == "python" and importlib.util.find_spec(text.split()[1]):
                made = f"SECRET = {secret!r}\n{text}"
                done = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True)
                assert done.returncode == 0, (text, done.stderr)
                printed.append(done.stdout)
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()
    shown = json.loads(next(text for language, text in BLOCKS if language == "json"))
    if shutil.which("curl"):
        told = json.loads(printed[0])
        assert list(told) == list(shown) and list(told["items"][0]) == list(shown["items"][0])
        assert len(told["items"]) == 3 and told["fallback"] is None
        assert {"code", "text", "weight"} == set(shown["items"][0]["reasons"][0])
    assert any("blue-" in text for text in printed)
    assert "error" not in "".join(printed).lower()
