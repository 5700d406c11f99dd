"""Draw the report dict as one HTML file that needs nothing else: no server, no network, no font.

The page is `templates/page.html.j2` with one file per section; `document.py` says what keeps it safe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from habitue.core.errors import SchemaError
from habitue.dashboard import document, figures, words

SCRIPTS = ("drawing.js", "charts.js", "more_charts.js", "tryit.js", "canvases.js", "page.js")


@dataclass(frozen=True)
class Section:
    """A part of the page after the headline: its key in the report dict, and the question it answers."""

    key: str
    title: str
    menu: str


SECTIONS = (
    Section("lost", "Who is lost?", "Lost customers"),
    Section("spend", "What will each spend?", "Spend"),
    Section("buy", "What will they buy?", "Next baskets"),
    Section("launches", "Products nobody had bought yet", "New products"),
    Section("try_it", "Try it", "Try it"),
    Section("personas", "Who are they?", "Personas"),
    Section("quality", "What the data is worth trusting", "Data quality"),
    Section("other_shops", "Other shops, never joined", "Other shops"),
)


def render(report: Mapping[str, Any]) -> str:
    """Return the page of a report dict as HTML; about 1.2 MB beside the report, most of it the charts.

    A section that is missing, None or {"absent": "why"} says so in its place; `meta` and `headline` may not be.
    Raises SchemaError naming what is missing or cannot be written as JSON.
    """
    for key in ("meta", "headline"):
        if not report.get(key):
            raise _broken(f"the report holds nothing under '{key}'")
    try:
        meta = report["meta"]
        return document.render(
            "page.html.j2",
            _json({"report": report, "words": words.for_scripts(meta["currency"])}),
            scripts=SCRIPTS,
            filters=_filters(meta),
            title=meta["title"],
            version=meta["version"],
            report=report,
            sections=SECTIONS,
            absent={s.key: _absent(report, s.key) for s in SECTIONS},
            models=words.MODELS,
            terms=words.TERMS,
        )
    except jinja2.UndefinedError as error:
        raise _broken(f"a value the page draws is missing ({error.message})") from error
    except KeyError as error:
        raise _broken(f"a value the page draws is missing ('{error.args[0]}')") from error
    except (TypeError, ValueError) as error:
        raise _broken(f"a value the page draws is of the wrong kind ({error})") from error


def write(report: Mapping[str, Any], folder: Path, *, name: str = "demo") -> Path:
    """Write `<name>.html` and `<name>.json` into `folder` (made when missing) and return the path of the page."""
    page = render(report)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(
        json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False), encoding="utf-8", newline="\n"
    )
    return document.save(page, folder / f"{name}.html")


def _filters(meta: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    currency, time_zone = meta["currency"], meta.get("time_zone", "UTC")
    return {
        "number": words.number,
        "percent": words.percent,
        "money": lambda value, digits=0: words.money(value, currency, digits),
        "date": lambda iso: words.date(iso, time_zone),
        "duration": words.duration,
        "plain": words.plain,
        "slice": words.slice_name,
        "model": words.model_name,
        "tidy": lambda text: words.tidy(text, currency),
        "opening": words.opening,
        "label": words.label,
        "largest": figures.largest,
        "learning": figures.learning,
        "measure": words.measure,
        "score": lambda value, metric: words.score(value, metric, currency),
        "gap": words.gap,
        "counted": words.counted,
        "mark": words.mark,
        "best": figures.best,
        "reach": figures.reach,
        "pivot": figures.pivot,
        "rows": figures.rows,
        "shown_models": figures.shown_models,
    }


def _json(data: Mapping[str, Any]) -> str:
    try:
        return document.embedded(data)
    except (TypeError, ValueError) as error:
        raise _broken(f"a value is not JSON ({error})") from error


def _absent(report: Mapping[str, Any], key: str) -> str | None:
    """Why a section is not there, or None when it is."""
    part = report.get(key)
    if not part:
        return "This run did not compute it."
    reason = part.get("absent")
    return None if reason is None else str(reason)


def _broken(found: str) -> SchemaError:
    return SchemaError(
        "dashboard.render",
        found=found,
        consequence="The page would be drawn with a hole nobody sees",
        remedy="Mend the summary that makes this part of the report, or leave the whole part out",
    )
