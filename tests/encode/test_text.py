import dataclasses

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from habitue.collect import synthetic
from habitue.core.errors import SchemaError, SettingsError
from habitue.encode.text import ENCODER, Config, encode

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
