"""Which letters the bytes of a file are, told from the bytes: UTF-8, UTF-16, GB18030, Shift-JIS or Windows-1252.

Pure ASCII reads the same in all of them (but UTF-16), so the choice is made at the first block that holds anything
else. It is a guess for what is not UTF-8, and a mapping may say `encoding` instead.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from habitue.core.errors import InputError

MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
SAMPLE = 1 << 18  # bytes a guess looks at
CHUNK = 1 << 22
MOSTLY = 0.9  # share of the bytes above 127 that are letters of UTF-8, from which the text is UTF-8 with damage
DAMAGED = 1_000  # with so many bytes to each zero it is a text with damage; packed bytes have 256


def detect(content: bytes) -> str:
    """Return the codec of a piece of text without a byte order mark: Python's name. Raises ValueError for none.

    UTF-8 when it decodes (random bytes hardly ever do), or when nearly all of its letters do: then a line is damaged,
    and reading names it, where another code would garble the others. Else two-byte letters are told by how many of them
    are common ones: first-level hanzi and punctuation of GB 2312, kana and first-level kanji of Shift-JIS. Bytes above
    127 that mostly stand alone between ASCII letters are Windows-1252 (Latin-1 where that has no letter for one).
    """
    piece = content[:SAMPLE]
    if all(byte < 128 for byte in piece[:256]) and piece.isascii():
        return "ascii"
    if _decodes(piece, "utf-8"):
        return "utf-8"
    high = [i for i, byte in enumerate(piece) if byte > 127]
    if sum(byte > 127 for byte in piece.decode("utf-8", "ignore").encode()) >= MOSTLY * len(high):
        return "utf-8"
    alone = sum((i == 0 or piece[i - 1] < 128) and (i + 1 == len(piece) or piece[i + 1] < 128) for i in high)
    if alone > 0.5 * len(high):
        return "cp1252" if _decodes(piece, "cp1252") else "latin-1"
    scores = {
        name: common(piece)
        for name, common in (("gb18030", _common_gb), ("cp932", _common_sjis))
        if _decodes(piece, name)
    }
    if scores:
        return max(scores, key=lambda name: scores[name])
    if alone > 0.2 * len(high):
        return "cp1252" if _decodes(piece, "cp1252") else "latin-1"
    raise ValueError("no encoding fits")


def mark(head: bytes) -> tuple[str, int] | None:
    """Return the codec a byte order mark names and its length, or None. UTF-16 is known without one by its zeros."""
    for bom, name in MARKS:
        if head.startswith(bom):
            return name, len(bom)
    even, odd = head[0:2000:2], head[1:2000:2]
    for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if zeros.count(0) > max(2, 0.1 * len(zeros)) and others.count(0) == 0:
            return name, 0
    return None


class Utf8:
    """The bytes of a stream as UTF-8, whatever they were; `encoding` is what they turned out to be."""

    def __init__(self, stream: BinaryIO, name: str, encoding: str | None) -> None:
        self._stream, self._name, self._asked = stream, name, encoding
        self.encoding = "utf-8"

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces of about 4 MB; a letter is never cut. Raises InputError naming the line at fault."""
        decoder: codecs.IncrementalDecoder | None = None
        line = 1
        first = True
        while True:
            piece = self._stream.read(CHUNK)
            if first:
                decoder, piece = self._start(piece)
                first = False
            if b"\x00" in piece and not self.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
                raise self._binary(piece, line)
            if decoder is None and not piece.isascii():
                self.encoding = self._detected(piece, line)
                decoder = _decoder(self.encoding)
            if decoder is None:
                letters = piece
            else:
                try:
                    letters = decoder.decode(piece, final=not piece).encode()
                except (UnicodeDecodeError, UnicodeEncodeError) as error:
                    start = error.start if isinstance(error, UnicodeDecodeError) else 0
                    raise self._broken(line + piece[:start].count(b"\n")) from error
            if b"\x00" in letters:
                raise self._binary(letters, line)
            line += letters.count(b"\n")
            if letters:
                yield letters
            if not piece:
                return

    def _start(self, piece: bytes) -> tuple[codecs.IncrementalDecoder | None, bytes]:
        marked = mark(piece)
        if self._asked is not None:
            self.encoding = self._asked
            length = marked[1] if marked is not None and _same(marked[0], self._asked) else 0
            return _decoder(self._asked), piece[length:]
        if marked is None:
            return None, piece
        self.encoding = marked[0]
        return _decoder(marked[0]), piece[marked[1] :]

    def _detected(self, piece: bytes, line: int) -> str:
        start = next(i for i, byte in enumerate(piece) if byte > 127)
        start = piece.rfind(b"\n", 0, start) + 1
        try:
            return detect(piece[start : start + SAMPLE])
        except ValueError as error:
            raise self._broken(line + piece[:start].count(b"\n")) from error

    def _binary(self, piece: bytes, line: int) -> InputError:
        """Name the line of a text that was damaged; what holds many such bytes is no text at all."""
        if piece.count(0) * DAMAGED <= len(piece):
            return InputError(
                self._name,
                found=f"line {line + piece[: piece.index(0)].count(10):,} holds a byte that no text has (0)",
                consequence="Whatever wrote it may have damaged the line, and the lines after it",
                remedy="Export it again, or mend the line",
            )
        return InputError(
            self._name,
            found="this is a binary file, no text",
            consequence="No row can be read from it",
            remedy="Export it as CSV, Parquet, JSON or Excel",
        )

    def _broken(self, line: int) -> InputError:
        name = {"utf-8": "UTF-8", "cp932": "Shift-JIS", "cp1252": "Windows-1252"}.get(
            self.encoding, self.encoding.upper()
        )
        return InputError(
            self._name,
            found=f"line {line:,} is not {name}",
            consequence="Names and titles would be garbled",
            remedy="If the line is damaged, mend it or export the file again; if all of the file is written in another "
            'encoding, name it in the mapping, such as: encoding = "gb18030"',
        )


def _decoder(name: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(name)("strict")


def _same(one: str, other: str) -> bool:
    return codecs.lookup(one).name.split("-")[:2] == codecs.lookup(other).name.split("-")[:2]


def _decodes(piece: bytes, name: str) -> bool:
    """Whether a piece decodes; a letter that the piece's end cuts is no fault."""
    try:
        _decoder(name).decode(piece, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _common_gb(piece: bytes) -> float:
    """Share of the two-byte letters that are first-level hanzi (lead B0 to D7), punctuation or full-width ASCII."""
    letters = common = i = 0
    while i + 1 < len(piece):
        if piece[i] < 128:
            i += 1
            continue
        letters += 1
        common += piece[i + 1] >= 0xA1 and (0xB0 <= piece[i] <= 0xD7 or 0xA1 <= piece[i] <= 0xA3)
        i += 2
    return common / max(letters, 1)


def _common_sjis(piece: bytes) -> float:
    """Share of the letters above ASCII that are full-width kana, punctuation or first-level kanji."""
    letters = common = i = 0
    while i + 1 < len(piece):
        lead = piece[i]
        if lead < 128:
            i += 1
            continue
        letters += 1
        if 0xA1 <= lead <= 0xDF:  # half-width katakana: rare in an export, and what GB letters look like
            i += 1
            continue
        kana = lead in (0x82, 0x83) and piece[i + 1] >= 0x40
        common += kana or lead == 0x81 or 0x88 <= lead <= 0x97
        i += 2
    return common / max(letters, 1)
