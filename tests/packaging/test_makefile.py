"""What make does on a fresh machine, with Pythons that pretend to be older or to lack a part."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make") or "make is not on the PATH"
OLD = "import sys; sys.version_info = (3, 10, 13, 'final', 0)"
BARE = "import sys; sys.modules['ensurepip'] = None"


@pytest.fixture
def project(tmp_path):
    """A copy of the files make reads; its PATH holds only the few programs a fresh machine has, and no Python."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for program in ("touch", "basename", "sed", "cut", "rm", "mkdir", "uname"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    return tmp_path


def fake_python(project: Path, name: str, first: str = "", version: str = "Python 3.11.9") -> Path:
    """Put a Python called `name` on the PATH that runs `first` before any -c code, and makes no real environment."""
    path = project / "bin" / name
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1" in\n  -V) echo "{version}";;\n  -c) exec "{sys.executable}" -c "{first}\n$2";;\n'
        '  -m) echo "$0 $*" >> calls; mkdir -p "$3";;\nesac\n'
    )
    path.chmod(0o755)
    return path


def make(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON", "TORCH"))}
    env["PATH"] = str(project / "bin")
    return subprocess.run([MAKE, *args], cwd=project, env=env, capture_output=True, text=True, check=False)


def recipe(*args: str, project: Path) -> str:
    result = make(project, "--dry-run", *args)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_no_python_at_all_stops_and_says_what_is_needed(project):
    result = make(project, "demo")
    assert result.returncode != 0
    assert "Habitue needs Python 3.11 to 3.14, and the PATH has none" in result.stderr
    assert not (project / ".venv").exists()


def test_only_an_old_python_stops_and_names_its_version(project):
    fake_python(project, "python3", OLD, "Python 3.10.13")
    result = make(project, "test")
    assert result.returncode != 0
    assert "the PATH has none (python3 is: Python 3.10.13)" in result.stderr
    assert not (project / ".venv").exists()


def test_an_old_python_that_was_asked_for_is_refused_though_a_new_one_is_there(project):
    fake_python(project, "python3")
    old = fake_python(project, "python3.10", OLD, "Python 3.10.13")
    result = make(project, "demo", f"PYTHON={old}")
    assert result.returncode != 0
    assert f"PYTHON={old} is Python 3.10.13, and Habitue needs Python 3.11 to 3.14" in result.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(("name", "package"), [("python3", "python3-venv"), ("python3.12", "python3.12-venv")])
def test_without_ensurepip_the_one_missing_package_is_named(project, name, package):
    fake_python(project, name, BARE)
    result = make(project, "demo")
    assert result.returncode != 0
    assert f"the package {package} is missing" in result.stderr
    assert not (project / ".venv").exists()


def test_a_python_that_fits_is_found_behind_one_that_does_not(project):
    fake_python(project, "python3", OLD, "Python 3.10.13")
    fake_python(project, "python3.14", "raise SystemExit(127)  # a shim with nothing behind it")
    fake_python(project, "python3.13")
    result = make(project, ".venv/.made")
    assert result.returncode == 0, result.stderr
    assert (project / "calls").read_text().strip().endswith("bin/python3.13 -m venv .venv")


@pytest.mark.parametrize("name", ["python3", "python3.11", "python3.12", "python3.13", "python3.14"])
def test_every_name_a_python_goes_by_is_looked_for(project, name):
    fake_python(project, name)
    assert make(project, ".venv/.made").returncode == 0
    assert f"bin/{name} -m venv .venv" in (project / "calls").read_text()


def test_a_python_newer_than_the_constraints_is_passed_over(project):
    fake_python(project, "python3", "import sys; sys.version_info = (3, 15, 0, 'final', 0)", "Python 3.15.0")
    fake_python(project, "python3.12")
    assert make(project, ".venv/.made").returncode == 0
    assert "bin/python3.12 -m venv .venv" in (project / "calls").read_text()


def test_a_second_run_makes_nothing_again(project):
    fake_python(project, "python3")
    assert make(project, ".venv/.made").returncode == 0
    assert "is up to date" in make(project, ".venv/.made").stdout
    assert len((project / "calls").read_text().splitlines()) == 1


def test_demo_installs_with_constraints_and_no_development_tools(project):
    steps = recipe("demo", project=project)
    assert "-m pip install --disable-pip-version-check --constraint constraints.txt --editable .\n" in steps
    assert steps.splitlines()[-1] == ".venv/bin/habitue demo"
    assert "[dev]" not in steps and "--index-url" not in steps


def test_torch_index_is_for_torch_alone(project):
    with_index = [line for line in recipe("demo", "TORCH_INDEX=URL", project=project).splitlines() if "URL" in line]
    assert len(with_index) == 1
    assert with_index[0].endswith('--constraint constraints.txt --no-deps --index-url "URL" torch')


@pytest.mark.parametrize(("system", "times"), [("Darwin", 1), ("Linux", 0)])
def test_lightgbm_is_pointed_at_the_openmp_of_torch_on_macos_only(project, system, times):
    uname = project / "bin/uname"
    uname.unlink()
    uname.write_text(f"#!/bin/sh\necho {system}\n")
    uname.chmod(0o755)
    steps = recipe("demo", project=project)
    assert steps.count("install_name_tool -rpath /opt/homebrew/opt/libomp/lib @loader_path/../../torch/lib") == times
    assert steps.count("codesign --force --sign -") == times


def test_both_test_targets_in_one_run_repeat_nothing(project):
    steps = recipe("test", "test-all", project=project)
    assert steps == recipe("test-all", project=project)
    assert steps.count('pytest -m "not slow"') == 1 and steps.count("pytest -m slow") == 1
    assert steps.splitlines()[-1].startswith(".venv/bin/pytest -m slow")
    order = [steps.index(tool) for tool in ("ruff format --check", "ruff check", "mypy --strict", "pytest -m")]
    assert order == sorted(order)


def test_make_alone_explains_itself(project):
    printed = make(project).stdout
    for target in ("demo", "test", "test-all", "docs", "lock", "clean"):
        assert f"make {target} " in printed
    assert "PYTHON=" in printed and "TORCH_INDEX=URL" in printed
