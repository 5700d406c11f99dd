"""Sounds: decoded whatever they are, refused in words when they cannot be, the same vector in any company."""

import io
import os
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from habitue import encode
from habitue.core.errors import MissingExtraError, ModelError
from habitue.encode import acoustics, activity, samples, sound, spectrogram, speech, weights, whisper
from habitue.encode.vectors import Refusal

WITHOUT_WEIGHTS = ["acoustics", "spectrogram"]
RATE = 16_000


def heard(content: bytes | None, *, rate: int = RATE, seconds: float = 30.0) -> np.ndarray:
    return samples.samples(content, "bytes", rate=rate, seconds=seconds)


def wave_header(*, channels=1, rate=RATE, bits=16, length=0) -> bytes:
    size = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * size) & 0xFFFFFFFF, size & 0xFFFF, bits)
    return (
        b"RIFF" + struct.pack("<I", 36 + length) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data"
        + struct.pack("<I", length)
    )  # fmt: skip


def encoded(codec: str, form: str, samples_: np.ndarray, *, rate: int = 48_000) -> bytes:
    """A file made by FFmpeg; `samples_` float32 [N]."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for start in range(0, samples_.size, 960):
            part = np.zeros((1, 960), dtype=np.float32)
            piece = samples_[start : start + 960]
            part[0, : piece.size] = piece
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_samples_are_the_same_however_they_are_stored(subtype, sounds):
    tone = sounds.tone(440)
    got = heard(sounds.file(tone, subtype=subtype))
    assert got.dtype == np.float32 and got.size == tone.size
    assert np.abs(got - tone).max() < {"PCM_U8": 0.01, "ULAW": 0.02}.get(subtype, 1e-4)


@pytest.mark.parametrize(("form", "subtype"), [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16")])
def test_other_lossless_files_hold_the_same_samples(form, subtype, sounds):
    tone = sounds.tone(440)
    assert np.abs(heard(sounds.file(tone, subtype=subtype, form=form)) - tone).max() < 1e-4


@pytest.mark.parametrize(
    ("codec", "form"), [("libopus", "ogg"), ("aac", "mp4"), ("libmp3lame", "mp3"), ("libopus", "webm"), ("flac", "ogg")]
)
def test_what_phones_and_browsers_record_is_heard(codec, form, sounds):
    from habitue.encode import spectra

    tone = sounds.tone(1_000, rate=48_000, seconds=1.5)
    try:
        content = encoded(codec, form, tone)
    except ValueError as error:
        pytest.skip(f"this build of FFmpeg cannot write it: {error}")
    got = heard(content)
    assert got.size == pytest.approx(1.5 * RATE, rel=0.1)
    loudest = spectra.power(got, size=512, hop=160).mean(axis=0).argmax() * RATE / 512
    assert loudest == pytest.approx(1_000, abs=32)


@pytest.mark.parametrize("channels", [2, 6, 48])
def test_channels_are_averaged_however_many(channels, sounds):
    tone = sounds.tone(440)
    many = np.zeros((tone.size, channels))
    many[:, channels // 2] = tone
    assert np.abs(heard(sounds.file(many)) - tone / channels).max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 96_000, 44_056])
def test_any_rate_is_brought_to_the_one_asked_for(rate, sounds):
    got = heard(sounds.file(sounds.tone(440, rate=rate), rate=rate))
    wanted = sounds.tone(440)
    assert abs(got.size - RATE) <= 16
    inner = slice(500, 15_000)
    assert np.abs(got[inner] - wanted[inner]).max() < 0.02 if rate != 44_056 else True
    assert np.sqrt((got[inner] ** 2).mean()) == pytest.approx(np.sqrt((wanted[inner] ** 2).mean()), rel=0.02)


def test_only_the_first_seconds_are_heard(sounds):
    long = np.concatenate([sounds.tone(440), sounds.noise()])
    assert np.abs(heard(sounds.file(long), seconds=1.0) - sounds.tone(440)).max() < 1e-3


def bad(sounds) -> dict[str, tuple[bytes | None, str, str]]:
    tone = sounds.file(sounds.tone(440))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.wav", tone)
    flac = sounds.file(sounds.noise(seconds=3), form="FLAC")
    nan = sounds.file(np.full(RATE, np.nan, dtype=np.float32), subtype="FLOAT")
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n"
    return {
        "null": (None, "no_sound", "There is no sound"),
        "nothing": (b"", "no_sound", "no sound of a known format"),
        "text": (b"hello, this is no sound", "no_sound", "no sound of a known format"),
        "a renamed zip": (packed.getvalue(), "no_sound", "no sound of a known format"),
        "a playlist": (playlist, "no_sound", "no sound of a known format"),
        "a header alone": (wave_header(length=99_999), "empty|broken", "no sample|cut off"),
        "zero seconds": (wave_header(), "empty", "no sample of sound"),
        "ten samples": (sounds.file(sounds.tone(440)[:10]), "too_short", "shorter than 20 milliseconds"),
        "silence": (sounds.file(np.zeros(RATE)), "silent", "nothing but silence"),
        "almost silence": (sounds.file(sounds.noise(loud=1e-6), subtype="FLOAT"), "silent", "nothing but silence"),
        "no numbers": (nan, "broken", "no number"),
        "cut off": (flac[: len(flac) // 2], "broken", "broken or cut off|cut off:"),
        "a cut wave": (tone[: len(tone) // 2], "broken", "cut off"),
        "no channel": (wave_header(channels=0, length=64) + bytes(64), "broken|strange", "broken|channels"),
        "sixty thousand channels": (wave_header(channels=60_000, length=64) + bytes(64), "broken|strange|empty", "."),
        "four billion a second": (wave_header(rate=4_000_000_000, length=64) + b"ab" * 32, "broken|strange", "."),
        "one a second": (wave_header(rate=1, length=64) + b"ab" * 32, "strange", "1 channels of 1 samples a second"),
    }


BAD = [
    "null", "nothing", "text", "a renamed zip", "a playlist", "a header alone", "zero seconds", "ten samples",
    "silence", "almost silence", "no numbers", "cut off", "a cut wave", "no channel",
    "sixty thousand channels", "four billion a second", "one a second",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_sound_that_cannot_be_heard_has_a_reason(name, sounds):
    import re

    content, code, words = bad(sounds)[name]
    with pytest.raises(Refusal) as refusal:
        heard(content)
    assert re.fullmatch(code, refusal.value.code) and re.search(words, refusal.value.sentence)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_bad_sound_stops_nothing(name, sounds):
    good = sounds.file(sounds.tone(440))
    contents = [good, *(content for content, _, _ in bad(sounds).values()), good]
    assert list(bad(sounds)) == BAD
    vectors = encode.run(name, sounds.things(*contents))
    assert vectors.encoded.tolist() == [True, *[False] * len(BAD), True]
    assert vectors.refused["id"].to_list() == [f"s{n}" for n in range(1, len(BAD) + 1)]
    assert (vectors.dense[0] == vectors.dense[-1]).all()


def test_few_sounds_are_ahead_of_whoever_asks(sounds):
    made = []
    things = sounds.things(*[sounds.file(sounds.tone(440, seconds=0.1))] * 150)
    seen = samples.decoded(
        things, lambda sound: made.append(sound.size) or len(made), rate=RATE, seconds=1.0, workers=2
    )
    assert next(seen)[0] == 0
    assert len(made) <= 4 * samples.TOGETHER
    assert [place for place, _ in seen] == list(range(1, 150)) and len(made) == 150


def test_no_prefix_of_a_file_brings_anything_down(sounds):
    """Whatever is cut off, there are samples or a reason."""
    for content in (sounds.file(sounds.noise(seconds=0.2), form=form) for form in ("WAV", "FLAC", "AIFF")):
        for end in range(0, len(content), max(1, len(content) // 40)):
            try:
                assert heard(content[:end]).size
            except Refusal as refusal:
                assert refusal.sentence


def test_ten_hours_cost_what_thirty_seconds_cost(tmp_path):
    """A WAV file of 10 hours at 2 kHz, 8 bits (72 MB, mostly a hole in the file): bounded time and memory."""
    path = tmp_path / "long.wav"
    length = 10 * 3_600 * 2_000
    with path.open("wb") as file:
        file.write(wave_header(rate=2_000, bits=8, length=length))
        file.write(np.random.default_rng(0).integers(0, 255, 100_000, dtype=np.uint8).tobytes())
        file.truncate(44 + length)
    tracemalloc.start()
    began = time.process_time()
    got = samples.samples(str(path), "path", rate=RATE, seconds=30.0)
    spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.size == 30 * RATE and spent < 5 and peak < 120e6


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(Refusal, match="cannot be read"):
        samples.samples(str(tmp_path / "pipe.wav"), "path", rate=RATE, seconds=1.0)


def test_a_wave_written_before_its_length_was_known_is_heard(sounds):
    content = bytearray(sounds.file(sounds.tone(440)))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    assert heard(bytes(content)).size == RATE


def test_a_sound_above_256_mb_is_refused_and_a_missing_one_too(tmp_path, sounds):
    path = tmp_path / "huge.wav"
    with path.open("wb") as file:
        file.write(wave_header(length=2**31))
        file.truncate(300_000_000)
    for name in (path, tmp_path / "none.wav"):
        with pytest.raises(Refusal, match="cannot be read, or it is larger than 256 MB"):
            samples.samples(str(name), "path", rate=RATE, seconds=1.0)


def test_a_film_without_sound_says_so(tmp_path):
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(Refusal, match="It has no sound track"):
        heard(out.getvalue())


def test_names_stand_for_what_they_say(sounds):
    """Two tones an octave apart differ by an octave of pitch; pauses, swells and length are told."""
    at = np.arange(2 * RATE) / RATE
    beaten = sounds.tone(200, seconds=2) * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * at)).astype(np.float32)  # 4 a second
    half = np.concatenate([sounds.tone(200), np.zeros(RATE, dtype=np.float32), sounds.tone(200)])
    contents = [sounds.tone(200), sounds.tone(400), beaten, half, sounds.noise()]
    rows = encode.run("acoustics", sounds.things(*map(sounds.file, contents))).dense
    assert rows.shape == (5, 110) and len(acoustics.NAMES) == len(set(acoustics.NAMES)) == 110
    place = {name: i for i, name in enumerate(acoustics.NAMES)}

    def told(row: int, name: str) -> float:
        return float(rows[row, place[name]]) * acoustics.MANNER[name]

    height = "pitch, mean (octaves above 100 Hz)"
    assert told(0, height) == pytest.approx(1, abs=0.01) and told(1, height) == pytest.approx(2, abs=0.01)
    assert told(4, "voiced share") < 0.05 < 0.9 < told(0, "voiced share")
    assert told(2, "pace (swells of loudness a second)") == pytest.approx(4, abs=0.6)
    assert told(3, "pauses, share") == pytest.approx(1 / 3, abs=0.03) and told(0, "pauses, share") == 0
    assert told(3, "length (log2 of seconds)") == pytest.approx(np.log2(3), abs=1e-6)
    assert told(0, "pitch, jitter") < 0.002
    quiet = encode.run("acoustics", sounds.things(sounds.file(sounds.tone(200, loud=0.05)))).dense[0]
    louder = (rows[0] - quiet)[place["loudness, mean (dB)"]] * acoustics.MANNER["loudness, mean (dB)"]
    assert louder == pytest.approx(20, abs=0.1)


def test_a_rising_voice_has_a_rising_pitch(sounds):
    at = np.arange(RATE) / RATE
    glide = (0.5 * np.sin(2 * np.pi * 100 * (2**at - 1) / np.log(2))).astype(np.float32)  # 100 to 200 Hz, an octave
    row = encode.run("acoustics", sounds.things(sounds.file(glide))).dense[0]
    name = "pitch, slope (octaves a second)"
    assert row[acoustics.NAMES.index(name)] * acoustics.MANNER[name] == pytest.approx(1, abs=0.1)


def test_a_spectrogram_is_the_same_louder_later_and_slower(sounds):
    course = np.concatenate([sounds.tone(500, seconds=0.3), sounds.tone(3_000, seconds=0.3)])
    slow = np.concatenate([sounds.tone(500, seconds=0.6), sounds.tone(3_000, seconds=0.6)])
    later = np.concatenate([np.zeros(8_000, dtype=np.float32), course, np.zeros(3_000, dtype=np.float32)])
    other = np.concatenate([sounds.tone(3_000, seconds=0.3), sounds.tone(500, seconds=0.3)])
    contents = [course, course * 0.2, later, slow, other]
    rows = encode.run("spectrogram", sounds.things(*(sounds.file(c, subtype="FLOAT") for c in contents))).dense
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    near = rows @ rows[0]
    assert (near[1:4] > 0.9).all() and near[4] < 0.7


def test_stretches_begin_and_end_where_the_shares_say():
    shares = np.zeros(100)
    shares[10:20] = 0.9
    shares[14] = 0.4  # between the two thresholds: it goes on
    shares[40:60] = 0.9
    shares[50:53] = 0.1  # a pause of 96 ms, shorter than it takes to part
    shares[70:72] = 0.9  # 64 ms: a noise
    shares[90:] = 0.9  # to the end
    got = activity.stretches(shares, activity.Config())
    assert np.array(got) == pytest.approx(np.array([(0.32, 0.64), (1.28, 1.92), (2.88, 3.2)]))


@pytest.mark.parametrize("name", ["sound", "speech"])
def test_without_weights_the_command_that_brings_them_is_named(name, models, sounds):
    with pytest.raises(ModelError, match="they are not on this machine.*habitue models fetch (audio|speech)"):
        encode.run(name, sounds.things(sounds.file(sounds.tone(440))))


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_missing_extra_is_named(name, sounds, monkeypatch):
    content = sounds.file(sounds.tone(440))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'habitue\[sound\]'"):
        encode.run(name, sounds.things(content))


def test_speed_is_no_part_of_the_key_of_a_sound():
    for module in (acoustics, spectrogram, sound, speech):
        assert module.encoder(module.Config(workers=1)).key == module.encoder(module.Config(workers=4)).key
        assert module.encoder(module.Config(seconds=1.0)).key != module.encoder(module.Config()).key


def test_the_file_of_tensors_is_read_as_it_is_written(tmp_path):
    def word(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    matrix = np.arange(6, dtype=np.float16).reshape(2, 3)
    data = struct.pack("<I", 6) + word("WhisperSpec") + struct.pack("<II", 3, 2)
    data += word("encoder/a/weight") + struct.pack("<BIIBI", 2, 2, 3, 4, 12) + matrix.tobytes()
    data += word("encoder/num_heads") + struct.pack("<BBI", 0, 2, 2) + struct.pack("<h", 8)
    (tmp_path / "model.bin").write_bytes(data)
    got = whisper.tensors(tmp_path / "model.bin")
    assert list(got) == ["encoder/a/weight", "encoder/num_heads"]
    assert (got["encoder/a/weight"] == matrix).all() and int(got["encoder/num_heads"]) == 8


def test_the_log_mel_of_whisper_is_in_its_range(sounds):
    loud = whisper.log_mel(sounds.tone(1_000))
    assert loud.shape == (100, 80) and loud.dtype == np.float32
    assert loud.max() - loud.min() == pytest.approx(2.0, abs=1e-5), "eight powers of ten, divided by four"
    step = np.log(6.4) / 27
    highest = 15 + np.log(8) / step
    assert abs(int(loud[50].argmax()) - (15 / highest * 81 - 1)) <= 1, "1 kHz is 15 mel"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sound", "speech"])
def test_a_sound_has_the_same_vector_in_any_company(name, real_weights, sounds):
    real_weights("audio-aisfx" if name == "sound" else "speech-whisper-tiny-en")
    config = sound.Config() if name == "sound" else speech.Config(size="tiny-en")
    made = [
        sounds.noise(seed=n, seconds=0.5 + 0.3 * n) + sounds.tone(200 + 50 * n, seconds=0.5 + 0.3 * n) for n in range(5)
    ]
    contents = [sounds.file(s) for s in made]
    together = encode.run(name, sounds.things(*contents, b"broken"), config)
    assert together.missing == ("s5",)
    alone = np.vstack([encode.run(name, sounds.things(c), config).dense for c in contents])
    assert (together.dense[:5] == alone).all()
    assert np.linalg.norm(alone, axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_kinds_of_sound_are_apart(real_weights, sounds):
    """Tones, noises and clicks: the nearest other sound is of the same kind."""
    real_weights("audio-aisfx")
    rng = np.random.default_rng(0)
    made, kinds = [], []
    for n in range(4):
        clicks = np.zeros(2 * RATE, dtype=np.float32)
        clicks[rng.integers(0, 2 * RATE, 12)] = 0.9
        made += [sounds.tone(300 + 90 * n, seconds=2), sounds.noise(seed=n, seconds=2), clicks]
        kinds += ["tone", "noise", "clicks"]
    rows = encode.run("sound", sounds.things(*map(sounds.file, made))).dense
    rows = rows - rows.mean(axis=0)
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -np.inf)
    assert [kinds[i] for i in likeness.argmax(axis=1)] == kinds


@pytest.mark.slow
def test_speech_is_found_in_voices_and_not_in_noise(real_weights, sounds):
    """On $HABITUE_DATA/emodb: most of each clip is speech; a tone and noise hold none."""
    if "HABITUE_DATA" not in os.environ:
        pytest.skip("HABITUE_DATA is not set")
    real_weights("audio-vad")
    clips = pl.read_parquet(Path(os.environ["HABITUE_DATA"]) / "emodb/emodb_16k.parquet").head(20)
    found = activity.spoken(clips.select("id", bytes="flac"))
    share = found.group_by("id").agg(spoken=(pl.col("end_s") - pl.col("start_s")).sum() / 2.0)
    assert share.height == 20 and share["spoken"].median() > 0.6
    assert activity.spoken(
        sounds.things(sounds.file(sounds.noise(seconds=2)), sounds.file(sounds.tone(440)))
    ).is_empty()
    assert activity.spoken(sounds.things()).is_empty()


@pytest.mark.slow
def test_spoken_digits_of_a_stranger_are_told_apart(real_weights):
    """On $HABITUE_DATA/fsdd, tiny-en: a linear model of three speakers knows most digits of a fourth."""
    from sklearn.linear_model import LogisticRegression

    if "HABITUE_DATA" not in os.environ:
        pytest.skip("HABITUE_DATA is not set")
    real_weights("speech-whisper-tiny-en")
    clips = pl.read_parquet(Path(os.environ["HABITUE_DATA"]) / "fsdd/fsdd.parquet")
    clips = clips.filter(pl.col("index") < 8, pl.col("speaker").is_in(["george", "jackson", "lucas", "theo"]))
    rows = encode.run("speech", clips.select("id", bytes="flac"), speech.Config(size="tiny-en")).dense
    digit, mine = clips["digit"].to_numpy(), (clips["speaker"] == "jackson").to_numpy()
    model = LogisticRegression(C=100, max_iter=500).fit(rows[~mine], digit[~mine])
    assert model.score(rows[mine], digit[mine]) > 0.85
    assert weights.there("speech-whisper-tiny-en")
