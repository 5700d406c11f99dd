"""Which products a picture shows, and where: a detector that trains from a shop's own photos, without drawn boxes.

Tian et al. 2019, "FCOS": every cell of a grid says how sure it is of each kind, how far the four sides of the box are,
and how near its middle it lies. Here one grid at stride 16, read off the frozen picture encoder's three (weights
`image-efficientnet-lite0`); only the head learns, from composites (composites.py): products cut from their white
photos, pasted on backgrounds. The same products, settings and seed give the same detector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import InputError, ModelError, SchemaError, SettingsError
from habitue.encode import composites, onnx, weights
from habitue.encode.boxes import best
from habitue.encode.pixels import Pixels, decoded
from habitue.encode.things import check
from habitue.encode.vectors import Dense, Encoder, Refusal, Vectors, collected

if TYPE_CHECKING:
    from habitue.encode.fcos import Head

Seen = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]  # how sure of each kind [K, cells], boxes [cells, 4]
SIDE = 224  # pixels
WEIGHTS, RECIPE = "image-efficientnet-lite0", "grids@1"
GREY = 127  # around a picture that is no square: what the encoder reads as nothing
FOUND = {"id": pl.String, "kind": pl.String, "score": pl.Float64} | dict.fromkeys(
    ("left", "top", "right", "bottom"), pl.Float64
)


@dataclass(frozen=True)
class Config:
    """How a detector learns and looks. Raises SettingsError for settings that make no sense."""

    scenes: int = 1200  # composites it learns from
    passes: int = 8
    learning_rate: float = 2e-3
    seed: int = 0
    score: float = 0.3  # from which a box is told
    overlap: float = 0.5  # of two boxes of one kind, above which the less sure one goes
    most: int = 20  # boxes told of a picture
    largest: int = 50_000_000  # pixels of a file above which it is not decoded
    batch: int = 16  # composites in a step
    workers: int = 2  # threads that decode
    threads: int = 1  # threads that compute

    def __post_init__(self) -> None:
        """Refuse settings that would learn or tell nothing."""
        counts = min(self.scenes, self.passes, self.most, self.largest, self.batch, self.workers, self.threads)
        if counts < 1 or self.learning_rate <= 0 or not 0 < self.score < 1 or not 0 < self.overlap <= 1:
            raise SettingsError(
                "encode.objects.Config",
                found=f"scenes {self.scenes}, passes {self.passes}, score {self.score:g}, overlap {self.overlap:g}, "
                f"most {self.most}, learning_rate {self.learning_rate:g}",
                consequence="Nothing could be learnt or told",
                remedy="Give counts from 1, a learning rate above 0, and a score and overlap between 0 and 1",
            )


@dataclass(frozen=True)
class Detector:
    """What was learnt: the kinds, and the weights of the head."""

    kinds: tuple[str, ...]
    weights: dict[str, npt.NDArray[np.float32]]
    products: int = 0  # whose cutouts it learnt from
    left_out: int = 0  # products that are not on white, or could not be read

    @property
    def sha256(self) -> str:
        """Equal digests, equal answers."""
        state = hashlib.sha256(json.dumps(self.kinds).encode())
        for name in sorted(self.weights):
            state.update(name.encode() + self.weights[name].tobytes())
        return state.hexdigest()


def encode(things: pl.DataFrame, config: Config | None = None, *, fitted: Detector | None = None) -> Vectors:
    """Return one row per thing (id and path or bytes) with the numbers of `names`; not of length 1.

    Without `fitted` a detector is learnt first from the same things, which then need a column `kind` (`fit`).
    """
    config = config or Config()
    detector = fitted or fit(things, config)
    things = things.select("id", "bytes" if "bytes" in things.columns else "path")
    by = Encoder("picture.objects@1", len(names(detector)), {"overlap": config.overlap}, detector.sha256)
    rows: list[tuple[int, Dense | Refusal]] = []
    for place, seen in _seen(things, detector, config):
        rows.append((place, seen if isinstance(seen, Refusal) else _numbers(seen, config)))
    made = collected(things["id"].to_list(), by, rows)
    return Vectors(made.ids, made.matrix, made.encoded, made.encoder, made.sha256, made.refused, detector)


def names(detector: Detector) -> tuple[str, ...]:
    """Return what the numbers of a vector are, in their order."""
    sure = tuple(f"{kind}, how sure" for kind in detector.kinds)
    return (*sure, "boxes", "across of the surest", "down of the surest", "width of the surest", "height of the surest")


def boxes(things: pl.DataFrame, detector: Detector, config: Config | None = None) -> pl.DataFrame:
    """Return (id, kind, score, left, top, right, bottom), the surest first; sides in shares of width and height.

    Pictures that cannot be seen, and those in which nothing is found, have no row; `encode.run` says which. Raises
    MissingExtraError without the extra "pictures", ModelError without the weights.
    """
    config = config or Config()
    check(things, of=("path", "bytes"), where="encode.objects")
    ids, rows = things["id"].to_list(), []
    for place, seen in _seen(things, detector, config):
        if not isinstance(seen, Refusal):
            rows += [(ids[place], detector.kinds[kind], *told) for kind, *told in _told(seen, config)]
    return pl.DataFrame(rows, schema=FOUND, orient="row")


def fit(products: pl.DataFrame, config: Config | None = None, *, grounds: Sequence[Pixels] = ()) -> Detector:
    """Learn from `products` (id, kind, and path or bytes): photos of one product each, on white.

    `grounds`: uint8[224, 224, 3] real backgrounds; half the composites get one of them, the others an invented one.
    Photos that are not on white are left out and counted. About 3 CPU-minutes for 1,200 composites. Raises
    SchemaError without kinds, InputError when fewer than two kinds have a product on white.
    """
    from habitue.encode import fcos

    config = config or Config()
    check(products, of=("path", "bytes"), where="encode.objects")
    if "kind" not in products.columns:
        raise SchemaError(
            "encode.objects",
            found=f"the columns are {', '.join(products.columns)}",
            consequence="There is no detector, and none can be learnt without the kind of each product",
            remedy="Give `fitted`, a detector learnt before, or a column `kind` (String)",
        )
    photos = decoded(products, composites.cut, side=SIDE, largest=config.largest, workers=config.workers)
    cutouts = [(str(products["kind"][n]), one) for n, one in photos if isinstance(one, composites.Cutout)]
    cutouts = [(kind, one) for kind, one in cutouts if kind != "None"]
    kinds = tuple(sorted({kind for kind, _ in cutouts}))
    if len(kinds) < 2:
        raise InputError(
            "encode.objects",
            found=f"{len(cutouts)} of {products.height} products are on white and have a kind, of {len(kinds)} kinds",
            consequence="There is nothing to tell apart",
            remedy="Give photos of products on a white background, of two kinds or more",
        )
    made = list(scenes(cutouts, config, grounds))
    number = {kind: n for n, kind in enumerate(kinds)}
    targets = [(one.boxes, np.array([number[cutouts[w][0]] for w in one.which])) for one in made]
    seen = list(_grids(((one.pixels,) for one in made), config.threads))
    learnt = fcos.learn(
        seen,
        targets,
        len(kinds),
        passes=config.passes,
        batch=config.batch,
        rate=config.learning_rate,
        seed=config.seed,
        threads=config.threads,
    )
    return Detector(kinds, learnt, len(cutouts), products.height - len(cutouts))


def scenes(
    cutouts: Sequence[tuple[str, composites.Cutout]], config: Config, grounds: Sequence[Pixels] = ()
) -> Iterator[composites.Scene]:
    """Yield `config.scenes` composites; every kind is drawn as often as any other."""
    rng = np.random.default_rng(config.seed)
    kinds = sorted({kind for kind, _ in cutouts})
    of_kind = [[n for n, (kind, _) in enumerate(cutouts) if kind == k] for k in kinds]
    shapes = [one for _, one in cutouts]
    for n in range(config.scenes):
        ground = grounds[int(rng.integers(len(grounds)))] if grounds and n % 2 else composites.background(SIDE, rng)
        drawn = [of_kind[rng.integers(len(kinds))] for _ in range(rng.integers(1, 4))]
        yield composites.scene(shapes, ground, rng, which=[some[rng.integers(len(some))] for some in drawn])


def save(detector: Detector, path: Path) -> None:
    """Write a detector as safetensors; kinds and counts are in its header."""
    from safetensors.numpy import save_file

    about = {k: v for k, v in asdict(detector).items() if k != "weights"}
    save_file(detector.weights, path, {"objects": json.dumps(about)})


def load(path: Path) -> Detector:
    """Read what `save` wrote. Raises ModelError when it is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["objects"])
            return Detector(
                tuple(about["kinds"]),
                {n: file.get_tensor(n) for n in file.keys()},
                about["products"],
                about["left_out"],
            )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            path.name,
            found=f"it cannot be read as a detector ({type(error).__name__})",
            consequence="Nothing can be found with it",
            remedy="Give a file that encode.objects.save wrote, or learn a detector again",
        ) from error


