"""What must stay true of the repository's own files."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from habitue.core.schemas import to_markdown

ROOT = Path(__file__).parents[2]
HERE = "tests/packaging/test_repository.py"  # holds examples of what it looks for
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]

INDEX = re.compile(rb"https?://[\w.:-]*(pypi|pythonhosted|npmjs|registry|mirror|artifactory|nexus|devpi)[\w.:-]*")
FOLDER = re.compile(rb"(?<![\w./~:-])/(work/|root/|opt/(?!homebrew/)|home/\w+/|Users/\w+/)[\w.-]+")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file() and name != HERE]


def test_docs_schemas_is_what_the_code_says():
    assert (ROOT / "docs/schemas.md").read_text(encoding="utf-8") == to_markdown(), "run: make docs"


@pytest.mark.parametrize("package", ["torchvision", "torchaudio"])
def test_no_cuda_companion_of_torch_is_installed(package):
    assert importlib.util.find_spec(package) is None, f"{package} beside CPU torch breaks others: docs/decisions/001"
    assert package not in {pin.name for pin in PINS}


def test_constraints_are_plain_releases():
    """No URL, no path, no local build: the same file serves every machine and both builds of torch."""
    for pin in PINS:
        (only,) = pin.specifier
        assert pin.url is None and only.operator == "==" and Version(only.version).local is None, str(pin)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_constraints_pin_every_declared_dependency_once(python, system):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": system.lower(),
        "platform_system": system,
        "platform_machine": "arm64" if system == "Darwin" else "x86_64",
        "platform_python_implementation": "CPython",
    }
    pinned = {pin.name: pin for pin in PINS if pin.marker is None or pin.marker.evaluate(machine)}
    assert len(pinned) == sum(pin.marker is None or pin.marker.evaluate(machine) for pin in PINS), "pinned twice"
    extras = project["optional-dependencies"]
    every = [Requirement(text) for text in [*project["dependencies"], *(t for one in extras.values() for t in one)]]
    own = [wanted for wanted in every if wanted.name == project["name"]]
    named = {extra for wanted in own for extra in wanted.extras}
    assert named == set(extras) - {"dev"}, "'all' names every extra but dev, and dev names 'all'"
    here = [one for one in every if one.marker is None or one.marker.evaluate(machine)]
    for wanted in [one for one in here if one not in own]:
        (pin,) = pinned[wanted.name].specifier
        assert wanted.specifier.contains(pin.version), f"{wanted} does not allow {pin}"


@pytest.mark.parametrize(("pattern", "what"), [(INDEX, "a package index"), (FOLDER, "a folder of one machine")])
def test_no_tracked_file_names(pattern, what):
    """People take packages from where they always do; only PyTorch's own public index is named, in README."""
    own = [str(ROOT).encode(), str(Path.home()).encode()] if pattern is FOLDER else []
    for path in tracked():
        content = path.read_bytes()
        found = pattern.search(content)
        assert found is None, f"{path.relative_to(ROOT)} names {what}: {found and found[0]!r}"
        assert not any(len(name) > 5 and name in content for name in own), f"{path.relative_to(ROOT)} names {what}"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (INDEX, b"--index-url https://pypi.example.com/simple"),
        (INDEX, b'"resolved": "https://registry.example.org/echarts"'),
        (FOLDER, b'DATA = "/home/ada/shop"'),
        (FOLDER, b"cd /opt/wheels"),
    ],
)
def test_the_search_finds_what_it_looks_for(pattern, text):
    assert pattern.search(text)
