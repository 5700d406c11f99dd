"""`import habitue` costs nothing: heavy packages arrive when they are first used."""

import subprocess
import sys

import pytest

HEAVY = {"polars", "pyarrow", "torch", "numpy", "scipy", "sklearn", "lightgbm", "deltalake", "rich", "typer"}


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_habitue_loads_nothing_heavy():
    assert loaded_after("import habitue") & HEAVY == set()


def test_the_test_itself_sees_heavy_packages():
    assert "polars" in loaded_after("import habitue.core.schemas")


def test_an_unknown_name_is_an_attribute_error():
    import habitue

    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        _ = habitue.no_such_thing
