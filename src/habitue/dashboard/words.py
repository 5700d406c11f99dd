"""How the page says numbers, dates, models and measures in words."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

THIN = "\u202f"  # narrow no-break space, between a number and its sign
MINUS = "\u2212"
JOINER = "\u2060"  # no line breaks here: between a minus and the sign of a currency
SIGNS = {"GBP": "£", "EUR": "€", "USD": "$", "CNY": "¥", "JPY": "¥", "INR": "₹", "KRW": "₩"}


@dataclass(frozen=True)
class Measure:
    """A measure of the tables: its short name, which way is better, and one sentence for a shop's owner."""

    name: str
    better: str  # "higher", "lower" or "near 0"
    sentence: str


MEASURES = {
    "ndcg@10": Measure(
        "NDCG@10",
        "higher",
        "How well a list of ten holds what was then bought: 1 = the bought products stand on top, 0 = none is in it.",
    ),
    "hit@10": Measure(
        "Hit@10",
        "higher",
        "The share of customers who bought at least one of the ten products named to them.",
    ),
    "recall@10": Measure("Recall@10", "higher", "The share of what was bought that stood among the ten."),
    "mrr": Measure("MRR", "higher", "One over the place of the first product that was bought, on average."),
    "auc": Measure(
        "AUC",
        "higher",
        "Take one customer who was lost and one who was not: how often the lost one had the higher risk. "
        "0.5 is a coin, 1 is never wrong.",
    ),
    "ap": Measure("Average precision", "higher", "How pure the top of the list of the riskiest is, at every length."),
    "lift@10%": Measure("Lift, top tenth", "higher", "How many times more of the lost the riskiest tenth holds."),
    "brier": Measure("Brier", "lower", "The mean squared gap between the forecast chance and what happened."),
    "log_loss": Measure("Log loss", "lower", "Punishes a chance that was both sure and wrong; 0 is perfect."),
    "ece": Measure("Calibration error", "lower", "By how much the forecast chances differ from the observed shares."),
    "mae": Measure(
        "Mean error",
        "lower",
        "By how much money the forecast for one customer is wrong, on average, up or down.",
    ),
    "rmse": Measure("RMSE", "lower", "Like the mean error, but a large miss weighs more."),
    "mae_adjusted": Measure("Mean error, with season", "lower", "The same after the season factor."),
    "spearman": Measure(
        "Spearman",
        "higher",
        "How well the order from small to large spenders was foretold: 1 = the very order, 0 = no better than chance.",
    ),
    "bias": Measure("Bias", "near 0", "Total forecast against total fact; below zero is too low."),
    "bias_adjusted": Measure("Bias, with season", "near 0", "The same after the season factor."),
    "share_found": Measure("Bought of those told", "higher", "Of the customers named, how many bought the product."),
    "f1": Measure("F1", "higher", "Balances how many were found against how many of the found were right."),
    "value": Measure("Clicks a view", "higher", "How often a shown product would have been clicked."),
}

TERMS = (
    (
        "Interval",
        "The thin line beside a number: draw the customers again a thousand times, and the number stays within it "
        "95 times in 100. Two models whose intervals overlap widely may be equally good.",
    ),
    ("Seal", "The sha256 of the forecasts, printed before a later row was read: change one forecast, and it differs."),
    ("Lift", "How many times more often a group buys a product than all customers do."),
    (
        "Stability",
        "The groups are drawn 20 times from customers drawn again; 1 = always the same group, below 0.5 = do not "
        "build on it.",
    ),
    ("Calibrated", "Of the customers with a risk of 70 %, 70 in 100 are lost."),
)

MODELS = {
    "popularity": "what sold most in the last 30 days, the same list for everyone",
    "popular": "what this customer bought before, the recent first, then what sells now: the simple count to beat",
    "neighbours": "products often bought by the same people",
    "rules": "what is bought after what",
    "ease": "a linear map from all a customer bought to all products",
    "slist": "a linear map from all a customer bought to the very next order, repeats included",
    "als": "customers and products as short vectors (iALS)",
    "clv": "the classical formula of buying rhythm and spend (BG/NBD, Gamma-Gamma)",
    "trees": "LightGBM on declared features of each customer",
    "behaviour": "one network that reads the whole history, products, words and time",
    "blend": "the flagship and the simple models, weighed",
}

LABELS = {  # what people call a model
    "popularity": "30-day popularity",
    "popular": "personal repeat",
    "neighbours": "item neighbours",
    "rules": "what follows what",
    "ease": "EASE",
    "slist": "SLIST",
    "als": "iALS",
    "clv": "BG/NBD",
    "trees": "boosted trees",
    "behaviour": "the flagship",
    "blend": "the blend",
    "words": "words",
    "words_alone": "words alone",
    "appetite": "who likes new things",
    "busiest": "your busiest customers",
    "chance": "any customer, by chance",
    "product_share": "the product's own record",
    "trees_without_page_values": "boosted trees, without PageValues",
    "logistic_without_page_values": "logistic, without PageValues",
    "ips": "IPS",
    "snips": "SNIPS",
    "dm": "DM",
    "dr": "DR",
    "own_log": "its own log: the truth",
    "random": "random products",
}

MONEY = ("mae", "mae_adjusted", "rmse")  # measures in the shop's currency
SHARES = ("bias", "bias_adjusted", "share_found")  # measures said in per cent
SLICES = {"all": "any product", "repeat": "bought before", "first_time": "new to the customer"}

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"


