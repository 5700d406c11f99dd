"""What a picture, a sound or a video is, told from its bytes; bytes come from strangers, so memory is bounded.

A picture is decoded where Pillow is installed (extra `pictures`), a WAV file always; of the other formats only the
header is read, and `Seen.whole` says so.
"""

from __future__ import annotations

import io
import warnings
import wave
from dataclasses import dataclass

import numpy as np

PIXELS = 50_000_000  # of a picture above which it is not decoded: 200 MB in memory
FRAMES = 1 << 16  # of sound decoded at once
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # that Pillow may open
HEADERS: dict[str, tuple[tuple[str, int, bytes], ...]] = {  # name, place of the mark, the mark
    "image": (
        ("JPEG", 0, b"\xff\xd8\xff"),
        ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
        ("GIF", 0, b"GIF8"),
        ("WEBP", 8, b"WEBP"),
        ("BMP", 0, b"BM"),
        ("TIFF", 0, b"II*\x00"),
        ("TIFF", 0, b"MM\x00*"),
        ("AVIF", 4, b"ftypavif"),
    ),
    "audio": (
        ("WAV", 8, b"WAVE"),
        ("FLAC", 0, b"fLaC"),
        ("OGG", 0, b"OggS"),
        ("MP3", 0, b"ID3"),
        ("MP3", 0, b"\xff\xfb"),
        ("MP3", 0, b"\xff\xf3"),
        ("M4A", 4, b"ftyp"),
        ("AIFF", 0, b"FORM"),
    ),
    "video": (
        ("MP4", 4, b"ftyp"),
        ("MATROSKA", 0, b"\x1a\x45\xdf\xa3"),
        ("AVI", 8, b"AVI "),
        ("OGG", 0, b"OggS"),
        ("MPEG", 0, b"\x00\x00\x01\xba"),
        ("FLV", 0, b"FLV"),
    ),
}


@dataclass(frozen=True)
class Seen:
    """What a medium was found to be."""

    format: str
    whole: bool  # decoded to its end; False = its header was read, no more
    hash: int | None = None  # of a decoded picture: its difference hash, 64 bits
    seconds: float | None = None  # of a decoded sound


class Flaw(Exception):
    """Why a medium cannot be used: one word with underscores, and a sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code, self.sentence = code, sentence


def look(data: bytes | None, modality: str) -> Seen:
    """Look at one medium; `modality`: text, image, audio or video, as MEDIA says. Raises Flaw."""
    if not data:
        raise Flaw("empty", "It holds no byte.")
    if modality == "text":
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Flaw("broken", "It is no text in UTF-8.") from error
        return Seen("UTF-8", whole=True)
    marks = HEADERS.get(modality)
    if marks is None:
        raise Flaw("unknown_modality", "It is neither text, image, audio nor video.")
    named = next((name for name, place, mark in marks if data[place : place + len(mark)] == mark), None)
    if named is None:
        raise Flaw("unknown_format", f"It is no {modality} file of a format that is known here.")
    if modality == "image":
        return _picture(data, named)
    return _wave(data) if named == "WAV" else Seen(named, whole=False)


def _picture(data: bytes, named: str) -> Seen:
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        return Seen(named, whole=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow on strange files: the flaw says it in words
            Image.init()
            picture = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
            if picture.width * picture.height > PIXELS:
                raise Flaw("too_large", f"The picture has more than {PIXELS:,} pixels.")
            picture.draft("L", (64, 64))  # a JPEG is decoded at an eighth, its whole length all the same
            small = picture.convert("L").resize((9, 8), Image.Resampling.BOX)
    except Flaw:
        raise
    except Image.DecompressionBombError as error:
        raise Flaw("too_large", f"The picture has more than {PIXELS:,} pixels.") from error
    except UnidentifiedImageError as error:
        raise Flaw("broken", "It begins like a picture and is none.") from error
    except Exception as error:  # a decoder of hostile bytes may raise anything
        raise Flaw("broken", f"The picture is broken or cut off ({type(error).__name__}).") from error
    grey = np.asarray(small, dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])  # is it brighter than its left neighbour: Krawetz 2013, "dHash"
    return Seen(named, whole=True, hash=int.from_bytes(bits.tobytes(), "big"))


def _wave(data: bytes) -> Seen:
    try:
        with wave.open(io.BytesIO(data)) as sound:
            told, rate = sound.getnframes(), sound.getframerate()
            size = sound.getnchannels() * sound.getsampwidth()
            read = 0
            while frames := sound.readframes(FRAMES):
                read += len(frames) // size
    except (wave.Error, EOFError, ZeroDivisionError, RuntimeError) as error:
        raise Flaw("broken", f"The sound is broken or cut off ({type(error).__name__}).") from error
    if not read or rate <= 0:
        raise Flaw("empty", "It holds no sample of sound.")
    if read < told:
        raise Flaw("broken", f"The sound is cut off: {read:,} of {told:,} samples are there.")
    return Seen("WAV", whole=True, seconds=read / rate)
