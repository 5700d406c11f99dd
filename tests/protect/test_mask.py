import json
import random
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.protect.mask import is_card, is_chinese_id, is_iban, mask, masked

CARD, CHINESE_ID, IBAN = "4111 1111 1111 1111", "11010519491231002X", "DE89 3704 0044 0532 0130 00"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Write to ann.o'neil+shop@mail.example.co.uk!", "Write to [email]!"),
        ("我的邮箱是zhang@example.com，谢谢", "我的邮箱是[email]，谢谢"),
        (f"card {CARD}, thanks", "card [card], thanks"),
        ("card 4111111111111111.", "card [card]."),
        ("card 4111-1111-1111-1111", "card [card]"),
        (f"身份证{CHINESE_ID}", "身份证[id]"),
        (f"身份证号：{CHINESE_ID.lower()}。", "身份证号：[id]。"),
        (f"IBAN {IBAN}.", "IBAN [iban]."),
        ("iban DE89370400440532013000", "iban [iban]"),
        ("call +44 20 7946 0958 today", "call [phone] today"),
        ("call 0044 20 7946 0958", "call [phone]"),
        ("请打13812345678，急", "请打[phone]，急"),
        ("请打１３８１２３４５６７８", "请打[phone]"),
        ("+86 138-1234-5678", "[phone]"),
        ("(020) 7946 0958", "[phone]"),
        ("010-62781234", "[phone]"),
        ("212-555-0123 or (212) 555-0123", "[phone] or [phone]"),
        ("my phone number is 5550123456", "my phone number is [phone]"),
        ("电话：87654321", "电话：[phone]"),
        ("two: a@b.de, 13812345678", "two: [email], [phone]"),
    ],
)
def test_what_names_a_person_is_masked(text, shown):
    assert mask(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Order 202311180001234 of 2023-11-18 10:30:00",
        "3 mugs for 1,299.00 EUR, 50 % off",
        "4111 1111 1111 1112",  # no card: the check digit is wrong
        "110105194912310021",  # no id
        "11010519491331002X",  # no such day
        "DE88370400440532013000",
        "size 12-14, model X-200, SKU 0012345",
        "it is 12.5 x 30.25 cm",
        "version 1.2.3.4, 99999999999999999999999999",
        "很好，五星！２０２３年买的",
        "a@b, @home, user at example",
        "0000000000000000",
    ],
)
def test_other_numbers_stay(text):
    assert mask(text) == text


def test_checksums():
    assert is_card("4012 8888 8888 1881") and is_card("378282246310005") and not is_card("4012 8888 8888 1882")
    assert is_chinese_id("11010519491231002X") and is_chinese_id("440524188001010014")
    assert not is_chinese_id("440524188001010015")
    assert is_iban("GB82 WEST 1234 5698 7654 32") and not is_iban("GB82 WEST 1234 5698 7654 33")


@settings(deadline=None)
@given(number=st.integers(10**15, 10**16 - 1))
def test_one_card_number_in_ten_passes(number):
    ten = [is_card(f"{number // 10}{digit}") for digit in range(10)]
    assert sum(ten) == 1


@settings(deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_is_masked_once_and_for_all(text):
    once = mask(text)
    assert mask(once) == once


@settings(deadline=None)
@given(before=st.text(max_size=10), digits=st.integers(0, 10**8 - 1))
def test_a_mobile_number_is_found_in_any_text_that_ends_before_it(before, digits):
    number = f"138{digits:08d}"
    assert number not in mask(f"{before} {number}")


def test_a_column():
    texts = pl.Series("t", ["a@b.de", None, "fine", "", "138 1234 5678"])
    assert masked(texts).to_list() == ["[email]", None, "fine", "", "[phone]"]
    plain = pl.Series("t", ["fine", None])
    assert masked(plain).to_list() == ["fine", None]


def test_a_long_text_takes_no_time():
    """A regular expression that runs wild would take hours: a process of its own is ended, and that fails."""
    dice = random.Random(0)
    texts = ["1 " * 100_000, "a@" * 50_000, "+1" * 100_000, "".join(dice.choices("0123456789 -+.@", k=200_000))]
    script = "import json, sys\nfrom habitue.protect.mask import mask\nfor text in json.load(sys.stdin): mask(text)"
    subprocess.run([sys.executable, "-c", script], input=json.dumps(texts), text=True, check=True, timeout=60)
