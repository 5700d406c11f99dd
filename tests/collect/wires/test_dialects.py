"""What each dialect says in its own way; the whole journey by real clients is tests/clients."""

import base64
import datetime as dt
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.wires import ga4, gorse, personalize, posthog, segment, snowplow
from habitue.collect.wires.body import BodyError, Described, Introduction, parsed

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MS = 1_000 * int(NOW.timestamp())


def rows(messages):
    return [{k: v for k, v in said.items() if v not in (None, {})} for _, said in messages if isinstance(said, dict)]


def one(messages):
    ((_, said),) = messages
    return said


def test_segment_corrects_the_clock_with_the_time_of_sending_of_the_message_or_its_batch():
    track = {"type": "track", "event": "x", "userId": "u", "messageId": "m"}
    wrong = track | {"timestamp": "2026-05-01T14:00:00Z"}
    for sent in (
        {"batch": [dict(wrong)], "sentAt": "2026-05-01T15:00:00Z"},
        {"batch": [wrong | {"sentAt": "2026-05-01T15:00:00Z"}], "sentAt": "2026-05-01T09:00:00Z"},
        {"batch": [track | {"originalTimestamp": "2026-05-01T14:00:00Z", "sentAt": "2026-05-01T17:00:00+02:00"}]},
    ):
        assert rows(segment.batch(sent, received=NOW))[0]["at"] == NOW - HOUR
    nothing_to_correct_by = ({"batch": [dict(wrong)]}, {"batch": [dict(wrong)], "sentAt": "soon"})
    for sent in nothing_to_correct_by:
        assert rows(segment.batch(sent, received=NOW))[0]["at"] == NOW + 2 * HOUR
    assert rows(segment.batch({"batch": [track]}, received=NOW))[0]["at"] == NOW


def test_segment_merges_the_batchs_context_into_each_message():
    outer = {"campaign": {"name": "spring"}, "page": {"path": "/outer"}}
    message = {"type": "track", "event": "x", "userId": "u", "context": {"page": {"path": "/own"}}}
    (row,) = rows(segment.batch({"batch": [message], "context": outer}, received=NOW))
    assert (row["campaign_id"], row["surface"]) == ("spring", "/own")


def test_segment_says_who_somebody_is():
    identify = {"userId": "u", "anonymousId": "a", "traits": {"country": "FR"}, "timestamp": NOW.isoformat()}
    assert one(segment.one(identify, kind="i", received=NOW)) == Introduction("u", "a", NOW, {"country": "FR"})
    rudder = {"userId": "u", "context": {"traits": {"tier": "gold"}}}
    assert one(segment.one(rudder, kind="identify", received=NOW)).attributes == {"tier": "gold"}
    alias = {"userId": "u", "previousId": "before"}
    assert one(segment.one(alias, kind="a", received=NOW)) == Introduction("u", "before", NOW)


def test_segments_consent_comes_with_any_event():
    context = {"consent": {"categoryPreferences": {"Advertising": False}}}
    messages = list(segment.one({"event": "x", "userId": "u", "context": context}, kind="t", received=NOW))
    assert messages[0][1] == Introduction("u", None, NOW, consent={"Advertising": False})
    assert messages[1][1]["kind"] == "x"


def snow(**event):
    return snowplow.batch({"data": [{"eid": "e1", "duid": "d", "dtm": str(MS - 7_200_000)} | event]}, received=NOW)


def described(name, data):
    inner = {"schema": f"iglu:v/{name}/jsonschema/1-0-0", "data": data}
    return json.dumps({"schema": "iglu:x/unstruct_event", "data": inner})


def test_snowplow_corrects_by_stm_and_leaves_a_true_moment_alone():
    ahead = {"dtm": str(MS + 3_600_000), "stm": str(MS + 7_200_000)}
    assert rows(snow(e="pv", **ahead))[0]["at"] == NOW - HOUR
    assert rows(snow(e="pv", ttm=str(MS - 3_600_000), **ahead))[0]["at"] == NOW - HOUR
    assert rows(snow(e="pv", dtm="soon"))[0]["at"] == "soon"  # refused where moments are read


