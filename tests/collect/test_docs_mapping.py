"""docs/mapping.md shows files and mappings that do what it says."""

import datetime as dt
import json
import re
from pathlib import Path

import pytest

from habitue.collect import import_file, read_mapping
from habitue.core.schemas import CONSENT, EVENTS, USERS
from habitue.core.workspace import init
from habitue.protect import identities, people

PAGE = Path(__file__).parents[2] / "docs/mapping.md"
SHOWN = dict(
    ((name, form), text)
    for form, name, text in re.findall(
        r"```(csv|json|toml) (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
)


@pytest.fixture
def imported(tmp_path):
    """Import the file shown under a name by the mapping shown beside it; returns the shop."""

    def run(name: str, rows: int):
        data = tmp_path / name
        data.write_text(SHOWN.get((name, "csv")) or SHOWN[name, "json"])
        (tmp_path / f"{name}.toml").write_text(SHOWN[name, "toml"])
        shop = init(tmp_path / "shop")
        done = import_file(shop, data, tmp_path / f"{name}.toml")
        assert (done.new, done.refused) == (rows, 0)
        return shop

    return run


def key(shop, alias: str, kind: str = "user_id") -> int:
    found = identities.lookup(shop.identities, kind, alias)
    assert found is not None
    return found


def test_every_mapping_with_a_name_has_a_file(tmp_path):
    assert {name for name, form in SHOWN if form == "toml"} == {name for name, form in SHOWN if form != "toml"}
    assert {name for name, _ in SHOWN} == {"visits", "traits", "consent"}
    for number, text in enumerate(re.findall(r"```toml[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)):
        (tmp_path / f"{number}.toml").write_text(text)
        read_mapping(tmp_path / f"{number}.toml")  # nothing on the page is unknown or cannot be meant


def test_a_visitor_is_the_customer_from_the_login_on(imported):
    shop = imported("visits", 4)
    events = shop.lake.read(EVENTS)
    early = people.joined(events, shop.identities, as_of=dt.datetime(2024, 5, 1, 8, 2, tzinfo=dt.UTC))  # 10:02 in Paris
    assert early["user_key"].n_unique() == 3
    late = people.joined(events, shop.identities)
    assert late.filter(user_key=key(shop, "ann")).height == 3 and late["user_key"].n_unique() == 2


def test_traits(imported):
    shop = imported("traits", 1)
    (row,) = shop.lake.read(USERS).to_dicts()
    assert row["user_key"] == key(shop, "ann") and json.loads(row["attributes"]) == {"city": "Lyon", "plan": "plus"}
    assert row["valid_from"] == dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC)
    assert key(shop, "c-7", "anonymous_id") != row["user_key"]


def test_consent(imported):
    shop = imported("consent", 2)
    rows = shop.lake.read(CONSENT).sort("at").select("user_key", "purpose", "granted").rows()
    assert rows == [(key(shop, "ann"), "marketing", True), (key(shop, "ann"), "marketing", False)]
