"""Models of one labelled table: yes or no, one of several classes, or a number. One file is one model.

A model's file defines

    KINDS                                    which of "binary", "classes", "number" it answers
    Config                                   frozen dataclass of settings; `tuned` fields say what tuning may try
    fit(table, target, config, *, runtime, clock) -> State
    answer(state, table) -> float64          [N, classes] shares that add up to 1, or [N] numbers

and may define

    needs(table) -> str | None               why it cannot read this table, in words; None = it can
    importance(state) -> DataFrame           column, importance: shares that add up to 1, largest first
    picture(state) -> dict                   the tree it decides by: {"name", "value", "note", "children"}
    path(state, table) -> list[str]          how it decided the one row of `table`, a sentence a step

Whatever is fitted (scales, levels of categories, weights of n-grams, calibration) is fitted on the rows given to `fit`
and no others. Same rows, seed, machine and threads: same answers. A model that works in steps looks at `clock` and
keeps what it has when the time is up. A class that no row had gets the share of `target.Target.spread`.
"""

from habitue.model.tabular.table import Clock, Kind, Table, Target, deal, stacked

__all__ = ["Clock", "Kind", "Table", "Target", "deal", "stacked"]
