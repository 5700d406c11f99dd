import pytest

from habitue.core import plugins
from habitue.core.errors import PluginError


def test_a_file_of_a_folder_is_loaded():
    assert plugins.load("core", "errors", contract=("HabitueError",)).__name__ == "habitue.core.errors"


def test_a_dotted_name_is_a_plug_in_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_shop_encoder.py").write_text("def encode(): return 7\n")
    (tmp_path / "my_shop").mkdir()
    (tmp_path / "my_shop" / "scent.py").write_text("def encode(): return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.load("encode", "my_shop.scent", contract=("encode",)).encode() == 7


def test_an_unknown_name_suggests_the_closest_file():
    with pytest.raises(
        PluginError, match=r"core 'errrors': there is no file 'habitue/core/errrors\.py'.*mean 'errors'"
    ):
        plugins.load("core", "errrors", contract=())


def test_only_files_that_could_be_loaded_are_named():
    with pytest.raises(PluginError, match="Known: ") as told:
        plugins.load("model", "nonsense", contract=("Config", "ANSWERS", "fit"))
    named = str(told.value).partition("Known: ")[2].rstrip(".").split(", ")
    assert {"als", "behaviour", "blend", "ease", "neighbours"} <= set(named)
    for name in named:
        plugins.load("model", name, contract=("Config", "ANSWERS", "fit"))


def test_a_file_that_lacks_a_name_says_which():
    with pytest.raises(PluginError, match=r"does not define encode.*must define HabitueError, encode\. Add encode to"):
        plugins.load("core", "errors", contract=("HabitueError", "encode"))


def test_a_plug_in_that_misses_a_package_speaks_for_itself(tmp_path, monkeypatch):
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "scent.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        plugins.load("encode", "torn.scent", contract=("encode",))
