"""A feature is a declaration; `features.py` compiles it for a table, `replay.py` updates it event by event.

| kind | what it is of the user's matching events strictly before the moment | empty |
|---|---|---|
| count | how many lines | 0 |
| sum | total of `column` | 0 |
| distinct | how many combinations of the columns `per` | 0 |
| decayed_sum | total of `column` (1 when None) x 2^(-age / half-life); with `per` only a combination's first line | 0 |
| last | total of `column` over the lines of the last moment: lines of one moment have no order | null |
| days_since_first, days_since_last | days to the moment | null |
| gap_mean, gap_std | mean and (population) standard deviation of the days between successive moments | null |
| ratio | first / second of the features named in `of` | null when the second is 0 or null |
| calendar | `column` of the moment itself, UTC: month 1-12, weekday 1-7 (Monday = 1) | - |
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import polars as pl

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.schemas import EVENTS, PURCHASE, REFUND

DAY_US = 86_400_000_000
TINY = 1e-12  # a variance below this share of the mean square is rounding
KINDS = (
    *("count", "sum", "distinct", "decayed_sum", "last", "days_since_first", "days_since_last", "gap_mean", "gap_std"),
    *("ratio", "calendar"),
)
TOTALS = ("count", "sum", "distinct")  # may be limited to a window
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Condition = tuple[str, str, float | str]  # column of EVENTS, operator, constant; a null column never matches


@overload
def days(microseconds: int) -> float: ...
@overload
def days(microseconds: pl.Expr) -> pl.Expr: ...
def days(microseconds: int | pl.Expr) -> float | pl.Expr:
    """Turn microseconds (an int or an expression of ints) into days; a whole number of days comes out whole.

    Written without a division by a constant: Polars divides one row and many rows by two rules that differ in the last
    bit, and what comes later in a table may not change what is before.
    """
    return microseconds // DAY_US + (microseconds % DAY_US) * (1 / DAY_US)


@dataclass(frozen=True)
class Feature:
    """One column of FEATURES. Raises SettingsError when the declaration makes no sense."""

    name: str
    kind: str
    column: str | None = None
    kinds: tuple[str, ...] = (PURCHASE,)  # event kinds that match
    where: tuple[Condition, ...] = ()  # all must hold as well
    per: tuple[str, ...] = ()
    half_life_days: float | None = None
    window_days: float | None = None  # only events in [moment - window, moment); for count, sum and distinct
    of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be computed."""
        problem = self._problem()
        if problem:
            found, remedy = problem
            raise SettingsError(
                f"feature '{self.name}'",
                found=found,
                consequence="It could not be computed the same way from a table and event by event",
                remedy=remedy,
            )

    def _problem(self) -> tuple[str, str] | None:
        columns = [c.name for c in EVENTS.columns]
        if self.kind not in KINDS:
            return f"there is no kind '{self.kind}'", did_you_mean(self.kind, KINDS)
        if self.kind == "calendar":
            known = self.column in ("month", "weekday")
            return None if known else (f"the calendar has no '{self.column}'", "Use month or weekday")
        if self.kind == "ratio":
            return None if len(self.of) == 2 else (f"a ratio of {len(self.of)} features", "Name two in `of`")
        for name in (self.column, *self.per, *(condition[0] for condition in self.where)):
            if name is not None and name not in columns:
                return f"EVENTS has no column '{name}'", did_you_mean(name, columns)
        for _, sign, _ in self.where:
            if sign not in OPERATORS:
                return f"there is no operator '{sign}'", did_you_mean(sign, OPERATORS)
        if self.kind in ("sum", "last") and self.column is None:
            return f"a {self.kind} of no column", "Set `column`"
        if self.kind == "distinct" and not self.per:
            return "distinct values of no column", "Set `per`"
        if (self.half_life_days is not None) != (self.kind == "decayed_sum"):
            return "only a decayed_sum has a half-life, and it must have one", "Set or drop `half_life_days`"
        if self.window_days is not None and self.kind not in TOTALS:
            return f"a {self.kind} has no window", f"Drop `window_days`, or use {', '.join(TOTALS)}"
        if any(days is not None and days <= 0 for days in (self.half_life_days, self.window_days)):
            return "a time of 0 days or less", "Give days above 0"
        return None


def check_declared(declared: Sequence[Feature]) -> None:
    """Hold a list of declarations together: names once, a ratio after the features it divides. Raises SettingsError."""
    seen: set[str] = set()
    for feature in declared:
        missing = [name for name in feature.of if name not in seen]
        if feature.name in seen or feature.name in ("user_key", "as_of") or missing:
            found = f"it divides '{missing[0]}', which is not declared before it" if missing else "the name is taken"
            raise SettingsError(
                f"feature '{feature.name}'",
                found=found,
                consequence="One column of FEATURES would be missing or written twice",
                remedy="Declare every name once, a ratio after its two parts",
            )
        seen.add(feature.name)


_BOTH = (PURCHASE, REFUND)
_REFUND = (REFUND,)

LEDGER: tuple[Feature, ...] = (
    Feature("order_count", "distinct", per=("order_id",)),
    Feature("lines", "count"),
    Feature("units", "sum", "quantity"),
    Feature("spend", "sum", "value"),
    Feature("items", "distinct", per=("item_id",)),
    Feature("order_items", "distinct", per=("order_id", "item_id")),
    Feature("days_since_last", "days_since_last"),
    Feature("days_since_first", "days_since_first"),
    Feature("gap_mean", "gap_mean"),
    Feature("gap_std", "gap_std"),
    Feature("gaps_since_last", "ratio", of=("days_since_last", "gap_mean")),
    *(Feature(f"orders_{d}d", "distinct", per=("order_id",), window_days=d) for d in (30, 90, 180)),
    *(Feature(f"spend_{d}d", "sum", "value", window_days=d) for d in (30, 90, 180)),
    *(Feature(f"items_{d}d", "distinct", per=("item_id",), window_days=d) for d in (90,)),
    *(Feature(f"orders_half_{d}d", "decayed_sum", per=("order_id",), half_life_days=d) for d in (15, 60, 240)),
    *(Feature(f"spend_half_{d}d", "decayed_sum", "value", half_life_days=d) for d in (15, 60, 240)),
    Feature("last_order_value", "last", "value"),
    Feature("last_order_units", "last", "quantity"),
    Feature("items_per_order", "ratio", of=("order_items", "order_count")),
    Feature("units_per_order", "ratio", of=("units", "order_count")),
    Feature("value_per_order", "ratio", of=("spend", "order_count")),
    Feature("price_per_unit", "ratio", of=("spend", "units")),
    Feature("new_item_share", "ratio", of=("items", "order_items")),  # 1 - share of repeats
    Feature("spend_90d_share", "ratio", of=("spend_90d", "spend")),
    Feature("refund_lines", "count", kinds=_REFUND),
    Feature("refunded", "sum", "value", kinds=_REFUND),
    Feature("refunded_90d", "sum", "value", kinds=_REFUND, window_days=90),
    Feature("refund_share", "ratio", of=("refunded", "spend")),
    Feature("days_since_refund", "days_since_last", kinds=_REFUND),
    Feature("net_half_60d", "decayed_sum", "value", kinds=_BOTH, half_life_days=60),
    Feature("month", "calendar", "month"),
    Feature("weekday", "calendar", "weekday"),
)