def test_snowplow_pages_pings_and_structured_events():
    (page,) = rows(snow(e="pv", url="https://shop.example/mugs?x=1", sid="s", uid="u"))
    said = {"kind": "Page Viewed", "surface": "/mugs", "session_id": "s", "user_id": "u", "anonymous_id": "d"}
    assert page == said | {"event_id": "e1", "at": NOW - 2 * HOUR, "line": 0}
    (ping,) = rows(snow(e="pp", pp_may="1500", vp="1000x500", ds="1000x4000"))
    assert (ping["kind"], ping["scroll"]) == ("Scrolled", 0.5)
    assert "scroll" not in rows(snow(e="pp", pp_may="1500", vp="1000x500", ds="1000x0"))[0]
    (structured,) = rows(snow(e="se", se_ca="shop", se_ac="add_to_cart", se_la="A", se_va="3.5"))
    assert (structured["kind"], structured["value"]) == ("Product Added", "3.5")


@pytest.mark.parametrize("field", ["ue_pr", "ue_px"])
def test_snowplow_self_describing_events_plain_or_in_base64(field):
    text = described("view_cart", {"cart_id": "c1", "product_id": "A"})
    given = text if field == "ue_pr" else base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    (row,) = rows(snow(e="ue", **{field: given}))
    assert (row["kind"], row["item_id"], row["extra"]["cart_id"]) == ("Cart Viewed", "A", "c1")


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"e": "ue", "ue_px": "!"}, "bad_record"),
        ({"e": "ue", "ue_px": "é"}, "bad_record"),
        ({"e": "ue", "ue_pr": "{"}, "bad_record"),
        ({"e": "ue", "ue_pr": "{}"}, "no_event"),
        ({"e": "tr"}, "no_event"),
        ({}, "no_event"),
    ],
)
def test_snowplow_events_that_say_nothing_are_told_apart(event, code):
    assert one(snow(**event)) == code


def test_snowplow_by_a_pixel():
    (row,) = rows(snowplow.pixel({"e": "pv", "eid": "e1", "duid": "d"}, received=NOW))
    assert (row["kind"], row["at"], row["event_id"]) == ("Page Viewed", NOW, "e1")


def test_ga4_takes_its_time_from_the_event_the_request_or_the_clock():
    micros = MS * 1_000
    body = {"client_id": "c", "timestamp_micros": str(micros - 3_600_000_000)}
    events = [{"name": "page_view"}, {"name": "page_view", "timestamp_micros": micros}]
    first, second = rows(ga4.batch(body | {"events": events}, received=NOW))
    assert (first["at"], second["at"]) == (NOW - HOUR, NOW)
    (untimed,) = rows(ga4.batch({"client_id": "c", "events": events[:1]}, received=NOW))
    assert untimed["at"] == NOW and not untimed["event_id"].startswith("body:")


def test_ga4_ids_are_of_the_whole_event_and_its_person():
    def ids(**more):
        events = [{"name": "view_item", "params": {"items": [{"item_id": "A"}]}}, {"name": "page_view"}]
        body = {"client_id": "c", "timestamp_micros": 1, "events": events} | more
        return [row["event_id"] for row in rows(ga4.batch(body, received=NOW))]

    assert ids() == ids() and len(set(ids())) == 2
    assert not set(ids()) & set(ids(client_id="d")) and not set(ids()) & set(ids(timestamp_micros=2))


def test_ga4_attention_and_scrolling():
    params = {"engagement_time_msec": 2_500, "percent_scrolled": 90, "session_id": 7}
    (row,) = rows(ga4.batch({"client_id": "c", "events": [{"name": "scroll", "params": params}]}, received=NOW))
    assert (row["kind"], row["dwell_s"], row["scroll"], row["session_id"]) == ("Scrolled", 2.5, 0.9, 7)


@pytest.mark.parametrize("body", [{}, {"events": {}}, {"events": [1] * 26}])
def test_ga4_bodies_that_are_none(body):
    with pytest.raises(BodyError, match="no list named events|more than 25 events"):
        list(ga4.batch(body, received=NOW))


def hog(properties, **event):
    given = {"event": "$pageview", "distinct_id": "d", "uuid": "e1", "properties": properties} | event
    return posthog.batch({"batch": [given], "sent_at": "2026-05-01T12:00:00Z"}, received=NOW)


