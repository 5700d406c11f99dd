"""The contract of a modality, and the memory behind encode.run."""

import re
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import LakeError, PluginError, SchemaError, SettingsError, UsageError
from habitue.core.lock import exclusive
from habitue.encode import cache as kept
from habitue.encode import colour, modality
from habitue.encode.cache import CacheWarning

SCENT = """
from dataclasses import dataclass
import numpy as np
from habitue.encode.vectors import Encoder, assemble, refusals, unit

CALLS = []

@dataclass(frozen=True)
class Config:
    strength: float = 1.0

def encoder(config):
    return Encoder("scent@1", 3, {"strength": config.strength})

def encode(things, config):
    CALLS.append(things["text"].to_list())
    ids = things["id"].to_list()
    there = [i for i, text in enumerate(things["text"]) if text]
    told = refusals([(ids[i], "odourless", "It smells of nothing.") for i in range(len(ids)) if i not in there])
    rows = np.array([[len(t), t.count("e"), config.strength] for t in things["text"] if t], dtype=np.float32)
    return assemble(ids, encoder(config), np.array(there, dtype=int), unit(rows.reshape(-1, 3)), told)
"""


@pytest.fixture
def scent(tmp_path, monkeypatch, request):
    """A shop's own modality, imported by its dotted name; it notes what it was asked."""
    package = re.sub(r"\W", "_", f"shop_{request.node.name}")
    (tmp_path / package).mkdir()
    (tmp_path / package / "scent.py").write_text(SCENT)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{package}.scent"


def calls(name: str) -> list[list[str]]:
    import importlib

    return importlib.import_module(name).CALLS


def things(*texts: str | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [f"i{n}" for n in range(len(texts))], "text": texts}, schema={"id": pl.String, "text": pl.String}
    )


def many(count: int) -> pl.DataFrame:
    return things(*(f"thing number {n}" for n in range(count)))


def test_a_modality_of_ones_own_is_found_by_its_dotted_name(scent):
    vectors = encode.run(scent, things("rose", "", "pepper"))
    assert vectors.encoder == "scent@1"
    assert vectors.encoded.tolist() == [True, False, True]
    assert vectors.dense[0] == pytest.approx(np.array([4, 1, 1]) / np.sqrt(18))
    assert vectors.refused.rows() == [("i1", "odourless", "It smells of nothing.")]


def test_what_a_modality_lacks_is_named(tmp_path, monkeypatch):
    (tmp_path / "half").mkdir()
    (tmp_path / "half/scent.py").write_text("def encode(things, config): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"half\.scent does not define Config\. Every file of encode/ must define"):
        encode.run("half.scent", things("a"))
    with pytest.raises(PluginError, match="there is no file 'habitue/encode/pictur.py'.*mean 'picture'"):
        encode.run("pictur", things("a"))


BROKEN = {
    "its ids are not those": "Vectors(('x',) * len(v.ids), v.matrix, v.encoded, '', '', v.refused)",
    "it returned 1 rows for 2": "Vectors(v.ids, v.matrix[:1], v.encoded, '', '', v.refused)",
    "its rows have 2 numbers; its encoder.. says 3": "Vectors(v.ids, v.matrix[:, :2], v.encoded, '', '', v.refused)",
    "a number that is not finite": "Vectors(v.ids, v.matrix * np.nan, v.encoded, '', '', v.refused)",
    "neither a vector nor a reason": "Vectors(v.ids, v.matrix, ~v.encoded, '', '', v.refused)",
}


@pytest.mark.parametrize("found", BROKEN)
def test_a_modality_that_breaks_its_word_is_named(found, tmp_path, monkeypatch):
    name = "broken" + str(list(BROKEN).index(found))
    text = SCENT.replace("def encode(", "def honest(") + (
        f"\nfrom habitue.encode import Vectors\ndef encode(things, config):\n    v = honest(things, config)\n"
        f"    return {BROKEN[found]}\n"
    )
    (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=f"{found}.*Return habitue.encode.Vectors"):
        encode.run(f"inside.{name}", things("rose", "pepper"))


def test_settings_of_another_modality_are_refused(scent):
    from habitue.encode import table

    with pytest.raises(UsageError, match=r"the settings are habitue\.encode\.table\.Config.*Pass .*scent\.Config"):
        encode.run(scent, things("a"), table.Config())


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (pl.DataFrame({"text": ["a"]}), "column 'id' is missing"),
        (pl.DataFrame({"id": [1], "text": ["a"]}), "column 'id' is Int64, not String"),
        (pl.DataFrame({"id": ["a", None], "text": ["a", "b"]}), "1 ids are null"),
        (pl.DataFrame({"id": ["a", "a"], "text": ["a", "b"]}), "an id comes twice"),
        (pl.DataFrame({"id": ["a"]}), "must have exactly one of the columns text, path, bytes; it has id"),
        (pl.DataFrame({"id": ["a"], "text": ["a"], "path": ["b"]}), "exactly one of the columns"),
        (pl.DataFrame({"id": ["a"], "text": [1]}), "column 'text' is Int64, not String"),
        (pl.DataFrame({"id": ["a"], "bytes": ["x"]}), "column 'bytes' is String, not Binary"),
    ],
)
def test_things_that_cannot_be_told_apart_are_refused(frame, found, scent):
    with pytest.raises(SchemaError, match=f"{found}.*Give one row per thing with id"):
        encode.run(scent, frame)


