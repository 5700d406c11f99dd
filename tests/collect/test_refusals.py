import json

import polars as pl
import pytest

from habitue.collect import refusals
from habitue.collect.mapping import NUMBERS, Mapping, User

MAPPING = Mapping(
    source="s",
    time_zone="Europe/London",
    columns={"at": "When", "order_id": "Order", "item_id": "Code", "title": "Words", "price": "Price"},
    user=User("Customer"),
    user_attributes={"country": "Country"},
)


def masked(**row: object) -> dict[str, object]:
    return json.loads(refusals.masked(pl.DataFrame([row]), MAPPING)[0])


def test_nothing_of_a_person_and_no_free_text_is_kept():
    row = {"Customer": "17850", "Country": "France", "Words": "call Ann", "Order": "536365", "Price": "nan"}
    assert masked(**row) == {"Customer": "***", "Country": "***", "Words": "***", "Order": "536365", "Price": "nan"}


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("Price", "12.50", "12.50"),
        ("Price", 1e308, "1e+308"),
        ("Price", "-Infinity", "-Infinity"),
        ("Price", "ann@example.com", "xxx@xxxxxxx.xxx"),
        ("Price", "Ann Brontë, 12", "xxx xxxxxx, 99"),
        ("When", "2011-13-01 10:00", "2011-13-01 10:00"),
        ("When", "last Tuesday", "xxxx xxxxxxx"),
        ("Order", "C536365", "C536365"),
        ("Order", "ann@example.com", "xxx@xxxxxxx.xxx"),
        ("Code", "x" * 60, "x" * 40),
        ("Customer", None, None),
        ("Price", None, None),
    ],
)
def test_a_value_that_is_no_number_time_or_id_keeps_only_its_shape(column, value, shown):
    assert masked(**{column: value}) == {column: shown}


def test_every_code_has_a_sentence():
    for number in NUMBERS:
        whole = "a whole number" if number in ("position", "line") else "a finite number"
        assert refusals.sentence(f"bad_{number}", MAPPING).startswith(f"The {number} is not {whole}")
    assert refusals.sentence("missing_time", MAPPING) == "The row has no time."
    assert refusals.sentence("bad_time", MAPPING) == (
        "The time is not in ISO 8601 (2011-09-09 12:30:00), "
        "or lies in an hour that the clocks of Europe/London skipped."
    )
    assert refusals.sentence("missing_user", MAPPING) == "The row names no customer."
    assert refusals.sentence("missing_user_and_order", MAPPING) == "The row names neither a customer nor an order."
    assert refusals.sentence("missing_item", MAPPING) == "The row names no product."


def test_the_sentence_names_the_form_that_was_asked_for():
    mapping = Mapping(source="s", time_zone="UTC", columns={"at": "t", "order_id": "o"}, time_format="%d.%m.%Y")
    assert refusals.sentence("bad_time", mapping) == "The time is not in the form %d.%m.%Y."


def test_a_code_nobody_wrote_a_sentence_for_is_our_mistake():
    with pytest.raises(KeyError):
        refusals.sentence("bad_mood", MAPPING)
