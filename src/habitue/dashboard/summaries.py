"""Tables to the plain dicts that the page draws; nothing is fitted or measured here, only chosen and named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from habitue import explain
from habitue.apply import risk, spend
from habitue.apply.launches import Launches
from habitue.core.schemas import Events, Findings, Metrics, Quality
from habitue.evaluate.paired import Verdict
from habitue.evaluate.tasks import calibration, gains
from habitue.model.past import Past
from habitue.pipeline import Forecast, Outcome
from habitue.protect.people import pseudonym

SHOWN = ("model", "slice", "metric", "mean", "low", "high", "n", "cpu_s")
PAIRED = ("model", "against", "slice", "metric", "mean", "low", "high")
DROPPED = {
    "exact_repeat": "The same line twice in the same moment of an order; the first is kept.",
    "negative_quantity": "Fewer than 0 units on a line that is no cancellation: a correction of the stock.",
    "zero_quantity": "No unit was sold.",
    "negative_price": "A price below 0: a correction in the books.",
    "zero_price": "Given away or corrected: no money passed.",
}


def metrics(table: Metrics, *, protocol: str, only: Sequence[str]) -> list[dict[str, Any]]:
    """Return METRICS rows of a protocol (by the start of its name) and some metrics, as the page's tables read them."""
    rows = table.filter(pl.col("protocol").str.starts_with(protocol), pl.col("metric").is_in(list(only)))
    return rows.select(SHOWN).to_dicts()


def lost(forecast: Forecast, outcome: Outcome, named: risk.Risk | None, verdict: Verdict) -> dict[str, Any]:
    """Section 2: the gains curve on the truth, and ten customers with money at stake."""
    keys, labels = forecast.past.histories.user_keys, outcome.labels
    rows = [] if named is None else named.customers.to_dicts()
    return {
        "metrics": metrics(outcome.metrics, protocol="churn", only=("auc", "ap", "log_loss", "brier", "lift@10%")),
        "gains": [
            {"model": name, "points": [list(point) for point in gains(answer, labels, keys, model=name)]}
            for name, answer in forecast.answers.items()
        ],
        "calibration": [
            {"model": name, "bins": calibration(answer, labels, keys, model=name).to_dicts()}
            for name, answer in forecast.answers.items()
        ],
        "customers": [
            {
                "customer": pseudonym(row["user_key"]),
                "risk": row["risk"],
                "stake": row["stake"],
                "last_order": row["last_order"].isoformat(),
                "orders": row["orders"],
                "happened": {"came_back": row["came_back"], "money": row["money"]},
            }
            for row in rows
        ],
        "verdict": _capital(verdict.sentence if named is None else f"{verdict.sentence} {named.verdict}"),
    }


def spending(told: spend.Spend, outcome: Outcome, verdict: Verdict) -> dict[str, Any]:
    """Section 3: deciles forecast against actual, the bias named, the season-adjusted one beside if one was stated."""
    adjusted = ("bias_adjusted",) * (told.season.factor != 1)
    return {
        "metrics": metrics(outcome.metrics, protocol="value", only=("mae", "spearman", "bias", *adjusted)),
        "deciles": told.deciles.to_dicts(),
        "totals": {
            "forecast": told.forecast,
            "adjusted": told.adjusted,
            "actual": told.actual,
            "bias": told.bias.mean,
            "bias_adjusted": told.bias_adjusted.mean,
        },
        "season": {"factor": told.season.factor, "source": told.season.source},
        "verdict": f"{told.verdict} {_capital(verdict.sentence)}",
    }


