"""Media and sensed series over HTTP: what is kept, what is refused, and who may send."""

import base64
import datetime as dt
import hashlib
import io
import os
import struct
import wave
import zipfile
import zlib
from pathlib import Path

import pytest
from litestar.testing import TestClient

from habitue import serving
from habitue.collect.receiver import Config, Receiver
from habitue.core.schemas import EVENTS, MEDIA, REFUSED, SIGNALS
from habitue.encode import signals as encode
from habitue.protect import identities, sent
from habitue.protect.erase import erase
from habitue.serve import app, keys

NOW = dt.datetime.now(dt.UTC)


def picture(width=40, height=30, form="PNG"):
    image = pytest.importorskip("PIL.Image")
    told = io.BytesIO()
    image.effect_noise((width, height), 64).convert("RGB").save(told, form)
    return told.getvalue()


def bomb():
    """A small PNG that says it is 60,000 by 60,000."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def sound():
    told = io.BytesIO()
    with wave.open(told, "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(bytes(1_600))
    return told.getvalue()


def zipped():
    told = io.BytesIO()
    with zipfile.ZipFile(told, "w") as file:
        file.writestr("picture.jpg", bytes(999))
    return told.getvalue()


def packed(data, **more):
    return {"content": base64.b64encode(data).decode()} | more


def stored(client, shop, table):
    with client.portal() as portal:
        portal.call(client.app.state.receiver.compact)
    return shop.lake.read(table)


def test_a_picture_of_a_product_is_kept_under_its_hash_and_known_once(client, post, shop):
    data = picture()
    first = post("/v1/media", packed(data, item_id="A", at="2026-05-01T10:00:00Z"))
    assert first.status_code == 200, first.text
    said = first.json()
    assert said == {
        "success": True,
        "media_id": said["media_id"],
        "modality": "image",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert post("/v1/media", packed(data, item_id="A", at="2026-05-01T10:00:00Z")).json() == said
    other = post("/v1/media", packed(data, item_id="B")).json()
    assert other["sha256"] == said["sha256"] and other["media_id"] != said["media_id"]
    rows = {row["owner_id"]: row for row in stored(client, shop, MEDIA).to_dicts()}
    assert rows.keys() == {"A", "B"}
    row = rows["A"]
    assert Path(row["path"]).is_absolute() and Path(row["path"]).read_bytes() == data
    assert (row["owner"], row["modality"], row["user_key"]) == ("item", "image", None)
    assert row["at"] == dt.datetime(2026, 5, 1, 10, tzinfo=dt.UTC) and row["source"] == "media"
    assert post("/v1/media", packed(data, item_id="A")).json()["media_id"] == said["media_id"]
    assert stored(client, shop, MEDIA).height == 2


def test_a_sound_and_a_text_of_a_person_have_a_key_and_the_text_is_masked(client, post, shop):
    assert post("/v1/media", packed(sound(), user_id="u1")).json()["modality"] == "audio"
    text = post("/v1/media", {"text": "call me: +49 171 2345678", "anonymous_id": "v1", "modality": "text"})
    assert text.json()["modality"] == "text"
    rows = {row["modality"]: row for row in stored(client, shop, MEDIA).to_dicts()}
    assert rows["audio"]["user_key"] == identities.lookup(shop.identities, "user_id", "u1")
    assert rows["text"]["user_key"] == identities.lookup(shop.identities, "anonymous_id", "v1")
    assert Path(rows["text"]["path"]).read_text() == "call me: [phone]"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (lambda: packed(bomb(), item_id="A"), "too_large", "more than 50,000,000 pixels"),
        (lambda: packed(picture(400, 300)[:-9_000], item_id="A"), "broken", "broken or cut off"),
        (lambda: packed(picture(400, 300, "JPEG")[:9_000], item_id="A"), "broken", "broken or cut off"),
        (lambda: packed(zipped(), item_id="A"), "unknown_format", "no picture, sound, video or text"),
        (lambda: packed(sound()[:-99], item_id="A"), "broken", "cut off"),
        (lambda: packed(sound(), item_id="A", modality="image"), "wrong_type", "another kind: audio"),
        (lambda: packed(b"", item_id="A"), "unknown_format", "no picture"),
        (lambda: packed(bytes(2**20 + 1), item_id="A"), "too_large", "more than 1,048,576 bytes"),
        (lambda: packed(bytes(2**21), item_id="A"), "too_large", "more than"),
        (lambda: {"content": "?", "item_id": "A"}, "invalid_request", "no base64"),
        (lambda: {"content": "YQ==é", "item_id": "A"}, "invalid_request", "no base64"),
        (lambda: {"item_id": "A"}, "invalid_request", "There is no content"),
        (lambda: {"text": "a", "content": "YQ==", "item_id": "A"}, "invalid_request", "There is no content"),
        (lambda: {"text": "a"}, "invalid_request", "one owner"),
        (lambda: {"text": "a", "item_id": "A", "user_id": "u"}, "invalid_request", "one owner"),
        (lambda: {"text": "a", "item_id": "x" * 257}, "too_long", "longer than 256"),
        (lambda: {"text": "a", "item_id": "A", "at": "9999-12-31T00:00:00Z"}, "bad_time", "none that can be read"),
    ],
)
def test_what_is_no_medium_is_refused_in_words_and_nothing_is_kept(shop, body, code, words):
    with TestClient(app.create(shop, config=Config(media_mb=1))) as client:
        answer = client.post("/v1/media", json=body())
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert words in answer.json()["message"]
        assert stored(client, shop, MEDIA).is_empty()
    assert not (shop.root / "media").exists()


def test_a_decoder_that_takes_too_long_is_ended(client, post, monkeypatch):
    monkeypatch.setattr("habitue.core.looking.SECONDS", 0.005)
    answer = post("/v1/media", packed(picture(), item_id="A"))
    assert (answer.status_code, answer.json()["code"]) == (400, "too_heavy")


def test_a_decoder_has_bounded_memory(monkeypatch, tmp_path):
    import subprocess
    import sys

    script = "import habitue.core.looking as one; one.MEMORY = 2**28; one.main()"
    image = pytest.importorskip("PIL.Image")
    told = io.BytesIO()
    image.new("RGB", (9_000, 5_500)).save(told, "PNG")
    done = subprocess.run(
        [sys.executable, "-c", script, "image"], input=told.getvalue(), capture_output=True, timeout=60
    )
    assert done.returncode != 0 or b'"broken"' in done.stdout  # it had no room, and said so or died


def test_a_disk_that_is_full_is_a_503(client, post, monkeypatch):
    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = post("/v1/media", packed(picture(), item_id="A"))
    assert answer.status_code == 503 and "Retry-After" in answer.headers
    media = client.app.state.receiver.workspace.root / "media"
    assert not [path for path in media.rglob("*") if path.is_file()]


def beat(second, value=72, **more):
    at = (NOW - dt.timedelta(seconds=120 - second)).isoformat()
    return {"signal": "heart_rate", "at": at, "value": value, "unit": "1/min"} | more


def test_a_sensed_series_is_stored_once_and_is_what_the_stage_reads(client, post, shop):
    body = {"user_id": "u1", "session_id": "s1", "signals": [beat(n, 70 + n % 5) for n in range(60)]}
    for _ in range(2):
        answer = post("/v1/signals", body)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    rows = stored(client, shop, SIGNALS)
    assert rows.height == 60 and rows["user_key"].unique().to_list() == [
        identities.lookup(shop.identities, "user_id", "u1")
    ]
    assert rows["unit"].unique().to_list() == ["1/min"] and rows["session_id"].unique().to_list() == ["s1"]
    found = encode.encode(encode.series(rows), encode.Config(signals=("heart_rate",)))
    assert found.encoded.tolist() == [True] and found.refused.is_empty()
    post("/v1/signals", body)
    assert stored(client, shop, SIGNALS).height == 60


def test_the_senders_wrong_clock_is_corrected(client, post, shop):
    ahead = dt.timedelta(hours=2)
    body = {"anonymous_id": "v1", "sent_at": (NOW + ahead).isoformat()}
    post("/v1/signals", body | {"signals": [beat(0) | {"at": (NOW + ahead).isoformat()}]})
    (at,) = stored(client, shop, SIGNALS)["at"]
    assert abs(at - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=60)


def test_one_bad_value_is_refused_alone(client, post, shop):
    bad = [3, beat(1, "high"), beat(2, None), beat(3, signal=" "), beat(4, at="soon"), beat(5, at=None)]
    bad += [beat(6, at="9999-01-01T00:00:00Z"), beat(7, at="0001-01-01T00:00:00Z"), beat(8, unit="x" * 257)]
    assert post("/v1/signals", {"user_id": "u1", "signals": [*bad, beat(9)]}).status_code == 200
    assert post("/v1/signals", {"signals": [beat(10)]}).status_code == 200
    assert stored(client, shop, SIGNALS).height == 1
    codes = ["bad_record", "bad_value", "missing_value", "missing_signal", "bad_time", "missing_time", "far_time"]
    codes += ["far_time", "too_long", "missing_user"]
    assert sorted(shop.lake.read(REFUSED)["code"]) == sorted(codes)


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "invalid_request"), ({"signals": 3}, "invalid_request"), ({"signals": [1] * 10_001}, "too_many")],
)
def test_what_is_no_series_is_refused(post, body, code):
    answer = post("/v1/signals", body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_write_key_may_send_neither_unless_the_plan_says_so(shop):
    write, secret = (keys.create(shop.state, kind)[1] for kind in ("write", "secret"))
    bodies = {"/v1/media": {"text": "fine", "item_id": "A"}, "/v1/signals": {"user_id": "u", "signals": [beat(1)]}}
    for allowed, status in ((False, 403), (True, 200)):
        with TestClient(app.create(shop, config=Config(senses_from_pages=allowed))) as client:
            for path, body in bodies.items():
                assert client.post(path, json=body).status_code == 401
                assert client.post(path, json=body, headers={"X-API-Key": write}).status_code == status
                assert client.post(path, json=body, headers={"X-API-Key": secret}).status_code == 200


def test_a_product_nobody_knows_is_a_404_and_a_known_one_is_taken(trained):
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        answer = client.post("/v1/media", json={"text": "fine", "item_id": "nope"})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_item")
        assert client.post("/v1/media", json={"text": "fine", "item_id": "red-1"}).status_code == 200
        assert stored(client, trained, MEDIA)["owner_id"].to_list() == ["red-1"]


def test_who_withdrew_a_consent_is_not_sensed(trained):
    no = {"userId": "u1", "context": {"consent": {"categoryPreferences": {"analytics": False}}}}
    with TestClient(app.create(trained, read=lambda: serving.read(trained))) as client:
        body = {"user_id": "u1", "signals": [beat(1)]}
        assert client.post("/v1/signals", json=body).status_code == 200
        assert client.post("/v1/identify", json=no).status_code == 200
        for path, said in (("/v1/signals", body), ("/v1/media", {"text": "fine", "user_id": "u1"})):
            answer = client.post(path, json=said)
            assert (answer.status_code, answer.json()["code"]) == (403, "no_consent")
        assert client.post("/v1/signals", json=body | {"user_id": "u2"}).status_code == 200
        assert stored(client, trained, SIGNALS).height == 2 and stored(client, trained, MEDIA).is_empty()


def test_an_erasure_takes_what_was_sent_of_a_person_and_leaves_what_another_shares(client, post, shop):
    assert post("/v1/media", {"text": "only of u1", "user_id": "u1"}).status_code == 200
    for who in ("u1", "u2"):
        assert post("/v1/media", {"text": "of both", "user_id": who}).status_code == 200
        assert post("/v1/signals", {"user_id": who, "signals": [beat(1)]}).status_code == 200
    assert stored(client, shop, MEDIA).height == 3
    erase(shop, [identities.lookup(shop.identities, "user_id", "u1")])
    kept = [path.read_text() for path in (shop.root / "media").rglob("*") if path.is_file()]
    assert kept == ["of both"]
    assert shop.lake.read(MEDIA).height == 1 and shop.lake.read(SIGNALS).height == 1


def files(shop):
    return sorted(path.read_text() for path in (shop.root / "media").rglob("*") if path.is_file())


def test_what_waits_in_the_inbox_at_an_erasure_goes_with_its_file(client, post, shop):
    seen = {"type": "track", "event": "Product Reviewed", "messageId": "e1", "userId": "u1", "properties": {}}
    assert post("/v1/track", seen | {"writeKey": "w"}).status_code == 200
    for said in ({"user_id": "u1", "text": "only of u1"}, {"event_id": "e1", "text": "a review of u1"}):
        assert post("/v1/media", said).status_code == 200
    for who in ("u1", "u2"):
        assert post("/v1/media", {"text": "of both", "user_id": who}).status_code == 200
    erase(shop, [identities.lookup(shop.identities, "user_id", "u1")])
    assert stored(client, shop, MEDIA).height == 1 and shop.lake.read(EVENTS).is_empty()
    assert files(shop) == ["of both"]


def test_a_file_that_a_row_in_the_inbox_names_outlives_an_erasure(client, post, shop):
    assert post("/v1/media", {"text": "of both", "user_id": "u1"}).status_code == 200
    assert stored(client, shop, MEDIA).height == 1
    assert post("/v1/media", {"text": "of both", "user_id": "u2"}).status_code == 200
    erase(shop, [identities.lookup(shop.identities, "user_id", "u1")])
    assert files(shop) == ["of both"]
    (path,) = stored(client, shop, MEDIA)["path"]
    assert Path(path).read_text() == "of both"


def test_a_file_that_an_erasure_takes_before_its_row_is_there_is_written_again(client, post, shop, monkeypatch):
    take = Receiver.take

    async def late(self, *arguments):
        sent.remove(shop.root, [str(path) for path in (shop.root / "media").rglob("*") if path.is_file()])
        assert files(shop) == []
        return await take(self, *arguments)

    monkeypatch.setattr(Receiver, "take", late)
    assert post("/v1/media", {"text": "of u2", "user_id": "u2"}).status_code == 200
    assert files(shop) == ["of u2"]


def test_what_was_put_aside_and_cut_off_is_removed_the_next_time_and_other_files_are_not_touched(shop, tmp_path):
    folder = shop.root / "media" / "ab"
    folder.mkdir(parents=True)
    (folder / ".gone-abc").write_text("put aside")
    (tmp_path / "own").write_text("the shop's own")
    sent.remove(shop.root, [str(folder / "abc"), str(tmp_path / "own")])
    assert files(shop) == [] and (tmp_path / "own").exists()
