"""Texts as counts of hashed n-grams of letters and of words: one row depends on its own text alone.

Every n-gram is hashed by sums over the text: with S(i) = sum of c(j) B^j for j < i (64 bits, wrapping), the hash of the
letters a .. b is (S(b) - S(a)) B^-a, equal for equal letters wherever they stand (Karp and Rabin, 1987). So all n-grams
of all texts are hashed at once in numpy, letters and words by the same sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Words64 = npt.NDArray[np.uint64]

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))
LETTERS_AT_ONCE = 1_000_000  # bounds the memory of hashing: about 200 MB
SPACE = 32


@dataclass(frozen=True)
class Config:
    """Which n-grams are counted, and in how many columns."""

    letters: int = 5  # n-grams of 1 to this many letters, spaces included
    words: int = 2  # runs of 1 to this many words
    bits: int = 20  # letters and words get 2^bits columns each; with 300,000 n-grams a seventh of them share one
    longest: int = 20_000  # letters read of one text


def counts(texts: Sequence[str | None], config: Config | None = None) -> sp.csr_matrix:
    """Return [texts, 2 x 2^bits] float32 counts: n-grams of letters, then runs of words. No text = an empty row.

    Lower case; all white space is one space. O(letters of all texts x (config.letters + config.words)).
    """
    config = config or Config()
    blocks = [_counted(part, config) for part in _portions(texts, config.longest)]
    empty = sp.csr_matrix((0, 2 << config.bits), dtype=np.float32)
    return sp.csr_matrix(sp.vstack([empty, *blocks], format="csr"))


def _portions(texts: Sequence[str | None], longest: int) -> Iterator[list[str]]:
    """Yield runs of plain texts of about LETTERS_AT_ONCE letters together."""
    portion: list[str] = []
    letters = 0
    for text in texts:
        words = " ".join((text or "")[:longest].lower().split())
        plain = f" {words} " if words else " "
        portion.append(plain)
        letters += len(plain)
        if letters > LETTERS_AT_ONCE:
            yield portion
            portion, letters = [], 0
    if portion:
        yield portion


def _counted(texts: list[str], config: Config) -> sp.csr_matrix:
    code = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    ends = np.cumsum([len(text) for text in texts])
    row = np.repeat(np.arange(len(texts)), np.diff(ends, prepend=0))
    sums, back = _sums(code)
    width = 1 << config.bits
    found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for n in range(1, config.letters + 1):
        start = np.arange(max(code.size - n + 1, 0))
        start = start[row[start] == row[start + n - 1]]
        if n == 1:
            start = start[code[start] != SPACE]
        found.append((row[start], _column(sums, back, start, start + n, config.bits)))
    space = code == SPACE
    begin = np.flatnonzero(~space & np.roll(space, 1))
    end = np.flatnonzero(~space & np.roll(space, -1)) + 1  # every text ends in a space
    for n in range(1, config.words + 1):
        first, last = begin[: max(begin.size - n + 1, 0)], end[n - 1 :]
        same = row[first] == row[last - 1] if first.size else np.zeros(0, dtype=bool)
        columns = _column(sums, back, first[same], last[same], config.bits)
        found.append((row[first[same]], columns + width))
    rows, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    ones = np.ones(rows.size, dtype=np.float32)
    matrix = sp.csr_matrix((ones, (rows, columns)), shape=(len(texts), 2 * width))
    matrix.sum_duplicates()
    return matrix


def _sums(code: Words64) -> tuple[Words64, Words64]:
    """Return S [n + 1] and B^-i [n + 1]."""
    with np.errstate(over="ignore"):
        power = np.cumprod(np.r_[np.uint64(1), np.full(code.size, BASE)], dtype=np.uint64)
        back = np.cumprod(np.r_[np.uint64(1), np.full(code.size, INVERSE)], dtype=np.uint64)
        sums = np.r_[np.uint64(0), np.cumsum((code + np.uint64(1)) * power[:-1], dtype=np.uint64)]
    return sums, back


def _column(
    sums: Words64, back: Words64, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], bits: int
) -> npt.NDArray[np.int64]:
    """Return the hashed column of the letters start .. end, mixed by the finaliser of SplitMix64 (Steele et al., 2014).

    A polynomial's low bits depend on few letters; the mixing spreads all of them.
    """
    with np.errstate(over="ignore"):
        value = (sums[end] - sums[start]) * back[start]
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((value ^ (value >> np.uint64(31))) >> np.uint64(64 - bits)).astype(np.int64)
