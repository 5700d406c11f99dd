import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.schemas import EXAMPLES, ITEMS
from habitue.quality.alike import Config, alike, groups, looking, normal, same_items

SEEN = "pack of six hand painted spring flower mugs"


def catalogue(*rows: tuple[str, str | None]) -> pl.DataFrame:
    frame = pl.DataFrame(list(rows), schema={"item_id": pl.String, "title": pl.String}, orient="row")
    origin = {"source": pl.lit("t"), "import_id": pl.lit("t"), "valid_from": pl.datetime(2024, 1, 1, time_zone="UTC")}
    return ITEMS.shape(frame.with_columns(**origin))


def test_texts_that_share_most_letter_groups_are_one_group():
    found = groups([SEEN, "blue plate", SEEN.upper() + "!", SEEN.replace("mugs", "mug"), "", "", "Blue   plate."])
    assert found.tolist() == [0, 1, 0, 0, 2, 3, 1]
    assert groups([]).tolist() == []
    assert groups(["a"]).tolist() == [0]


def jaccard(a: str, b: str, gram: int = 3) -> float:
    left, right = ({t[i : i + gram] for i in range(max(len(t) - gram + 1, 1))} for t in (normal(a), normal(b)))
    return len(left & right) / len(left | right)


words = st.lists(
    st.sampled_from(["red", "blue", "mug", "plate", "of", "six", "small", "large"]), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=60)
@given(st.lists(words.map(" ".join), min_size=2, max_size=12))
def test_groups_are_the_components_of_exact_similarity(texts):
    found = groups(texts, Config(similarity=0.8)).tolist()
    group = list(range(len(texts)))
    for i in range(len(texts)):  # link one by one, without any hash
        for j in range(i):
            if jaccard(texts[i], texts[j]) >= 0.8:
                group = [group[j] if g == group[i] else g for g in group]
    for i in range(len(texts)):
        for j in range(i):
            if found[i] == found[j]:
                assert group[i] == group[j]  # nothing is linked that is not similar
            elif jaccard(texts[i], texts[j]) >= 0.9:
                pytest.fail(f"missed {texts[i]!r} and {texts[j]!r}")  # .9: found with probability 1 - 2e-7


def test_only_so_many_different_texts_are_looked_at():
    assert groups(["mug one", "plate two", "mug one"], Config(most=1)).tolist() == [0, 1, 0]


def test_pictures_by_bits():
    base = 0x0F0F0F0F0F0F0F0F
    assert looking([base, base ^ 0b11111, base ^ (0b111111 << 20), 0]).tolist() == [0, 0, 1, 2]
    assert looking([base, base ^ 0b11111], bits=4).tolist() == [0, 1]
    assert looking([]).tolist() == []
    assert looking([(1 << 64) - 1, (1 << 64) - 1]).tolist() == [0, 0]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=7))
def test_no_picture_within_seven_bits_is_missed(base, flipped):
    other = base
    for bit in flipped:
        other ^= 1 << bit
    assert looking([base, other], bits=7).tolist() == [0, 0]


def test_one_product_written_twice():
    items = catalogue(
        ("85123A", "WHITE HANGING HEART"),
        ("85123a", "white hanging heart."),
        ("85123-A", "WHITE HANGING HEART"),
        ("900b", "red mug"),
        ("900B", "steel ladder for the attic"),  # the same code, another product
        ("100", "WHITE HANGING HEART"),  # the same words, another code
        ("7A", None),
        ("7a", "spoon"),
    )
    sold = pl.DataFrame({"item_id": ["85123a"] * 2 + ["85123A"] * 3})
    assert same_items(items, sold).rows() == [("85123-A", "85123A"), ("85123a", "85123A")]
    assert same_items(ITEMS.empty(), sold.clear()).is_empty()


def test_findings_name_titles_and_texts():
    items = catalogue(("a", "HANGING HEART LIGHT 0"), ("b", "HANGING HEART LIGHT 1"), ("c", "mug"))
    review = "the dress runs small but the colour is beautiful, I would buy it again at once"
    texts = EXAMPLES.shape(
        pl.DataFrame(
            {"example_id": ["1", "2", "3", "4"], "text": [review, review + "!", "too short", None], "source": "t"}
        )
    )
    titles, again = alike({"items": items, "examples": texts})
    assert (titles["code"], titles["rows"]) == ("near_titles", 2)
    assert "HANGING HEART LIGHT 0 / HANGING HEART LIGHT 1" in titles["sentence"]
    assert (again["code"], again["table"], again["rows"]) == ("near_texts", "examples", 1)
    assert alike({"items": ITEMS.empty()}) == []
