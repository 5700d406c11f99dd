"""What a review speaks of, and how: size, price, delivery, ... and whether each is praised, in English and Chinese.

Three readable steps, learnt from reviews that say only whether they are good as a whole:

    opinion   logistic regression on words and pairs of words, each scaled by its log-count ratio (Wang and Manning, ACL
              2012, equation 1); its shares are calibrated on reviews held back, by a curve that knows how short a text
              is, so that a share of a clause means what it says too
    aspects   a few seed words each; when asked (`more`) also the words used like them: near in the singular vectors of
              the positive pointwise mutual information of words and what stands around them (Levy and Goldberg, NIPS
              2014, section 3.3). A word that by itself tells good reviews from bad is an opinion and joins no aspect
    clauses   a review is cut at punctuation and at words of contrast; a clause speaks of the aspects whose words stand
              in it, and its share is the opinion on the clause alone
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import randomized_svd

from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.encode import chinese

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SEEDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "size": ("size", "sizes", "sizing", "fit", "fits", "petite", "length", "waist"),
        "quality": ("quality", "made", "stitching", "seams", "construction"),
        "price": ("price", "priced", "cost", "money", "sale", "dollars"),
        "delivery": ("shipping", "shipped", "delivery", "arrived", "package", "mail"),
        "service": ("service", "staff", "customer", "store", "returned", "returning", "refund"),
        "colour": ("color", "colors", "colour", "shade", "hue"),
        "fabric": ("fabric", "material", "cotton", "silk", "wool", "linen"),
        "style": ("style", "design", "pattern", "print", "cut"),
    },
    "zh": {
        "size": ("尺码", "尺寸", "大小", "码", "号", "合身"),
        "quality": ("质量", "做工", "品质", "正品", "质感"),
        "price": ("价格", "价钱", "性价比", "降价", "价位"),
        "delivery": ("物流", "快递", "发货", "送货", "配送", "包装"),
        "service": ("客服", "服务", "售后", "退货", "换货", "态度"),
        "colour": ("颜色", "色差", "颜色图片"),
        "fabric": ("面料", "布料", "材质", "料子", "手感"),
        "style": ("款式", "样式", "外观", "版型", "设计"),
        "taste": ("味道", "口感", "味", "口味"),
    },
}
CLAUSES = {
    "en": re.compile(r"[.!?;:,()\n\r]+|\b(?:but|however|although|though|except|yet)\b", re.IGNORECASE),
    "zh": re.compile(r"[。！？；：，、,.!?;:~～…\s]+|但是|不过|可是|然而|但"),
}
ENGLISH = re.compile(r"[a-z][a-z']*")
LETTERS = 20_000  # read of one text: a review of 10 MB costs no more than one of 20 KB
AROUND = 4  # words to each side
DIMENSIONS = 100
LEAST_LABELS = 20  # reviews of each kind
EDGE = 1e-6
PLAIN = np.array([1.0, 0.0, 0.0, 0.0])  # a curve that changes nothing


@dataclass(frozen=True)
class Config:
    """Settings. Raises SettingsError for a language there are no seeds of."""

    language: str = "en"
    more: int = (
        0  # words that join an aspect beside its seeds, at most; bought nothing on clauses read by hand (LOG.md)
    )
    near: float = 0.55  # cosine from which a word is used like the seeds
    opinion: float = 0.8  # log-count ratio from which a word is an opinion
    least: int = 20  # reviews a word stands in to be known
    common: float = 0.05  # share of the reviews from which a word is too common to mean an aspect
    strength: float = 3.0  # inverse of the L2 penalty
    held: float = 0.2  # share of the reviews that calibrate

    def __post_init__(self) -> None:
        """Refuse settings that would read nothing."""
        if self.language not in SEEDS or not 0 < self.held < 1 or min(self.least, self.strength) <= 0 or self.more < 0:
            raise SettingsError(
                "apply.aspects.Config",
                found=f"language '{self.language}', held {self.held}, least {self.least}, more {self.more}, "
                f"strength {self.strength}",
                consequence="No review could be read",
                remedy=f"Give a language of {', '.join(SEEDS)}, held between 0 and 1 and numbers above 0",
            )


@dataclass(frozen=True)
class Opinion:
    """Words -> the share of reviews like this that are good."""

    columns: Mapping[str, int]
    scale: Floats  # [V] of a column: the root of how differently the two kinds use it
    weight: Floats  # [V] of the scaled columns, rows of length 1
    offset: float
    curve: Floats  # [4] of log-odds, log length, both together, and 1
    good: float  # share of all reviews that are good: what is said of a text without a known word


@dataclass(frozen=True)
class Aspects:
    """What was learnt."""

    config: Config
    opinion: Opinion
    words: Mapping[str, tuple[str, ...]]  # aspect -> its words, seeds first


def fit(texts: Sequence[str | None], good: npt.ArrayLike, config: Config | None = None, *, runtime: Runtime) -> Aspects:
    """Learn from reviews and whether each is good as a whole; about 1 ms of CPU a review of 60 words.

    Raises ModelError for fewer than LEAST_LABELS good or bad reviews, and other numbers of texts and labels.
    """
    config, label = config or Config(), np.asarray(good, dtype=bool)
    if len(label) != len(texts) or min(label.sum(), (~label).sum()) < LEAST_LABELS:
        raise ModelError(
            "apply.aspects",
            found=f"{len(texts):,} reviews, {int(label.sum()):,} labels say good and {int((~label).sum()):,} say bad",
            consequence="What is praise and what is blame cannot be learnt",
            remedy=f"Give each review a label, at least {LEAST_LABELS} of each",
        )
    cut = cutter(config.language)
    said = [cut(text or "") for text in texts]
    luck = np.random.default_rng(runtime.seed).random(len(said))
    held = _spread(luck, label, config.held)
    first = _opinion([said[i] for i in np.flatnonzero(~held)], label[~held], config)
    curve = _curve(first, [said[i] for i in np.flatnonzero(held)], label[held])
    whole = _opinion(said, label, config)
    opinion = replace(whole, curve=curve)
    return Aspects(config, opinion, _words(said, label, config))


def good(aspects: Aspects, texts: Sequence[str | None]) -> Floats:
    """Return the share of reviews like each of these that are good, [N]; of one without known words, what all say."""
    cut = cutter(aspects.config.language)
    return _shares(aspects.opinion, [cut(text or "") for text in texts])


def told(aspects: Aspects, texts: Sequence[str | None]) -> pl.DataFrame:
    """Return a row for each aspect that a text speaks of: text (place), aspect, good (share), clauses, said.

    `good` is the mean over the clauses that speak of it, in log-odds; `said` the clause that is surest.
    """
    config, cut = aspects.config, cutter(aspects.config.language)
    of = {word: aspect for aspect, words in aspects.words.items() for word in words}
    rows: list[tuple[int, str, str]] = []
    parts: list[list[str]] = []
    for place, text in enumerate(texts):
        for clause in clauses(text or "", config.language):
            words = cut(clause)
            for aspect in dict.fromkeys(of[word] for word in words if word in of):
                rows.append((place, aspect, clause))
                parts.append(words)
    schema = {"text": pl.Int64, "aspect": pl.String, "said": pl.String}
    share = np.clip(_shares(aspects.opinion, parts), EDGE, 1 - EDGE)
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(odds=pl.Series(np.log(share / (1 - share))))
    found = table.group_by("text", "aspect").agg(
        good=1 / (1 + (-pl.col("odds").mean()).exp()),
        clauses=pl.len(),
        said=pl.col("said").sort_by(pl.col("odds").abs()).last(),
    )
    return found.sort("text", "aspect")


def clauses(text: str, language: str) -> list[str]:
    """Cut a text at punctuation and words of contrast; the start of a long one, without halves of characters."""
    whole = text[:LETTERS].encode("utf-8", "ignore").decode("utf-8")
    return [part.strip() for part in CLAUSES[language].split(whole) if part.strip()]


def cutter(language: str) -> Callable[[str], list[str]]:
    """Return the function that cuts a text into words, lower case; Chinese by jieba, or into pairs without it."""
    if language == "en":
        return lambda text: ENGLISH.findall(text[:LETTERS].lower().replace("\u2019", "'"))
    cut = chinese.cutter(chinese.rule())
    runs = re.compile(rf"{chinese.HAN.pattern}|[a-z0-9]+")
    return lambda text: [word for run in runs.findall(text[:LETTERS].lower()) for word in cut(run)]


def _spread(luck: Floats, label: Bools, share: float) -> Bools:
    """Return which reviews are held back: the same share of both kinds."""
    held = np.zeros(len(label), dtype=bool)
    for kind in (False, True):
        mine = np.flatnonzero(label == kind)
        held[mine[np.argsort(luck[mine])[: max(1, round(share * len(mine)))]]] = True
    return held


def _rows(said: Sequence[Sequence[str]], columns: Mapping[str, int]) -> sp.csr_matrix:
    """Return [N, V] 1 where a word or a pair of words stands in a text."""
    places: list[int] = []
    ends = [0]
    for words in said:
        there = {columns[term] for term in (*words, *_pairs(words)) if term in columns}
        places += sorted(there)
        ends.append(len(places))
    ones = np.ones(len(places))
    return sp.csr_matrix((ones, np.array(places, dtype=np.int64), np.array(ends)), shape=(len(said), len(columns)))


def _pairs(words: Sequence[str]) -> list[str]:
    return [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]


def _opinion(said: Sequence[Sequence[str]], label: Bools, config: Config) -> Opinion:
    """Learn the weights; a term must stand in three reviews."""
    often = Counter(term for words in said for term in {*words, *_pairs(words)})
    columns = {term: place for place, term in enumerate(sorted(term for term, n in often.items() if n >= 3))}
    rows = _rows(said, columns)
    scale = np.abs(_ratio(rows, label)) ** 0.5
    model = LogisticRegression(C=config.strength, solver="liblinear", tol=1e-3, random_state=0)
    model.fit(normalize(rows @ sp.diags_array(scale)), label)
    return Opinion(columns, scale, model.coef_[0], float(model.intercept_[0]), PLAIN, float(label.mean()))


def _ratio(rows: sp.csr_matrix, label: Bools) -> Floats:
    """Return [V] the log-count ratio: how much more of the good reviews' words a term is than of the bad ones'."""
    of_good, of_bad = (1 + np.asarray(rows[kind].sum(axis=0)).ravel() for kind in (label, ~label))
    ratio: Floats = np.log(of_good / of_good.sum()) - np.log(of_bad / of_bad.sum())
    return ratio


def _odds(opinion: Opinion, said: Sequence[Sequence[str]]) -> tuple[Floats, Floats]:
    """Return the log-odds [N], not calibrated, and the log number of known terms [N]."""
    if not said:
        return np.zeros(0), np.zeros(0)
    there = _rows(said, opinion.columns)
    rows = normalize(there @ sp.diags_array(opinion.scale))
    return np.asarray(rows @ opinion.weight + opinion.offset, dtype=np.float64), np.log1p(there.getnnz(axis=1))


def _shares(opinion: Opinion, said: Sequence[Sequence[str]]) -> Floats:
    odds, length = _odds(opinion, said)
    return np.where(length > 0, expit(_seen(odds, length) @ opinion.curve), opinion.good)


def _seen(odds: Floats, length: Floats) -> Floats:
    """Return what the curve reads [N, 4]: log-odds, log length in known terms, both together, and 1."""
    return np.column_stack([odds, length, odds * length, np.ones(len(odds))])


def _curve(opinion: Opinion, said: Sequence[Sequence[str]], label: Bools) -> Floats:
    """Return the calibration found on reviews held back: Platt's (1999), which also knows the length.

    To each review its first 3 to 12 words are added as a text of their own, so that short ones are among them.
    """
    short = [words[: 3 + place % 10] for place, words in enumerate(said)]
    both, labels = [*said, *short], np.r_[label, label]
    model = LogisticRegression(C=1.0, tol=1e-6, max_iter=1_000)
    model.fit(_seen(*_odds(opinion, both))[:, :3], labels)
    return np.asarray(np.r_[model.coef_[0], model.intercept_], dtype=np.float64)


def _words(said: Sequence[Sequence[str]], label: Bools, config: Config) -> dict[str, tuple[str, ...]]:
    """Return each aspect's words: its seeds that occur, then the words used like them, nearest first."""
    often = Counter(word for words in said for word in set(words))
    known = sorted(word for word, n in often.items() if n >= config.least)
    place = {word: n for n, word in enumerate(known)}
    seeds = {aspect: tuple(w for w in words if w in often) for aspect, words in SEEDS[config.language].items()}
    if not config.more or len(known) <= DIMENSIONS:
        return seeds
    vectors = _vectors(said, place)
    mean = {}
    for aspect, words in seeds.items():
        rows = [place[word] for word in words if word in place]
        if rows:
            mean[aspect] = vectors[rows].mean(axis=0)
    if not mean:
        return seeds
    near = vectors @ normalize(np.stack(list(mean.values()))).T  # [W, aspects]
    ratio = _ratio(_rows(said, place), label)
    taken = {word for words in seeds.values() for word in words}
    best = near.argmax(axis=1)
    found = {}
    for n, aspect in enumerate(mean):
        order = np.argsort(-near[:, n], kind="stable")
        like = [
            known[w] for w in order
            if near[w, n] >= config.near and best[w] == n and abs(ratio[w]) < config.opinion
            and known[w] not in taken and len(known[w]) > 1 and often[known[w]] < config.common * len(said)
        ]  # fmt: skip
        found[aspect] = seeds[aspect] + tuple(like[: config.more])
    return seeds | found


def _vectors(said: Sequence[Sequence[str]], place: Mapping[str, int]) -> Floats:
    """Return unit rows [W, DIMENSIONS] of what stands around each word."""
    pairs = sp.csr_matrix((len(place), len(place)))
    codes = [[place[word] for word in words if word in place] for words in said]
    text = np.concatenate([np.array(one, dtype=np.int64) for one in codes])
    of = np.repeat(np.arange(len(codes)), [len(one) for one in codes])
    for apart in range(1, AROUND + 1):
        same = of[:-apart] == of[apart:]
        a, b = text[:-apart][same], text[apart:][same]
        pairs = pairs + sp.csr_matrix((np.ones(len(a)), (a, b)), shape=pairs.shape)
    pairs = sp.coo_matrix(pairs + pairs.T)
    often = np.asarray(pairs.sum(axis=0)).ravel()
    information = np.log(pairs.data * pairs.data.sum() / (often[pairs.row] * often[pairs.col]))
    positive = sp.csr_matrix((np.maximum(information, 0), (pairs.row, pairs.col)), shape=pairs.shape)
    left, size, _ = randomized_svd(positive, DIMENSIONS, random_state=0)
    return np.asarray(normalize(left * np.sqrt(size)), dtype=np.float64)
