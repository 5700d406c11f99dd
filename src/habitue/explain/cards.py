"""A model card: what a model answers, what it was made of, how well it did (Mitchell et al., FAT* 2019)."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from habitue.core.errors import ModelError
from habitue.core.schemas import METRICS, Metrics, check

LIMITS = (
    "Measured on one shop and one period; another shop or season may differ.",
    "Customers known only by a guest order are not in the numbers.",
    "An interval covers the choice of customers, not another period or another training run.",
)


def card(metrics: Metrics, manifest: Mapping[str, Any], *, model: str) -> dict[str, Any]:
    """Return model, made_of (the manifest's plain entries), numbers (METRICS rows of this model) and limits.

    Raises ModelError when the model was never measured: a card without numbers is an advertisement.
    """
    check(metrics, METRICS, at="explain.card")
    names = ("dataset", "protocol", "slice", "metric", "mean", "low", "high", "n", "cpu_s")
    numbers = [{name: row[name] for name in names} for row in metrics.to_dicts() if row["model"] == model]
    if not numbers:
        raise ModelError(
            "explain.card",
            found=f"no number of model '{model}' is in METRICS",
            consequence="A card without numbers says nothing about how good the model is",
            remedy="Evaluate it first",
        )
    made_of = {key: value for key, value in sorted(manifest.items()) if isinstance(value, str | int | float)}
    return {"model": model, "made_of": made_of, "numbers": numbers, "limits": list(LIMITS)}


def to_markdown(told: Mapping[str, Any]) -> str:
    """Write the dict of `card` as Markdown; words from outside are escaped, an interval nobody can tell is '-'."""
    lines = [f"# {_cell(told['model'])}", "", "## Made of", "", "| what | value |", "|---|---|"]
    lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in told["made_of"].items()]
    lines += ["", "## Numbers", "", "| data | protocol | slice | metric | mean | 95 % interval | n | CPU-s |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in told["numbers"]:
        span = "-" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
        cost = "-" if row["cpu_s"] is None else f"{row['cpu_s']:.1f}"
        words = " | ".join(_cell(row[name]) for name in ("dataset", "protocol", "slice", "metric"))
        lines.append(f"| {words} | {row['mean']:.4g} | {span} | {row['n']:,} | {cost} |")
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in told["limits"]), ""]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return html.escape(" ".join(str(value).split())).replace("|", "\\|")
