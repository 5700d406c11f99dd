"""Altered copies: the same from one generator, of the same size and meaning, altered in the way that is promised."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.prepare.augment import behaviour, mixing, pictures, series, sounds, texts

SEEDS = st.integers(0, 2**32 - 1)
CONTENT = {
    pictures: np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8),
    texts: "where is my order, the delivery is late and the item was broken",
    sounds: (0.5 * np.sin(np.arange(8000) / 9)).astype(np.float32),
    series: np.cumsum(np.random.default_rng(1).standard_normal((2, 200)), axis=1),
    behaviour: np.arange(20),
}
EVERY = [(module, name) for module in CONTENT for name in module.METHODS]


def equal(one, other) -> bool:
    return one == other if isinstance(one, str) else bool(np.array_equal(one, other, equal_nan=True))


@pytest.mark.parametrize(("module", "name"), EVERY, ids=lambda part: getattr(part, "__name__", part))
def test_one_seed_makes_one_copy_and_leaves_the_original_alone(module, name):
    content, method = CONTENT[module], module.METHODS[name]
    before = content if isinstance(content, str) else content.copy()
    made = [method(content, np.random.default_rng(seed)) for seed in (7, 7, 8, 9, 10)]
    assert equal(made[0], made[1])
    assert equal(content, before), "the original is not touched"
    assert any(not equal(one, content) for one in made)
    if name != "flip":
        assert any(not equal(made[0], one) for one in made[2:])


@given(seed=SEEDS, height=st.integers(1, 50), width=st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_pictures_keep_their_size_and_kind(seed, height, width):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for method in pictures.METHODS.values():
        made = method(picture, rng)
        assert made.shape == picture.shape and made.dtype == np.uint8


def test_what_is_moved_stays_where_it_should():
    middle = np.zeros((41, 41, 3), dtype=np.uint8)
    middle[18:23, 18:23] = 200
    for name in ("rotate", "scale"):
        for seed in range(5):
            assert pictures.METHODS[name](middle, np.random.default_rng(seed))[20, 20].min() > 150, name
    assert (pictures.flip(CONTENT[pictures], np.random.default_rng(0))[:, ::-1] == CONTENT[pictures]).all()
    slope = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (50, 100, 3)).copy()
    for seed in range(20):
        cut = pictures.crop(slope, np.random.default_rng(seed))[0, :, 0].astype(int)
        assert np.ptp(cut) >= 0.8 * 99 and (np.diff(cut) >= 0).all(), "a stretch of what there was, in its order"


def test_noise_of_pictures_is_as_strong_as_told():
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    for seed in range(5):
        made = pictures.gaussian(grey, np.random.default_rng(seed)).astype(float)
        assert made.std() <= pictures.GRAIN * 1.02 and abs(made.mean() - 128) < 1
        specks = pictures.salt_and_pepper(grey, np.random.default_rng(seed))
        changed = (specks != grey).all(axis=2)
        assert changed.mean() <= pictures.SPECKS * 1.2 and set(np.unique(specks)) <= {0, 128, 255}
        tinted = pictures.colour(grey, np.random.default_rng(seed))
        assert (tinted == tinted[0, 0]).all() and 128 * 0.8**2 - 1 <= tinted.min() <= tinted.max() <= 128 * 1.2**2 + 1


@given(text=st.text(max_size=60), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_no_text_breaks_a_method_and_none_is_emptied(text, seed):
    for method in texts.METHODS.values():
        made = method(text, np.random.default_rng(seed))
        assert bool(made.strip()) == bool(text.strip())


def test_words_are_replaced_left_out_and_swapped():
    rng = np.random.default_rng(3)
    known = {"mug": ("cup",), "red mug": ("scarlet cup",)}
    assert texts.synonym("A red mug", rng, words={"mug": ("cup",)}) == "A red cup"
    assert texts.synonym("a smug mugger", rng, words=known) == "a smug mugger", "whole words only"
    assert texts.synonym("red mug", rng, words=known) == "scarlet cup", "the longest that begins there"
    assert texts.synonym("订单还没到", rng) == "单子还没到"
    said = "one two three four five six seven eight nine ten"
    assert len(texts.deletion(said, rng).split()) == 9 and set(texts.deletion(said, rng).split()) < set(said.split())
    swapped = texts.swap(said, rng).split()
    assert sorted(swapped) == sorted(said.split())
    assert sum(a != b for a, b in zip(swapped, said.split(), strict=True)) == 2
    assert sorted(texts.swap("很好看", rng)) == sorted("很好看") and len(texts.deletion("很好看", rng)) == 2
    assert texts.deletion("mug", rng) == texts.swap("mug", rng) == "mug"


def test_every_word_of_a_meaning_knows_the_others():
    told = texts.meanings((("a", "b"), ("b", "c")))
    assert told == {"a": ("b",), "b": ("a", "c"), "c": ("b",)}
    assert all(word not in others for word, others in texts.meanings().items())


def test_a_translator_there_and_back_is_a_method():
    again = texts.back_translation(lambda text: text.upper(), lambda text: f"{text.lower()}!")
    assert again("Red mug", np.random.default_rng(0)) == "red mug!"
    assert texts.back_translation(str.upper, lambda _: " ")("Red", np.random.default_rng(0)) == "Red"


@given(seed=SEEDS, length=st.integers(0, 6000))
@settings(max_examples=20, deadline=None)
def test_sounds_stay_sounds(seed, length):
    rng = np.random.default_rng(seed)
    sound = rng.uniform(-1, 1, length).astype(np.float32)
    for name, method in sounds.METHODS.items():
        made = method(sound, rng)
        assert made.dtype == np.float32 and np.abs(made).max(initial=0) <= 1
        assert name == "stretch" or made.size == length
        assert made.size >= length / sounds.FASTER - 3 * sounds.GRAIN


def test_sound_is_altered_as_told():
    rng = np.random.default_rng(0)
    tone = CONTENT[sounds]
    noisy = sounds.noise(tone, rng) - tone
    below = 10 * np.log10(np.square(tone).mean() / np.square(noisy).mean())
    assert sounds.UNCLEAR - 0.5 < below < sounds.CLEAR + 0.5
    assert not sounds.noise(np.zeros(99, dtype=np.float32), rng).any(), "silence stays silence"
    moved = sounds.shift(tone, rng)
    lag = np.correlate(moved, tone, "full").argmax() - (tone.size - 1)
    assert 0 < abs(lag) <= sounds.MOVED * tone.size
    louder = sounds.gain(tone, rng)
    assert np.corrcoef(louder, tone)[0, 1] > 0.999999
    assert 10 ** (-sounds.LOUDER / 20) - 0.01 <= louder.max() / tone.max() <= 10 ** (sounds.LOUDER / 20) + 0.01


@pytest.mark.parametrize("seed", range(4))
def test_a_stretched_tone_is_of_another_length_and_of_one_pitch(seed):
    rate = 16_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.float32)
    made = sounds.stretch(tone, np.random.default_rng(seed))
    factor = np.exp(np.random.default_rng(seed).uniform(-np.log(sounds.FASTER), np.log(sounds.FASTER)))
    assert made.size == pytest.approx(tone.size / factor, abs=3 * sounds.GRAIN)
    spectrum = np.abs(np.fft.rfft(made[2000:-2000] * np.hanning(made.size - 4000)))
    assert spectrum.argmax() * rate / (made.size - 4000) == pytest.approx(440, abs=3)
    inside = np.abs(made[2000:-2000]).reshape(-1)
    assert np.sqrt(np.square(inside).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.03), "no holes, no beats"


def test_time_is_bent_but_begins_and_ends_where_it_did():
    line = np.linspace(0, 1, 100)[None]
    bent = series.warp(line, np.random.default_rng(0))
    assert bent[0, 0] == 0 and bent[0, -1] == pytest.approx(1) and (np.diff(bent) > 0).all()
    assert np.abs(bent - line).max() > 0.005
    both = series.warp(np.vstack([line, 2 * line]), np.random.default_rng(0))
    assert np.allclose(both[1], 2 * both[0]), "all signals together"
    gap = line.copy()
    gap[0, 40:50] = np.nan
    assert np.isnan(series.warp(gap, np.random.default_rng(0))).any()
    trembling = series.jitter(gap, np.random.default_rng(0))
    assert (np.isnan(trembling) == np.isnan(gap)).all()
    assert np.nanstd(trembling - gap) == pytest.approx(series.TREMBLE * np.nanstd(gap), rel=0.3)
    assert np.isnan(series.jitter(np.full((1, 5), np.nan), np.random.default_rng(0))).all()


@given(length=st.integers(2, 60), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_histories_keep_their_products(length, seed):
    items = np.random.default_rng(seed).integers(0, 1000, length)
    alike = np.arange(1000)[::-1].copy()
    made = {name: method(items, np.random.default_rng(seed)) for name, method in behaviour.METHODS.items()}
    start = next(s for s in range(length) if np.array_equal(items[s : s + made["crop"].size], made["crop"]))
    assert made["crop"].size == min(length, max(2, round(behaviour.KEPT * length))) and start >= 0
    assert made["mask"].size == length - min(round(behaviour.MASKED * length), length - 2)
    rest = iter(items.tolist())
    assert all(item in rest for item in made["mask"].tolist()), "in their order"
    assert sorted(made["reorder"]) == sorted(items)
    replaced = behaviour.substitute(alike)(items, np.random.default_rng(seed))
    changed = replaced != items
    assert changed.sum() <= max(1, round(behaviour.REPLACED * length))
    assert (replaced[changed] == alike[items[changed]]).all() and changed.any()


@given(seed=SEEDS, alpha=st.sampled_from([0.2, 1.0, 4.0]))
@settings(max_examples=20, deadline=None)
def test_mixed_rows_lie_between_two_and_their_answers_say_how_far(seed, alpha):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, 50)
    answers = np.eye(3, dtype=np.float32)[kind]
    rows, told = mixing.mixed(answers.copy(), answers, np.random.default_rng(seed), alpha=alpha)
    assert np.allclose(rows, told) and np.allclose(told.sum(axis=1), 1)
    assert rows.shape == (50, 3) and ((rows > 1e-6).sum(axis=1) <= 2).all()
    again, _ = mixing.mixed(answers.copy(), answers, np.random.default_rng(seed), alpha=alpha)
    assert (again == rows).all()


def test_its_page_answers_what_it_shows(capsys):
    page = (Path(__file__).parents[2] / "docs/prepare.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```pycon\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(shown, {}, "prepare.md", "docs/prepare.md", 0)
    assert len(test.examples) == 3
    assert doctest.DocTestRunner().run(test).failed == 0, capsys.readouterr().out
    for module in CONTENT:
        (row,) = re.findall(rf"^\| `{module.__name__.rpartition('.')[2]}` \| (.*) \|$", page, flags=re.MULTILINE)
        assert all(re.search(rf"\b{name}\b", row) for name in module.METHODS)


def test_what_its_page_says_of_gains_was_measured():
    import json

    root = Path(__file__).parents[2]
    page = (root / "docs/prepare.md").read_text(encoding="utf-8")

    def signed(value: float) -> str:
        return f"{value:+.3f}".replace("0.", ".").replace("+.000", ".000")

    for task in ("texts", "sounds"):
        told = json.loads((root / f"benchmarks/quality/augmentation-{task}.json").read_text(encoding="utf-8"))
        (alone,) = [row["mean"] for row in told["rows"] if row["model"] == "none"]
        (line,) = [line for line in page.splitlines() if f"| {alone:.3f} |".replace("0.", ".") in line and "(" in line]
        assert len(told["differences"]) >= 3
        for gap in told["differences"]:
            words = line.replace("*", "")
            assert f"{gap['model']} {signed(gap['mean'])} ({signed(gap['low'])} to {signed(gap['high'])})" in words
