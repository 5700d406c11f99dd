"""Real data that comes with Habitue, under CC BY 4.0 and CC0; who made it stands in ATTRIBUTION.md."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

__all__ = ["attribution", "bandit", "launches", "ledger", "reviews", "sessions"]


class Ledger(NamedTuple):
    """A file of a shop and what its columns mean."""

    file: Path
    mapping: Path


class Bandit(NamedTuple):
    """Two logs of one page, under a random and a learning policy, and the features of the products shown."""

    random: Path
    bts: Path
    items: Path


def ledger() -> Ledger:
    """Return the UCI Online Retail ledger: 541,909 invoice lines of a UK web shop, and its mapping."""
    return Ledger(_path("online_retail.parquet"), _path("online_retail.toml"))


def launches() -> Ledger:
    """Return the catalogue of the 246 products that Online Retail first sold on or after 9 September 2011."""
    return Ledger(_path("online_retail_launches.csv"), _path("online_retail_launches.toml"))


def reviews() -> Path:
    """Return Women's E-Commerce Clothing Reviews: 23,486 texts with rating and "recommended"."""
    return _path("womens_clothing.parquet")


def sessions() -> Path:
    """Return UCI Online Shoppers Intention: 12,330 sessions, bought or not."""
    return _path("online_shoppers.parquet")


def bandit() -> Bandit:
    """Return the sample of the Open Bandit Dataset, campaign "men": 10,000 impressions under each policy."""
    return Bandit(
        _path("open_bandit_random_men.parquet"),
        _path("open_bandit_bts_men.parquet"),
        _path("open_bandit_items_men.parquet"),
    )


def attribution() -> Path:
    """Return the file that says who made the data, under which licence, and what was changed."""
    return _path("ATTRIBUTION.md")


def _path(name: str) -> Path:
    return Path(str(files(__name__) / name))
