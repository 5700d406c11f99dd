"""Texts: words replaced by others of one meaning, left out, swapped; or said again by a translator there and back.

Wei and Zou, "EDA", EMNLP-IJCNLP 2019: a tenth of the words each time, one at least. Chinese, which writes no blanks,
is altered letter by letter, but for the synonyms, which are found as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

SHARE = 0.1  # of the words
MEANINGS = (  # words a shop's customers use for one thing; a form stands for itself
    ("buy", "purchase", "get"),
    ("order", "purchase"),
    ("bought", "purchased", "ordered"),
    ("delivery", "shipping", "shipment"),
    ("deliver", "ship", "send"),
    ("arrive", "come"),
    ("arrived", "came"),
    ("refund", "reimbursement"),
    ("return", "send back"),
    ("exchange", "swap"),
    ("cancel", "stop"),
    ("item", "product", "article"),
    ("items", "products", "articles"),
    ("price", "cost"),
    ("cheap", "inexpensive"),
    ("expensive", "costly", "pricey"),
    ("broken", "damaged", "defective"),
    ("problem", "issue", "trouble"),
    ("help", "assist"),
    ("want", "wish", "would like"),
    ("need", "require"),
    ("change", "modify", "update"),
    ("account", "profile"),
    ("card", "bank card"),
    ("money", "funds"),
    ("transfer", "payment"),
    ("fee", "charge"),
    ("charged", "billed"),
    ("quick", "fast", "rapid"),
    ("quickly", "fast", "soon"),
    ("good", "great", "fine"),
    ("bad", "poor", "awful"),
    ("nice", "lovely", "pretty"),
    ("love", "adore"),
    ("big", "large"),
    ("small", "little"),
    ("why", "for what reason"),
    ("how do i", "how can i"),
    ("购买", "买"),
    ("订单", "单子"),
    ("快递", "物流"),
    ("退款", "退钱"),
    ("便宜", "实惠"),
    ("质量", "品质"),
    ("问题", "毛病"),
    ("很好", "不错"),
    ("喜欢", "喜爱"),
    ("客服", "售后"),
)
Words = Mapping[str, Sequence[str]]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def meanings(groups: Sequence[Sequence[str]] = MEANINGS) -> dict[str, tuple[str, ...]]:
    """Return word -> the others of its groups."""
    told: dict[str, list[str]] = {}
    for group in groups:
        for word in group:
            told.setdefault(word, []).extend(other for other in group if other != word)
    return {word: tuple(dict.fromkeys(others)) for word, others in told.items()}


def synonym(text: str, rng: np.random.Generator, *, words: Words | None = None) -> str:
    """Replace up to a tenth of the words, one at least, by others of one meaning; without one nothing changes."""
    known = meanings() if words is None else words
    places = [
        (found.start(), found.end(), word)
        for word in known
        for found in re.finditer(re.escape(word) if CHINESE.search(word) else rf"\b{re.escape(word)}\b", text, re.I)
    ]
    longest = sorted(places, key=lambda p: (p[0], p[0] - p[1]))
    free = [p for n, p in enumerate(longest) if not any(q[1] > p[0] for q in longest[:n])]
    count = min(len(free), _some(_parts(text)))
    for n in sorted(rng.permutation(len(free))[:count], reverse=True):
        start, end, word = free[n]
        others = known[word]
        text = text[:start] + others[int(rng.integers(len(others)))] + text[end:]
    return text


def deletion(text: str, rng: np.random.Generator) -> str:
    """Leave out a tenth of the words, one at least; a text of one word stays as it is."""
    parts = _parts(text)
    if len(parts) < 2:
        return text
    gone = set(rng.permutation(len(parts))[: min(_some(parts), len(parts) - 1)].tolist())
    return _joined(text, [part for n, part in enumerate(parts) if n not in gone])


def swap(text: str, rng: np.random.Generator) -> str:
    """Change the places of two words, for a tenth of the words, once at least; a text of one word stays as it is."""
    parts = _parts(text)
    if len(parts) < 2:
        return text
    for _ in range(_some(parts)):
        one, other = rng.choice(len(parts), 2, replace=False)
        parts[one], parts[other] = parts[other], parts[one]
    return _joined(text, parts)


def back_translation(
    there: Callable[[str], str], back: Callable[[str], str]
) -> Callable[[str, np.random.Generator], str]:
    """Return a method from two translators of yours; a text that comes back empty stays as it was."""

    def again(text: str, rng: np.random.Generator) -> str:  # noqa: ARG001 - what chance there is lies in the translators
        return back(there(text)).strip() or text

    return again


METHODS: Mapping[str, Callable[[str, np.random.Generator], str]] = {
    "synonym": synonym,
    "deletion": deletion,
    "swap": swap,
}


def _parts(text: str) -> list[str]:
    return list(text.strip()) if CHINESE.search(text) and " " not in text.strip() else text.split()


def _joined(text: str, parts: Sequence[str]) -> str:
    return ("" if CHINESE.search(text) and " " not in text.strip() else " ").join(parts)


def _some(parts: Sequence[str]) -> int:
    return max(1, round(SHARE * len(parts)))
