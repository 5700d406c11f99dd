import dataclasses

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from habitue import encode as stage
from habitue.collect import synthetic
from habitue.core.errors import MissingExtraError, ModelError, SchemaError, SettingsError
from habitue.encode import chinese
from habitue.encode.text import CHARACTERS, ENCODER, Config, encode

TITLES = ["Red Mug", "red mugs, set of 2", "CAFÉ crème jug", "blue_jug", "blue blue jug", "♥ !", None, "", "3D puzzle"]


def shelf(*titles: str | None) -> pl.DataFrame:
    ids = [f"p{i}" for i in range(len(titles))]
    return pl.DataFrame({"item_id": ids, "title": list(titles)}, schema={"item_id": pl.String, "title": pl.String})


def cosine(a: int, b: int, vectors) -> float:
    return float((vectors.matrix[a] @ vectors.matrix[b].T).toarray().item())


def test_rows_follow_the_catalogue_and_have_length_one_or_none():
    vectors = encode(shelf(*TITLES))
    assert vectors.ids == tuple(f"p{i}" for i in range(9))
    assert vectors.matrix.dtype == np.float32
    lengths = sp.linalg.norm(vectors.matrix, axis=1)
    assert vectors.encoded.tolist() == [True, True, True, True, True, False, False, False, True]
    assert lengths[vectors.encoded] == pytest.approx(1, abs=1e-6)
    assert not lengths[~vectors.encoded].any()
    assert vectors.missing == ("p5", "p6", "p7")
    assert np.isfinite(vectors.matrix.data).all()
    assert vectors.encoder == ENCODER


def test_words_alone_are_the_tf_idf_of_scikit_learn():
    titles = ["red mug", "red red jug", "blue jug lid", "mug"]
    ours = encode(shelf(*titles), Config(piece_weight=0.0))
    theirs = TfidfVectorizer(sublinear_tf=True).fit_transform(titles)
    assert np.abs((ours.matrix @ ours.matrix.T - theirs @ theirs.T).toarray()).max() < 1e-6


def test_pieces_alone_are_the_tf_idf_of_scikit_learn():
    titles = ["red mug", "red mugs", "blue jug lid", "a"]

    def pieces(title: str) -> list[str]:
        edged = [f"<{word}>" for word in title.split()]
        return [w[i : i + n] for w in edged for n in (3, 4) for i in range(len(w) - n + 1)]

    ours = encode(shelf(*titles), Config(piece_weight=1.0, piece_max=4))
    theirs = TfidfVectorizer(sublinear_tf=True, analyzer=pieces).fit_transform(titles)
    assert np.abs((ours.matrix @ ours.matrix.T - theirs @ theirs.T).toarray()).max() < 1e-6


def test_a_cosine_is_the_weighted_mean_of_words_and_pieces():
    titles = shelf("red mug", "red mugs", "green bowl")
    words, pieces, both = (encode(titles, Config(piece_weight=w)) for w in (0.0, 1.0, 0.3))
    assert cosine(0, 1, both) == pytest.approx(0.7 * cosine(0, 1, words) + 0.3 * cosine(0, 1, pieces), abs=1e-6)


def test_a_hand_worked_cosine():
    vectors = encode(shelf("red mug", "red jug"), Config(piece_weight=0.0))
    common, rare = 1.0, np.log(3 / 2) + 1  # ln((1 + 2) / (1 + n)) + 1 with n = 2 and n = 1 of 2 titles
    assert cosine(0, 1, vectors) == pytest.approx(common**2 / (common**2 + rare**2), abs=1e-6)


def test_pieces_see_plurals_case_and_accents():
    vectors = encode(shelf("red mug", "MUGS", "crème", "Creme", "garden gnome"))
    assert cosine(0, 1, vectors) > 0.1
    assert cosine(2, 3, vectors) == pytest.approx(1, abs=1e-6)
    assert cosine(0, 4, vectors) == 0


def test_the_same_catalogue_gives_the_same_bytes_and_any_change_another_digest():
    titles = shelf(*TITLES)
    first, again = encode(titles), encode(titles)
    assert first.sha256 == again.sha256
    assert (first.matrix != again.matrix).nnz == 0
    others = [
        encode(titles, Config(piece_weight=0.25)),
        encode(titles.with_columns(item_id="x" + pl.col("item_id"))),
        encode(titles.with_columns(title=pl.col("title").str.replace("mug", "cup"))),
    ]
    assert len({v.sha256 for v in (first, *others)}) == 4


