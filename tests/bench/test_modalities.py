import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from habitue.bench import modalities, sequences
from habitue.core.errors import UsageError
from habitue.encode import content
from habitue.encode import modality as sense
from habitue.encode.vectors import Encoder, assemble, refusals

ITEMS = ("a", "b", "c", "d")
TABLE = pl.DataFrame(
    {
        "item": ["d", "b", "a"],
        "title": ["red shoe", "blue shoe", "green hat"],
        "sku": ["X1", "X2", "X3"],
        "tags": [[1, 2], [2], None],
        "look": [[1.0, 0.0, 2.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]],
    }
)


def test_what_a_table_can_give():
    assert modalities.names(TABLE) == ["text", "look"]
    assert modalities.names(TABLE.with_columns(photo=pl.lit(b"x"))) == ["text", "picture", "look"]
    assert modalities.names(TABLE.select("item", "sku")) == []


def test_words_and_vectors_are_unit_rows_in_the_order_of_the_items():
    found = modalities.matrices(TABLE, ITEMS, ["text", "look"])
    words, look = (found[name].toarray() for name in ("text", "look"))
    assert words.shape[0] == look.shape[0] == 4
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), [1, 1, 0, 1], atol=1e-6)
    assert words[1] @ words[3] > words[0] @ words[3]  # both are shoes
    # The mean of the two vectors that say something, (.5, .5, 2), is what both share: what is left points apart.
    np.testing.assert_allclose(look[[1, 3]], [[-(0.5**0.5), 0.5**0.5, 0], [0.5**0.5, -(0.5**0.5), 0]], atol=1e-6)
    assert not look[0].any() and not look[2].any()


def test_joined_rows_have_length_one_whatever_is_missing():
    found = modalities.matrices(TABLE, ITEMS, ["text", "look"])
    both = content.joined(found)
    assert both is not None and both.shape[1] == sum(rows.shape[1] for rows in found.values())
    np.testing.assert_allclose(np.linalg.norm(both.toarray(), axis=1), [1, 1, 0, 1], atol=1e-6)
    text = both[:, : found["text"].shape[1]].toarray()
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), [1, 0.5**0.5, 0, 0.5**0.5], atol=1e-6)
    assert content.joined({}) is None and content.joined({"text": found["text"]}) is found["text"]


def test_pictures_are_encoded_and_a_broken_one_is_missing(monkeypatch):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    asked = {}

    def run(name, things, cache=None):
        asked.update(name=name, ids=things["id"].to_list())
        rows = np.array([[1, 0], [0, 1]], dtype=np.float32)
        broken = refusals([("d", "broken", "it is no picture")])
        return assemble(things["id"].to_list(), Encoder("fake@1", 2), np.array([0, 1]), rows, broken)

    monkeypatch.setattr(sense, "run", run)
    table = TABLE.with_columns(photo=pl.Series([b"no picture", stream.getvalue(), stream.getvalue()]))
    rows = modalities.matrices(table, ITEMS, ["picture"])["picture"].toarray()
    assert asked == {"name": "picture", "ids": ["a", "b", "d"]}
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0, 0], atol=1e-6)
    assert rows[0] @ rows[1] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("table", "wanted", "said"),
    [
        (TABLE, "picture", r"--modalities: the table of items holds no 'picture'\. .*look, text"),
        (TABLE, "lok", r"holds no 'lok'\. .*Did you mean 'look'\?"),
        (TABLE.select("item"), "picture", r"Give texts, pictures or vectors with --items"),
        (
            TABLE.with_columns(look=pl.Series([[1.0], [1.0, 2.0], None])),
            "look",
            r"--items, column 'look': its vectors have 1 or 2 numbers\. .*as many finite numbers, or none",
        ),
        (
            TABLE.with_columns(look=pl.Series([[1.0], [float("nan")], None])),
            "look",
            r"column 'look': a vector holds NaN, null or an infinite number",
        ),
        (TABLE.with_columns(look=pl.Series([[1.0], [None], None])), "look", r"a vector holds NaN, null or an infinite"),
    ],
)
def test_what_is_not_there_or_cannot_be_compared_is_said(table, wanted, said):
    with pytest.raises(UsageError, match=said):
        modalities.matrices(table, ITEMS, [wanted])


def test_a_file_of_events_gets_the_modalities_that_are_wanted():
    events = pl.DataFrame({"user": ["u", "u", "v"], "item": ["a", "b", "a"], "at": [1, 2, 3]})
    assert sequences.read(events).words is None
    assert list(sequences.read(events, TABLE).content) == ["text"]
    data = sequences.read(events, TABLE, wanted=("look", "text"))
    assert list(data.content) == ["look", "text"] and data.items == ("a", "b", "d")
    assert data.past(horizon_days=1).words.shape == (3, sum(m.shape[1] for m in data.content.values()))
    assert sequences.read(events, TABLE.select("item", "look")).content == {}
