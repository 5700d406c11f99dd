"""An outcome as a sheet: who won, and the pictures behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import confusion_matrix, roc_curve

from habitue.bench.tasks.judging import BASELINE, LOWER, MAIN, WORDS, number
from habitue.bench.tasks.measuring import Answers, load
from habitue.bench.tasks.running import Outcome
from habitue.core import metrics
from habitue.core.metrics import Floats, Ints

CURVE = 200  # points of a ROC curve that are drawn
CLASSES = 20  # of a confusion matrix that can be read
DOTS = 1000  # rows of prediction against truth
COLUMNS = 15  # of importance
QUESTIONS = 3  # of a tree, one after the other
SHARES = ("brier", "log_loss", "log_loss_calibrated", "ece", "ece_calibrated")
PAIRS = 15  # most frequent mistakes told when there are many classes
Part = dict[str, Any]


def sheet(outcome: Outcome, *, version: str, at: str, command: str) -> dict[str, Any]:
    """Return a sheet as `dashboard.sheet.write` draws it."""
    best = _of(outcome, outcome.judged.best)
    sections = [
        {"title": "Every model on the same rows", "text": _how(outcome), "parts": _tables(outcome)},
        {"title": "How the answers hold", "text": _held(outcome, best), "parts": _answers(outcome, best)},
        {"title": "What the answers stand on", "text": _stands(outcome), "parts": _grounds(outcome)},
        {"title": "What to know", "text": _known(outcome), "parts": []},
    ]
    return {
        "title": _first(f"{outcome.plan.task}: {outcome.dataset}"),
        "lead": [outcome.judged.verdict],
        "sections": sections,
        "made": {"version": version, "at": at, "command": command},
    }


def wide(outcome: Outcome) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the metrics, the main one first, and a row a model, best first: metric -> (mean, low, high), cost."""
    rows: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    for row in outcome.judged.table.iter_rows(named=True):
        one = rows.setdefault(row["model"], {"model": row["model"], "cpu_s": row["cpu_s"], "peak_mb": row["peak_mb"]})
        one[row["metric"]] = (row["mean"], row["low"], row["high"])
        names += [row["metric"]] if row["metric"] not in names else []
    main = MAIN[outcome.data.target.kind]
    names = [main, *(n for n in names if n != main)]
    place = {name: i for i, name in enumerate(outcome.judged.ranking)}
    return names, sorted(rows.values(), key=lambda one: place.get(one["model"], len(place)))


def _tables(outcome: Outcome) -> list[Part]:
    names, rows = wide(outcome)
    main = names[0]
    shares = [n for n in names if n in SHARES]
    quality = _table(rows, [n for n in names if n not in SHARES], cost=True)
    better = "lower is better" if main in LOWER else "higher is better"
    interval = {
        "kind": "bars",
        "title": f"{_first(WORDS[main])} with 95 % intervals ({better})",
        "x": WORDS[main],
        "labels": [r["model"] for r in rows],
        "series": [
            {
                "name": WORDS[main],
                "values": [r[main][0] for r in rows],
                "low": [r[main][1] for r in rows],
                "high": [r[main][2] for r in rows],
            }
        ],
    }
    place = {row["model"]: i for i, row in enumerate(rows)}
    gaps = sorted(outcome.judged.differences.iter_rows(named=True), key=lambda row: place[row["model"]])
    paired = {
        "kind": "table",
        "title": f"Difference of {WORDS[main]} to the linear baseline on the same rows",
        "columns": [
            {"name": n, "align": "left" if n == "model" else "right"} for n in ("model", "mean", "low", "high")
        ],
        "rows": [[r["model"], *(_rounded(r[k]) for k in ("mean", "low", "high"))] for r in gaps],
    }
    told = [{**_table(rows, shares), "title": "How far the shares are from what came true"}] if shares else []
    return [quality, interval, paired, *told]