def test_no_things_give_no_rows(scent, tmp_path):
    vectors = encode.run(scent, things(), cache=tmp_path / "vectors")
    assert vectors.dense.shape == (0, 3) and vectors.ids == () and calls(scent) == []


def test_one_changed_thing_of_ten_thousand_is_encoded_alone(scent, tmp_path):
    shop = many(10_000)
    first = encode.run(scent, shop, cache=tmp_path)
    assert sum(map(len, calls(scent))) == 10_000
    calls(scent).clear()
    again = encode.run(scent, shop, cache=tmp_path)
    assert calls(scent) == [] and again.sha256 == first.sha256
    changed = shop.with_columns(text=pl.when(pl.col("id") == "i77").then(pl.lit("new")).otherwise("text"))
    third = encode.run(scent, changed, cache=tmp_path)
    assert calls(scent) == [["new"]]
    assert (third.dense != first.dense).any(axis=1).nonzero()[0].tolist() == [77]
    assert len(list((tmp_path / scent).rglob("*.safetensors"))) == 21, "few files, not one a thing"


def test_the_order_and_the_ids_do_not_matter_to_the_cache(scent, tmp_path):
    encode.run(scent, many(50), cache=tmp_path)
    calls(scent).clear()
    other = many(50).reverse().with_columns(id=pl.col("id") + "x")
    assert encode.run(scent, other, cache=tmp_path).dense[0] == pytest.approx(
        encode.run(scent, many(50)[[49]]).dense[0]
    )
    assert calls(scent) == [["thing number 49"]], "only the run without a cache encoded anything"


def test_equal_things_are_encoded_once(scent):
    vectors = encode.run(scent, things("rose", "rose", "pepper", "rose", "", ""))
    assert calls(scent) == [["rose", "pepper", ""]]
    assert (vectors.dense[[1, 3]] == vectors.dense[0]).all()
    assert vectors.refused["id"].to_list() == ["i4", "i5"]


def test_other_settings_and_another_version_are_other_vectors(scent, tmp_path, monkeypatch):
    import importlib

    module = importlib.import_module(scent) if encode.run(scent, things("a"), cache=tmp_path) else None
    strong = encode.run(scent, things("a"), module.Config(strength=9.0), cache=tmp_path)
    assert len(calls(scent)) == 2
    assert strong.sha256 != encode.run(scent, things("a"), cache=tmp_path).sha256
    old = module.encoder
    monkeypatch.setattr(module, "encoder", lambda c: encode.Encoder("scent@2", 3, old(c).settings, old(c).weights))
    encode.run(scent, things("a"), cache=tmp_path)
    monkeypatch.setattr(module, "encoder", lambda c: encode.Encoder("scent@1", 3, old(c).settings, "another sha256"))
    encode.run(scent, things("a"), cache=tmp_path)
    assert len(calls(scent)) == 4


def test_a_refused_thing_is_tried_again(scent, tmp_path):
    for _ in range(2):
        assert encode.run(scent, things("a", ""), cache=tmp_path).missing == ("i1",)
    assert calls(scent) == [["a", ""], [""]]