def number(value: float | None, digits: int = 0) -> str:
    """1234567 -> '1,234,567'; None -> 'unknown'."""
    if value is None or not math.isfinite(value):
        return "unknown"
    text = f"{abs(value):,.{digits}f}"
    return f"{MINUS}{text}" if value < 0 and float(text.replace(",", "")) else text


def percent(share: float | None, digits: int = 1) -> str:
    """0.1234 -> '12.3 %', with a space that does not break."""
    if share is None or not math.isfinite(share):
        return "unknown"
    return f"{number(share * 100, digits)}{THIN}%"


def gap(share: float | None) -> str:
    """-0.332 -> '33.2 % below', 0.1 -> '10.0 % above'."""
    text = percent(None if share is None else abs(share))
    return text if share is None or not math.isfinite(share) else f"{text} {'below' if share < 0 else 'above'}"


def counted(n: int, thing: str) -> str:
    """1, 'product' -> '1 product'; 1234 -> '1,234 products'."""
    return f"{number(n)} {thing}{'' if n == 1 else 's'}"


def sign(currency: str) -> str:
    """'GBP' -> '£'; a currency without a sign of its own keeps its code and a space."""
    return SIGNS.get(currency, f"{currency}{THIN}")


def money(value: float | None, currency: str, digits: int = 0) -> str:
    """-1234.5, 'GBP' -> '−£1,234' (halves to even)."""
    text = number(value, digits)
    if text == "unknown":
        return text
    return f"{MINUS}{sign(currency)}{text[1:]}" if text.startswith(MINUS) else f"{sign(currency)}{text}"


def date(iso: str, time_zone: str = "UTC") -> str:
    """'2011-09-08T23:00:00Z', 'Europe/London' -> '9 September 2011'. A date without a time stays that date."""
    moment = dt.datetime.fromisoformat(iso)
    if len(iso) > 10 and moment.tzinfo is not None:
        moment = moment.astimezone(ZoneInfo(time_zone))
    return f"{moment.day} {moment:%B %Y}"


def duration(seconds: float | None) -> str:
    """214.2 -> '3 min 34 s'."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def measure(name: str) -> Measure:
    """The measure by that name; one the page has no words for keeps its name, and higher is taken as better."""
    return MEASURES.get(name, Measure(name, "higher", ""))


def plain(code: str) -> str:
    """'no_customer' -> 'no customer'."""
    return code.replace("_", " ")


def model_name(model: str) -> str:
    """'own_log' -> 'its own log: the truth'."""
    return LABELS.get(model, plain(model))


def slice_name(slice: str) -> str:
    """'repeat' -> 'bought before'."""
    return SLICES.get(slice, plain(slice))


def tidy(text: str, currency: str) -> str:
    """Set a sentence as the rest of the page is set: capital first, £ for GBP, a true minus, nothing torn apart.

    'of GBP -1,234.50, 9.2 % on 9 September 2011' -> 'Of −£1,234.50, 9.2 % on 9 September 2011', the last two with
    spaces that do not break.
    """
    money = rf"\b{re.escape(currency)} (-?)(?=\d)"
    text = re.sub(money, lambda found: (MINUS + JOINER if found[1] else "") + sign(currency), text)
    text = re.sub(r"(?<![\w.,])-(?=\d)", MINUS, text)
    text = re.sub(r"(?<=\d) ?%", f"{THIN}%", text)
    text = re.sub(rf"(\d{{1,2}}) ({MONTHS}) (\d{{4}})", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}\\3", text)
    return text[:1].upper() + text[1:]


def opening(text: str) -> tuple[str, str]:
    """The first sentence, and the others."""
    first, _, rest = text.partition(". ")
    return (f"{first}.", rest) if rest else (text, "")


def label(text: str) -> tuple[str, str]:
    """'Who is lost: of the 680 ...' -> ('Who is lost', 'of the 680 ...'); ('', text) without a short head."""
    head, colon, rest = text.partition(": ")
    return (head, rest) if colon and len(head) <= 30 else ("", text)


def for_scripts(currency: str) -> dict[str, Any]:
    """The words and signs the drawing scripts need, so that they stand in this file only."""
    return {
        "sign": sign(currency),
        "slices": SLICES,
        "labels": LABELS,
        "measures": {name: {"name": m.name, "better": m.better} for name, m in MEASURES.items()},
        "money": MONEY,
        "shares": SHARES,
    }


def score(value: float | None, metric: str, currency: str) -> str:
    """A measured value as its measure is said: money, per cent, or with the digits it deserves."""
    if value is None:
        return "unknown"
    if metric in MONEY:
        return money(value, currency)
    if metric in SHARES:
        return percent(value)
    return number(value, 0 if abs(value) >= 100 else 4 if abs(value) < 0.02 and metric == "value" else 3)


def mark(text: str, deciding: Sequence[Mapping[str, Any]]) -> Markup:
    """Escape `text` and put a `<mark>` of class "for" or "against" around each deciding word, by its weight's sign."""
    weights = {str(d["word"]).lower(): float(d["weight"]) for d in deciding}
    if not weights:
        return escape(text)
    found = re.compile(r"\b(" + "|".join(re.escape(w) for w in sorted(weights, key=len, reverse=True)) + r")\b", re.I)
    parts = [
        Markup('<mark class="{}">{}</mark>').format("for" if weights[part.lower()] > 0 else "against", part)
        if part.lower() in weights
        else escape(part)
        for part in found.split(text)
    ]
    return Markup("").join(parts)