def _table(rows: list[dict[str, Any]], names: list[str], *, cost: bool = False) -> Part:
    """Return the models with these metrics, and what they cost."""
    columns = [{"name": "model", "align": "left"}, *({"name": WORDS[n], "align": "right"} for n in names)]
    cells = [[r["model"], *(number(n, r[n][0]) if n in r else None for n in names)] for r in rows]
    if cost:
        columns += [{"name": "CPU-seconds", "align": "right"}, {"name": "peak MB", "align": "right"}]
        cells = [[*c, f"{r['cpu_s']:,.1f}", f"{r['peak_mb']:,.0f}"] for c, r in zip(cells, rows, strict=True)]
    return {"kind": "table", "columns": columns, "rows": cells}


def _answers(outcome: Outcome, best: Answers) -> list[Part]:
    kind = outcome.data.target.kind
    if kind == "number":
        return [_dots(outcome, best)]
    parts = [_roc(outcome)] if kind == "binary" else []
    return [*parts, _calibration(outcome, best), _confusion(outcome, best)]


def _roc(outcome: Outcome) -> Part:
    series = []
    for one in outcome.answers:
        first = one.seed == one.seed.min()
        truth = outcome.data.target.values[one.row[first]]
        if np.unique(truth).size < 2:
            continue
        false, true, _ = roc_curve(truth, one.said[first, 1])
        kept = np.unique(np.linspace(0, false.size - 1, min(CURVE, false.size)).astype(int))
        points = [[round(float(x), 4), round(float(y), 4)] for x, y in zip(false[kept], true[kept], strict=True)]
        series.append({"name": one.model, "points": points, **({"dashed": True} if one.model == "constant" else {})})
    return {
        "kind": "lines",
        "title": "ROC: yes found against no taken for yes",
        "x": "share of no taken for yes",
        "y": "share of yes found",
        "series": series,
        "percent": ["x", "y"],
    }


def _calibration(outcome: Outcome, best: Answers) -> Part:
    """Draw forecast share against what came true, before and after; of several classes for the likeliest one."""
    first = best.seed == best.seed.min()
    truth = outcome.data.target.values[best.row[first]].astype(np.int64)
    series = [{"name": "perfect", "points": [[0, 0], [1, 1]], "dashed": True}]
    for name, shares in (("before", best.said[first]), ("after calibration", best.calibrated[first])):
        yes, came = shares[:, -1], truth
        if outcome.data.target.kind == "classes":
            yes, came = shares.max(axis=1), (shares.argmax(axis=1) == truth).astype(np.int64)
        bins = metrics.calibration(came, np.clip(yes, 0, 1))
        points = zip(bins.forecast, bins.observed, strict=True)
        series.append({"name": name, "points": [[round(float(x), 4), round(float(y), 4)] for x, y in points]})
    return {
        "kind": "lines",
        "title": f"Do the shares of '{best.model}' come true?",
        "x": "share said",
        "y": "share that came true",
        "series": series,
        "percent": ["x", "y"],
    }


def _confusion(outcome: Outcome, best: Answers) -> Part:
    classes = outcome.data.target.classes
    first = best.seed == best.seed.min()
    truth, guess = outcome.data.target.values[best.row[first]].astype(np.int64), best.guess[first]
    if len(classes) > CLASSES:
        return _mistakes(best.model, classes, truth, guess)
    counted = confusion_matrix(truth, guess, labels=range(len(classes)))
    shares = counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return {
        "kind": "heat",
        "title": f"What is taken for what by '{best.model}'",
        "x": "said",
        "y": "true",
        "x_labels": list(classes),
        "y_labels": [f"{c} ({n:,})" for c, n in zip(classes, counted.sum(axis=1), strict=True)],
        "values": [[round(float(v), 4) for v in row] for row in shares],
        "percent": True,
    }


def _mistakes(model: str, classes: tuple[str, ...], truth: Ints, guess: Ints) -> Part:
    wrong = pl.DataFrame({"true": truth, "said": guess}).filter(pl.col("true") != pl.col("said"))
    counted = wrong.group_by("true", "said").len().sort(["len", "true", "said"], descending=[True, False, False])
    return {
        "kind": "table",
        "title": f"The most frequent mistakes of '{model}'",
        "columns": [{"name": "true"}, {"name": "said"}, {"name": "rows", "align": "right"}],
        "rows": [[classes[t], classes[s], n] for t, s, n in counted.head(PAIRS).iter_rows()],
    }


