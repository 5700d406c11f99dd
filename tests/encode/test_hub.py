"""A sentence encoder in the hub's own layout, tiny and random, written here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import InputError, MissingExtraError, ModelError, UsageError
from habitue.encode import hub, weights

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "mug", "blue", "jug", "passage", ":"]
TEXTS = ["red mug", "blue jug", "", None, "red " * 5_000]


def things(texts=TEXTS) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [f"t{n}" for n in range(len(texts))], "text": texts}, schema_overrides={"text": pl.String}
    )


def write(folder: Path, *, pooling: str = "mean", seed: int = 0) -> Path:
    """A BERT of one layer and 16 numbers, as `save_pretrained` and sentence-transformers lay it out."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("\n".join(WORDS))
    from tokenizers import BertWordPieceTokenizer

    cutter = BertWordPieceTokenizer({word: place for place, word in enumerate(WORDS)})
    cutter.save(str(folder / "plain.json"))
    fast = BertTokenizerFast(tokenizer_file=str(folder / "plain.json"), model_max_length=64)
    fast.save_pretrained(folder)
    for name in ("words.txt", "plain.json"):
        (folder / name).unlink()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    flags = {"pooling_mode_cls_token": pooling == "first", "pooling_mode_mean_tokens": pooling == "mean"}
    (folder / "1_Pooling/config.json").write_text(json.dumps(flags))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hub") / "tiny")


def config(folder: Path | str, **options) -> hub.Config:
    return hub.Config(model=str(folder), **{"tokens": 64} | options)


def test_a_folder_in_the_hubs_layout_encodes(folder):
    vectors = encode.run("hub", things(), config(folder))
    assert vectors.dense.shape == (5, 16) and vectors.missing == ("t2", "t3")
    assert np.linalg.norm(vectors.dense[[0, 1, 4]], axis=1) == pytest.approx(1, abs=1e-6)
    assert vectors.encoder == "text.hub@1"


def test_a_vector_is_the_mean_over_tokens_that_transformers_gives(folder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    cut = AutoTokenizer.from_pretrained(folder)("red mug", return_tensors="pt")
    with torch.inference_mode():
        mean = AutoModel.from_pretrained(folder).eval()(**cut).last_hidden_state[0].mean(dim=0).numpy()
    got = encode.run("hub", things(["red mug", "blue blue blue jug"]), config(folder)).dense
    assert got[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert (encode.run("hub", things(["red mug"]), config(folder)).dense[0] == got[0]).all(), "in any company"


def test_a_model_that_takes_the_first_token_says_so_in_its_layout(tmp_path, folder):
    first = encode.run("hub", things(), config(write(tmp_path / "first", pooling="first"))).dense
    assert np.abs(first - encode.run("hub", things(), config(folder)).dense).max() > 1e-3


def test_other_weights_settings_and_words_before_are_other_keys(folder, tmp_path):
    keys = {
        hub.encoder(config(folder)).key,
        hub.encoder(config(folder, tokens=8)).key,
        hub.encoder(config(folder, before="passage: ")).key,
        hub.encoder(config(write(tmp_path / "other", seed=1))).key,
    }
    assert len(keys) == 4
    plain, told = (encode.run("hub", things(["red"]), config(folder, before=b)).dense for b in ("", "passage: "))
    assert np.abs(plain - told).max() > 1e-3


CACHED = """
import sys
from pathlib import Path
import polars as pl
from habitue import encode
from habitue.encode import hub
print(hub.fetch("hub:toy-shop/tiny"), hub.fetch("hub:toy-shop/tiny"))
frame = pl.DataFrame({"id": ["a"], "text": ["red mug"]})
print(encode.run("hub", frame, hub.Config(model="hub:toy-shop/tiny", tokens=64)).dense.tolist())
"""


def test_a_hub_name_is_fetched_through_the_hubs_own_client(folder, tmp_path):
    """The hub's cache as its client lays it out, without a network: the name resolves, safetensors and words come."""
    snapshot = tmp_path / "hf/hub/models--toy-shop--tiny/snapshots/abc123"
    write(snapshot)
    (snapshot / "modeling.py").write_text("raise SystemExit('code of a stranger ran')")
    (snapshot / "pytorch_model.bin").write_bytes(b"a pickle")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc123")
    env = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HABITUE_MODELS": str(tmp_path / "models"),
    }
    done = subprocess.run([sys.executable, "-c", CACHED], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    told, row = done.stdout.splitlines()
    assert told == "True False"
    assert json.loads(row)[0] == pytest.approx(
        encode.run("hub", things(["red mug"]), config(folder)).dense[0].tolist(), abs=1e-6
    )
    target = tmp_path / "models/hub--toy-shop--tiny"
    assert {path.suffix for path in target.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}
    about = json.loads((target / "manifest.json").read_text())
    assert about["name"] == "hub:toy-shop/tiny" and about["revision"] == "abc123"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(about["files"])


def test_a_name_that_is_not_there_is_told(models):
    with pytest.raises(ModelError, match="the model is not on this machine.*habitue models fetch hub:a/b"):
        encode.run("hub", things(), config("hub:a/b"))


@pytest.mark.parametrize("name", ["hub:", "hub:../x", "hub:a/b/c", "hub:a/../b", "hub:/etc"])
def test_a_name_that_leads_elsewhere_is_refused(name, models):
    with pytest.raises(UsageError, match="is no name of a model.*hub:OWNER/NAME"):
        hub.fetch(name)


@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_names_it(gone, tmp_path):
    broken = write(tmp_path / "broken")
    (broken / gone).unlink()
    (broken / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(InputError, match=f"has no {gone.replace('model', '.*')}.*never run.*published as safetensors"):
        encode.run("hub", things(), config(broken))


@pytest.mark.parametrize("text", ["{", "[]", '{"hidden_size": "16"}'])
def test_a_configuration_that_is_none_is_told(text, tmp_path):
    broken = write(tmp_path / "broken")
    (broken / "config.json").write_text(text)
    with pytest.raises(InputError, match="no JSON with a whole number as hidden_size"):
        encode.run("hub", things(), config(broken))


def test_a_model_that_needs_its_own_code_is_refused(tmp_path):
    strange = write(tmp_path / "strange")
    about = json.loads((strange / "config.json").read_text())
    about |= {"model_type": "never-heard-of", "auto_map": {"AutoModel": "modeling.Strange"}}
    (strange / "config.json").write_text(json.dumps(about))
    (strange / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="transformers cannot read it.*without code of its own"):
        encode.run("hub", things(), config(strange))
    assert not (tmp_path / "ran").exists()


def test_a_missing_extra_is_named(folder, monkeypatch):
    hub._load.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[hub\]'"):
        encode.run("hub", things(), config(folder))


@pytest.mark.slow
def test_weights_known_by_name_encode_too(real_weights):
    real_weights("text-minilm-en")
    texts = ["A red mug for tea.", "Tea tastes best from this red cup.", "The parcel is late."]
    rows = encode.run("hub", things(texts), config("text-minilm-en")).dense
    assert rows.shape == (3, 384) and rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]
    assert hub.encoder(config("text-minilm-en")).weights != weights.named("text-minilm-en").files[0].sha256
