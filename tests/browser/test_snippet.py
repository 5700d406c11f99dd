"""The script for shops without a tracker, in a real browser, against a real server, from a page of another origin."""

import functools
import gzip
import http.server
import signal
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from habitue.core import workspace
from habitue.core.schemas import CONSENT, EVENTS
from habitue.protect import identities

pytestmark = pytest.mark.slow
HABITUE = str(Path(sys.executable).with_name("habitue"))
SCRIPT = Path(__file__).parents[2] / "src/habitue/serve/habitue.js"
PAGE = """<!doctype html><title>Mugs</title>
<script>
window.habitue = window.habitue || [];
habitue.push(["track", "Coupon Entered", {{coupon_id: "SPRING"}}]);
</script>
<script async src="{server}/habitue.js" data-key="hbw_any" {more}></script>
<script type="application/ld+json">
{{"@graph": [{{"@type": "WebPage"}}, {{"@type": "Product", "sku": "mug-1", "name": "Red mug",
 "brand": {{"name": "Kiln"}}, "offers": {{"price": "7.50", "priceCurrency": "EUR"}}}}]}}</script>
<div data-habitue-list="home" data-habitue-recommendation="rec-9">
 <div data-habitue-item="bowl-1" data-habitue-position="1"><a href="#bowl">A bowl</a></div>
 <div data-habitue-item="bowl-2" data-habitue-position="2"><button data-habitue-add>Add</button></div>
</div>
<button id="add" data-habitue-add data-habitue-quantity="2">Add</button>
<div style="height: 4000px"></div>
<div data-habitue-item="far-away">never in sight</div>"""


class Serving:
    """`habitue serve` in a process of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [HABITUE, "serve", "--workspace", str(folder), "--port", str(port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip().removeprefix("Listening on ")
        assert self.address.startswith("http://127.0.0.1:")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0
        self.process.stdout.close()


@pytest.fixture
def shop(tmp_path):
    return workspace.init(tmp_path / "shop")


@pytest.fixture
def server(shop):
    serving = Serving(shop.root)
    yield serving
    if serving.process.poll() is None:
        serving.stop()


@pytest.fixture
def site(tmp_path, server):
    """A shop's own site on another port; returns its address and a function that writes a page."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()

    def page(name: str, more: str = "") -> str:
        (folder / name).write_text(PAGE.format(server=server.address, more=more), encoding="utf-8")
        return f"http://127.0.0.1:{listening.server_port}/{name}"

    yield page
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def tab(browser):
    context = browser.new_context(has_touch=True)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    context.close()


def ready(page) -> None:
    """Wait until the script has run."""
    page.wait_for_function("typeof (window.habitue || {}).track === 'function'")


def empty(page) -> None:
    """Wait until the server has said 200 to everything."""
    page.evaluate("habitue.flush()")
    page.wait_for_function("(localStorage.getItem('habitue.kept') || '[]') === '[]'", timeout=20_000)


def events(shop) -> pl.DataFrame:
    return shop.lake.read(EVENTS).sort("at", "event_id", "line")


def test_it_is_small_and_is_served_as_it_stands(server):
    import urllib.request

    with urllib.request.urlopen(f"{server.address}/habitue.js") as answer:
        assert answer.read() == SCRIPT.read_bytes() and answer.headers["Content-Type"].startswith("text/javascript")
        tag = answer.headers["ETag"]
    packed = urllib.request.Request(f"{server.address}/habitue.js", headers={"Accept-Encoding": "gzip, br"})
    with urllib.request.urlopen(packed) as answer:
        sent = answer.read()
        assert answer.headers["Content-Encoding"] == "gzip" and gzip.decompress(sent) == SCRIPT.read_bytes()
    assert len(sent) < 5_000
    asked = urllib.request.Request(f"{server.address}/habitue.js", headers={"If-None-Match": tag})
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(asked)