@pytest.mark.parametrize(
    ("properties", "user", "visitor"),
    [
        ({}, "d", None),  # a server's library names a user
        ({"$is_identified": False, "$device_id": "x"}, None, "d"),
        ({"$device_id": "d"}, None, "d"),
        ({"$is_identified": True, "$device_id": "x"}, "d", "x"),
        ({"$anon_distinct_id": "before"}, "d", "before"),
    ],
)
def test_posthogs_distinct_id_is_a_user_or_a_visitor(properties, user, visitor):
    row = one(hog(properties))
    assert (row["user_id"], row["anonymous_id"]) == (user, visitor)


def test_posthogs_times():
    assert one(hog({}, timestamp="2026-05-01T11:00:00Z"))["at"] == NOW - HOUR
    assert one(hog({}, offset=3_600_000))["at"] == NOW - HOUR
    assert one(hog({}))["at"] == NOW
    old = {"event": "x", "distinct_id": "d", "timestamp": "2020-01-01T00:00:00Z"}
    body = {"batch": [old], "sent_at": "2026-05-01T15:00:00Z", "historical_migration": True}
    assert one(posthog.batch(body, received=NOW))["at"] == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def test_posthogs_own_events():
    left = one(hog({"$prev_pageview_duration": 4.5, "$prev_pageview_max_scroll_percentage": 0.5}, event="$pageleave"))
    assert (left["kind"], left["dwell_s"], left["scroll"]) == ("Dwelled", 4.5, 0.5)
    assert one(hog({}, event="$rageclick"))["kind"] == "Rage Clicked"
    assert one(hog({}, event="$feature_flag_called")) == "no_event"
    said = one(hog({"$anon_distinct_id": "a", "$set": {"tier": "gold"}}, event="$identify"))
    assert said == Introduction("d", "a", NOW, {"tier": "gold"})
    assert one(hog({"alias": "other"}, event="$create_alias")) == Introduction("d", "other", NOW)


def test_posthogs_bodies():
    event = {"event": "x", "distinct_id": "d", "properties": {"token": "k1"}}
    packed = base64.b64encode(json.dumps(event).encode()).replace(b"+", b"%2B").replace(b"=", b"%3D")
    for body in (json.dumps([event]).encode(), json.dumps(event).encode(), b"data=" + packed + b"&compression=base64"):
        content = posthog.content_of(body)
        assert posthog.key_of(content) == "k1" and one(posthog.batch(content, received=NOW))["kind"] == "x"
    with pytest.raises(BodyError, match="no JSON in base64"):
        posthog.content_of(b"data=%%%")
    with pytest.raises(BodyError, match="neither a list named batch nor an event"):
        one(posthog.batch({"api_key": "k"}, received=NOW))


def test_personalize_reads_events_items_and_users():
    event = {"eventType": "purchase", "itemId": "A", "sentAt": MS / 1_000, "eventValue": 9.5, "eventId": "e1"}
    event |= {"properties": '{"price": 4.75, "quantity": 2, "order_id": "o"}', "impression": ["A", "B"]}
    row = one(personalize.events({"sessionId": "s", "eventList": [event]}, received=NOW))
    assert (row["kind"], row["value"], row["order_id"], row["at"]) == ("Order Completed", 9.5, "o", NOW)
    assert (row["anonymous_id"], row["session_id"], row["extra"]["impression"]) == ("s", "s", ["A", "B"])
    broken = {"eventList": [event | {"properties": "[1]"}]}
    assert one(personalize.events(broken, received=NOW)) == "bad_record"
    item = {"itemId": "A", "properties": '{"PRICE": 3, "CATEGORY_L1": "Home", "colour": "blue"}'}
    said = one(personalize.items({"items": [item]}, received=NOW))
    assert said == Described("A", NOW, {"price": 3, "category": "Home"}, {"colour": "blue"})
    user = one(personalize.users({"users": [{"userId": "u", "properties": '{"tier": "gold"}'}]}, received=NOW))
    assert user == Introduction("u", None, NOW, {"tier": "gold"})
    with pytest.raises(BodyError, match="more than 10"):
        one(personalize.users({"users": [{}] * 11}, received=NOW))


