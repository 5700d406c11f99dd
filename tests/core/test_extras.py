import json
import sys

import pytest

from habitue.core.errors import MissingExtraError
from habitue.core.extras import need


def test_an_installed_package_is_returned():
    assert need("json", extra="none", purpose="here") is json


def test_a_missing_package_says_how_to_install_it():
    with pytest.raises(
        MissingExtraError, match=r"encode\.audio: the package 'no_such_pkg' is not .*pip install 'habitue\[audio\]'"
    ):
        need("no_such_pkg", extra="audio", purpose="encode.audio")


def test_a_missing_submodule_counts_as_the_package_missing():
    with pytest.raises(MissingExtraError, match=r"'json\.no_such_part' is not installed"):
        need("json.no_such_part", extra="x", purpose="here")


def test_a_broken_package_speaks_for_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_pkg.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_pkg", raising=False)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        need("broken_pkg", extra="x", purpose="here")
