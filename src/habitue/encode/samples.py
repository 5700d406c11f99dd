"""Sounds to samples, several at a time; a file that is no sound gets a reason and stops nothing.

Bytes come from strangers. A container is named by its first bytes and opened as that and nothing else: a playlist
that names other files is never followed. What is decoded ends after a number of seconds, so neither a clip of ten
hours nor a header that lies costs more than that.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import gcd
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.signal import firwin, resample_poly

from habitue.core.errors import SettingsError
from habitue.core.extras import need
from habitue.core.media import HEADERS
from habitue.encode.things import in_order, read_file
from habitue.encode.vectors import Refusal

T = TypeVar("T")
Samples = npt.NDArray[np.float32]  # [N], mono, full scale -1..1
DEMUXERS = {  # of FFmpeg, by the names of core.media
    "WAV": "wav",
    "FLAC": "flac",
    "OGG": "ogg",
    "MP3": "mp3",
    "M4A": "mov",
    "MP4": "mov",
    "AIFF": "aiff",
    "MATROSKA": "matroska",
    "AVI": "avi",
    "MPEG": "mpeg",
    "FLV": "flv",
}
EXACT = frozenset({"flac", "aiff", "mov"})  # their headers say how long they are, and FFmpeg passes it on
UNTOLD = 0xFFFF0000  # a length from which a WAV header means "until the end": it was written before that was known
RATES = (1_000, 768_000)  # Hz; what lies outside is no recording
CHANNELS = 256
SHORTEST = 0.02  # seconds
SILENT = 1e-4  # of full scale: -80 dB, below the noise of any microphone
TOGETHER = 16  # sounds decoded one after the other
WHOLE = 0.9  # of the told length: what is shorter was cut off
NO_SOUND = ("no_sound", "It is no sound of a known format.")


def hears(seconds: float, workers: int, *, where: str) -> None:
    """Refuse settings with which nothing would be heard. Raises SettingsError."""
    if not seconds > 0 or workers < 1:
        raise SettingsError(
            where,
            found=f"seconds {seconds}, workers {workers}",
            consequence="No sound could be encoded",
            remedy="Give more than 0 seconds and at least 1 worker",
        )


def decoded(
    things: pl.DataFrame, make: Callable[[Samples], T], *, rate: int, seconds: float, workers: int
) -> Iterator[tuple[int, T | Refusal]]:
    """Yield (place, make(samples) or why not) in the order of `things` (path or bytes); decoded in `workers` threads.

    Samples are float32[N] at `rate` Hz, the mean of all channels, of the first `seconds`. A film is heard by its first
    sound track. Raises MissingExtraError.
    """
    need("av", extra="sound", purpose="encode.sound")
    column = "bytes" if "bytes" in things.columns else "path"

    def heard(content: Any) -> Samples | Refusal:
        try:
            return samples(content, column, rate=rate, seconds=seconds)
        except Refusal as refusal:
            return refusal

    def some(slice_: pl.DataFrame) -> list[T | Refusal]:
        # First all are decoded, then all are made: in turns each drives the other's code and data out of the cache.
        told = [heard(content) for content in slice_[column]]
        return [one if isinstance(one, Refusal) else make(one) for one in told]

    for place, made in in_order(things.iter_slices(TOGETHER), some, workers=workers, ahead=1):
        yield from enumerate(made, place * TOGETHER)


def samples(content: Any, column: str, *, rate: int, seconds: float) -> Samples:
    """Return the first `seconds` of one sound (a path or bytes) at `rate` Hz. Raises Refusal."""
    if content is None:
        raise Refusal("no_sound", "There is no sound.")
    data = read_file(content) if column == "path" else content
    if data is None:
        raise Refusal("no_file", "The file cannot be read, or it is larger than 256 MB.")
    native, own = _native(data, seconds)
    if native.size < SHORTEST * own:
        raise Refusal("too_short", f"It is shorter than {SHORTEST * 1000:.0f} milliseconds.")
    if not np.isfinite(native).all():
        raise Refusal("broken", "It holds samples that are no number.")
    if float(np.abs(native).max()) < SILENT:
        raise Refusal("silent", "It holds nothing but silence.")
    return resampled(native, own, rate)


def resampled(sound: Samples, own: int, rate: int) -> Samples:
    """Return a sound of `own` Hz at `rate` Hz, by a windowed sinc (scipy.signal.resample_poly)."""
    if own == rate:
        return sound
    common = gcd(own, rate)
    up, down = rate // common, own // common
    if max(up, down) > 2_000:  # an odd rate: the filter would be longer than the sound; 0.1 % of pitch is not heard
        up, down = _near(rate / own)
    return np.asarray(resample_poly(sound, up, down, window=_sinc(max(up, down))), dtype=np.float32)


@lru_cache(maxsize=8)
def _sinc(rate: int) -> Samples:
    """Return the filter that resample_poly makes anew for every sound: a third of what the rate costs."""
    taps: Samples = firwin(20 * rate + 1, 1 / rate, window=("kaiser", 5.0)).astype(np.float32)
    return taps


def container(data: bytes, kinds: tuple[str, ...] = ("audio", "video")) -> Any:
    """Return the opened container, told by its first bytes and opened as nothing else. Raises Refusal."""
    import av

    marks = [mark for kind in kinds for mark in HEADERS[kind]]
    named = next((name for name, place, mark in marks if data[place : place + len(mark)] == mark), None)
    if named is None and data[:1] == b"\xff" and len(data) > 1 and data[1] & 0xE0 == 0xE0:
        named = "MP3"  # any frame of MPEG audio
    if named is None or named not in DEMUXERS:
        raise Refusal(*NO_SOUND)
    try:
        return av.open(io.BytesIO(data), format=DEMUXERS[named], metadata_errors="replace")
    except Exception as error:  # a demuxer of hostile bytes may raise anything
        raise Refusal("broken", f"It is broken or cut off ({type(error).__name__}).") from error


def _native(data: bytes, seconds: float) -> tuple[Samples, int]:
    """Return the mean of the channels of the first sound track, and its rate."""
    with container(data) as opened:
        if not opened.streams.audio:
            raise Refusal("no_sound", "It has no sound track.")
        stream = opened.streams.audio[0]
        if stream.codec_context is None:
            raise Refusal("strange", "Its sound is packed in a way that is not known here.")
        own, channels = int(stream.rate or 0), int(stream.channels or 0)
        if not RATES[0] <= own <= RATES[1] or not 1 <= channels <= CHANNELS:
            raise Refusal("strange", f"It says it has {channels:,} channels of {own:,} samples a second.")
        told = float(stream.duration * stream.time_base) if stream.duration else None
        wanted = int(seconds * own)
        parts: list[Samples] = []
        have = 0
        try:
            for frame in opened.decode(stream):
                part = _mono(frame, channels)
                parts.append(part[: wanted - have])
                have += parts[-1].size
                if have >= wanted:
                    break
        except Exception as error:  # a decoder of hostile bytes may raise anything
            raise Refusal("broken", f"It is broken or cut off ({type(error).__name__}).") from error
        name = opened.format.name.partition(",")[0]
    if not have:
        raise Refusal("empty", "It holds no sample of sound.")
    short = name in EXACT and told is not None and have < WHOLE * told * own
    if name == "wav":
        length = int.from_bytes(data[4:8], "little")
        short = length < UNTOLD and len(data) < WHOLE * length
    if short and have < wanted:
        raise Refusal("broken", f"It is cut off: {have / own:.1f} seconds are there, and its header says more.")
    return np.concatenate(parts), own


def _mono(frame: Any, channels: int) -> Samples:
    """Return the mean of a frame's channels at full scale -1..1, whatever it is stored as."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, channels).T
    if array.dtype == np.uint8:
        scaled = (array.astype(np.float32) - 128) / 128
    elif np.issubdtype(array.dtype, np.integer):
        scaled = np.multiply(array, np.float32(-1 / np.iinfo(array.dtype).min), dtype=np.float32)
    else:
        scaled = array.astype(np.float32)
    return scaled[0] if len(scaled) == 1 else np.asarray(scaled.mean(axis=0), dtype=np.float32)


def _near(ratio: float) -> tuple[int, int]:
    """Return the nearest fraction with a denominator up to 1,000."""
    from fractions import Fraction

    near = Fraction(ratio).limit_denominator(1_000)
    return max(near.numerator, 1), near.denominator
