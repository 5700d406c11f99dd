from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HOSTILE = Path(__file__).parents[1] / "dashboard" / "report.json"


@dataclass
class Opened:
    """A page in a browser, and everything it should not have done."""

    tab: Any
    complaints: list[str] = field(default_factory=list)

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; playwright's own wait needs eval, which the page forbids."""
        for _ in range(200):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(50)
        raise AssertionError(f"not true after 10 seconds: {expression}")

    def drawn(self) -> None:
        """Wait until every chart has the width of its place, or has failed."""
        self.wait(
            "[...document.querySelectorAll('[data-chart]:not(.failed)')]"
            ".every((c) => c.dataset.drawn === String(c.clientWidth))"
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for the tests of a file; without one they fail and say what to install.

    It is closed after each file: Playwright runs once at a time in a process, and the trackers' tests open their own.
    """
    import chromium
    from playwright.sync_api import sync_playwright

    found = chromium.find()
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(found.path), args=list(found.args), env=dict(found.env) if found.env else None
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up report whose names try to break out."""
    from habitue.dashboard import write

    return write(json.loads(HOSTILE.read_text(encoding="utf-8")), tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def visit(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Open a page at a width; whatever it complains of, asks for or pops up is collected.

    With HABITUE_SCREENSHOTS=<folder> every test leaves pictures of what it saw.
    """
    contexts = []

    def open_page(path: Path, *, width: int = 1280, script: bool = True, scheme: str = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        tab = context.new_page()
        opened = Opened(tab)
        own = path.as_uri()
        tab.on("console", lambda m: opened.complaints.append(f"console {m.type}: {m.text}"))
        tab.on("pageerror", lambda e: opened.complaints.append(f"page error: {e}"))
        tab.on("dialog", lambda d: (opened.complaints.append(f"dialog: {d.message}"), d.dismiss()))
        tab.on("request", lambda r: r.url in (own, "data:,") or opened.complaints.append(f"request: {r.url}"))
        tab.goto(own)
        if script:
            opened.wait("document.documentElement.dataset.ready === 'true'")
            tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            opened.drawn()
        folder = os.environ.get("HABITUE_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            shot = Path(folder) / f"{request.node.name}-{width}-{scheme}.png".replace("/", "-")
            tab.screenshot(path=shot, full_page=True)
        return opened

    yield open_page
    for context in contexts:
        context.close()
