"""Products of web pages: what schema.org's JSON-LD says in their <script type="application/ld+json">."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from habitue.collect.sources.blocks import Record
from habitue.collect.sources.jsonl import loads
from habitue.core.errors import InputError

PAGE = 64 << 20  # bytes of a page


def products(content: bytes, name: str, *, first: int = 1) -> Iterator[tuple[int, Record | str]]:
    """Yield (number, product with its offer's `price`, `priceCurrency` and `brand` as plain fields).

    A script that is no JSON is "bad_record". Raises InputError when the page has no such script at all.
    """
    scripts = _Scripts()
    try:
        scripts.feed(content.decode("utf-8", errors="replace"))
    except AssertionError as error:  # how Python's parser says that a "<![" goes on with what no page has
        raise InputError(
            name,
            found=f"the page's HTML is damaged ({error})",
            consequence="No product can be read from it",
            remedy="Save it again, or export the catalogue as a Merchant feed or as CSV",
        ) from error
    if not scripts.found:
        raise InputError(
            name,
            found='the page has no <script type="application/ld+json">',
            consequence="No product can be read from it",
            remedy="Export the catalogue as a Merchant feed or as CSV",
        )
    number = first
    for script in scripts.found:
        try:
            nodes = list(_products(loads(script), depth=20))
        except (ValueError, RecursionError):
            yield number, "bad_record"
            number += 1
            continue
        for node in nodes:
            yield number, _flat(node)
            number += 1


class _Scripts(HTMLParser):
    """Collects the JSON-LD scripts of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = (dict(attrs).get("type") or "").partition(";")[0].strip().lower()
        self._inside = tag == "script" and kind == "application/ld+json"
        if self._inside:
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


def _products(node: Any, depth: int) -> Iterator[Record]:
    """Every node of type Product, however deep it lies."""
    if depth == 0:
        return
    if isinstance(node, list):
        for part in node:
            yield from _products(part, depth - 1)
    elif isinstance(node, dict):
        types = node.get("@type")
        if "Product" in (types if isinstance(types, list) else [types]):
            yield node
            return
        for value in node.values():
            yield from _products(value, depth - 1)


def _flat(product: Record) -> Record:
    """Put what lies in the offer, the brand and the rating beside the rest."""
    offers = product.get("offers")
    offer = offers[0] if isinstance(offers, list) and offers else offers
    offer = offer if isinstance(offer, dict) else {}
    brand = product.get("brand")
    ids = (product.get(k) for k in ("sku", "productID", "mpn", "gtin", "gtin13", "url", "@id"))
    flat = {k: v for k, v in product.items() if not k.startswith("@") and k not in ("offers", "brand")}
    return flat | {
        "id": next((i for i in ids if i), None),
        "brand": brand.get("name") if isinstance(brand, dict) else brand,
        "price": offer.get("price", offer.get("lowPrice")),
        "priceCurrency": offer.get("priceCurrency"),
        "availability": offer.get("availability"),
    }