def test_a_file_counts_by_its_content_not_its_name(tmp_path, draw):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(draw((200, 30, 30)))
    frame = pl.DataFrame({"id": ["a", "b"], "path": [str(path) for path in paths]})
    first = encode.run("colour", frame, cache=tmp_path / "cache")
    paths[1].write_bytes(draw((30, 30, 200)))
    second = encode.run("colour", frame, cache=tmp_path / "cache")
    assert (first.dense[0] == first.dense[1]).all()
    assert (second.dense[0] == first.dense[0]).all() and (second.dense[1] != first.dense[1]).any()


def test_an_interrupted_run_goes_on_where_it_stopped(scent, tmp_path, monkeypatch):
    import importlib

    encode.run(scent, things("warm"))
    module = importlib.import_module(scent)
    honest, monkey = module.encode, {"left": 2}

    def stops(part, config):
        if monkey["left"] == 0:
            raise KeyboardInterrupt
        monkey["left"] -= 1
        return honest(part, config)

    monkeypatch.setattr(modality, "BLOCK", 10)
    monkeypatch.setattr(module, "encode", stops)
    with pytest.raises(KeyboardInterrupt):
        encode.run(scent, many(50), cache=tmp_path)
    calls(scent).clear()
    monkeypatch.setattr(module, "encode", honest)
    whole = encode.run(scent, many(50), cache=tmp_path)
    assert sum(map(len, calls(scent))) == 30
    assert whole.sha256 == encode.run(scent, many(50)).sha256


