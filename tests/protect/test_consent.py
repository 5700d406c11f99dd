import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.core.errors import SettingsError, UsageError
from habitue.core.schemas import CONSENT
from habitue.core.settings import fill
from habitue.protect import consent, identities, people
from habitue.protect.consent import Config, Register

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def day(n: float) -> dt.datetime:
    return DAY + dt.timedelta(days=n)


def said(*rows: tuple[int, str, bool, float]) -> pl.DataFrame:
    """CONSENT of (person, purpose, granted, day)."""
    return CONSENT.shape(
        pl.DataFrame([(k, p, g, day(n), "test", "test") for k, p, g, n in rows], schema=CONSENT.schema, orient="row")
    )


def asked(*rows: tuple[int, float | None]) -> pl.DataFrame:
    schema = {"user_key": pl.Int64, "as_of": pl.Datetime("us", "UTC")}
    return pl.DataFrame([(k, None if n is None else day(n)) for k, n in rows], schema=schema, orient="row")


def held(frame: pl.DataFrame, *, as_of: float | None = None, purpose: str = "personalisation", **silence) -> list[int]:
    moment = None if as_of is None else day(as_of)
    keys = pl.Series([3, 1, 2, 1])
    register = Register(Config(**silence), frame, frame, as_of=moment)
    return register.withheld(keys, purpose).to_list()


def test_who_has_said_nothing_has_said_what_the_plan_says():
    assert (Config().analytics, Config().personalisation, Config().marketing) == (True, True, False)
    assert held(said()) == []
    assert held(said(), personalisation=False) == [1, 2, 3]
    assert held(said(), purpose="marketing") == [1, 2, 3]
    assert held(said(), purpose="marketing", marketing=True) == []
    assert held(said((2, "marketing", True, 1)), purpose="marketing") == [1, 3]


def test_the_last_statement_of_the_purpose_counts():
    rows = said((1, "personalisation", False, 5), (1, "personalisation", True, 9), (2, "marketing", False, 1))
    may = consent.granted(
        asked((1, 9), (1, 4), (1, 5), (2, 9), (1, 8), (1, None)), rows, purpose="personalisation", silence=Config()
    )
    assert may.to_list() == [True, True, False, True, False, True]


def test_of_two_statements_of_one_moment_the_withdrawal_counts():
    rows = said((1, "personalisation", True, 5), (1, "personalisation", False, 5))
    assert held(rows) == [1] == held(rows[::-1])


def test_the_moment_of_the_statement_itself_counts():
    rows = said((1, "personalisation", False, 5), (2, "personalisation", True, 5))
    assert held(rows, as_of=5, personalisation=False) == [1, 3]
    assert held(rows, as_of=4.999, personalisation=False) == [1, 2, 3]


def test_a_moment_of_the_past_needs_the_consent_of_then_and_of_now():
    rows = said((1, "personalisation", False, 5), (2, "personalisation", False, 5), (2, "personalisation", True, 9))
    assert held(rows, as_of=4) == [1], "who has withdrawn by now is in no back-test"
    assert held(rows, as_of=6) == [1, 2]
    assert held(rows) == [1]


def test_a_person_joined_since_has_withdrawn_with_the_other_id(tmp_path):
    path = tmp_path / "identities.sqlite"
    one, other = identities.keys_for(path, "user_id", pl.Series(["a", "b"]), linked_at=DAY, source="x")
    stored = said((other, "personalisation", False, 3))
    people.merge(path, one, into=other, at=day(8), source="x")
    for moment, held in ((day(5), {one, other}), (day(9), {other}), (None, {other})):
        register = consent.register(path, stored, Config(), as_of=moment)
        keys = people.joined(pl.DataFrame({"user_key": [one, other]}), path, as_of=moment)["user_key"]
        assert set(register.withheld(keys, "personalisation")) == held, moment
    rows = pl.DataFrame({"user_key": [one], "as_of": [day(4)]})
    assert consent.register(path, stored, Config(), as_of=day(5)).granted(rows, "personalisation").to_list() == [True]


def test_without_takes_the_rows_of_people_out():
    frame = pl.DataFrame({"user_key": [1, 2, 1, 3], "n": [0, 1, 2, 3]})
    assert consent.without(frame, pl.Series([1, 9]))["n"].to_list() == [1, 3]
    assert consent.without(frame, pl.Series([], dtype=pl.Int64)) is frame


def test_a_purpose_that_is_none():
    with pytest.raises(UsageError, match="no purpose 'personalization'.*Did you mean 'personalisation'"):
        held(said(), purpose="personalization")
    with pytest.raises(SettingsError, match="no setting 'market'.*Did you mean 'marketing'"):
        fill(Config, {"market": True})


STATEMENT = st.tuples(st.integers(1, 3), st.sampled_from(consent.PURPOSES), st.booleans(), st.integers(0, 8))


@settings(max_examples=60, deadline=None)
@given(st.lists(STATEMENT, max_size=12), st.booleans(), st.sampled_from(consent.PURPOSES))
def test_as_of_reading_is_the_last_word_by_then(statements, silence, purpose):
    rows = said(*statements)
    moments = [(key, n - 0.5) for key in (1, 2, 3) for n in range(10)]
    may = consent.granted(asked(*moments), rows, purpose=purpose, silence=Config(silence, silence, silence))
    for (key, n), found in zip(moments, may, strict=True):
        before = [(at, not g) for k, p, g, at in statements if (k, p) == (key, purpose) and at <= n]
        assert found == (not max(before)[1] if before else silence)


@settings(max_examples=40, deadline=None)
@given(st.lists(STATEMENT, max_size=10), st.lists(STATEMENT, max_size=5), st.integers(0, 8))
def test_a_later_statement_does_not_change_an_earlier_reading(statements, later, n):
    later = [(k, p, g, at + 20) for k, p, g, at in later]
    rows = asked(*((key, n) for key in (1, 2, 3)))
    for purpose in consent.PURPOSES:
        one, other = (
            consent.granted(rows, said(*s), purpose=purpose, silence=Config()) for s in (statements, statements + later)
        )
        assert one.equals(other)