def buy(
    forecast: Forecast,
    outcome: Outcome,
    verdict: Verdict,
    *,
    score: Callable[[Past], Any],
    model: str,
    customers: int = 3,
    n: int = 10,
) -> dict[str, Any]:
    """Section 4: the model table, and customers, their ten, what came true and why it was said.

    The customers are those with the most products in their history among the users whose next order is of usual size,
    picked without looking at whether the forecast came true.
    """
    past, titles = forecast.past, forecast.titles
    shown = []
    for user in _typical(outcome, past, customers):
        order = np.argsort(-forecast.ranks[model][user], kind="stable")[:n]
        because: dict[str, list[dict[str, Any]]] = {}
        for row in explain.reasons(score, past, user, order.tolist(), model=model).to_dicts():
            because.setdefault(row["item_id"], []).append(
                {
                    "item_id": row["because"],
                    "title": titles.get(row["because"], row["because"]),
                    "rank_with": row["rank_with"],
                    "rank_without": row["rank_without"],
                }
            )
        bought = {past.items[i] for i in outcome.target[user].indices}
        shown.append(
            {
                "customer": pseudonym(int(past.histories.user_keys[user])),
                "bought": sorted(titles.get(item, item) for item in bought),
                "list": [
                    {
                        "rank": place,
                        "item_id": past.items[i],
                        "title": titles.get(past.items[i], past.items[i]),
                        "hit": past.items[i] in bought,
                        "because": because.get(past.items[i], []),
                    }
                    for place, i in enumerate(order, start=1)
                ],
            }
        )
    paired = outcome.paired.filter(pl.col("metric") == "ndcg@10").select(PAIRED)
    return {
        "metrics": metrics(outcome.metrics, protocol="BASKET", only=("ndcg@10", "hit@10", "recall@10")),
        "paired": paired.to_dicts(),
        "customers": shown,
        "verdict": _capital(verdict.sentence),
    }


def launches(found: Launches, titles: Mapping[str, str], note: str) -> dict[str, Any]:
    """Section 5: products nobody had bought yet, whom to tell, beside the shop's busiest customers."""
    share = {row["model"]: row for row in found.metrics.to_dicts()}
    named: dict[str, list[dict[str, Any]]] = {}
    for row in found.told.sort("item_id", "rank").to_dicts():
        named.setdefault(row["item_id"], []).append({"customer": pseudonym(row["user_key"]), "bought": row["bought"]})
    return {
        "n_products": found.n_new,
        "n_measured": found.n_measured,
        "share_found": share["words"]["mean"],
        "low": share["words"]["low"],
        "high": share["words"]["high"],
        "baseline_busiest": share["busiest"]["mean"],
        "chance": share["chance"]["mean"],
        "metrics": found.metrics.select(SHOWN).to_dicts(),
        "products": [
            {
                "item_id": row["item_id"],
                "title": titles.get(row["item_id"], row["item_id"]),
                "buyers": row["buyers"],
                "told": named[row["item_id"]],
            }
            for row in found.products.head(24).to_dicts()
        ],
        "verdict": found.verdict,
        "note": note,
    }


def trust(findings: Findings, scores: Quality, dropped: pl.DataFrame, refused: int) -> dict[str, Any]:
    """Section 8: what the data is worth trusting, in money."""
    worst = findings.sort(pl.col("money").abs(), descending=True).row(0, named=True) if findings.height else None
    verdict = "Nothing was found that a forecast would have to mind."
    if worst is not None:
        verdict = f"{findings.height} things were found without being told. The largest in money: {worst['sentence']}"
    return {
        "findings": findings.to_dicts(),
        "scores": scores.to_dicts(),
        "dropped": [row | {"sentence": DROPPED[row["code"]]} for row in dropped.to_dicts()],
        "refused": refused,
        "verdict": verdict,
    }


def weeks(events: Events, cut: dt.datetime, until: dt.datetime) -> list[dict[str, Any]]:
    """Return week (its Monday), money and opened: the shop's net sales, week by week."""
    seen = events.filter(pl.col("at") < until)
    by_week = seen.group_by(week=pl.col("at").dt.truncate("1w"), opened=pl.col("at") >= cut).agg(pl.col("value").sum())
    return [
        {"week": f"{row['week']:%Y-%m-%d}", "money": round(row["value"], 2), "opened": row["opened"]}
        for row in by_week.sort("week", "opened").to_dicts()
    ]


