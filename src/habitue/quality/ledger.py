"""The lines of a shop as quality looks at them, and one row of FINDINGS from a mask or from a count."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from habitue.core.schemas import Events
from habitue.quality import rows
from habitue.quality.cancellations import matched

Finding = dict[str, object]  # one row of FINDINGS


@dataclass(frozen=True)
class Ledger:
    """The lines of one shop and what shares are taken of."""

    lines: pl.DataFrame  # EVENTS with known, repeat, matched and covered (bool)
    net: float
    unit: str  # before each sum in a sentence: the currency, where there is one

    def finding(
        self, code: str, dimension: str, where: pl.Expr | pl.Series, sentence: str, treatment: str
    ) -> Finding | None:
        """One row of FINDINGS; None when no row is touched. `sentence` may use {rows}, {orders}, {money}, {share}."""
        touched = self.lines.filter(where).select("order_id", value=rows.money())
        if touched.is_empty():
            return None
        money = round(float(touched["value"].sum()), 2) + 0.0
        orders = touched["order_id"].drop_nulls().n_unique()
        share = money / self.net if self.net else 0.0
        words = sentence.format(
            rows=f"{touched.height:,}",
            orders=f"{orders:,}",
            money=f"{self.unit}{money:,.2f}",
            share=f"{100 * share:.1f} %",
        )
        return {
            "code": code,
            "table": "events",
            "dimension": dimension,
            "sentence": words,
            "rows": touched.height,
            "orders": orders,
            "money": money,
            "share": share,
            "treatment": treatment,
        }


def ledger(events: Events, known: pl.DataFrame) -> Ledger:
    """Look at EVENTS as imported; `known`: user_key, known (false or absent = known only by a guest order)."""
    named = known.filter("known")["user_key"]
    lines = events.with_columns(
        known=pl.col("user_key").is_in(named.implode()),
        repeat=rows.is_repeat(events),
        matched=matched(events),
        covered=matched(events, whole=False),
    )
    currencies = events["currency"].drop_nulls().unique().to_list()
    unit = f"{currencies[0]} " if len(currencies) == 1 else ""
    return Ledger(lines, float(lines.select(rows.money().sum()).item()), unit)


def plain(code: str, table: str, dimension: str, sentence: str, rows: int, treatment: str) -> Finding:
    """One row of FINDINGS about rows without money."""
    return {
        "code": code,
        "table": table,
        "dimension": dimension,
        "sentence": sentence,
        "rows": rows,
        "orders": None,
        "money": 0.0,
        "share": 0.0,
        "treatment": treatment,
    }


def unbraced(text: str) -> str:
    """Keep braces of a shop's own words out of a format string."""
    return text.replace("{", "{{").replace("}", "}}")
