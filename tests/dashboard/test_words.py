from __future__ import annotations

import math

import pytest

from habitue.dashboard import words


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (1234567.4, 0, "1,234,567"),
        (-1234.5678, 2, "−1,234.57"),
        (-0.4, 0, "0"),
        (-0.004, 2, "0.00"),
        (None, 0, "unknown"),
        (math.nan, 1, "unknown"),
        (math.inf, 1, "unknown"),
    ],
)
def test_number(value: float | None, digits: int, said: str) -> None:
    assert words.number(value, digits) == said


def test_percent_keeps_its_sign_with_its_number() -> None:
    assert words.percent(0.1234) == "12.3\u202f%"
    assert words.percent(-0.5, 0) == "−50\u202f%"
    assert words.percent(None) == "unknown"


def test_money() -> None:
    assert words.money(1234567.4, "GBP") == "£1,234,567"
    assert words.money(-1234.5, "EUR", 2) == "−€1,234.50"
    assert words.money(12.0, "CHF") == "CHF\u202f12"
    assert words.money(None, "GBP") == "unknown"
    assert words.money(-0.2, "GBP") == "£0"


def test_gap_says_which_way() -> None:
    assert words.gap(-0.332) == "33.2\u202f% below"
    assert words.gap(0.1) == "10.0\u202f% above"
    assert words.gap(None) == "unknown"


def test_counted() -> None:
    assert [words.counted(n, "product") for n in (0, 1, 2345)] == ["0 products", "1 product", "2,345 products"]


def test_date_is_the_day_on_the_shops_clock() -> None:
    assert words.date("2011-09-08T23:00:00Z", "Europe/London") == "9 September 2011"
    assert words.date("2011-09-08T23:00:00+00:00") == "8 September 2011"
    assert words.date("2011-06-10", "America/New_York") == "10 June 2011"
    assert words.date("2011-06-10T01:00:00", "America/New_York") == "10 June 2011"


def test_duration() -> None:
    assert [words.duration(s) for s in (None, 4.4, 59.6, 214.2)] == ["unknown", "4 s", "1 min 0 s", "3 min 34 s"]


def test_a_score_is_said_as_its_measure_is() -> None:
    assert words.score(634.2, "mae", "GBP") == "£634"
    assert words.score(-0.332, "bias", "GBP") == "−33.2\u202f%"
    assert words.score(0.2741, "ndcg@10", "GBP") == "0.274"
    assert words.score(0.00569, "value", "GBP") == "0.0057"
    assert words.score(0.00569, "ndcg@10", "GBP") == "0.006"
    assert words.score(123.4, "lift@10%", "GBP") == "123"
    assert words.score(None, "auc", "GBP") == "unknown"


def test_marked_words_are_whole_words_and_the_rest_is_escaped() -> None:
    marked = words.mark(
        "Cheap & cheaply <b>made</b>, cheap cut.",
        [{"word": "cheap", "weight": -1.0}, {"word": "cheap cut", "weight": -0.5}, {"word": "made", "weight": 2}],
    )
    assert str(marked) == (
        '<mark class="against">Cheap</mark> &amp; cheaply &lt;b&gt;<mark class="for">made</mark>&lt;/b&gt;, '
        '<mark class="against">cheap cut</mark>.'
    )
    assert str(words.mark("<i>", [])) == "&lt;i&gt;"


def test_names() -> None:
    assert words.plain("no_customer") == "no customer"
    assert words.slice_name("first_time") == "new to the customer"
    assert words.slice_name("warm_items") == "warm items"
    assert words.model_name("own_log") == "its own log: the truth"
    assert words.model_name("my_model") == "my model"
    assert words.measure("auc").name == "AUC"
    assert words.measure("my_metric") == words.Measure("my_metric", "higher", "")


def test_a_sentence_is_set_as_the_page_is() -> None:
    assert words.tidy("on 9 September 2011 at 9 o'clock", "GBP") == "On 9\xa0September\xa02011 at 9 o'clock"
    assert words.tidy("of GBP -1,234.50 (-9.2 % to +1.0%), GBP 7", "GBP") == (
        "Of −\u2060£1,234.50 (−9.2\u202f% to +1.0\u202f%), £7"
    )
    assert words.tidy("first-time 2011-09-09, EUR 5, x-1, 1-2", "GBP") == "First-time 2011-09-09, EUR 5, x-1, 1-2"
    assert words.tidy("", "GBP") == ""


def test_the_first_sentence_opens() -> None:
    assert words.opening("AUC 0.748 wins. It is clear. Yes.") == ("AUC 0.748 wins.", "It is clear. Yes.")
    assert words.opening("One sentence.") == ("One sentence.", "")


def test_a_short_head_is_a_label() -> None:
    assert words.label("Who is lost: of the 680: 465.") == ("Who is lost", "of the 680: 465.")
    assert words.label("No head here.") == ("", "No head here.")
    assert words.label("A head that is far too long to be one: x") == ("", "A head that is far too long to be one: x")


def test_every_measure_says_which_way_is_better_in_one_sentence() -> None:
    for name, measure in words.MEASURES.items():
        assert measure.better in ("higher", "lower", "near 0"), name
        assert measure.sentence.endswith("."), name
    assert set(words.MONEY) | set(words.SHARES) <= set(words.MEASURES)
