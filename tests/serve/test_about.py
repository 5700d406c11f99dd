"""What is said of one person: as of when, how old the data are, where two models differ, and the persona."""

import datetime as dt
from types import SimpleNamespace

import pytest
from litestar.testing import TestClient

import habitue
from habitue import serving
from habitue.core.errors import LakeError
from habitue.protect import identities
from habitue.serve import about, app

NOW = dt.datetime(2024, 8, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def said(churn=0.5, stale=False, as_of=NOW, **within):
    shop = SimpleNamespace(model="blend", snapshot=SimpleNamespace(version="v", horizon_days=30))
    told = {"churn": churn, "value": 3.0, "next_order_completed": 0.2}
    told |= {f"churn_{days[1:]}": value for days, value in within.items()}
    return about.predicted(shop, told, as_of=as_of, now=NOW, stale=stale)


@pytest.mark.parametrize(
    ("newest", "as_of", "stale"),
    [
        (None, NOW, False),
        (NOW - 6 * DAY, NOW, False),
        (NOW + DAY, NOW, False),
        (NOW - 7 * DAY, NOW - 7 * DAY + dt.timedelta(microseconds=1), True),
        (NOW - 500 * DAY, NOW - 500 * DAY + dt.timedelta(microseconds=1), True),
    ],
)
def test_a_silent_shop_is_told_about_as_of_its_last_word(newest, as_of, stale):
    assert about.moment(newest, NOW) == (as_of, stale)


def test_stale_data_are_said_in_a_sentence():
    body = said(stale=True, as_of=NOW - 500 * DAY)
    assert body["stale"] is True and body["as_of"] == (NOW - 500 * DAY).isoformat()
    (note,) = body["notes"]
    assert "The data are stale: the shop's newest event is 500 days old (2023-03-20)" in note
    assert said()["notes"] == [] and said()["as_of"] == NOW.isoformat()


@pytest.mark.parametrize(
    ("churn", "within", "agree"),
    [
        (0.5, {}, True),
        (0.5, {"_7": 0.9, "_30": 0.5, "_90": 0.2}, True),
        (0.55, {"_7": 0.9, "_30": 0.5, "_90": 0.2}, True),  # within the slack
        (0.9, {"_7": 0.95, "_30": 0.3, "_90": 0.2}, False),
        (0.05, {"_30": 0.5}, False),
        (0.05, {"_90": 0.5}, False),  # who stays away for 90 days stays away for 30
        (0.9, {"_90": 0.1}, True),
        (0.9, {"_7": 0.2}, False),
    ],
)
def test_two_models_that_disagree_say_so(churn, within, agree):
    notes = said(churn, **within)["notes"]
    assert bool(notes) is not agree
    if not agree:
        assert f"churn ({churn:.0%} within 30 days) and churn_within_days are told by different models" in notes[0]


def test_long_after_the_last_event_the_heads_agree_or_say_so(trained):
    years = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
    made = app.create(trained, read=lambda: serving.read(trained), clock=lambda: years)
    with TestClient(made) as client:
        body = client.get("/v1/predictions", params={"user_id": "u0"}).json()
        assert body["stale"] and body["as_of"].startswith("2024-07") and "days old" in body["notes"][0]
        known = client.get("/v1/users/u0").json()
        assert known["stale"] and known["as_of"] == body["as_of"] and known["features"]["days_since_last"] < 200


def test_a_withdrawal_counts_for_the_next_answer(trained):
    made = app.create(trained, read=lambda: serving.read(trained))
    no = {"type": "identify", "userId": "u0", "messageId": "c1", "timestamp": dt.datetime.now(dt.UTC).isoformat()}
    no["context"] = {"consent": {"categoryPreferences": {"personalisation": False}}}
    with TestClient(made) as client:
        assert client.get("/v1/recommendations", params={"user_id": "u0"}).json()["fallback"] is None
        assert client.post("/v1/batch", json={"batch": [no]}).status_code == 200
        assert client.get("/v1/recommendations", params={"user_id": "u0"}).json()["fallback"] == "popular"
        assert client.get("/v1/predictions", params={"user_id": "u0"}).json()["code"] == "no_consent"
        assert client.get("/v1/users/u0").json()["features"] is None
        client.blocking_portal.call(made.state.desk.renew)  # the lake has it now
        assert made.state.desk._withdrawn == {}
        assert client.get("/v1/recommendations", params={"user_id": "u0"}).json()["fallback"] == "popular"


class TestPersonas:
    def test_a_user_shows_the_persona_that_was_found(self, trained):
        found = habitue.open(trained.root).personas()
        about.keep(trained.state, found)
        with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
            told = client.get("/v1/users/u0").json()["persona"]
            key = identities.lookup(trained.identities, "user_id", "u0")
            name = dict(found.members.select("user_key", "name").iter_rows())[key]
            assert told["name"] == name and len(told["sentence"]) > 10 and told["as_of"] == found.as_of.isoformat()
            (trained.state / about.PERSONAS).unlink()
            assert client.get("/v1/users/u0").json()["persona"] is None

    @pytest.mark.parametrize("content", ["{", "[]", '{"personas": [], "members": [["x", "y", 1]], "as_of": ""}'])
    def test_a_broken_file_is_said(self, tmp_path, content):
        (tmp_path / about.PERSONAS).write_text(content)
        with pytest.raises(LakeError, match="the personas cannot be read.*habitue apply personas"):
            about.Personas(tmp_path).of({1})
