"""Chinese has no spaces: cut a run of its characters into words with jieba, or into pairs where jieba is absent."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import metadata
from typing import Any

from habitue.core.errors import ModelError
from habitue.core.extras import need

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
PAIRS = "pairs@1"


def rule() -> str:
    """Return how Chinese is cut on this machine, for the name of an encoder: 'jieba-<version>' or 'pairs@1'."""
    try:
        return f"jieba-{metadata.version('jieba')}"
    except metadata.PackageNotFoundError:
        return PAIRS


def cutter(asked: str) -> Callable[[str], Iterable[str]]:
    """Return the function that cuts a token by the rule `asked`, leaving what is not Chinese whole.

    Raises MissingExtraError when it is jieba's and jieba is not installed, ModelError when it is of another version.
    """
    if asked == PAIRS:
        return lambda token: _cut(token, _pairs)
    if rule() not in (asked, PAIRS):
        raise ModelError(
            "encode.text",
            found=f"the vocabulary was made with {asked}; installed is {rule()}",
            consequence="The same title would fall into other words than those learnt",
            remedy=f"Install {asked.replace('-', '==')}, or encode everything again",
        )
    jieba = _jieba()
    return lambda token: _cut(token, jieba.cut_for_search)


def _cut(token: str, words: Callable[[str], Iterable[str]]) -> list[str]:
    parts: list[str] = []
    end = 0
    for run in HAN.finditer(token):
        parts += [token[end : run.start()], *words(run.group())]
        end = run.end()
    return [part for part in (*parts, token[end:]) if part]


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(max(1, len(run) - 1))]


@lru_cache(maxsize=1)
def _jieba() -> Any:
    """Load jieba's dictionary, 0.7 s once a process; never its cache file, which lies where anyone may write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's own: old escapes, pkg_resources
        tokenizer = need("jieba", extra="text", purpose="encode.text").Tokenizer()
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
