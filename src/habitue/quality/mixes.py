"""Mixed currencies and languages, and classes too rare to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from habitue.core.schemas import Quality
from habitue.quality import rows
from habitue.quality.ledger import Finding, Ledger, plain
from habitue.quality.scores import Measure, table_of

TEXTS = {"items": ("title", "description"), "events": ("text", "query"), "examples": ("text",), "outside": ("text",)}
LOOKED_AT = 20_000  # texts of a column whose language is told
LETTERS = 8  # a text with fewer is too short to be of a language
SURE = 2  # of its frequent words a text must have: a single "les" or "de" stands in product names of any language
RARE_ROWS, RARE_SHARE = 20, 0.01  # a class below either is rare
CLASSES = 200  # a label with more values is a number or a name
SCRIPTS = {  # how much of a text's letters decide
    "Chinese": r"\p{Han}",
    "Japanese": r"[\p{Hiragana}\p{Katakana}]",
    "Korean": r"\p{Hangul}",
    "Cyrillic": r"\p{Cyrillic}",
    "Arabic": r"\p{Arabic}",
    "Greek": r"\p{Greek}",
    "Hebrew": r"\p{Hebrew}",
    "Thai": r"\p{Thai}",
    "Devanagari": r"\p{Devanagari}",
}
WORDS = {  # words every text of the language uses and the others do not
    "English": "the and with for this that was you are not have from very it is of",
    "German": "und der die das mit nicht ist ein eine sehr für auf auch ich den zu",
    "French": "le les des et une pas pour avec est dans très mais je du au sur",
    "Spanish": "el los las y una con para muy pero es por como está lo del más",
    "Italian": "il gli che e un con per molto sono non anche della di questo ma è",
    "Portuguese": "o os uma com para muito não mas é por como da do em são também",
    "Dutch": "de het een en van met voor niet zeer maar is op ook ik naar dat",
}


def languages(texts: pl.Series) -> pl.Series:
    """Return the language or script of each text; null = too short, or of none that is known here.

    The script with most letters decides; Japanese is what holds a kana. Latin letters are told apart by their most
    frequent words (Cavnar and Trenkle 1994 count n-grams; whole words are enough to see a mix): the language with most
    of them, and none on a tie.
    """
    frame = pl.DataFrame({"text": texts.cast(pl.String)}).with_columns(
        letters=pl.col("text").str.count_matches(r"\p{L}"),
        Latin=pl.col("text").str.count_matches(r"\p{Latin}"),
        words=pl.col("text").str.to_lowercase().str.extract_all(r"\p{L}+"),
        **{name: pl.col("text").str.count_matches(pattern) for name, pattern in SCRIPTS.items()},
    )
    most = pl.max_horizontal("Latin", *SCRIPTS)
    hits = {
        name: pl.col("words").list.eval(pl.element().is_in(said.split())).list.sum() for name, said in WORDS.items()
    }
    frame = frame.with_columns(**hits)
    top = pl.max_horizontal(*WORDS)
    alone = pl.sum_horizontal(*(pl.col(name) == top for name in WORDS)) == 1
    latin = pl.lit(None, dtype=pl.String)
    for name in WORDS:
        latin = pl.when((pl.col(name) == top) & (top >= SURE) & alone).then(pl.lit(name)).otherwise(latin)
    told = latin
    for name in reversed(SCRIPTS):
        told = pl.when((pl.col(name) == most) & (most > 0)).then(pl.lit(name)).otherwise(told)
    told = pl.when(pl.col("Japanese") > 0).then(pl.lit("Japanese")).otherwise(told)
    return frame.select(language=pl.when(pl.col("letters").fill_null(0) >= _least()).then(told)).to_series()


def scores(tables: Mapping[str, pl.DataFrame]) -> Quality:
    """Return QUALITY: how much of each text column is of its commonest language."""
    measures: list[Measure] = []
    for table, column, counts in _languages(tables):
        share = int(counts["count"][0]) / int(counts["count"].sum())
        formula = "texts in the commonest language / texts whose language is told"
        measures.append((table, "consistency", f"one language, {column}", share, formula))
    return table_of(measures)


def mixes(ledger: Ledger, tables: Mapping[str, pl.DataFrame]) -> list[Finding]:
    """Return the findings about currencies, languages and classes."""
    return [
        one for one in (*_currencies(ledger, tables), *_mixed_words(tables), *_rare_classes(tables)) if one is not None
    ]


def _currencies(ledger: Ledger, tables: Mapping[str, pl.DataFrame]) -> Iterator[Finding | None]:
    yield ledger.finding(
        "no_currency",
        "completeness",
        rows.paid() & pl.col("value").is_not_null() & pl.col("currency").is_null(),
        "{rows} lines have money and no currency: {money}.",
        "kept, added up as if it were the shop's own; the repair fix_currency names it",
    )
    yield ledger.finding(
        "currency_spelling",
        "consistency",
        pl.col("currency").is_not_null() & ~pl.col("currency").str.contains(r"^[A-Z]{3}$"),
        "{rows} rows write their currency in another way than three capital letters: {money}.",
        "kept; the repair fix_currency writes it as ISO 4217 does",
    )
    listed = tables["items"].drop_nulls(["price", "currency"])
    sold = ledger.lines.filter(rows.paid())["currency"].drop_nulls().unique()
    strange = listed.filter(~pl.col("currency").is_in(sold.implode()))
    if sold.len() and strange.height:
        names = ", ".join(strange["currency"].unique().sort())
        yield plain(
            "catalogue_currency",
            "items",
            "consistency",
            f"{strange.height:,} rows of the catalogue are priced in {names}, and no order is.",
            strange.height,
            "kept; their prices are not held against those of orders",
        )


def _mixed_words(tables: Mapping[str, pl.DataFrame]) -> Iterator[Finding]:
    for table, column, counts in _languages(tables):
        if counts.height > 1:
            total, most = int(counts["count"].sum()), int(counts["count"][0])
            told = ", ".join(f"{name} {count / total:.0%}" for name, count in counts.head(4).iter_rows())
            code = "several_languages" if column in ("title", "text") else f"several_languages_{column}"
            yield plain(
                code,
                table,
                "consistency",
                f"The texts in {table}.{column} are of {counts.height} languages ({told}; {total:,} can be told).",
                total - most,
                "kept; an encoder of one language reads the others badly",
            )


def _rare_classes(tables: Mapping[str, pl.DataFrame]) -> Iterator[Finding]:
    for table, column in (("examples", "label"), ("exposures", "arm"), ("media", "modality"), ("signals", "signal")):
        frame = tables.get(table)
        if frame is None or frame.is_empty() or column not in frame.columns:
            continue
        counts = frame[column].drop_nulls().value_counts().sort("count", column, descending=[True, False])
        rare = counts.filter(pl.col("count") < max(RARE_ROWS, RARE_SHARE * int(counts["count"].sum())))
        if 1 < counts.height <= CLASSES and rare.height:
            yield plain(
                "rare_class",
                table,
                "diversity",
                f"{rare.height} of the {counts.height} values of {table}.{column} have fewer than {RARE_ROWS} rows or "
                f"less than {RARE_SHARE:.0%} of them; the commonest has {counts['count'][0]:,}.",
                int(rare["count"].sum()),
                "kept; balance them inside the folds (docs/prepare.md), or label more",
            )
        if counts.height == 1 and table == "examples":
            yield plain(
                "one_class",
                table,
                "diversity",
                f"All {frame.height:,} rows of {table} have the same {column}.",
                frame.height,
                "kept; nothing can be told apart by it",
            )


def _languages(tables: Mapping[str, pl.DataFrame]) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Yield table, column and (language, count), the commonest first, of every text column whose language is told."""
    for table, names in TEXTS.items():
        frame = tables.get(table)
        for name in names:
            if frame is None or name not in frame.columns:
                continue
            texts = frame[name].drop_nulls().unique(maintain_order=True).head(LOOKED_AT)
            told = languages(texts).drop_nulls().alias("language")
            counts = told.value_counts().sort("count", "language", descending=[True, False])
            kept = counts.filter(pl.col("count") >= max(2.0, RARE_SHARE * int(counts["count"].sum())))
            if kept.height:
                yield table, name, kept


def _least() -> pl.Expr:
    """Letters from which a text is of a language; a Chinese sign says as much as a word."""
    wide = pl.sum_horizontal("Chinese", "Japanese", "Korean") > 0
    return pl.when(wide).then(2).otherwise(LETTERS)
