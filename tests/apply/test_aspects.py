"""Reviews of a shop whose truth is planted: which aspect a clause speaks of, and whether it is praised."""

import doctest
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue.apply import aspects
from habitue.core.errors import ModelError, SettingsError
from habitue.core.metrics import ece
from habitue.core.runtime import Runtime

THINGS = {"en": ("size", "fabric", "shipping", "price"), "zh": ("尺码", "面料", "物流", "价格")}
PRAISE = {"en": ("lovely", "perfect", "great"), "zh": ("很好", "满意", "不错")}
BLAME = {"en": ("awful", "poor", "terrible"), "zh": ("糟糕", "失望", "太差")}
FILL = {
    "en": ("i wore it on monday", "my sister saw it", "bought two of them"),
    "zh": ("给妈妈买的", "周末收到", "第二次买"),
}
LIKE = {"en": "parcel", "zh": "货车"}  # used as the seeds of delivery are


def reviews(language: str, count: int = 900, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Two clauses on two things, one on nothing; good with the share of clauses that praise."""
    rng = np.random.default_rng(seed)
    texts, good = [], []
    for _ in range(count):
        first, second = rng.choice(len(THINGS[language]), 2, replace=False)
        happy = rng.random(2) < 0.6
        parts = []
        for thing, glad in zip((first, second), happy, strict=True):
            word = THINGS[language][thing]
            if thing == 2 and rng.random() < 0.4:
                word = LIKE[language]
            said = rng.choice((PRAISE if glad else BLAME)[language])
            parts.append(f"the {word} was {said}" if language == "en" else f"{word}{said}")
        parts.insert(int(rng.integers(3)), str(rng.choice(FILL[language])))
        texts.append((", " if language == "en" else "，").join(parts))
        good.append(rng.random() < (0.05, 0.5, 0.95)[int(happy.sum())])
    return texts, np.array(good)


@pytest.fixture(scope="module", params=["en", "zh"])
def learnt(request):
    texts, good = reviews(request.param)
    return aspects.fit(texts, good, aspects.Config(language=request.param, least=5, common=0.9), runtime=Runtime())


def test_each_clause_is_told_by_itself(learnt):
    language = learnt.config.language
    size, fabric = THINGS[language][:2]
    text = (
        f"The {size} was {PRAISE['en'][1]}! But the {fabric} was {BLAME['en'][2]}" if language == "en"
        else f"{size}{PRAISE['zh'][1]}，但是{fabric}{BLAME['zh'][2]}"
    )  # fmt: skip
    told = aspects.told(learnt, ["", None, text])
    assert told["text"].to_list() == [2, 2] and told["aspect"].to_list() == ["fabric", "size"]
    bad, fine = told["good"]
    assert bad < fine - 0.25 and told["clauses"].to_list() == [1, 1]
    assert fabric in told["said"][0] and size not in told["said"][0]


def test_shares_come_true_on_reviews_nobody_saw(learnt):
    texts, good = reviews(learnt.config.language, seed=1)
    share = aspects.good(learnt, texts)
    assert ece(good, share) < 0.08 and np.corrcoef(share, good)[0, 1] > 0.6
    flipped = aspects.fit(*_flipped(learnt.config.language), learnt.config, runtime=Runtime())
    assert np.corrcoef(aspects.good(flipped, texts), good)[0, 1] < -0.6  # it learns from labels and nothing else


def _flipped(language: str) -> tuple[list[str], np.ndarray]:
    texts, good = reviews(language)
    return texts, ~good


def test_a_review_without_known_words_is_as_good_as_most(learnt):
    share = aspects.good(learnt, ["", None, "xyzzy"])
    assert (share == share[0]).all() and 0.3 < share[0] < 0.8


def test_words_used_like_the_seeds_join_and_opinions_do_not():
    texts, good = [], []
    rng = np.random.default_rng(0)
    filler = [f"w{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(200)]
    for _ in range(1_500):
        word = rng.choice(["shipping", "delivery", "parcel", "cotton", "silk"])
        around = (
            "courier door box late tracking"
            if word in ("shipping", "delivery", "parcel")
            else "soft skin thread washing"
        )
        happy = rng.random() < 0.5
        mood = "superb" if happy else "horrid"
        texts.append(" ".join([*rng.permutation(around.split())[:2], word, mood, *rng.choice(filler, 4)]))
        good.append(happy)
    config = aspects.Config(least=20, near=0.45, common=1.0, more=12)
    words = aspects.fit(texts, good, config, runtime=Runtime()).words
    assert words["delivery"][:2] == ("shipping", "delivery") and "parcel" in words["delivery"]
    assert not {"superb", "horrid"} & {word for some in words.values() for word in some}
    assert (
        "parcel"
        not in aspects.fit(
            texts, good, aspects.Config(least=20, near=0.45, common=1.0, more=0), runtime=Runtime()
        ).words["delivery"]
    )


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("Nice. Too small, but soft; OK!", "en", ["Nice", "Too small", "soft", "OK"]),
        ("butter however exceptional", "en", ["butter", "exceptional"]),
        ("很好，但是太小！不过软", "zh", ["很好", "太小", "软"]),
        ("...,,,", "en", []),
    ],
)
def test_clauses(text, language, found):
    assert aspects.clauses(text, language) == found


@pytest.mark.parametrize(
    "text",
    [
        "size " * 2_000_000,
        "😀" * 1_000,
        "حجم القميص صغير",
        "size\x00fabric\x00",
        "尺码 size حجم 😀",
        "\ud800 size",
        " \n\t",
    ],
    ids=["10 MB", "emoji only", "right to left", "NUL", "mixed", "half a character", "blank"],
)
def test_any_text_is_read_or_nothing_is_found(learnt, text):
    share = aspects.good(learnt, [text])
    assert share.shape == (1,) and 0 <= share[0] <= 1
    told = aspects.told(learnt, [text])
    assert told.schema["good"] == pl.Float64 and told.height <= 2 and told["good"].is_between(0, 1).all()


@pytest.mark.parametrize(
    ("texts", "good", "said"),
    [
        (["a"] * 30, [True] * 30, "30 reviews, 30 labels say good and 0 say bad"),
        (["a"] * 3, [True] * 40 + [False] * 40, "3 reviews, 40 labels say good and 40 say bad"),
    ],
)
def test_labels_that_teach_nothing(texts, good, said):
    with pytest.raises(ModelError, match=said):
        aspects.fit(texts, good, runtime=Runtime())


def test_settings_that_read_nothing():
    with pytest.raises(SettingsError, match=r"language 'fr', held 0.2, .*Give a language of en, zh"):
        aspects.Config(language="fr")
    with pytest.raises(SettingsError, match="held 1"):
        aspects.Config(held=1)


def test_the_page_shows_what_it_does(capsys):
    page = (Path(__file__).parents[2] / "docs/tasks.md").read_text(encoding="utf-8")
    shown = "\n".join(re.findall(r"```pycon\n(.*?)```", page, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(shown, {}, "tasks.md", "docs/tasks.md", 0)
    assert test.examples and doctest.DocTestRunner().run(test).failed == 0, capsys.readouterr().out
