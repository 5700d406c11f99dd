import datetime as dt
import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from habitue.core.errors import SettingsError
from habitue.core.settings import Choice, check_range, fill, moment, read_toml, space, tuned


@dataclass(frozen=True)
class Inner:
    name: str
    size: int = 3


@dataclass(frozen=True)
class Outer:
    rate: float
    inner: Inner = Inner("x")
    many: tuple[Inner, ...] = ()
    words: dict[str, str] = field(default_factory=dict)
    cut: dt.datetime | None = None
    on: bool = False
    count: int = 0
    anything: Any = None


def test_fill_builds_nested_settings():
    filled = fill(
        Outer,
        {
            "rate": 1,
            "inner": {"name": "a", "size": 4},
            "many": [{"name": "b"}, {"name": "c"}],
            "words": {"k": "v"},
            "cut": dt.date(2011, 9, 9),
            "on": True,
            "anything": [1],
        },
    )
    assert filled == Outer(
        rate=1.0,
        inner=Inner("a", 4),
        many=(Inner("b"), Inner("c")),
        words={"k": "v"},
        cut=dt.datetime(2011, 9, 9, tzinfo=dt.UTC),
        on=True,
        anything=[1],
    )
    assert isinstance(filled.rate, float)


def test_an_unknown_key_stops_with_a_suggestion():
    with pytest.raises(SettingsError, match=r"no setting 'rat'.*ignored in silence\. Did you mean 'rate'\?"):
        fill(Outer, {"rat": 1.0})


def test_an_unknown_nested_key_names_its_place():
    with pytest.raises(SettingsError, match=r"^plan\.toml\.inner: there is no setting 'nam'"):
        fill(Outer, {"rate": 1.0, "inner": {"nam": "a"}}, where="plan.toml")


def test_a_missing_key_says_what_to_add():
    with pytest.raises(SettingsError, match=r"'rate' is missing.*Add: rate = \.\.\."):
        fill(Outer, {})


@pytest.mark.parametrize(
    "values",
    [
        {"rate": "fast"},
        {"rate": True},
        {"rate": 1.0, "count": True},
        {"rate": 1.0, "count": 1.5},
        {"rate": 1.0, "on": 1},
        {"rate": 1.0, "inner": 3},
        {"rate": 1.0, "many": {"name": "b"}},
        {"rate": 1.0, "words": ["a"]},
        {"rate": 1.0, "words": {"k": 1}},
        {"rate": 1.0, "cut": 20110909},
        {"rate": 10**400},  # TOML has integers of any length
        {"rate": 1.0, "on": 10**5_000},
        {"rate": 1.0, "many": 3},
        3,
        ["rate"],
    ],
)
def test_a_value_of_the_wrong_type_is_refused(values):
    with pytest.raises(SettingsError, match="is not .*mean something else than was written"):
        fill(Outer, values)


def test_moment_reads_dates_and_offsets_as_utc():
    assert moment("2011-09-09") == dt.datetime(2011, 9, 9, tzinfo=dt.UTC)
    assert moment("2011-09-09T12:00:00+02:00") == dt.datetime(2011, 9, 9, 10, tzinfo=dt.UTC)
    assert moment(dt.datetime(2011, 9, 9, 1)).tzinfo is dt.UTC


def test_a_date_that_is_none_is_refused():
    with pytest.raises(SettingsError, match=r"'9 September' is not a date.*Write it as 2011-09-09"):
        moment("9 September")


def test_read_toml(tmp_path):
    (tmp_path / "a.toml").write_text("x = 1\n", encoding="utf-8")
    assert read_toml(tmp_path / "a.toml") == {"x": 1}


@pytest.mark.parametrize("content", [b"x = \n", b"x = '\xff'\n", b"x = " + b"[" * 3_000, b"x = 1" + b"0" * 5_000])
def test_what_is_not_toml_is_said(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^a\.toml: this is not TOML \(.*No setting can be read"):
        read_toml(tmp_path / "a.toml")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(SettingsError, match=r"absent\.toml: the file cannot be read \(No such file.*Check the path"):
        read_toml(tmp_path / "absent.toml")


def test_what_may_be_tuned_stands_where_the_setting_stands():
    @dataclass(frozen=True)
    class Config:
        ridge: float = tuned(200.0, 1, 5000, log=True)
        neighbours: int = tuned(100, 10, 1000)
        weighting: str = tuned("none", values=("none", "bm25"))
        fixed: float = 1.0

    assert Config() == Config(200.0, 100, "none", 1.0)
    assert space(Config) == {
        "ridge": Choice(1, 5000, log=True),
        "neighbours": Choice(10, 1000, whole=True),
        "weighting": Choice(values=("none", "bm25")),
    }


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1" + "0" * 400])
def test_a_number_that_is_none_is_refused(tmp_path, number):
    plan = tmp_path / "plan.toml"
    plan.write_text(f"rate = {number}")
    with pytest.raises(SettingsError, match=r"^plan\.toml\.rate: .* is not a finite number"):
        fill(Outer, read_toml(plan), where="plan.toml")


@pytest.mark.parametrize(
    "asked, right, wrong, words",
    [
        ("positive", [1e-9, 5], [0, -1.0, math.nan, math.inf], "above 0"),
        ("not_negative", [0, 7.5], [-1e-9, math.nan, math.inf], "of 0 or more"),
        ("share", [0, 0.5, 1], [-0.1, 1.1, math.nan], "from 0 to 1"),
        ("part", [0, 0.5], [-0.1, 1, math.nan], "from 0 to below 1"),
    ],
)
def test_a_number_is_held_to_what_it_can_mean(asked, right, wrong, words):
    for number in right:
        check_range(Outer(number), **{asked: ("rate",)})
    for number in wrong:
        with pytest.raises(SettingsError, match=rf"setting 'rate': {number} stands where a number {words}"):
            check_range(Outer(number), **{asked: ("rate",)})