def _seen(things: pl.DataFrame, detector: Detector, config: Config) -> Iterator[tuple[int, Refusal | Seen]]:
    """Yield (place, what was seen, the boxes in shares of the picture's own sides; or why nothing was)."""
    from habitue.encode import fcos

    head: Head = fcos.restored(detector.weights, len(detector.kinds))
    if not things.height:
        return
    session = onnx.session(network(), threads=config.threads, extra="pictures")
    photos = decoded(things, _square, side=SIDE, largest=config.largest, workers=config.workers)
    for place, made in photos:
        if isinstance(made, Refusal):
            yield place, made
            continue
        pixels, (width, height) = made
        shares, sides = fcos.answer(head, session.run(None, {"pictures": pixels[None]}))
        left, top = (1 - width) / 2, (1 - height) / 2
        inside = (sides - [left, top, left, top]) / [width, height, width, height]
        yield place, (shares, inside.clip(0, 1))


def _square(pixels: Pixels) -> tuple[Pixels, tuple[float, float]]:
    """Return the picture in the middle of a grey square, and which share of its sides the picture has."""
    height, width = pixels.shape[:2]
    square = np.full((SIDE, SIDE, 3), GREY, dtype=np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square, (width / SIDE, height / SIDE)


def network() -> Path:
    """Return the path of the part of the encoder that gives grids, as ONNX, made from the weights once."""

    def make(source: Path, target: Path) -> None:
        from habitue.encode import efficientnet

        efficientnet.export_grids(source, target, "lite0")

    return weights.derived(WEIGHTS, RECIPE, make)


def _grids(pictures: Iterator[tuple[Pixels]], threads: int) -> Iterator[list[npt.NDArray[np.float16]]]:
    """Yield the three grids of each picture, in half precision: 1,200 composites take 0.17 GB."""
    session = onnx.session(network(), threads=threads, extra="pictures")
    for (pixels,) in pictures:
        yield [grid[0].astype(np.float16) for grid in session.run(None, {"pictures": pixels[None]})]


def _told(seen: Seen, config: Config) -> list[tuple[Any, ...]]:
    """Return (kind, score, four sides) of the boxes that stay, the surest first."""
    shares, sides = seen
    told: list[tuple[Any, ...]] = []
    for kind, sure in enumerate(shares):
        some = np.flatnonzero(sure >= config.score)
        told += [
            (kind, float(sure[p]), *map(float, sides[p]))
            for p in some[best(sides[some], sure[some], most=config.overlap)]
        ]
    return sorted(told, key=lambda one: -one[1])[: config.most]


def _numbers(seen: Seen, config: Config) -> Dense:
    found, (shares, sides) = _told(seen, config), seen
    left, top, right, bottom = sides[shares.max(axis=0).argmax()]
    place = [len(found), (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return np.array([*shares.max(axis=1), *place], dtype=np.float32)
