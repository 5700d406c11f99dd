"""The built wheel, in an empty environment, from another folder, without a network: the same demo."""

import os
import shutil
import socket
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PIP = ["-m", "pip", "--disable-pip-version-check"]
MEASURED = {"made_at", "seconds", "cpu_s", "peak_mb"}  # what may differ between two runs of one seed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, *PIP, "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("habitue-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Iterator[Path]:
    """An environment that holds the wheel and what it asks for, and knows nothing of this checkout; 1.5 GB or more."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin/python"), *PIP, "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    if index := os.environ.get("TORCH_INDEX"):  # as given to make
        subprocess.run([*install, "--no-deps", "--index-url", index, "torch"], check=True)
    subprocess.run([*install, str(wheel)], check=True)
    yield folder
    shutil.rmtree(folder)


def without_network(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return a prefix and an environment under which a command reaches no network.

    Linux: a network namespace of its own. Elsewhere: every connection of the Python process fails.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("HABITUE_DATA", "PYTHONPATH")}
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode == 0:
        return [unshare, "-rn"], env
    (folder / "guard").mkdir()
    (folder / "guard/sitecustomize.py").write_text(
        "import socket\n\n\ndef refuse(*_):\n    raise OSError('this run has no network')\n\n\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
    )
    return [], env | {"PYTHONPATH": str(folder / "guard")}


def without_measurements(value):
    if isinstance(value, dict):
        return {key: without_measurements(inner) for key, inner in value.items() if key not in MEASURED}
    return [without_measurements(inner) for inner in value] if isinstance(value, list) else value


def test_the_wheel_is_small_and_carries_licences_types_and_data(wheel):
    assert wheel.stat().st_size <= 15e6
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(n).decode() for n in names if n.endswith(".dist-info/METADATA"))
    data = {f"habitue/collect/bundled/{name}" for name in ("ATTRIBUTION.md", "online_retail.parquet")}
    vendored = {f"habitue/dashboard/vendor/{name}" for name in ("echarts.min.js", "LICENSE-echarts", "NOTICE-echarts")}
    assert {"habitue/py.typed"} | data | vendored <= set(names)
    assert any(n.endswith("dist-info/licenses/LICENSE") for n in names)
    assert any(n.endswith("dist-info/licenses/NOTICE") for n in names)
    tracked = subprocess.run(["git", "ls-files", "src/habitue"], cwd=ROOT, capture_output=True, text=True, check=True)
    missing = {name.removeprefix("src/") for name in tracked.stdout.split()} - set(names)
    assert not missing
    assert not [n for n in names if not n.startswith(("habitue/", "habitue-"))], "nothing outside the package"
    assert "License-Expression: Apache-2.0" in metadata and "torchvision" not in metadata


def test_the_installed_wheel_brings_nothing_for_developers(environment):
    listed = subprocess.run(
        [str(environment / "bin/python"), *PIP, "list", "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.lower()
    assert "habitue==" in listed
    assert not [tool for tool in ("pytest", "mypy", "ruff", "torchvision", "torchaudio") if f"{tool}==" in listed]


def test_the_guard_really_takes_the_network_away(environment, tmp_path):
    """Something does listen, an unguarded process reaches it, the guarded one does not."""
    prefix, env = without_network(tmp_path)
    knock = (
        "import socket, sys\n"
        "try: socket.create_connection(('127.0.0.1', int(sys.argv[1])), 3)\n"
        "except OSError as error: sys.exit(f'refused: {error}')"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [str(environment / "bin/python"), "-c", knock, str(server.getsockname()[1])]
        assert subprocess.run(command, check=False).returncode == 0
        guarded = subprocess.run([*prefix, *command], env=env, capture_output=True, text=True, check=False)
    assert guarded.returncode == 1 and "refused" in guarded.stderr


def test_the_wheel_gives_the_demo_of_the_checkout_without_a_network(environment, demo, run_demo, tmp_path):
    prefix, env = without_network(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    installed = run_demo([*prefix, str(environment / "bin/habitue"), "demo"], elsewhere, env)
    assert len(installed.report["meta"]["seal_sha256"]) == 64
    assert without_measurements(installed.report) == without_measurements(demo.report)
    assert installed.page.stat().st_size > 0
