"""A state comes back bit for bit, or it is refused in words."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from habitue.core.errors import ModelError
from habitue.model import artifact, load, save


@dataclasses.dataclass(frozen=True)
class Inner:
    table: sp.csr_matrix
    limit: float


@dataclasses.dataclass(frozen=True)
class Outer:
    items: tuple[str, ...]
    count: int
    words: str | None
    views: dict[str, Any]
    pair: tuple[Any, ...]


@pytest.fixture
def state() -> Outer:
    rng = np.random.default_rng(0)
    table = sp.random(5, 4, density=0.4, format="csr", dtype=np.float32, rng=rng)
    return Outer(
        items=("A", "β", 'it "is"\n'),
        count=2**60,
        words=None,
        views={
            "first": Inner(table, float("inf")),
            "weights": {
                "a.b": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
                "half": torch.tensor([1.5, -0.1], dtype=torch.bfloat16),
                "none": torch.zeros((0, 3)),
            },
            "second": Inner(sp.csr_matrix((0, 3), dtype=np.float32), 0.1 + 0.2),
        },
        pair=(
            np.asfortranarray(rng.normal(size=(3, 4))),
            np.array([True, False]),
            np.float32(0.1),
            np.array(7, dtype=np.int64),
            np.arange(3, dtype=">i4"),
            np.zeros((0, 2), dtype=np.float32),
            (),
            ("x", 1, ("y",)),
        ),
    )


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, in type and shape too; a byte order of another machine may become this one's."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, sp.csr_matrix):
        return one.shape == other.shape and all(same(getattr(one, a), getattr(other, a)) for a in artifact.CSR)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype.newbyteorder("=") == other.dtype and one.shape == other.shape and np.array_equal(one, other)
    return one == other


def test_comes_back_as_it_was(state, tmp_path):
    digest = save(tmp_path / "blend" / "1", "blend", state, {"metrics": {"ndcg@10": 0.25}})
    back = load(tmp_path / "blend" / "1")
    assert back.model == "blend"
    assert back.manifest == {"metrics": {"ndcg@10": 0.25}}
    assert same(state, back.state)
    assert save(tmp_path / "again", "blend", back.state, back.manifest) == digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "blend"]  # nothing is left of the writing


def test_same_is_not_blind(state):
    for changed in (
        dataclasses.replace(state, count=1),
        dataclasses.replace(state, items=("A", "β")),
        dataclasses.replace(state, pair=(state.pair[0] + 1e-15, *state.pair[1:])),
        dataclasses.replace(state, views=state.views | {"first": dataclasses.replace(state.views["first"], limit=2.0)}),
    ):
        assert not same(state, changed)


def test_what_comes_back_can_be_written_to(state, tmp_path):
    save(tmp_path / "m", "blend", state, {})
    array = load(tmp_path / "m").state.pair[0]
    array[0, 0] = 5
    assert array[0, 0] == 5


def test_readable_files_and_no_pickle(state, tmp_path):
    save(tmp_path / "m", "blend", state, {"data": 3})
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "config.json",
        "manifest.json",
        "tensors.safetensors",
        "vocabulary.json",
    ]
    assert json.loads((tmp_path / "m/vocabulary.json").read_text(encoding="utf-8"))["items"] == list(state.items)
    manifest = json.loads((tmp_path / "m/manifest.json").read_text(encoding="utf-8"))
    assert manifest["schemas"]["timeline"] == 1 and manifest["added"] == {"data": 3}
    for path in (tmp_path / "m").iterdir():
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(path.read_bytes())


def test_reading_does_not_import_torch_for_a_model_without_tensors(tmp_path):
    save(tmp_path / "m", "ease", Inner(sp.csr_matrix((2, 2), dtype=np.float32), 1.0), {})
    code = (
        "import dataclasses, sys, types; from habitue.model import load\n"
        "me = types.ModuleType('shop'); sys.modules['shop'] = me\n"
        "me.Inner = dataclasses.make_dataclass('Inner', ['table', 'limit'], frozen=True)\n"
        f"load({str(tmp_path / 'm')!r}); assert 'torch' not in sys.modules"
    )
    config = tmp_path / "m/config.json"
    rewrite(tmp_path / "m", "config.json", config.read_bytes().replace(__name__.encode(), b"shop"))
    subprocess.run([sys.executable, "-c", code], check=True)


def rewrite(folder, name, content: bytes) -> None:
    """Change one file and make the manifest agree, as a writer of another version would."""
    (folder / name).write_bytes(content)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"][name] = artifact.hashlib.sha256(content).hexdigest()
    seal(path, manifest)


def seal(path, manifest) -> None:
    manifest.pop("sha256", None)
    manifest["sha256"] = artifact.hashlib.sha256(artifact._json(manifest)).hexdigest()
    path.write_bytes(artifact._json(manifest))


@pytest.fixture
def saved(state, tmp_path):
    save(tmp_path / "m", "blend", state, {})
    return tmp_path / "m"


@pytest.mark.parametrize("name", ["tensors.safetensors", "config.json", "vocabulary.json"])
def test_one_changed_byte_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(bytes(content))
    with pytest.raises(ModelError, match=rf"m: {name} is not what was written: its sha256 has changed. A damaged"):
        load(saved)


def test_a_missing_file_is_refused(saved):
    (saved / "tensors.safetensors").unlink()
    with pytest.raises(ModelError, match=r"tensors.safetensors cannot be read \(No such file or directory\)"):
        load(saved)


def test_changed_words_of_the_caller_are_refused(saved):
    path = saved / "manifest.json"
    path.write_text(path.read_text().replace('"added": {}', '"added": {"auc": 0.99}'))
    with pytest.raises(ModelError, match=r"manifest.json is not what was written: its sha256 has changed"):
        load(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_manifest_that_is_none_is_refused(saved, content):
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"manifest.json is not what was written \(\w+\)\. .* Train it again"):
        load(saved)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"there is no manifest.json in it. It is not a fitted model. Name a folder"):
        load(tmp_path)


def test_another_version_of_a_table_is_refused(saved):
    manifest = json.loads((saved / "manifest.json").read_bytes())
    manifest["schemas"]["features"] = 99
    seal(saved / "manifest.json", manifest)
    with pytest.raises(
        ModelError, match=r"fitted on version 99 of FEATURES, this program has 1. What its columns mean"
    ):
        load(saved)


def test_another_version_of_the_artefact_is_refused(saved):
    manifest = json.loads((saved / "manifest.json").read_bytes())
    for version, remedy in ((3, "Train it again"), (1, "habitue migrate")):
        seal(saved / "manifest.json", manifest | {"artifact": version})
        with pytest.raises(ModelError, match=rf"written in version {version} of the artefact, this .* 2\..*{remedy}"):
            load(saved)


def test_an_older_artefact_is_brought_up_to_date_and_a_newer_one_is_not(saved):
    path = saved / "manifest.json"
    manifest, state = json.loads(path.read_bytes()), load(saved).state
    seal(path, manifest | {"artifact": 1, "schemas": manifest["schemas"] | {"gone": 1}})
    assert [artifact.upgrade(saved), artifact.upgrade(saved)] == [True, False]
    assert json.loads(path.read_bytes()) == manifest and same(load(saved).state, state)
    seal(path, manifest | {"artifact": 3})
    with pytest.raises(ModelError, match="version 3 of the artefact"):
        artifact.upgrade(saved)


@pytest.mark.parametrize("name", ["os:path", "nowhere:State", "habitue.core.errors:did_you_mean"])
def test_a_class_that_is_no_state_is_refused(saved, name):
    config = json.loads((saved / "config.json").read_bytes()) | {"class": name}
    rewrite(saved, "config.json", artifact._json(config))
    with pytest.raises(ModelError, match=rf"its state is a {name}, which this program does not know in that shape"):
        load(saved)


def test_a_state_with_other_fields_is_refused(saved, monkeypatch):
    module = types.ModuleType("older")
    module.Outer = dataclasses.make_dataclass("Outer", ["items"], frozen=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "older", module)
    config = json.loads((saved / "config.json").read_bytes()) | {"class": "older:Outer"}
    rewrite(saved, "config.json", artifact._json(config))
    with pytest.raises(ModelError, match=r"older:Outer, .* Import older first if it is a plug-in; else train again"):
        load(saved)


def test_a_field_that_came_later_has_its_default(saved, state, monkeypatch):
    """And one without a default is still refused, as a field is that nobody knows."""
    module, fields = types.ModuleType("later"), [f.name for f in dataclasses.fields(state)]
    module.Outer = dataclasses.make_dataclass("Outer", [*fields, ("new", int, 7)], frozen=True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "later", module)
    config = json.loads((saved / "config.json").read_bytes()) | {"class": "later:Outer"}
    rewrite(saved, "config.json", artifact._json(config))
    assert load(saved).state.new == 7
    module.Outer = dataclasses.make_dataclass("Outer", [*fields, "new"], frozen=True)  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="does not know in that shape"):
        load(saved)


def test_an_artefact_is_never_written_over(saved, state):
    before = (saved / "manifest.json").read_bytes()
    with pytest.raises(ModelError, match=r"m: there is an artefact of that name already. .* Save under a new version"):
        save(saved, "blend", state, {})
    assert (saved / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("value", [{1, 2}, [1, 2], {1: "a"}, np.array(["a"]), np.array([object()]), len, Inner])
def test_what_only_pickle_could_write_is_refused(tmp_path, value):
    state = Outer(items=(), count=0, words=None, views={"x": (value,)}, pair=())
    with pytest.raises(ModelError, match=r"the state's field 'views.x.0': it is a [\w.]+\. .*without pickle"):
        save(tmp_path / "m", "blend", state, {})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(state, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "m", "blend", state, {})
    assert list(tmp_path.iterdir()) == []
