"""Media of strangers: looked at as the server does, and decoded as the encoders do, in this process."""

from __future__ import annotations

import io
import wave
from collections import Counter
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import polars as pl
from loop import Group, Parser
from PIL import Image

from habitue.core import media
from habitue.encode import frames, photo, pixels, samples, text
from habitue.encode.vectors import Refusal
from habitue.protect import mask

LARGEST = 1_000_000  # pixels of a picture, and of a frame
SECONDS = 2.0
RATE = 8_000
NOISE = np.random.default_rng(0)
PICTURE = (np.add.outer(np.arange(12), np.arange(16)) * 9 % 256).astype(np.uint8)
SOUND = (8_000 * np.sin(np.arange(RATE // 4) / 3)).astype(np.int16)


def picture(form: str, mode: str = "RGB", **more: Any) -> bytes:
    """Write a small picture."""
    written = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(written, form, **more)
    return written.getvalue()


def wav(width: int = 2) -> bytes:
    """Write a quarter of a second."""
    written = io.BytesIO()
    with wave.open(written, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(width)
        opened.setframerate(RATE)
        opened.writeframes(SOUND.tobytes() if width == 2 else (SOUND // 256 + 128).astype(np.uint8).tobytes())
    return written.getvalue()


def sound(container: str, codec: str, rate: int = RATE) -> bytes:
    """Write the same through FFmpeg."""
    written = io.BytesIO()
    with av.open(written, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(SOUND[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        shape = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 0)
        for one in [*shape.resample(frame), *shape.resample(None), None]:
            opened.mux(stream.encode(one))
    return written.getvalue()


def film(container: str, codec: str) -> bytes:
    """Write twelve small frames."""
    written = io.BytesIO()
    with av.open(written, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(12):
            colours = np.full((32, 32, 3), 255 * (number > 5), dtype=np.uint8)
            colours[: number + 1] = 99
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format="rgb24")))
        opened.mux(stream.encode())
    return written.getvalue()


def looked(modality: str) -> Callable[[bytes], Counter[str]]:
    """Look as the server does, whose process of its own this one is."""

    def look(body: bytes) -> Counter[str]:
        seen = media.look(body, modality)
        assert seen.seconds is None or 0 < seen.seconds < 1e9, seen
        return Counter({"accepted": 1})

    return look


def seen(body: bytes) -> Counter[str]:
    """Decode a picture, and say how it was taken."""
    formats = [name for name in pixels.FORMATS if name in Image.OPEN]
    opened = pixels._open(body, "bytes", LARGEST, formats)
    for square in (False, True):
        _finite(photo._numbers(pixels.fitted(opened, 64, square=square)))
    return Counter({"accepted": 1})


def heard(body: bytes) -> Counter[str]:
    """Decode a sound."""
    found = samples.samples(body, "bytes", rate=16_000, seconds=SECONDS)
    assert found.ndim == 1 and len(found) <= 16_000 * SECONDS + 16_000, found.shape
    _finite(found)
    return Counter({"accepted": 1})


def filmed(body: bytes) -> Counter[str]:
    """Decode a video, and cut it into scenes."""
    found = frames.moments(body, pace=4.0, seconds=SECONDS, largest=LARGEST)
    assert len(found.frames) == len(found.seconds) <= 4 * SECONDS + 1 and (np.diff(found.seconds) > 0).all()
    frames.scenes(found.frames, change=0.3)
    if len(found.frames) > 1:
        _finite(frames.motion(found.frames))
    return Counter({"accepted": 1})


def written(body: bytes) -> Counter[str]:
    """Read words: masked, and as a vector."""
    words = body.decode(errors="replace").split("\n")
    masked = mask.masked(pl.Series("text", words))
    assert masked.equals(pl.Series("text", [mask.mask(one) for one in words])), "a column is masked as its texts are"
    told = text.encode(pl.DataFrame({"id": [str(n) for n in range(len(words))], "text": words}))
    _finite(told.matrix.data)
    return Counter({"accepted": 1})


def _finite(numbers: Any) -> None:
    assert np.isfinite(numbers).all(), "a number that is none"


Image.init()
PICTURES = (picture("JPEG"), picture("JPEG", "CMYK"), picture("PNG"), picture("PNG", "LA"), picture("GIF"))
PICTURES += (picture("WEBP"), picture("BMP"), picture("TIFF"), picture("TIFF", "F"), picture("PNG", "P"))
PICTURES += (picture("TIFF", compression="tiff_lzw"), picture("PNG", "I;16"))
SOUNDS = (wav(), wav(1), sound("flac", "flac"), sound("ogg", "libopus", 48_000), sound("mp3", "libmp3lame", 16_000))
SOUNDS += (sound("aiff", "pcm_s16be"), sound("mp4", "aac", 16_000), sound("matroska", "libopus", 48_000))
FILMS = (film("mp4", "libx264"), film("matroska", "mpeg4"), film("avi", "mpeg4"), film("mpeg", "mpeg1video"))
FILMS += (film("flv", "flv"),)
WORDS = ("A blue mug, 2.50 €\n质量很好的杯子\nwrite to jane@shop.example or +49 151 2345678, 4111 1111 1111 1111\n",)

PARSERS = (
    Parser("pictures, looked at", PICTURES, looked("image")),
    Parser("sounds, looked at", SOUNDS[:-1], looked("audio")),
    Parser("videos, looked at", FILMS, looked("video")),
    Parser("texts, looked at", tuple(one.encode() for one in WORDS), looked("text")),
    Parser("pictures", PICTURES, seen),
    Parser("sounds", SOUNDS, heard),
    Parser("videos", FILMS, filmed),
    Parser("texts", tuple(one.encode() for one in WORDS), written),
)
GROUP = Group("media", "habitue", PARSERS, (media.Flaw, Refusal), ("accepted",), most_mb=1_000.0)
