"""XML element by element, in memory that one element fills; a document that declares entities is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO
from xml.etree.ElementTree import Element
from xml.parsers import expat

from habitue.core.errors import InputError

DEPTH = 200  # elements inside each other; no feed or sheet comes near
_ELEMENT = 64 << 20  # letters in one element


def local(tag: str) -> str:
    """The name of an element without its namespace."""
    return tag.rpartition("}")[2]


def elements(content: IO[bytes], wanted: set[str], name: str) -> Iterator[Element]:
    """Yield every element with one of these local names, whole, in order; one inside another comes with the outer.

    Raises InputError: not well-formed, cut off, nested too deep, or with a declaration of entities (which can grow a
    thousand bytes into gigabytes, or read other files).
    """
    parser = expat.ParserCreate(namespace_separator="}")
    stack: list[Element] = []
    ready: list[Element] = []
    depth = letters = 0

    def forbidden(*_: object) -> None:
        raise InputError(
            name,
            found="the XML declares entities",
            consequence="They can grow without end or read other files, so the file was not read",
            remedy="Export it without a DOCTYPE",
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, letters
        depth += 1
        if depth > DEPTH:
            raise InputError(
                name,
                found=f"more than {DEPTH} XML elements are nested in each other",
                consequence="No feed is built so; the file was not read",
                remedy="Export it again",
            )
        if stack or local(tag) in wanted:
            element = Element(tag, attributes)
            if stack:
                stack[-1].append(element)
            else:
                letters = 0
            stack.append(element)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1
        if stack:
            element = stack.pop()
            if not stack:
                ready.append(element)

    def data(text: str) -> None:
        nonlocal letters
        if stack:
            letters += len(text)
            if letters > _ELEMENT:
                raise InputError(
                    name,
                    found=f"one XML element holds more than {_ELEMENT:,} letters",
                    consequence="It would not fit into memory",
                    remedy="Export the file again",
                )
            element = stack[-1]
            if len(element):
                element[-1].tail = (element[-1].tail or "") + text
            else:
                element.text = (element.text or "") + text

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    parser.EntityDeclHandler = forbidden
    try:
        while piece := content.read(1 << 16):
            parser.Parse(piece, False)
            yield from ready
            ready.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        fault = expat.ErrorString(error.code)
        raise InputError(
            name,
            found=f"the XML is broken or cut off in line {error.lineno:,} ({fault})",
            consequence="What follows cannot be read; nothing was stored",
            remedy="Export it again",
        ) from error
    yield from ready