@pytest.mark.parametrize("harm", [b"", b"not a tensor", None], ids=["emptied", "overwritten", "one bit turned"])
def test_a_damaged_file_is_told_and_encoded_again(scent, tmp_path, harm):
    first = encode.run(scent, many(20), cache=tmp_path)
    (shard,) = (tmp_path / scent).rglob("*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data if harm is None else harm)
    calls(scent).clear()
    with pytest.warns(CacheWarning, match=r"the file is damaged\. Its vectors are encoded again\. Check the disk"):
        again = encode.run(scent, many(20), cache=tmp_path)
    assert sum(map(len, calls(scent))) == 20 and again.sha256 == first.sha256
    encode.run(scent, many(20), cache=tmp_path)
    assert sum(map(len, calls(scent))) == 20, "mended"


def test_a_half_written_file_is_not_read(scent, tmp_path):
    encode.run(scent, many(20), cache=tmp_path)
    (shard,) = (tmp_path / scent).rglob("*.safetensors")
    shard.rename(shard.with_name(f".{shard.name}.1-1.part"))
    calls(scent).clear()
    encode.run(scent, many(20), cache=tmp_path)
    assert sum(map(len, calls(scent))) == 20


def test_many_small_files_become_few_and_none_is_lost(scent, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "SHARDS", 5)
    monkeypatch.setattr(kept, "STALE_S", -1.0)
    for end in range(1, 8):
        encode.run(scent, many(end), cache=tmp_path)
    shelf = next((tmp_path / scent).iterdir())
    (shelf / ".old.safetensors.9-9.part").write_bytes(b"half")
    encode.run(scent, many(12), cache=tmp_path)
    encode.run(scent, many(13), cache=tmp_path)
    assert 1 <= len(list(shelf.glob("*.safetensors"))) <= 5
    calls(scent).clear()
    whole = encode.run(scent, many(13), cache=tmp_path)
    assert calls(scent) == [] and whole.sha256 == encode.run(scent, many(13)).sha256


def test_a_killed_writers_rest_is_cleared_when_files_are_merged(tmp_path, monkeypatch):
    by = encode.Encoder("x@1", 2)
    for value in range(3):
        kept.write(tmp_path, [bytes([value]) * 16], np.full((1, 2), value, np.float32), by)
    (tmp_path / ".old.part").write_bytes(b"half")
    monkeypatch.setattr(kept, "SHARDS", 2)
    kept.compact(tmp_path, by)
    assert (tmp_path / ".old.part").exists(), "its writer may still be at work"
    kept.write(tmp_path, [b"y" * 16], np.ones((1, 2), np.float32), by)
    monkeypatch.setattr(kept, "SHARDS", 1)
    monkeypatch.setattr(kept, "STALE_S", -1.0)
    kept.compact(tmp_path, by)
    assert not (tmp_path / ".old.part").exists() and len(list(tmp_path.glob("*.safetensors"))) == 1


def test_merging_keeps_a_shard_that_held_everything(tmp_path, monkeypatch):
    by = encode.Encoder("x@1", 2)
    both = np.arange(4, dtype=np.float32).reshape(2, 2)
    kept.write(tmp_path, [b"a" * 16, b"b" * 16], both, by)
    kept.write(tmp_path, [b"b" * 16], both[1:], by)
    monkeypatch.setattr(kept, "SHARDS", 1)
    kept.compact(tmp_path, by)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert (kept.read(tmp_path, [b"b" * 16], by)[b"b" * 16] == both[1]).all()


def test_merging_is_left_to_whoever_is_at_it(tmp_path, monkeypatch):
    by = encode.Encoder("x@1", 2)
    for value in range(3):
        kept.write(tmp_path, [bytes([value]) * 16], np.full((1, 2), value, np.float32), by)
    monkeypatch.setattr(kept, "SHARDS", 1)
    held, done = threading.Event(), threading.Event()

    def other():
        with exclusive(tmp_path / ".lock", wait_s=1.0):
            held.set()
            done.wait()

    at_work = threading.Thread(target=other)
    at_work.start()
    held.wait()
    kept.compact(tmp_path, by)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    done.set()
    at_work.join()
    kept.compact(tmp_path, by)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_cache_that_cannot_be_written_says_so(scent, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LakeError, match="the cache of vectors cannot be written.*encode everything again"):
        encode.run(scent, things("a"), cache=tmp_path / "file")


WORKER = """
import io, sys
import polars as pl
from pathlib import Path
from PIL import Image
from habitue import encode
from habitue.encode import modality

modality.BLOCK = 8  # many small files, so that the two meet

def tile(n):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (n, 255 - n, n // 2)).save(file, "PNG")
    return file.getvalue()

def frame(low, high):
    return pl.DataFrame({"id": [str(n) for n in range(low, high)], "bytes": [tile(n) for n in range(low, high)]})

if __name__ == "__main__":
    for _ in range(3):
        encode.run("colour", frame(int(sys.argv[2]), int(sys.argv[3])), cache=Path(sys.argv[1]))
"""


def test_two_processes_share_one_cache(tmp_path, monkeypatch):
    command = [sys.executable, "-c", WORKER, str(tmp_path / "cache")]
    workers = [subprocess.Popen([*command, str(low), str(low + 60)]) for low in (0, 30)]
    assert [worker.wait() for worker in workers] == [0, 0]
    made: dict[str, Any] = {"__name__": "worker"}
    exec(WORKER, made)  # the same pictures
    monkeypatch.setattr(modality, "BLOCK", 512)
    both = made["frame"](0, 90)
    monkeypatch.setattr(colour, "encode", lambda *_: pytest.fail("everything is there"))
    shared = encode.run("colour", both, cache=tmp_path / "cache")
    monkeypatch.undo()
    assert shared.sha256 == encode.run("colour", both).sha256


@pytest.mark.parametrize(
    "name",
    ["text", "table", "static", "sentence", "hub", "picture", "colour", "texture"]
    + ["sound", "acoustics", "spectrogram", "speech", "signals", "video", "photo"],
)
def test_every_file_that_is_a_modality_keeps_the_contract(name):
    from habitue.core import plugins

    module = plugins.load("encode", name, contract=modality.CONTRACT)
    with pytest.raises(AttributeError, match="cannot assign|frozen|immutable"):
        module.Config().anything = 1
    wrong = {
        "text": {"piece_min": 0},
        "table": {"one_hot": 0},
        "hub": {"tokens": 0},
        "static": {"characters": 0},
        "signals": {"step_s": 0},
    }
    with pytest.raises(SettingsError, match=rf"encode\.{name}\.Config: .*(encoded|nothing|seen|looked at|told)"):
        module.Config(**wrong.get(name, {"threads": 0} if name == "sentence" else {"workers": 0}))
