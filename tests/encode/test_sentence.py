"""Sentences and static vectors: the same vector in any company, and the same meaning in two languages."""

import hashlib

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import MissingExtraError, ModelError
from habitue.encode import onnx, sentence, static, weights

PAIRS = [
    ("The parcel came late and broken.", "包裹来晚了,而且坏了。"),
    ("A warm winter coat made of wool.", "羊毛制成的保暖冬衣。"),
    ("Where is my refund?", "我的退款在哪里?"),
    ("A red ceramic mug for tea.", "红色陶瓷茶杯"),
    ("Children love this toy.", "孩子们喜欢这个玩具。"),
    ("The battery lasts two days.", "电池可以用两天。"),
]
ODD = ["", None, " \t\n", "\x00\x01", "🎉👍🏽", "mug\x00mug", "Тест 테스트 ทดสอบ red", "a", "ab " * 5_000_000]


def things(texts) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [f"t{n}" for n in range(len(texts))], "text": list(texts)}, schema={"id": pl.String, "text": pl.String}
    )


def mixed(count: int) -> list[str]:
    """Texts of many lengths in two languages."""
    rng = np.random.default_rng(0)
    words = " ".join(english for english, _ in PAIRS).split()
    hanzi = "".join(chinese for _, chinese in PAIRS)
    texts = []
    for n in range(count):
        if n % 3:
            texts.append(" ".join(rng.choice(words, size=1 + n % 60)))
        else:
            texts.append("".join(rng.choice(list(hanzi), size=1 + n % 40)))
    return texts


@pytest.mark.parametrize("name", ["static", "sentence"])
def test_without_weights_the_command_that_brings_them_is_named(name, models):
    wanted = {"static": static.NAME, "sentence": sentence.NAME}[name]
    with pytest.raises(ModelError, match=f"weights '{wanted}': they are not on this machine.*models fetch {wanted}"):
        encode.run(name, things(["a"]))
    assert encode.run(name, things([""])).missing == ("t0",), "nothing to encode needs no weights"


@pytest.mark.parametrize(("name", "package"), [("static", "tokenizers"), ("sentence", "onnxruntime")])
def test_a_missing_extra_is_named(name, package, models, tmp_path, monkeypatch):
    onnx.session.cache_clear()
    static._load.cache_clear()
    monkeypatch.setattr(weights, "path", lambda *_: tmp_path)
    monkeypatch.setattr(weights, "derived", lambda *_: tmp_path)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package}' is not installed.*pip install 'habitue\[text\]'"):
        encode.run(name, things(["a"]))


def test_a_file_that_is_no_model_is_told(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load it \(InvalidProtobuf\).*made again"):
        onnx.session(tmp_path / "model.onnx", threads=1, extra="text")


def test_what_decides_a_vector_is_in_the_key():
    by = sentence.encoder(sentence.Config())
    assert by.name == "text.sentence@1" and by.dimension == 512
    assert by.weights == weights.known()[sentence.NAME].files[0].sha256
    assert by.key == sentence.encoder(sentence.Config(batch=1, threads=2, together=9)).key, "speed is no part of it"
    assert by.key != sentence.encoder(sentence.Config(characters=10)).key
    assert by.key != static.encoder(static.Config()).key


def test_batches_are_of_alike_lengths_and_never_too_much():
    lines = ["x" * n for n in (5, 900, 3, 2000, 40, 8, 900, 7)]
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    batches = sentence._batches(order, lines, sentence.Config(batch=3, together=2000))
    assert [[len(lines[i]) for i in batch] for batch in batches] == [[3, 5, 7], [8, 40], [900, 900], [2000]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static", "sentence"])
def test_odd_texts_get_a_vector_or_a_reason(name, real_weights):
    real_weights({"static": static.NAME, "sentence": sentence.NAME}[name])
    vectors = encode.run(name, things(ODD))
    assert vectors.missing == ("t0", "t1", "t2", "t3")
    assert set(vectors.refused["code"]) == {"no_text"}
    assert np.isfinite(vectors.dense).all()
    assert np.linalg.norm(vectors.dense[4:], axis=1) == pytest.approx(1, abs=1e-6)
    cut = getattr(encode, name, None) or __import__(f"habitue.encode.{name}", fromlist=["Config"])
    long, start = things(["red mug " * 4, "red mug "]), cut.Config(characters=8)
    rows = encode.run(name, long, start).dense
    assert (rows[0] == rows[1]).all(), "what stands behind the cut is not read"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static", "sentence"])
def test_a_vector_is_the_same_in_any_company(name, real_weights):
    real_weights({"static": static.NAME, "sentence": sentence.NAME}[name])
    texts = list(dict.fromkeys(mixed(300)))
    together = encode.run(name, things(texts)).dense
    back = encode.run(name, things(texts[::-1])).dense[::-1]
    alone = np.vstack([encode.run(name, things([text])).dense for text in texts[:100]])
    for other, same in ((back, together), (alone, together[:100])):
        cosine = (other * same).sum(axis=1)
        assert cosine.min() > 0.999
        assert (other == same).all(axis=1).mean() >= 0.98  # static: all; sentence: all but a rare rounding


@pytest.mark.slow
def test_both_languages_meet_in_one_space(real_weights):
    real_weights(sentence.NAME)
    english = encode.run("sentence", things([a for a, _ in PAIRS])).dense
    chinese = encode.run("sentence", things([b for _, b in PAIRS])).dense
    assert (english @ chinese.T).argmax(axis=1).tolist() == list(range(len(PAIRS)))


@pytest.mark.slow
def test_fixed_ranges_stay_near_the_published_model(real_weights):
    """The published file at batch 1 is the nearest to the unquantised model that it offers."""
    real_weights(sentence.NAME)
    published = onnx.session(weights.path(sentence.NAME), threads=1, extra="text", strings=True)
    texts = [text for pair in PAIRS for text in pair]
    alone = np.vstack([published.run(None, {"inputs": np.array([text], dtype=object)})[0] for text in texts])
    ours = encode.run("sentence", things(texts)).dense
    assert (ours * alone).sum(axis=1).min() > 0.985


@pytest.mark.slow
def test_static_is_the_mean_of_the_vectors_of_word_pieces(real_weights):
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    real_weights(static.NAME)
    (table,) = load_file(weights.path(static.NAME)).values()
    ids = Tokenizer.from_file(str(weights.path(static.NAME, 1))).encode("red mug", add_special_tokens=False).ids
    mean = table[ids].astype(np.float64).mean(axis=0)
    assert encode.run("static", things(["red mug"])).dense[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    near = encode.run("static", things(["cheap shoes", "inexpensive footwear", "river bank"])).dense
    assert near[0] @ near[1] > near[0] @ near[2]


@pytest.mark.slow
def test_the_cache_holds_exactly_what_was_computed(real_weights, tmp_path):
    real_weights(sentence.NAME)
    texts = things(mixed(40))
    first = encode.run("sentence", texts, cache=tmp_path)
    kept = encode.run("sentence", texts, cache=tmp_path)
    assert kept.sha256 == first.sha256
    digest = hashlib.sha256(first.dense.tobytes()).hexdigest()
    assert digest == hashlib.sha256(kept.dense.tobytes()).hexdigest()
