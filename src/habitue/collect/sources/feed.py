"""Merchant feeds in XML (RSS or Atom): one product an item or entry. Their TSV form is an ordinary TSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from habitue.collect.sources import markup
from habitue.collect.sources.blocks import Record


def products(content: IO[bytes], name: str) -> Iterator[tuple[int, Record | str]]:
    """Yield (number, attribute -> text) of each item; a repeated attribute is a list, one with parts a dict."""
    for number, element in enumerate(markup.elements(content, {"item", "entry"}, name), start=1):
        record: Record = {}
        for child in element:
            key = markup.local(child.tag)
            value: object = (child.text or "").strip() or child.get("href")
            if len(child):
                value = {markup.local(part.tag): (part.text or "").strip() for part in child}
            if key not in record:
                record[key] = value
            elif isinstance(record[key], list):
                record[key].append(value)
            else:
                record[key] = [record[key], value]
        yield number, record
