"""Would the writer of a review recommend the product? From its words alone, with the words that decided.

Logistic regression on TF-IDF of words and word pairs, the title's words counted once more in columns of their own,
each column scaled by how differently the two classes use it (the log-count ratio of Wang and Manning, "Baselines and
bigrams", ACL 2012, equation 1). The score is a sum over words, so "the words that decided" are its very terms.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
import threadpoolctl  # comes with scikit-learn
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from habitue.apply.heldout import Forecast, deal, one, yes_no
from habitue.apply.wording import percent
from habitue.core.errors import ModelError
from habitue.core.metrics import Floats, Ints
from habitue.core.runtime import Runtime
from habitue.core.schemas import EXAMPLES, Examples, Metrics, check

TITLE = "Reviews of women's clothing: would she recommend it?"
SOURCE = "Women's E-Commerce Clothing Reviews"
LICENCE = "CC0 1.0"
NO = "not recommended"
YES = "recommended"


@dataclass(frozen=True)
class Config:
    """Settings; found by 3-fold cross-validation on the bundled reviews, where they hardly matter (AUC +-.002)."""

    folds: int = 3
    phrase: int = 2  # longest run of words that is a column
    min_reviews: int = 3  # a column needs so many reviews to learn from
    strength: float = 3.0  # inverse of the L2 penalty
    contrast: float = 0.5  # exponent of the log-count ratio; 0 = plain TF-IDF
    words: int = 12  # shown on each side
    examples: int = 2  # shown of each kind: rightly refused, rightly recommended, wrong


@dataclass(frozen=True)
class Reviews:
    """The answer: what the report shows."""

    title: str
    source: str
    licence: str
    verdict: str
    metrics: Metrics
    words: pl.DataFrame  # word, weight (mean log-odds towards recommended where it stands), reviews, share recommended
    examples: pl.DataFrame  # example_id, text (title first), forecast (P recommended), happened, words [word, weight]


def read(path: Path) -> Examples:
    """Bring the published file (Parquet) to EXAMPLES: text = the review, columns = its title and product."""
    frame = pl.read_parquet(path)
    columns = [
        json.dumps({"title": title, "item_id": None if item is None else str(item)})
        for title, item in frame.select("Title", "Clothing ID").iter_rows()
    ]
    return EXAMPLES.shape(
        frame.select(
            pl.col("row").cast(pl.String).alias("example_id"),
            pl.col("Review Text").alias("text"),
            pl.Series("columns", columns, dtype=pl.String),
            pl.when(pl.col("Recommended IND") == 1).then(pl.lit(YES)).otherwise(pl.lit(NO)).alias("label"),
            pl.lit(SOURCE).alias("source"),
        )
    )


def run(examples: Examples, config: Config | None = None, *, runtime: Runtime | None = None) -> Reviews:
    """Forecast every review from models that have not seen it, beside the product's own share of recommendations.

    AUC and F1 are of the refusals ("not recommended"), the smaller class. A review without words is forecast too (it
    gets what the shop's average says). About 4 CPU-seconds for 23,000 reviews. Raises ModelError for labels other
    than the two, fewer reviews of a label than folds, and no words at all.
    """
    check(examples, EXAMPLES, at="apply.reviews")
    config, runtime = config or Config(), runtime or Runtime()
    refused = _refused(examples)
    fold = deal(refused, config.folds, seed=runtime.seed, where="apply.reviews")
    extra = examples["columns"].fill_null("{}").str.json_decode(pl.Struct({"title": pl.String, "item_id": pl.String}))
    title, body = extra.struct.field("title").fill_null(""), examples["text"].fill_null("")
    started = time.process_time()
    counts, names = _columns(title.to_list(), body.to_list(), config)
    probability, pushes = _forecast(counts, refused, fold, config)
    words = Forecast("words", ("text",), probability, time.process_time() - started)
    started = time.process_time()
    share = _product_share(extra.struct.field("item_id"), refused, fold)
    product = Forecast("product_share", ("item_id",), share, time.process_time() - started)
    table = yes_no(refused, fold, (words, product), dataset=SOURCE, seed=runtime.seed)
    vocabulary, pushes = _by_word(names, pushes)
    heading = pl.when(title != "").then(title + ". ").otherwise(pl.lit(""))
    texts = pl.DataFrame({"example_id": examples["example_id"], "text": body}).with_columns(
        text=heading + pl.col("text")
    )
    return Reviews(
        title=TITLE,
        source=SOURCE,
        licence=LICENCE,
        verdict=_verdict(table, refused),
        metrics=table,
        words=_deciding(vocabulary, pushes, refused, config),
        examples=_shown(texts, probability, refused, pushes, vocabulary, config),
    )


def _refused(examples: Examples) -> npt.NDArray[np.bool_]:
    wrong = examples.filter(~pl.col("label").is_in([YES, NO]).fill_null(False)).height
    if wrong or not examples.height:
        raise ModelError(
            "apply.reviews",
            found=f"{wrong:,} of {examples.height:,} reviews have a label other than '{YES}' or '{NO}'",
            consequence="What is to be told apart is not known",
            remedy="Give every review one of the two labels, at least a few of each",
        )
    return (examples["label"] == NO).to_numpy()


def _columns(titles: list[str], bodies: list[str], config: Config) -> tuple[sp.csr_matrix, list[str]]:
    """Count words and phrases: [n, V] of 1 + log count, columns of title and body, then of the title alone."""
    parts, names = [], []
    for texts in ([f"{t} . {b}" for t, b in zip(titles, bodies, strict=True)], titles):
        counter = CountVectorizer(
            token_pattern=r"(?u)\b\w[\w']*\b|[!?]",
            ngram_range=(1, config.phrase),
            min_df=1,
            dtype=np.float32,
        )
        try:
            counted = counter.fit_transform(texts)
        except ValueError:  # "empty vocabulary": not one of these texts has a word
            continue
        enough = np.flatnonzero(counted.getnnz(axis=0) >= config.min_reviews)
        parts.append(counted[:, enough])
        names += counter.get_feature_names_out()[enough].tolist()
    if not names:
        raise ModelError(
            "apply.reviews",
            found=f"no word stands in {config.min_reviews} of the {len(titles):,} reviews",
            consequence="There is nothing to forecast from",
            remedy="Check that the column with the text is the one that was mapped",
        )
    counts = sp.hstack(parts).tocsr()
    counts.data = 1 + np.log(counts.data)
    return counts, names


def _forecast(
    counts: sp.csr_matrix, refused: npt.NDArray[np.bool_], fold: Ints, config: Config
) -> tuple[Floats, sp.csr_matrix]:
    """Return P(refused) [n] and what each column of each review added to its log-odds [n, V], all out of fold."""
    probability = np.empty(len(refused))
    parts, tests = [], [np.flatnonzero(fold == k) for k in range(config.folds)]
    for test in tests:
        learn = np.setdiff1d(np.arange(len(refused)), test)
        idf, contrast = _weights(counts[learn], refused[learn], config)
        model = LogisticRegression(C=config.strength, solver="liblinear", random_state=0)
        with threadpoolctl.threadpool_limits(1):  # liblinear's dot products are too short for threads: 15 s against 1 s
            model.fit(_unit(counts[learn], idf) @ sp.diags_array(contrast), refused[learn])
        push = _unit(counts[test], idf) @ sp.diags_array(contrast * model.coef_[0])
        logit = np.asarray(push.sum(axis=1)).ravel() + model.intercept_[0]
        probability[test] = 1 / (1 + np.exp(-logit))
        parts.append(push)
    return probability, sp.csr_matrix(sp.vstack(parts))[np.argsort(np.concatenate(tests))]


def _weights(counts: sp.csr_matrix, refused: npt.NDArray[np.bool_], config: Config) -> tuple[Floats, Floats]:
    """Learn IDF [V], 0 for a column these reviews hardly know, and |log-count ratio| ** contrast [V]."""
    known = counts.getnnz(axis=0)
    idf = np.where(known >= config.min_reviews, 1 + np.log((1 + len(refused)) / (1 + known)), 0.0)
    p, q = (1.0 + counts[refused == side].getnnz(axis=0) for side in (True, False))
    return idf, np.abs(np.log((p / p.sum()) / (q / q.sum()))) ** config.contrast


def _unit(counts: sp.csr_matrix, idf: Floats) -> sp.csr_matrix:
    """Return TF-IDF rows of length 1; a review without known words stays a row of zeros."""
    return normalize(counts @ sp.diags_array(idf))


def _product_share(item: pl.Series, refused: npt.NDArray[np.bool_], fold: Ints) -> Floats:
    """Return the share of the other folds' reviews of the same product that refuse it, with 10 reviews of the average.

    The baseline that reads no word: what is already known of the product. 10: a product with few reviews should stay
    near the average.
    """
    product = item.fill_null("").rank("dense").to_numpy() - 1
    share = np.empty(len(refused))
    for k in np.unique(fold):
        learn = fold != k
        n = np.bincount(product[learn], minlength=product.max() + 1)
        no = np.bincount(product[learn], weights=refused[learn], minlength=product.max() + 1)
        share[~learn] = ((no + 10 * refused[learn].mean()) / (n + 10))[product[~learn]]
    return share


def _by_word(names: list[str], pushes: sp.csr_matrix) -> tuple[npt.NDArray[np.str_], sp.csr_matrix]:
    """Add up what a word did in the title and in the text: the words [W] and their pushes [n, W]."""
    vocabulary, word = np.unique(names, return_inverse=True)
    belongs = sp.csr_matrix((np.ones(len(names)), (np.arange(len(names)), word)))
    return vocabulary, pushes @ belongs


def _deciding(
    vocabulary: npt.NDArray[np.str_], pushes: sp.csr_matrix, refused: npt.NDArray[np.bool_], config: Config
) -> pl.DataFrame:
    """Return the words that moved the held-out forecasts most, `config.words` towards each answer.

    Most = mean push x square root of the reviews it stands in: neither one loud review nor "the" everywhere.
    """
    total = np.asarray(pushes.sum(axis=0)).ravel()
    reviews = pushes.getnnz(axis=0)
    strength = total / np.sqrt(np.maximum(reviews, 1))
    order = np.argsort(strength, kind="stable")
    chosen = np.r_[order[: config.words], order[::-1][: config.words]]
    chosen = np.unique(chosen[strength[chosen] != 0])
    chosen = chosen[np.argsort(strength[chosen], kind="stable")]
    stands = sp.csr_matrix(pushes[:, chosen] != 0, dtype=np.float64)
    return pl.DataFrame(
        {
            "word": vocabulary[chosen].tolist(),
            "weight": -total[chosen] / reviews[chosen],
            "reviews": reviews[chosen].astype(np.int64),
            "share": np.asarray(stands[~refused].sum(axis=0)).ravel() / reviews[chosen],
        }
    )


def _shown(
    texts: pl.DataFrame,
    probability: Floats,
    refused: npt.NDArray[np.bool_],
    pushes: sp.csr_matrix,
    vocabulary: npt.NDArray[np.str_],
    config: Config,
) -> pl.DataFrame:
    """Return the surest forecasts of each kind, the wrong ones too, with the five words that moved each most."""
    said = probability >= 0.5
    surest = np.argsort(-np.abs(probability - 0.5), kind="stable")
    kinds = (said & refused, ~said & ~refused, said != refused)
    shown = np.concatenate([surest[kind[surest]][: config.examples] for kind in kinds])
    words = []
    for i in shown:
        start, end = pushes.indptr[i], pushes.indptr[i + 1]
        most = start + np.argsort(-np.abs(pushes.data[start:end]), kind="stable")[:5]
        words.append([{"word": str(vocabulary[pushes.indices[m]]), "weight": -float(pushes.data[m])} for m in most])
    return texts[shown].with_columns(
        forecast=1 - probability[shown],
        happened=~refused[shown],
        words=pl.Series(words, dtype=pl.List(pl.Struct({"word": pl.String, "weight": pl.Float64}))),
    )


def _verdict(table: Metrics, refused: npt.NDArray[np.bool_]) -> str:
    auc, f1, base = one(table, "words", "auc"), one(table, "words", "f1"), one(table, "product_share", "auc")
    better = "the words add much" if auc["low"] > base["high"] else "the words do no better than that count"
    return (
        f"From the words alone a refusal is told from a recommendation with AUC {auc['mean']:.3f} "
        f"({auc['low']:.3f} to {auc['high']:.3f}) and F1 {f1['mean']:.2f}, over {len(refused):,} reviews the model had "
        f"not read, {percent(refused.mean(), 0)} of them refusals. The product's own record alone gives "
        f"{base['mean']:.3f}: {better}."
    )
