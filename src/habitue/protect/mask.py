"""Personal data in free text -> a word that says what stood there: "call [phone]".

Found by form, and by checksum where a form alone would fit any long number: cards (Luhn, ISO/IEC 7812-1), Chinese
resident ids (GB 11643-1999, ISO 7064 MOD 11-2) and IBANs (ISO 13616, ISO 7064 MOD 97-10). Names and addresses have no
form and are not found: a text that may hold them must not leave the shop.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import polars as pl

# letters of Chinese and the like are no part of an address: no space sets it apart from the words before it
_EMAIL = re.compile(r"[A-Za-zÀ-ɏ0-9_.+%'-]{1,64}@[A-Za-zÀ-ɏ0-9-]{1,63}(?:\.[A-Za-zÀ-ɏ0-9-]{1,63}){1,8}")
_CHINESE_ID = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[\dXx](?![0-9A-Za-z])")
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z])")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]\d|\d)")
# an international or Chinese mobile number, or a number said to be one: a price or an order number is left alone
_ABROAD = re.compile(r"(?<![A-Za-z0-9.+])\+[1-9]\d{0,2}[ .\-/()]*\d(?:[ .\-/()]*\d){5,12}(?![A-Za-z0-9])")
_PHONE = re.compile(
    r"(?<![\w.+])00[1-9]\d{0,2}[ .\-/()]*\d(?:[ .\-/()]*\d){5,12}(?!\w)"
    r"|(?<![0-9A-Za-z.+-])(?:86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}(?![0-9A-Za-z])"
    r"|(?<![\w.+])\(?0\d{1,4}\)?[ .\-/]\d{2,8}(?:[ .\-/]\d{2,8}){0,3}(?![\w])"
    r"|(?<![\w.+])\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}(?![\w])"
)
_SAID = re.compile(
    r"((?:phone|tel|telephone|mobile|cell|call|whatsapp|fax|电话|手机|手机号|联系方式|致电|联系电话|微信)\W{0,4}"
    r"(?:(?:no|number|at|on|me|me on|me at|is|号|号码|是|为)\W{0,3}){0,2})(\d(?:[ .\-/()]*\d){6,14})(?!\d)",
    re.IGNORECASE,
)
_WIDE = str.maketrans("０１２３４５６７８９＠．＋－（）　", "0123456789@.+-() ")
_MIGHT = r"[@\d０-９＠]"


def mask(text: str) -> str:
    """Return the text with e-mail addresses, cards, Chinese ids, IBANs and phone numbers replaced by their kind."""
    plain = text.translate(_WIDE)
    for pattern, kind, valid in _KINDS:
        plain = pattern.sub(_replacing(kind, valid), plain)
    plain = _SAID.sub(r"\1[phone]", plain)
    # nothing found: the text stays as it was written, wide letters and all
    return plain if plain != text.translate(_WIDE) else text


def masked(texts: pl.Series) -> pl.Series:
    """Mask a column of text; null stays null. Only texts with a digit or an @ cost anything (about 20 us each)."""
    suspects = texts.str.contains(_MIGHT).fill_null(False)
    if not suspects.any():
        return texts
    found = texts.filter(suspects).map_elements(mask, return_dtype=pl.String)
    return texts.scatter(suspects.arg_true(), found)


def is_card(number: str) -> bool:
    """Whether the digits of a number pass the Luhn check (ISO/IEC 7812-1, annex B) and are not all the same."""
    digits = [int(d) for d in number if d.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) if i % 2 else d for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def is_chinese_id(number: str) -> bool:
    """Whether 18 letters are a Chinese resident id: a birthday that exists, and GB 11643's check letter."""
    try:
        born = dt.datetime.strptime(number[6:14], "%Y%m%d")
    except ValueError:
        return False
    weight = sum(int(d) * pow(2, 17 - i, 11) for i, d in enumerate(number[:17]))
    return 1850 < born.year < 2100 and "10X98765432"[weight % 11] == number[17].upper()


def is_iban(number: str) -> bool:
    """Whether the letters and digits pass ISO 7064 MOD 97-10 after the first four are moved to the end."""
    plain = number.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _always(_: str) -> bool:
    return True


_KINDS: tuple[tuple[re.Pattern[str], str, Callable[[str], bool]], ...] = (
    (_EMAIL, "[email]", _always),
    (_ABROAD, "[phone]", _always),
    (_CHINESE_ID, "[id]", is_chinese_id),
    (_IBAN, "[iban]", is_iban),
    (_CARD, "[card]", is_card),
    (_PHONE, "[phone]", _always),
)


def _replacing(kind: str, valid: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
    return lambda match: kind if valid(match.group()) else match.group()
