"""P7 for sounds, speech, videos and photos' numbers: encode.run against the bare encoder on what is decoded already.

    HABITUE_DATA=... python benchmarks/speed/senses.py [--repeats 5] [--clips 60] [--photos 150] [--out FOLDER]

Clips: $HABITUE_DATA/emodb, 2 s of FLAC each. Photos: $HABITUE_DATA/fashion_small. Videos: clips of three scenes of 6 s
with a sound track, drawn here. "Alone" is the modality's own function on samples, pixels or frames in memory, one
thread; beside it the same from the bytes, decoded on the same thread. encode.run starts from an empty cache each time
and does everything: checks, hashes, decoding, writing. In turns; the share is the median of the turns. Weights come
from `habitue models fetch`.
"""

from __future__ import annotations

import argparse
import io
import os
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue.core.schemas import METRICS
from habitue.encode import acoustics, frames, onnx, photo, picture, pixels, samples, sound, speech, video, weights
from habitue.evaluate import bench

HERE = Path(__file__).parent
ENCODE = runpy.run_path(str(HERE / "encode.py"))
DATASET = "Clips, photos and drawn videos"


def films(count: int) -> pl.DataFrame:
    """Videos of three scenes, each a colour with a moving square, and a tone."""
    import av

    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        out = io.BytesIO()
        with av.open(out, "w", format="mp4") as file:
            seen, heard = file.add_stream("mpeg4", rate=12), file.add_stream("aac", rate=16_000)
            seen.width, seen.height, seen.pix_fmt = 320, 240, "yuv420p"
            for n in range(72):
                if n % 24 == 0:
                    colour = rng.integers(0, 255, 3)
                image = np.tile(colour.astype(np.uint8), (240, 320, 1))
                image[60:120, 2 * n : 2 * n + 80] = 255 - image[60:120, 2 * n : 2 * n + 80]
                for packet in seen.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                    file.mux(packet)
            tone = (0.4 * np.sin(np.arange(6 * 16_000) * rng.uniform(0.05, 0.4))).astype(np.float32)[None]
            for start in range(0, tone.shape[1] - 1_023, 1_024):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, start : start + 1_024]), "fltp", "mono")
                frame.sample_rate, frame.pts = 16_000, start
                for packet in heard.encode(frame):
                    file.mux(packet)
            for stream in (seen, heard):
                for packet in stream.encode():
                    file.mux(packet)
        made.append(out.getvalue())
    return pl.DataFrame({"id": [str(n) for n in range(count)], "bytes": made})


def of_sounds(things: pl.DataFrame, rate: int, seconds: float) -> list[np.ndarray]:
    seen = samples.decoded(things, np.ascontiguousarray, rate=rate, seconds=seconds, workers=1)
    return [made for _, made in seen if isinstance(made, np.ndarray)]


def alone(name: str, things: pl.DataFrame) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Return what decodes the things, and the encoder's own work on what is decoded."""
    if name == "sound":
        ear = sound.network(weights.path(sound.NAME))
        return lambda: of_sounds(things, sound.RATE, 10.0), lambda ready: [
            sound.run(ear, sound.blocks(s)) for s in ready
        ]
    if name == "speech":
        network = speech._network(weights.path("speech-whisper-base"))
        return lambda: of_sounds(things, speech.RATE, 30.0), lambda ready: [speech._run(network, s) for s in ready]
    if name == "acoustics":
        return lambda: of_sounds(things, acoustics.RATE, 30.0), lambda ready: [acoustics._numbers(s) for s in ready]
    if name == "photo":
        config = photo.Config()

        def shown() -> list[Any]:
            made = pixels.decoded(things, np.ascontiguousarray, side=config.side, largest=config.largest, workers=1)
            return [one for _, one in made]

        return shown, lambda ready: [photo._numbers(one) for one in ready]
    settings = video.Config()
    eye = onnx.session(picture.model(picture.Config()), threads=1, extra="video")
    ear = sound.network(weights.path(sound.NAME))

    def played() -> list[Any]:
        of = {"pace": settings.pace, "seconds": settings.seconds, "largest": settings.largest}
        return [
            (frames.moments(data, **of), samples.samples(data, "bytes", rate=sound.RATE, seconds=10.0))
            for data in things["bytes"]
        ]

    def run(ready: list[Any]) -> None:
        for at, track in ready:
            for scene in frames.scenes(at.frames, change=settings.change)[: settings.scenes]:
                picture.run(eye, [video._square(at.frames[scene.best])])
            sound.run(ear, sound.blocks(track))
            frames.motion(at.frames)

    return played, run


def both(decode: Callable[[], Any], work: Callable[[Any], Any]) -> Any:
    return work(decode())


def measure(repeats: int, clips: int, photos: int) -> pl.DataFrame:
    home = Path(os.environ["HABITUE_DATA"])
    spoken = pl.read_parquet(home / "emodb/emodb_16k.parquet").head(clips).select("id", bytes="flac")
    seen = ENCODE["photos"](photos)
    rows: list[dict[str, Any]] = []
    for name, slice_, things in (
        ("sound", "clips", spoken),
        ("speech", "clips", spoken),
        ("acoustics", "clips", spoken),
        ("photo", "photos", seen),
        ("video", "videos", films(max(clips // 10, 3))),
    ):
        kind = "pictures" if slice_ == "photos" else slice_
        decode, work = alone(name, things)
        ready = decode()
        runs = {
            "alone": partial(work, ready),
            "from bytes": partial(both, decode, work),
            "run": ENCODE["ours"](name, things),
        }
        told = ENCODE["in_turns"](runs, repeats)
        labels = {
            "alone": f"{name}, the encoder alone",
            "from bytes": f"{name}, decoded and encoded",
            "run": f"encode.run {name}",
        }
        for key, label in labels.items():
            speeds = [things.height / cpu for _, cpu in told[key]]
            rows.append(ENCODE["_row"](label, slice_, "things per CPU second", speeds, told[key], kind, things.height))
        for key, what in (("alone", "share of its CPU"), ("from bytes", "share, decoding on both sides")):
            shares = [raw[1] / run[1] for raw, run in zip(told[key], told["run"], strict=True)]
            rows.append(ENCODE["_row"](f"encode.run {name}", slice_, what, shares, [], kind, things.height))
        print(name, np.median(shares), flush=True)
    table = pl.DataFrame(rows, schema_overrides={"modalities": pl.List(pl.String)}, infer_schema_length=None)
    return METRICS.shape(table.with_columns(dataset=pl.lit(DATASET)))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--clips", type=int, default=60)
    asked.add_argument("--photos", type=int, default=150)
    asked.add_argument("--out", type=Path, default=HERE)
    options = asked.parse_args()
    if "HABITUE_DATA" not in os.environ:
        sys.exit("Nothing measured: HABITUE_DATA is not set, and these data may not ship.")
    table = measure(options.repeats, options.clips, options.photos)
    print(bench.save(bench.document(table), options.out / "senses-p7-encode.json"))
    with pl.Config(tbl_rows=-1):
        print(table.select("model", "slice", "metric", "mean", "low", "high"))


if __name__ == "__main__":
    main()