def headline(
    forecast: Forecast, outcome: Outcome, findings: Findings, verdicts: Mapping[str, Verdict]
) -> dict[str, Any]:
    """Section 1: three sentences, one more where currencies were added up, and money found, foretold and missed.

    Found: sales that name no customer, or the largest sum quality found where all do. Foretold: per customer the
    smaller of forecast and actual.
    Missed: what customers spent beyond their forecast; foretold + missed = all they spent.
    """
    model = "blend"
    told = forecast.answers[model].join(
        outcome.labels.select("user_key", actual="value", churned="churned"), on="user_key"
    )
    actual = pl.col("actual").clip(lower_bound=0)
    foretold = float(told.select(pl.min_horizontal(pl.col("value"), actual).sum()).item())
    spent = float(told.select(actual.sum()).item())
    rank = verdicts["rank"]
    alone = _flagship_alone(outcome)
    lost_first = alone is not None or not (rank.best in ("behaviour", "blend") and rank.clear)
    fifth = told.sort("churn", "user_key", descending=[True, False]).head(told.height // 5)
    named, gone = int(fifth["churned"].sum()), int(told["churned"].sum())
    found = _found(findings)
    return {
        "sentences": [
            f"What they will buy: {alone or ''}{_inside(rank.sentence)}",
            f"Who is lost: of the {fifth.height:,} customers held most at risk (a fifth of {told.height:,}), {named:,} "
            f"never came back in {forecast.past.horizon_days} days; that is {named / max(gone, 1):.0%} of the "
            f"{gone:,} who were lost.",
            f"What they will spend: {foretold / max(spent, 1):.0%} of the money was foretold customer by customer, "
            "the rest was missed.",
            *(f"The money: {mixed}" for mixed in findings.filter(pl.col("code") == "several_currencies")["sentence"]),
        ],
        "money": {"found": abs(found["money"]), "foretold": foretold, "missed": spent - foretold},
        "money_words": {
            "found": found["sentence"],
            "foretold": "what customers spent, up to what was forecast for each",
            "missed": "what customers spent beyond their forecast",
        },
        "flagship_lost": lost_first,
    }


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _inside(sentence: str) -> str:
    """Return a sentence to go on with after a colon or semicolon."""
    return sentence[:1].lower() + sentence[1:] if sentence.startswith(("No ", "The ")) else sentence


def _flagship_alone(outcome: Outcome) -> str | None:
    """Return the sentence that the flagship by itself is no better than personal repeat, or None when it is."""
    lead = outcome.paired.filter(model="behaviour", slice="all", metric="ndcg@10").row(0, named=True)
    if lead["low"] is not None and lead["low"] > 0:
        return None
    by_itself = outcome.metrics.filter(slice="all", metric="ndcg@10").rows_by_key("model", named=True, unique=True)
    scored, count = by_itself["behaviour"]["mean"], by_itself["popular"]["mean"]
    return f"the flagship alone does not beat personal repeat (NDCG@10 {scored:.3f} against {count:.3f}); "


def _found(findings: Findings) -> dict[str, Any]:
    nameless = findings.filter(pl.col("code") == "no_customer")
    rows = nameless if nameless.height else findings.sort(pl.col("money").abs(), descending=True)
    return rows.row(0, named=True) if rows.height else {"money": 0.0, "sentence": "Nothing was found."}


def _typical(outcome: Outcome, past: Past, count: int) -> list[int]:
    """Return users with a next order of at least five products and a history of 10 to 60 products, spread evenly."""
    distinct = np.array(
        [len(np.unique(past.histories.take([user]).row_item)) for user in range(len(past.histories.user_keys))]
    )
    size = np.diff(outcome.target.indptr)
    fit = np.flatnonzero((size >= 5) & (distinct >= 10) & (distinct <= 60))
    if fit.size < count:
        fit = np.flatnonzero(size > 0)
    return [int(user) for user in fit[np.linspace(0, fit.size - 1, min(count, fit.size)).astype(int)]]
