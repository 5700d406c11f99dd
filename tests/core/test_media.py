import io
import struct
import sys
import wave
import zlib

import numpy as np
import pytest
from PIL import Image

from habitue.core import media
from habitue.core.media import Flaw, look


def picture(format: str = "PNG", size=(64, 48), seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    made = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(made, format)
    return made.getvalue()


def sound(seconds: float = 0.5, rate: int = 8000) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\x01\x02\x03\x04" * int(seconds * rate))
    return made.getvalue()


def refused(data, modality: str) -> tuple[str, str]:
    with pytest.raises(Flaw) as flaw:
        look(data, modality)
    return flaw.value.code, flaw.value.sentence


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_picture_is_decoded(format):
    seen = look(picture(format), "image")
    assert (seen.format, seen.whole) == (format, True)
    assert 0 <= seen.hash < 2**64


def test_the_hash_says_what_a_picture_looks_like():
    whole = look(picture("PNG", (640, 480)), "image").hash
    small = look(picture("JPEG", (120, 90)), "image").hash
    other = look(picture("PNG", (640, 480), seed=1), "image").hash
    assert (whole ^ small).bit_count() <= 5
    assert (whole ^ other).bit_count() > 15
    ramp = Image.fromarray(np.repeat(np.arange(0, 180, 20, dtype=np.uint8)[None, :], 8, axis=0))
    made = io.BytesIO()
    ramp.save(made, "PNG")
    assert look(made.getvalue(), "image").hash == 2**64 - 1  # every column is brighter than the one to its left


def test_broken_pictures_have_a_reason():
    assert refused(picture()[:200], "image")[0] == "broken"
    assert refused(b"\x89PNG\r\n\x1a\nno picture at all", "image")[0] == "broken"
    assert refused(b"hello", "image") == ("unknown_format", "It is no image file of a format that is known here.")
    assert refused(b"", "image") == refused(None, "image") == ("empty", "It holds no byte.")


def test_a_bomb_of_pixels_is_refused_by_its_header(monkeypatch):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb += struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    assert refused(bomb, "image") == ("too_large", "The picture has more than 50,000,000 pixels.")
    monkeypatch.setattr(media, "PIXELS", 64 * 48)
    assert look(picture(), "image").whole
    monkeypatch.setattr(media, "PIXELS", 64 * 48 - 1)
    assert refused(picture(), "image")[0] == "too_large"


def test_without_pillow_the_header_is_read(monkeypatch):
    data = picture("JPEG")
    monkeypatch.setitem(sys.modules, "PIL", None)
    seen = look(data, "image")
    assert (seen.format, seen.whole, seen.hash) == ("JPEG", False, None)
    assert refused(b"hello", "image")[0] == "unknown_format"


def test_sound_is_read_to_its_end():
    seen = look(sound(), "audio")
    assert (seen.format, seen.whole, seen.seconds) == ("WAV", True, 0.5)
    assert refused(sound()[:-4000], "audio") == ("broken", "The sound is cut off: 3,000 of 4,000 samples are there.")
    assert refused(sound()[:30], "audio")[0] == "broken"
    assert refused(sound(0.0), "audio") == ("empty", "It holds no sample of sound.")


@pytest.mark.parametrize(
    ("data", "modality", "format"),
    [
        (b"fLaC" + bytes(40), "audio", "FLAC"),
        (b"OggS" + bytes(40), "audio", "OGG"),
        (b"ID3" + bytes(40), "audio", "MP3"),
        (b"\x00\x00\x00\x18ftypisom", "video", "MP4"),
        (b"\x1a\x45\xdf\xa3", "video", "MATROSKA"),
        (b"RIFF\x00\x00\x00\x00AVI ", "video", "AVI"),
    ],
)
def test_other_formats_by_their_header(data, modality, format):
    seen = look(data, modality)
    assert (seen.format, seen.whole) == (format, False)


def test_texts_and_what_is_none():
    assert look("größer".encode(), "text").whole
    assert refused("größer".encode("latin-1"), "text") == ("broken", "It is no text in UTF-8.")
    assert refused(b"x", "smell") == ("unknown_modality", "It is neither text, image, audio nor video.")
