"""What every page is made of: one HTML file that needs nothing else, where only its own known blocks may run.

Whatever comes from the shop is escaped by Jinja in the markup, embedded as JSON that cannot close its element, and put
on the page by the scripts as text, never as HTML. The Content-Security-Policy lets only the known blocks (by hash) run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent


def render(
    template: str,
    data: str,
    *,
    scripts: Sequence[str],
    styles: Sequence[str] = ("page.css",),
    filters: Mapping[str, Callable[..., Any]],
    title: str,
    version: str,
    **values: Any,
) -> str:
    """Return a page as HTML: `template` with its `values` and `styles`, and `data` (`embedded`) for its `scripts`.

    About 1.2 MB beside the data, most of it the charts. Raises jinja2.UndefinedError when the template asks for a value
    that is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: _strict(function) for name, function in filters.items()}
    charts, style = _read("vendor/echarts.min.js"), "".join(_read(f"templates/{name}") for name in styles)
    drawing = "\n".join(_read(f"templates/{name}") for name in scripts)
    script = f'(function () {{\n"use strict";\n{drawing}}})();\n'
    return environment.get_template(template).render(
        title=title,
        version=version,
        policy=_policy(scripts=(charts, script), styles=(style,)),
        style=Markup(style),
        charts=Markup(charts),
        script=Markup(script),
        data=Markup(data),
        **values,
    )


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element: no '<', '>' or '&', and no NaN. Raises TypeError or ValueError."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def save(html: str, path: Path) -> Path:
    """Write a page, its folder made when missing, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")
    return path


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that names the value it did not get, where Python would only name its type."""

    def filtered(value: Any, *settings: Any) -> Any:
        if isinstance(value, jinja2.Undefined):
            str(value)  # raises UndefinedError
        return function(value, *settings)

    return filtered


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
