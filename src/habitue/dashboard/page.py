"""Draw the report dict as one HTML file that needs nothing else: no server, no network, no font.

The page is `templates/page.html.j2` with one file per section, `page.css`, and the scripts that draw. Whatever comes
from the shop is escaped by Jinja in the markup, embedded as JSON that cannot close its element, and put on the page
by the scripts as text, never as HTML. The Content-Security-Policy lets only the three known blocks (by hash) run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from habitue.core.errors import SchemaError
from habitue.dashboard import figures, words

HERE = Path(__file__).parent
SCRIPTS = ("drawing.js", "charts.js", "more_charts.js", "tryit.js", "page.js")


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
        data = _json({"report": report, "words": words.for_scripts(report["meta"]["currency"])})
        script, charts, style = _script(), _read("vendor/echarts.min.js"), _read("templates/page.css")
        page = _environment(report["meta"]).get_template("page.html.j2")
        return page.render(
            report=report,
            sections=SECTIONS,
            absent={s.key: _absent(report, s.key) for s in SECTIONS},
            policy=_policy(scripts=(charts, script), styles=(style,)),
            style=Markup(style),
            charts=Markup(charts),
            script=Markup(script),
            data=Markup(data),
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
    path = folder / f"{name}.html"
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _environment(meta: Mapping[str, Any]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    currency, time_zone = meta["currency"], meta.get("time_zone", "UTC")
    filters: dict[str, Callable[..., Any]] = {
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
    environment.filters |= {name: _strict(function) for name, function in filters.items()}
    environment.globals |= {"models": words.MODELS, "terms": words.TERMS}
    return environment


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that names the value it did not get, where Python would only name its type."""

    def filtered(value: Any, *settings: Any) -> Any:
        if isinstance(value, jinja2.Undefined):
            str(value)  # raises UndefinedError
        return function(value, *settings)

    return filtered


def _json(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element: no '<', '>' or '&', and no NaN."""
    try:
        text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise _broken(f"a value is not JSON ({error})") from error
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script() -> str:
    parts = "\n".join(_read(f"templates/{name}") for name in SCRIPTS)
    return f'(function () {{\n"use strict";\n{parts}}})();\n'


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _policy(*, scripts: tuple[str, ...], styles: tuple[str, ...]) -> str:
    """Content-Security-Policy: nothing may be loaded, and only these very blocks may run."""
    allowed = {"script-src": scripts, "style-src": styles}
    rules = [f"{name} {' '.join(_hash(block) for block in blocks)}" for name, blocks in allowed.items()]
    return "; ".join(["default-src 'none'", *rules, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _hash(block: str) -> str:
    digest = hashlib.sha256(block.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


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
