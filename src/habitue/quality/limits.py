"""How good the data must be: the section [check] of habitue.toml, and what of it does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.schemas import Findings, Quality
from habitue.quality import alike, clocks, drift, traffic

CODES = (  # every finding there is
    *("no_customer", "exact_repeat", "negative_quantity", "zero_quantity", "negative_price", "zero_price", "huge_line"),
    *("value_mismatch", "cancelled", "cancelled_uncovered", "several_titles", "no_title", "code_case", "no_product"),
    *(
        "several_currencies",
        "item_without_words",
        "refused",
        "orphan_item",
        "orphan_user",
        "orphan_event",
        "price_off_catalogue",
    ),
    *("price_off_usual", "future", "received_before", "before_catalogue", "order_of_many", "bots", "bursts"),
    *("one_time_of_day", "shifted_clock", "no_currency", "currency_spelling", "catalogue_currency"),
    *("several_languages", "several_languages_description", "several_languages_query", "rare_class", "one_class"),
    *("near_titles", "near_texts", "near_pictures", "drift"),
    *(f"{kind}_{flaw}" for kind in ("text", "image", "audio", "video") for flaw in ("unreadable", "header_only")),
)
DRIFT = "drift"


@dataclass(frozen=True)
class Config:
    """The section `[check]`: when something counts as found, and from when on the run fails."""

    drift: drift.Config = field(default_factory=drift.Config)
    bots: traffic.Config = field(default_factory=traffic.Config)
    clock: clocks.Config = field(default_factory=clocks.Config)
    alike: alike.Config = field(default_factory=alike.Config)
    least: Mapping[str, float] = field(default_factory=dict)  # "table.dimension" or "table.measure" -> lowest score
    most: Mapping[str, float] = field(default_factory=dict)  # finding -> largest share of its table; drift -> PSI


def verify(config: Config) -> None:
    """Raise SettingsError for a finding that does not exist or a limit that is no share."""
    for code, limit in config.most.items():
        if code not in CODES:
            raise SettingsError(
                "habitue.toml [check.most]",
                found=f"there is no finding '{code}'",
                consequence="The limit would never be reached, and nobody would know",
                remedy=did_you_mean(code, CODES),
            )
        if limit < 0:
            raise _no_share("most", code, limit)
    for name, limit in config.least.items():
        if not 0 <= limit <= 1:
            raise _no_share("least", name, limit)


def dimensions(scores: Quality) -> pl.DataFrame:
    """Return table, dimension, score: the mean of the measures of each, in the order they first come."""
    return scores.group_by("table", "dimension", maintain_order=True).agg(pl.col("score").mean())


def broken(
    config: Config, scores: Quality, findings: Findings, drifts: pl.DataFrame, rows: Mapping[str, int]
) -> tuple[str, ...]:
    """Return a sentence for every limit that does not hold; `rows`: how many each table has.

    A score that could not be taken breaks its limit: nothing is taken for good because it is absent.
    """
    verify(config)
    told = []
    named = {f"{t}.{d}": s for t, d, s in dimensions(scores).iter_rows()}
    named |= {f"{t}.{m}": s for t, m, s in scores.select("table", "measure", "score").iter_rows()}
    for name, least in config.least.items():
        if name not in named:
            told.append(f"'{name}' could not be measured, and must be {least:g} or more. {did_you_mean(name, named)}")
        elif named[name] < least:
            told.append(f"'{name}' is {named[name]:.4f}, and must be {least:g} or more.")
    for code, most in config.most.items():
        if code == DRIFT:
            worst = drifts.head(1).select("table", "column", "psi").rows()
            if worst and worst[0][2] > most:
                table, column, moved = worst[0]
                told.append(f"'{table}.{column}' drifted by a PSI of {moved:.2f}, and {most:g} is the most.")
            continue
        for table, count in findings.filter(pl.col("code") == code).select("table", "rows").iter_rows():
            share = count / max(rows.get(table, 0), 1)
            if share > most:
                told.append(f"'{code}' is {share:.4f} of the rows of {table}, and {most:g} is the most.")
    return tuple(told)


def _no_share(where: str, name: str, limit: float) -> SettingsError:
    return SettingsError(
        f"habitue.toml [check.{where}]",
        found=f"'{name}' is limited by {limit:g}",
        consequence="No score or share is ever so",
        remedy="Give a number from 0 to 1 (drift: 0 or more)",
    )
