import re
from pathlib import Path

import polars as pl
import pytest

from habitue import quality
from habitue.core.errors import SettingsError
from habitue.core.schemas import FINDINGS, QUALITY
from habitue.core.settings import fill
from habitue.quality import drift, limits
from habitue.quality.ledger import plain

SCORES = pl.DataFrame(
    [
        ("events", "completeness", "customer named", 0.75, ""),
        ("events", "completeness", "price present", 0.95, ""),
        ("items", "accuracy", "price in range", 1.0, ""),
    ],
    schema=QUALITY.schema,
    orient="row",
)
FOUND = pl.DataFrame(
    [plain("exact_repeat", "events", "accuracy", "", 20, ""), plain("near_texts", "examples", "accuracy", "", 5, "")],
    schema=FINDINGS.schema,
)
DRIFTS = pl.DataFrame(
    [("events", "price", "number", 100, 100, 0.4, 0.1, 0.1, None, None, "much")], schema=drift.SCHEMA, orient="row"
)


def broken(least=None, most=None, drifts=DRIFTS):
    config = limits.Config(least=least or {}, most=most or {})
    return limits.broken(config, SCORES, FOUND, drifts, {"events": 1000, "examples": 10})


def test_a_dimension_is_the_mean_of_its_measures():
    assert limits.dimensions(SCORES).rows() == [("events", "completeness", 0.85), ("items", "accuracy", 1.0)]


def test_limits_that_hold_say_nothing():
    assert broken() == ()
    assert broken({"events.completeness": 0.85, "items.accuracy": 1.0}, {"exact_repeat": 0.02, "drift": 0.4}) == ()
    assert broken(most={"bots": 0.0}) == ()  # not found at all


def test_limits_that_do_not_hold_are_sentences():
    assert broken({"events.customer named": 0.8}) == ("'events.customer named' is 0.7500, and must be 0.8 or more.",)
    assert broken({"events.completeness": 0.8501}) == ("'events.completeness' is 0.8500, and must be 0.8501 or more.",)
    assert broken(most={"exact_repeat": 0.019}) == (
        "'exact_repeat' is 0.0200 of the rows of events, and 0.019 is the most.",
    )
    assert broken(most={"near_texts": 0.4}) == ("'near_texts' is 0.5000 of the rows of examples, and 0.4 is the most.",)
    assert broken(most={"drift": 0.39}) == ("'events.price' drifted by a PSI of 0.40, and 0.39 is the most.",)
    assert broken(most={"drift": 0.39}, drifts=DRIFTS.clear()) == ()


def test_what_could_not_be_measured_is_not_taken_for_good():
    assert broken({"events.customer name": 0.5}) == (
        "'events.customer name' could not be measured, and must be 0.5 or more. Did you mean 'events.customer named'?",
    )


def test_limits_that_cannot_be():
    with pytest.raises(SettingsError, match=r"\[check.most\]: there is no finding 'exact_repeats'.*'exact_repeat'\?"):
        broken(most={"exact_repeats": 0.1})
    with pytest.raises(SettingsError, match=r"\[check.most\]: 'bots' is limited by -1"):
        broken(most={"bots": -1})
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(SettingsError, match=r"\[check.least\]: 'events.completeness' is limited by"):
            broken({"events.completeness": wrong})


def test_toml_fills_the_section():
    config = fill(limits.Config, {"drift": {"days": 7}, "least": {"events.completeness": 1}, "bots": {"per_minute": 9}})
    assert (config.drift.days, config.bots.per_minute, dict(config.least)) == (7.0, 9, {"events.completeness": 1.0})
    with pytest.raises(SettingsError, match="no setting 'lest'; |no setting 'lest'"):
        fill(limits.Config, {"lest": {}})


def test_every_finding_of_the_code_may_be_limited():
    source = "\n".join(file.read_text(encoding="utf-8") for file in Path(quality.__file__).parent.glob("*.py"))
    written = set(re.findall(r'(?:finding|plain)\(\s*\n?\s*"([a-z_]+)"', source))
    assert len(written) > 30
    assert written <= set(limits.CODES)
