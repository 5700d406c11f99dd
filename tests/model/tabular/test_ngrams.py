from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.model.tabular import ngrams
from habitue.model.tabular.ngrams import Config, counts

CONFIG = Config(bits=22)  # so wide that hardly two n-grams share a column


def by_hand(text: str, config: Config) -> tuple[Counter, Counter]:
    plain = f" {' '.join(text.lower().split())} " if text.split() else " "
    letters = Counter(
        plain[i : i + n]
        for n in range(1, config.letters + 1)
        for i in range(len(plain) - n + 1)
        if plain[i : i + n] != " "
    )
    words = plain.split()
    runs = Counter(" ".join(words[i : i + n]) for n in (1, 2) for i in range(len(words) - n + 1))
    return letters, runs


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab é漢🙂\t\n", max_size=12), min_size=1, max_size=4))
def test_counts_are_those_of_the_n_grams(texts):
    """Sorted counts of a row are sorted counts by hand: the hash only renames n-grams."""
    matrix = counts(texts, CONFIG)
    assert matrix.shape == (len(texts), 2 << 22)
    for i, text in enumerate(texts):
        letters, runs = by_hand(text, CONFIG)
        row = matrix[i]
        left = row.data[row.indices < 1 << 22]
        assert sorted(left) == sorted(letters.values())
        assert sorted(row.data[row.indices >= 1 << 22]) == sorted(runs.values())


def test_a_row_depends_on_its_own_text_alone(monkeypatch):
    texts = ["one two three", None, "", "two  THREE\n", "ω 漢字 🙂", "x" * 50]
    whole = counts(texts, CONFIG)
    alone = [counts([text], CONFIG) for text in texts]
    for i, row in enumerate(alone):
        assert (whole[i] != row).nnz == 0
    monkeypatch.setattr(ngrams, "LETTERS_AT_ONCE", 5)
    assert (counts(texts, CONFIG) != whole).nnz == 0
    assert whole[1].nnz == whole[2].nnz == 0


def test_case_and_white_space_do_not_count():
    assert (counts(["Two  three"], CONFIG) != counts(["\ttwo three "], CONFIG)).nnz == 0


def test_equal_letters_meet_wherever_they_stand():
    here, there = counts(["mug of tea"], CONFIG), counts(["a very long way to a mug"], CONFIG)
    shared = set(here.indices) & set(there.indices)
    words = [i for i in shared if i >= 1 << 22]
    assert len(words) == 1  # the word "mug"
    assert len(shared) > 5


def test_a_long_text_is_cut_and_no_text_is_no_row():
    config = Config(bits=12, longest=10)
    assert (counts(["0123456789 and more"], config) != counts(["0123456789"], config)).nnz == 0
    assert counts([], config).shape == (0, 2 << 12)


def test_columns_are_spread_evenly():
    """A polynomial hash without its finaliser would leave half of 2^10 columns empty."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh"), size=60)) for _ in range(200)]
    matrix = counts(texts, Config(bits=10))
    used = np.bincount(matrix.indices, minlength=2 << 10)[: 1 << 10]
    assert (used > 0).mean() > 0.99
    assert used.max() < 12 * used.mean()


def test_ten_megabytes_in_one_cell_take_no_time():
    assert counts(["word " * 2_000_000, "two"], CONFIG).shape[0] == 2


@pytest.mark.parametrize("text", ["\ud800 broken", "\x00\x01", "a\u200db"])
def test_strange_letters_are_letters(text):
    assert counts([text], CONFIG).nnz > 0
