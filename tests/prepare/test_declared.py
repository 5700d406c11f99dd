import pytest

from habitue.core.errors import SettingsError
from habitue.prepare.declared import KINDS, LEDGER, Feature, check_declared


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"kind": "cuont"}, "there is no kind 'cuont'.*Did you mean 'count'"),
        ({"kind": "sum"}, "a sum of no column.*Set `column`"),
        ({"kind": "last"}, "a last of no column"),
        ({"kind": "sum", "column": "pirce"}, "EVENTS has no column 'pirce'.*Did you mean 'price'"),
        ({"kind": "distinct"}, "distinct values of no column.*Set `per`"),
        ({"kind": "distinct", "per": ("itme_id",)}, "EVENTS has no column 'itme_id'.*Did you mean 'item_id'"),
        ({"kind": "count", "where": (("price", "=", 1.0),)}, "there is no operator '='"),
        ({"kind": "count", "where": (("prize", ">", 1.0),)}, "EVENTS has no column 'prize'"),
        ({"kind": "count", "half_life_days": 3.0}, "only a decayed_sum has a half-life"),
        ({"kind": "decayed_sum"}, "only a decayed_sum has a half-life, and it must have one"),
        ({"kind": "decayed_sum", "half_life_days": -1.0}, "a time of 0 days or less"),
        ({"kind": "count", "window_days": 0.0}, "a time of 0 days or less"),
        ({"kind": "gap_mean", "window_days": 30.0}, "a gap_mean has no window"),
        ({"kind": "ratio", "of": ("a",)}, "a ratio of 1 features"),
        ({"kind": "calendar", "column": "century"}, "the calendar has no 'century'"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declaration, message):
    with pytest.raises(SettingsError, match=f"feature 'f': {message}"):
        Feature("f", **declaration)


def test_names_are_declared_once_and_a_ratio_after_its_parts():
    count, ratio = Feature("n", "count"), Feature("r", "ratio", of=("n", "m"))
    check_declared([count, Feature("m", "count"), ratio])
    with pytest.raises(SettingsError, match="feature 'n': the name is taken"):
        check_declared([count, count])
    with pytest.raises(SettingsError, match="feature 'as_of': the name is taken"):
        check_declared([Feature("as_of", "count")])
    with pytest.raises(SettingsError, match="feature 'r': it divides 'm', which is not declared before it"):
        check_declared([count, ratio, Feature("m", "count")])


def test_the_default_set_uses_every_kind():
    check_declared(LEDGER)
    assert {f.kind for f in LEDGER} == set(KINDS)
    assert 25 <= len(LEDGER) <= 45