def test_the_order_of_the_catalogue_does_not_matter():
    forth, back = encode(shelf(*TITLES)), encode(shelf(*TITLES[::-1]))
    assert np.abs((forth.matrix - back.matrix[::-1]).toarray()).max() < 1e-7


def test_the_vocabulary_is_that_of_the_titles_given():
    """A row's vector changes with the titles beside it, and a word nobody uses has no column."""
    small, large = (
        encode(shelf("red mug"), Config(piece_weight=0)),
        encode(shelf("red mug", "jug"), Config(piece_weight=0)),
    )
    assert (small.matrix.shape[1], large.matrix.shape[1]) == (2, 3)


def test_rare_terms_may_be_left_out():
    vectors = encode(shelf("red mug", "red jug", "blue"), Config(piece_weight=0, min_titles=2))
    assert vectors.matrix.shape == (3, 1)
    assert vectors.missing == ("p2",)


def test_one_item_no_item_and_no_words():
    assert encode(shelf("mug")).encoded.tolist() == [True]
    assert encode(shelf()).matrix.shape == (0, 0)
    nothing = encode(shelf(None, None))
    assert nothing.matrix.shape[0] == 2
    assert nothing.matrix.nnz == 0
    assert nothing.missing == ("p0", "p1")


def test_words_tell_the_planted_tastes_of_the_toy_shop():
    titles = synthetic.shop().select("item_id", "title").unique().sort("item_id")
    vectors = encode(titles, Config(piece_weight=0.0))
    taste = titles["title"].str.split(" ").list.first().to_numpy()
    likeness = (vectors.matrix @ vectors.matrix.T).toarray()
    same = taste[:, None] == taste[None, :]
    np.fill_diagonal(same, False)
    apart = taste[:, None] != taste[None, :]
    assert likeness[same].min() > likeness[apart].max()


