"""Pictures to pixels, several at a time; a file that is no picture gets a reason and stops nothing.

Bytes come from strangers: only the common formats are opened, none above a number of pixels, and whatever a decoder
does with hostile bytes becomes a refusal of that one picture.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.extras import need
from habitue.encode.things import in_order, read_file
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected, unit

T = TypeVar("T")
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
WHITE = (255, 255, 255)
Pixels = npt.NDArray[np.uint8]  # [H, W, 3]


def decoded(
    things: pl.DataFrame, make: Callable[[Pixels], T], *, side: int, largest: int, workers: int, square: bool = False
) -> Iterator[tuple[int, T | Refusal]]:
    """Yield (place, make(pixels) or why not) in the order of `things` (path or bytes); decoded in `workers` threads.

    Pixels are uint8[H, W, 3], the larger of H and W is `side`, turned as EXIF says, on white where transparent; with
    `square` they are the middle square. `largest`: pixels of the file above which it is not decoded. Raises
    MissingExtraError.
    """
    image = need("PIL.Image", extra="pictures", purpose="encode.picture")
    image.init()  # fills OPEN, the formats that this build of Pillow knows
    formats = [name for name in FORMATS if name in image.OPEN]
    column = "bytes" if "bytes" in things.columns else "path"

    def one(content: Any) -> T | Refusal:
        try:
            return make(fitted(_open(content, column, largest, formats), side, square=square))
        except Refusal as refusal:
            return refusal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow on strange files, from any thread: the refusal says it in words
        yield from in_order(things[column], one, workers=workers)


def described(
    things: pl.DataFrame, make: Callable[[Pixels], Dense], by: Encoder, *, side: int, largest: int, workers: int
) -> Vectors:
    """Return one unit row per picture, make(pixels) float32[D]; for modalities that need nothing but the pixels."""
    seen = decoded(things, make, side=side, largest=largest, workers=workers)
    lengths = ((place, made if isinstance(made, Refusal) else unit(made[None])[0]) for place, made in seen)
    return collected(things["id"].to_list(), by, lengths)


def _open(content: Any, column: str, largest: int, formats: list[str]) -> Any:
    """Return a loaded RGB picture."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if content is None:
        raise Refusal("no_picture", "There is no picture.")
    data = read_file(content) if column == "path" else content
    if data is None:
        raise Refusal("no_file", "The file cannot be read, or it is larger than 256 MB.")
    try:
        picture = Image.open(io.BytesIO(data), formats=formats)
        if picture.width * picture.height > largest:
            raise Refusal("too_large", f"The picture has more than {largest:,} pixels.")
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)  # in place: else a picture that lies right is copied
        return picture if picture.mode == "RGB" and "transparency" not in picture.info else _rgb(picture)
    except Refusal:
        raise
    except UnidentifiedImageError as error:
        raise Refusal("no_picture", "It is no picture of a known format.") from error
    except Image.DecompressionBombError as error:
        raise Refusal("too_large", f"The picture has more than {largest:,} pixels.") from error
    except Exception as error:  # a decoder of hostile bytes may raise anything
        raise Refusal("broken", f"The picture is broken or cut off ({type(error).__name__}).") from error


def _rgb(picture: Any) -> Any:
    """Return the picture in RGB, on white where it is transparent."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(picture).astype(np.float64) / 257
        picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        above = picture.convert("RGBA")
        below = Image.new("RGBA", above.size, (*WHITE, 255))
        picture = Image.alpha_composite(below, above)
    return picture.convert("RGB")


def fitted(picture: Any, side: int, *, square: bool) -> Pixels:
    """Bring the longer side to `side`, or cut out the middle square and bring that to it."""
    from PIL import Image

    width, height = picture.size
    box = None
    if square:
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        box = (left, top, left + short, top + short)
        size = (side, side)
    else:
        scale = side / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))