def _dots(outcome: Outcome, best: Answers) -> Part:
    first = np.flatnonzero(best.seed == best.seed.min())
    some = np.sort(np.random.default_rng(0).permutation(first)[:DOTS])
    truth: Floats = outcome.data.target.values[best.row[some]].astype(np.float64)
    points = [[_rounded(float(t)), _rounded(float(s))] for t, s in zip(truth, best.said[some], strict=True)]
    return {
        "kind": "scatter",
        "title": f"Said by '{best.model}' against the truth",
        "x": "true",
        "y": "said",
        "groups": [{"name": best.model, "points": points}],
    }


def _grounds(outcome: Outcome) -> list[Part]:
    parts: list[Part] = []
    best = outcome.judged.best
    for name, told in sorted(outcome.importance.items(), key=lambda pair: pair[0] != best):
        shown = told.head(COLUMNS)
        low = [_rounded(m - s) for m, s in shown.select("importance", "spread").iter_rows()]
        high = [_rounded(m + s) for m, s in shown.select("importance", "spread").iter_rows()]
        parts.append(
            {
                "kind": "bars",
                "title": f"What '{name}' loses when a column is mixed",
                "x": f"{WORDS[MAIN[outcome.data.target.kind]]} lost",
                "labels": shown["column"].to_list(),
                "series": [
                    {"name": name, "values": [_rounded(v) for v in shown["importance"]], "low": low, "high": high}
                ],
            }
        )
    for one in outcome.answers:
        model = load(one.model)
        if hasattr(model, "picture") and one.first is not None:
            state = one.first[0] if one.recipe is None else one.first[0].model
            root = _first_questions(model.picture(state), QUESTIONS)
            parts.append({"kind": "tree", "title": f"How '{one.model}' decides: its first questions", "root": root})
    return parts


def _first_questions(node: dict[str, Any], levels: int) -> dict[str, Any]:
    """Return the tree down to `levels` questions; a picture of more cannot be read."""
    if levels == 0 or "children" not in node:
        return {key: value for key, value in node.items() if key != "children"}
    return {**node, "children": [_first_questions(child, levels - 1) for child in node["children"]]}


def _how(outcome: Outcome) -> list[str]:
    data = outcome.data
    rows = np.unique(outcome.answers[0].row).size
    over = "rows" if data.table.group is None else "whole groups"
    lines = [
        f"{rows:,} rows answered by models that never saw them ({outcome.protocol}"
        f"{f', {outcome.plan.seeds} seeds' if outcome.plan.seeds > 1 else ''}); intervals from drawing {over} again."
    ]
    stopped = [f"'{one.model}': {one.stopped}." for one in outcome.answers if one.stopped]
    return lines + stopped


def _held(outcome: Outcome, best: Answers) -> list[str]:
    if outcome.data.target.kind == "number":
        return ["Each dot is one row; on the diagonal what was said is what came."]
    manner = "; ".join(best.manners)
    lines = [f"Shares are brought to what comes true on rows held back inside each fold (manner: {manner})."]
    if outcome.data.target.kind == "binary":
        lines.append("Yes or no is said by the threshold with the best F1 of the rarer class on those same rows.")
    return lines


def _stands(outcome: Outcome) -> list[str]:
    best = outcome.judged.best
    both = f"'{best}' and '{BASELINE}'" if best != BASELINE else f"'{best}'"
    return [
        f"One column at a time is mixed among held-out rows, and {both} asked again. Columns that say the same "
        "cover for each other."
    ]


def _known(outcome: Outcome) -> list[str]:
    chance = outcome.chance
    mixed = ", ".join(f"'{name}' {score:.3f}" for name, score in chance.scores)
    check = (
        f"Permutation check passed: on mixed labels {mixed} ({chance.metric}), where chance gives "
        f"{chance.expected:.3f}, give or take {chance.allowed:.3f}."
    )
    return [check, *(f"{_first(note)}." for note in outcome.notes)]


def _of(outcome: Outcome, model: str) -> Answers:
    return next(one for one in outcome.answers if one.model == model)


def _rounded(value: float | None) -> float | None:
    """Keep six decimals, or four figures of a number above 1,000."""
    if value is None:
        return None
    return float(f"{value:.4g}") if abs(value) >= 1000 else round(float(value), 6)


def _first(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