def test_gorse_reads_feedback_items_and_users():
    said = {"FeedbackType": "read", "UserId": "u", "ItemId": "A", "Timestamp": "2026-05-01T11:00:00Z", "Value": 2}
    row = one(gorse.feedback(said, received=NOW))
    assert (row["kind"], row["user_id"], row["item_id"]) == ("Product Viewed", "u", "A")
    assert row["extra"] == {"feedback_value": 2}
    assert one(gorse.feedback([said | {"FeedbackType": "rating"}], received=NOW))["rating"] == 2
    assert one(gorse.feedback([said | {"FeedbackType": "zoomed"}], received=NOW))["kind"] == "zoomed"
    assert one(gorse.feedback([said | {"Timestamp": ""}], received=NOW))["at"] == NOW
    item = {"ItemId": "A", "Categories": ["Home", "Mugs"], "Labels": {"colour": "blue"}, "Comment": "Mug"}
    known = {"title": "Mug", "category": "Home > Mugs"}
    found = one(gorse.items(item | {"IsHidden": True}, received=NOW))
    assert found == Described("A", NOW, known, {"colour": "blue", "availability": "out_of_stock"})
    assert one(gorse.users([{"UserId": "u", "Labels": ["x"]}], received=NOW)).attributes == {"labels": ["x"]}
    with pytest.raises(BodyError, match="neither an object nor a list of objects"):
        one(gorse.feedback([1], received=NOW))


ODD = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3), st.just({"a": 1}), st.just([1]))
INSIDE = st.dictionaries(st.sampled_from(["path", "name", "country", "url"]), ODD)
CONTEXT = st.dictionaries(
    st.sampled_from(["page", "campaign", "location", "sessionId", "channel", "consent", "traits", "userAgent"]),
    st.one_of(ODD, INSIDE, INSIDE),
)
TOLD = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "page", "identify", "alias", "group", "x", None]), "userId": st.just("u")},
    optional=dict.fromkeys(("event", "event_text", "messageId", "anonymousId", "previousId", "channel", "else"), ODD)
    | {"properties": st.one_of(ODD, INSIDE), "traits": st.one_of(ODD, INSIDE), "context": st.one_of(ODD, CONTEXT)}
    | dict.fromkeys(
        ("timestamp", "sentAt", "originalTimestamp"), st.sampled_from([None, "", "2026-05-01T10:00:00Z", 7])
    ),
)
OUTER = st.fixed_dictionaries(
    {"batch": st.one_of(ODD, st.lists(TOLD, max_size=3), st.lists(TOLD, max_size=3))},
    optional={"context": st.one_of(ODD, CONTEXT), "sentAt": ODD, "writeKey": ODD, "integrations": ODD},
)


def said_of(read, content):
    try:
        found = list(read(content))
    except BodyError as error:
        return error.code
    return [(n, {**said, "event_id": "drawn"} if drawn(said) else said) for n, said in found]


def drawn(said):
    return isinstance(said, dict) and isinstance(said["event_id"], str) and len(said["event_id"]) > 3


@settings(max_examples=300, deadline=None)
@given(OUTER)
def test_reading_what_matters_of_a_batch_says_the_same_as_reading_all_of_it(outer):
    body = json.dumps(outer).encode()
    quick = said_of(lambda b: segment.batch(segment.content_of(b, several=True), received=NOW), body)
    assert quick == said_of(lambda b: segment.batch(parsed(b), received=NOW), body)
    for message in outer["batch"] if isinstance(outer["batch"], list) else ():
        if isinstance(message, dict):
            body = json.dumps(message).encode()
            quick = said_of(lambda b: segment.one(segment.content_of(b, several=False), kind="t", received=NOW), body)
            assert quick == said_of(lambda b: segment.one(parsed(b), kind="t", received=NOW), body)


@pytest.mark.parametrize("body", [b"[]", b"3", b"null", b'{"batch":3}', b'{"batch":[3]}', b"{}"])
def test_what_is_no_batch_is_read_whole_or_refused(body):
    whole = parsed(body)
    if isinstance(whole, dict):
        assert segment.content_of(body, several=True) == whole
    else:
        with pytest.raises(BodyError, match="no object"):
            segment.content_of(body, several=True)