@pytest.mark.parametrize("wrong", [{"piece_min": 0}, {"piece_min": 6}, {"piece_weight": 1.5}, {"min_titles": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SettingsError, match="encode.text.Config: .* No title could be encoded"):
        Config(**wrong)


def test_a_frame_that_is_no_catalogue_is_refused():
    with pytest.raises(SchemaError, match="encode.text: column 'title' is missing"):
        encode(pl.DataFrame({"item_id": ["a"]}))
    with pytest.raises(SchemaError, match="encode.text: an item_id comes twice"):
        encode(shelf("a", "b").with_columns(item_id=pl.lit("same")))


def test_vectors_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        encode(shelf("mug")).encoder = "other"  # type: ignore[misc]


def test_english_titles_keep_the_digest_they_always_had():
    """Pinned before Chinese, `fitted` and refusals came: the demo's numbers stand on these bytes."""
    titles = ["WHITE HANGING HEART T-LIGHT HOLDER", "Red Mug", "red mugs, set of 2", "CAFÉ crème jug", "blue_jug"]
    vectors = encode(shelf(*titles, "blue blue jug", "♥ !", None, "", "3D puzzle"))
    assert vectors.encoder == "text.tfidf@1"
    assert vectors.sha256 == "f37e2f3c5f2a9eebd0a1e444f5de83d7e6400d02297df6db0e43c8625c35d805"


def test_every_title_of_a_real_shop_keeps_its_digest(ledger):
    titles = ledger.items.group_by("item_id").agg(pl.col("title").drop_nulls().sort().first()).sort("item_id")
    assert encode(titles).sha256 == "9d8db442364315820b7c3c195285583c533d848725318675914f9079b08fdb4b"


def test_the_stage_gives_the_same_from_id_and_text():
    things = shelf(*TITLES).rename({"item_id": "id", "title": "text"})
    assert stage.run("text", things).sha256 == encode(shelf(*TITLES)).sha256


def test_a_title_without_a_vector_has_a_reason():
    told = encode(shelf(*TITLES)).refused
    assert told["id"].to_list() == ["p5", "p6", "p7"]
    assert set(told.select("code", "sentence").rows()) == {("no_text", "It holds no text to encode.")}


def test_other_titles_come_into_the_columns_that_were_learnt():
    learnt = encode(shelf("red mug", "blue mug", "green jug"))
    later = stage.run("text", pl.DataFrame({"id": ["a", "b"], "text": ["red mug", "zzzz"]}), fitted=learnt.fitted)
    assert (later.matrix[0] != learnt.matrix[0]).nnz == 0
    assert later.refused.rows() == [("b", "no_known_word", "None of its words is in the vocabulary.")]
    assert later.fitted is learnt.fitted


def test_a_vocabulary_keeps_the_settings_it_was_made_with():
    learnt = encode(shelf("red mug"), Config(piece_weight=0.0))
    assert encode(shelf("red mug"), fitted=learnt.fitted).matrix.shape == (1, 2)
    with pytest.raises(SettingsError, match="the vocabulary was made with Config.*or none"):
        encode(shelf("red mug"), Config(), fitted=learnt.fitted)


CHINESE = ("红色陶瓷马克杯iphone手机壳", "red mug", "蓝色马克杯")


def test_chinese_is_cut_into_words_and_the_rule_is_part_of_the_name():
    vectors = encode(shelf(*CHINESE))
    assert vectors.encoder == f"{ENCODER}+{chinese.rule()}" and chinese.rule().startswith("jieba-")
    words = set(vectors.fitted.views[0].place)
    assert {"红色", "马克杯", "iphone", "手机", "mug", "蓝色"} <= words
    assert cosine(0, 2, vectors) > 0.1 and cosine(0, 1, vectors) == 0


def test_without_jieba_chinese_is_cut_into_pairs(monkeypatch):
    with_jieba = encode(shelf(*CHINESE))
    monkeypatch.setattr(chinese, "rule", lambda: chinese.PAIRS)
    vectors = encode(shelf(*CHINESE, "杯"))
    assert vectors.encoder == f"{ENCODER}+pairs@1"
    assert {"红色", "色陶", "马克", "克杯", "iphone", "杯"} <= set(vectors.fitted.views[0].place)
    assert vectors.sha256 != with_jieba.sha256


def test_a_vocabulary_of_another_jieba_is_refused(monkeypatch):
    learnt = encode(shelf(*CHINESE)).fitted
    monkeypatch.setattr(chinese, "rule", lambda: "jieba-9.9")
    with pytest.raises(ModelError, match=r"made with jieba-[\d.]+; installed is jieba-9\.9.*Install jieba=="):
        encode(shelf(*CHINESE), fitted=learnt)


def test_a_vocabulary_of_jieba_needs_jieba(monkeypatch):
    learnt = encode(shelf(*CHINESE)).fitted
    chinese._jieba.cache_clear()
    monkeypatch.setattr(chinese, "rule", lambda: chinese.PAIRS)
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    with pytest.raises(MissingExtraError, match=r"jieba.*pip install 'habitue\[text\]'"):
        encode(shelf(*CHINESE), fitted=learnt)


def test_other_scripts_and_mixed_languages_are_words_too():
    hebrew, arabic = "ספל אדום", "كوب أحمر"
    vectors = encode(shelf(hebrew, arabic, f"red mug {hebrew}", "red 马克杯 mug", "马克杯", "ספל"))
    assert vectors.missing == ()
    assert cosine(0, 5, vectors) > 0.3 and cosine(0, 2, vectors) > 0.3, "the word is met again from either side"
    assert cosine(0, 1, vectors) == 0 and cosine(3, 4, vectors) > 0.3


def test_odd_texts_do_no_harm():
    odd = ["🎉👍🏽", "\x00\x01\t", "mug \x00 mug", "Тест 테스트 テスト ทดสอบ", "x" * 10_000_000, "a\u202eb", "ﬁne ½"]
    vectors = encode(shelf(*odd))
    assert vectors.missing == ("p0", "p1")
    assert np.isfinite(vectors.matrix.data).all()
    long = encode(shelf("mug " * (CHARACTERS // 4) + "jug", "jug"), Config(piece_weight=0))
    assert cosine(0, 1, long) == 0, "what stands behind the cut is not read"
