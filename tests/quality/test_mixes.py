import polars as pl
import pytest

from habitue.core.schemas import EXAMPLES, ITEMS
from habitue.quality.ledger import ledger
from habitue.quality.mixes import languages, mixes, scores


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The mug is very nice and it was not expensive", "English"),
        ("Die Tasse ist sehr schön und nicht teuer", "German"),
        ("Le bol est très joli mais il est dans une boîte", "French"),
        ("La taza es muy bonita y llegó con una caja para los platos", "Spanish"),
        ("La tazza è molto bella e sono contento della scatola", "Italian"),
        ("A caneca é muito bonita e chegou com uma caixa, não quebrou", "Portuguese"),
        ("De mok is zeer mooi en het is niet duur", "Dutch"),
        ("杯子很漂亮", "Chinese"),
        ("とても良いカップです", "Japanese"),
        ("아주 좋은 컵입니다", "Korean"),
        ("Очень красивая чашка", "Cyrillic"),
        ("كوب جميل جدا ورخيص", "Arabic"),
        ("RED RETROSPOT MUG", None),  # words every shop in the world uses
        ("nice", None),
        ("12345 67890 !!!", None),
        ("", None),
        (None, None),
    ],
)
def test_the_language_of_a_text(text, language):
    assert languages(pl.Series([text], dtype=pl.String)).to_list() == [language]


def examples(texts, labels=None):
    rows = len(texts)
    labels = labels or ["a"] * rows
    frame = pl.DataFrame({"example_id": [str(i) for i in range(rows)], "text": texts, "label": labels, "source": "t"})
    return EXAMPLES.shape(frame)


def told(events, **tables):
    known = events.select("user_key").unique().with_columns(known=True)
    found = mixes(ledger(events, known), {"events": events, "items": ITEMS.empty(), **tables})
    return {(one["code"], one["table"]): one for one in found}


def test_two_languages_in_one_column(lines):
    said = ["The {} is very nice and it was cheap", "Die {} ist sehr schön und nicht teuer"]
    texts = [said[i % 3 == 0].format(f"mug{i}") for i in range(30)]
    tables = {"examples": examples(texts)}
    one = told(lines({}), **tables)["several_languages", "examples"]
    assert one["rows"] == 10
    assert "(English 67%, German 33%; 30 can be told)" in one["sentence"]
    (score,) = scores(tables).rows(named=True)
    assert (score["table"], score["measure"], score["score"]) == (
        "examples",
        "one language, text",
        pytest.approx(2 / 3),
    )


def test_rare_classes_and_one_class(lines):
    labels = ["yes"] * 3000 + ["no"] * 31 + ["maybe"] * 29 + ["never"] * 3
    one = told(lines({}), examples=examples([None] * len(labels), labels))["rare_class", "examples"]
    assert one["rows"] == 32  # below 1 % of 3,063: maybe and never
    assert one["sentence"].startswith("2 of the 4 values of examples.label")
    few = told(lines({}), examples=examples([None] * 39, ["a"] * 20 + ["b"] * 19))
    assert few["rare_class", "examples"]["rows"] == 19
    same = told(lines({}), examples=examples([None] * 30))
    assert same["one_class", "examples"]["sentence"] == "All 30 rows of examples have the same label."
    assert told(lines({}), examples=examples([None] * 40, ["a"] * 20 + ["b"] * 20)) == {}


def test_currencies(lines):
    events = lines({"currency": None}, {"currency": "eur"}, {"currency": "EUR"}, {"currency": None, "price": None})
    found = told(events)
    assert found["no_currency", "events"]["rows"] == 1
    assert found["currency_spelling", "events"]["rows"] == 1
    listed = ITEMS.shape(
        pl.DataFrame(
            {"item_id": ["a", "b"], "price": [1.0, 2.0], "currency": ["EUR", "USD"], "source": "t"}
        ).with_columns(valid_from=events["at"][0], import_id=pl.lit("t"))
    )
    strange = told(lines({}), items=listed)["catalogue_currency", "items"]
    assert (strange["rows"], strange["sentence"]) == (
        1,
        "1 rows of the catalogue are priced in USD, and no order is.",
    )


def test_nothing_has_no_mix(lines):
    assert told(lines({})) == {}
    assert scores({}).is_empty()