def test_a_visit(shop, server, site, tab):
    tab.goto(site("mug.html") + "?q=red+mug")
    ready(tab)
    tab.wait_for_timeout(1_600)  # both bowls are in sight for a second
    tab.click("a")
    tab.click("#add")
    tab.click("[data-habitue-item=bowl-2] button")
    tab.evaluate("habitue.identify('anna', {country: 'DE'})")
    tab.evaluate("""habitue.track('Order Completed', {order_id: 'o-1', currency: 'EUR', products: [
        {product_id: 'mug-1', price: 7.5, quantity: 2}, {product_id: 'bowl-2', price: 3, quantity: 1}]})""")
    tab.mouse.wheel(0, 900)
    tab.wait_for_function("window.scrollY > 500")
    tab.wait_for_timeout(300)
    tab.goto(site("other.html"))
    ready(tab)
    empty(tab)
    assert tab.complaints == []
    server.stop()
    found = events(shop)
    assert found["event_id"].n_unique() == found.unique(["event_id", "line"]).group_by("event_id").len().height
    one = {row["kind"]: row for row in found.to_dicts() if row["kind"] != "Page Viewed"}
    assert found.filter(kind="Page Viewed").height == 2
    assert (one["Product Viewed"]["item_id"], one["Product Viewed"]["price"]) == ("mug-1", 7.5)
    assert one["Products Searched"]["query"] == "red mug"
    listed = found.filter(kind="Product List Viewed").sort("position")
    assert listed.select("item_id", "position", "surface", "recommendation_id").rows() == [
        ("bowl-1", 1, "home", "rec-9"),
        ("bowl-2", 2, "home", "rec-9"),
    ]
    assert one["Product Clicked"]["item_id"] == "bowl-1" and one["Product Clicked"]["recommendation_id"] == "rec-9"
    added = found.filter(kind="Product Added").select("item_id", "quantity").sort("item_id").rows()
    assert added == [("bowl-2", 1.0), ("mug-1", 2.0)]
    assert found.filter(kind="Order Completed").sort("line").select("item_id", "price", "order_id").rows() == [
        ("mug-1", 7.5, "o-1"),
        ("bowl-2", 3.0, "o-1"),
    ]
    assert 1.0 < one["Dwelled"]["dwell_s"] < 60 and one["Dwelled"]["item_id"] == "mug-1"
    assert 0.1 < one["Scrolled"]["scroll"] < 0.9
    assert "far-away" not in found["item_id"].to_list()
    assert identities.lookup(shop.identities, "user_id", "anna") is not None
    assert found["session_id"].n_unique() == 1


def test_what_the_server_did_not_confirm_is_kept_and_stored_once(shop, server, site, tab):
    tab.goto(site("mug.html"))
    ready(tab)
    empty(tab)
    server.stop()
    tab.evaluate("habitue.track('Product Viewed', {product_id: 'while-away'}); habitue.flush()")
    tab.wait_for_timeout(500)
    assert "while-away" in tab.evaluate("localStorage.getItem('habitue.kept')")
    again = Serving(shop.root, int(server.address.rpartition(":")[2]))
    tab.evaluate("navigator.sendBeacon = () => true")  # the browser says it has sent it, and the message is lost
    tab.goto(site("other.html"))
    ready(tab)
    empty(tab)
    again.stop()
    assert events(shop).filter(item_id="while-away").height == 1


@pytest.mark.parametrize("how", ["asked for", "signalled"])
def test_nothing_is_kept_or_sent_without_consent(shop, server, site, tab, how):
    if how == "signalled":
        tab.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})")
    sent = []
    tab.on("request", lambda request: sent.append(request.url))
    tab.goto(site("mug.html", 'data-consent="ask"' if how == "asked for" else ""))
    ready(tab)
    tab.click("#add")
    tab.wait_for_timeout(2_500)
    assert not [url for url in sent if "/v1/" in url]
    assert tab.evaluate("Object.keys(localStorage)") == [] and tab.evaluate("habitue.visitor()") is None
    tab.evaluate("habitue.consent({analytics: true, personalisation: false})")
    tab.click("#add")
    empty(tab)
    tab.evaluate("habitue.consent({analytics: false})")
    empty(tab)
    tab.click("#add")
    tab.wait_for_timeout(2_500)
    assert tab.evaluate("localStorage.getItem('habitue.kept')") == "[]"
    server.stop()
    assert events(shop).filter(kind="Product Added").height == 1
    said = shop.lake.read(CONSENT).sort("at").select("purpose", "granted").rows()
    assert ("analytics", True) in said and ("personalisation", False) in said and said[-1] == ("analytics", False)


def test_swipes_rage_and_pages_that_change_in_place(shop, server, site, tab):
    tab.goto(site("mug.html"))
    ready(tab)
    tab.evaluate("""() => {
        const item = document.querySelector('[data-habitue-item=bowl-1]');
        const at = (x) => new Touch({identifier: 1, target: item, clientX: x, clientY: 20});
        const fire = (kind, x, held) => item.dispatchEvent(
            new TouchEvent(kind, {bubbles: true, touches: held ? [at(x)] : [], changedTouches: [at(x)]}));
        fire('touchstart', 200, true); fire('touchend', 80, false);
    }""")
    for _ in range(3):
        tab.mouse.click(300, 700)
    tab.evaluate("history.pushState({}, '', '/bowl')")
    tab.wait_for_timeout(200)
    empty(tab)
    server.stop()
    found = events(shop)
    assert found.filter(kind="Swiped")["item_id"].to_list() == ["bowl-1"]
    assert found.filter(kind="Rage Clicked").height == 1
    assert found.filter(kind="Page Viewed")["surface"].to_list() == ["/mug.html", "/bowl"]
