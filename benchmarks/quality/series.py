"""A small network over time against statistics of windows, on real series: voices of people never heard before.

    python benchmarks/quality/series.py [--out benchmarks/quality]

Loudness and pitch of recordings, 100 values a second (silence and unvoiced frames are pauses of the pitch): which of
seven emotions (emodb, 330 clips) and which of ten digits (fsdd, 480 clips, 80 a speaker) from these two lines alone.
Every two speakers are answered by models of the four others. `signals`: windowed statistics and a linear model.
`temporal`: the network, plain, with series altered in training, and with mixed samples. Both: the statistics beside the
network's numbers. Windows and passes were set once, before anything was measured. $HABITUE_DATA.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from dataclasses import replace
from pathlib import Path

import ground
import numpy as np
import polars as pl

from habitue import encode, evaluate
from habitue.core import metrics, runtime
from habitue.encode import pitch, samples, signals, temporal
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured
from habitue.model.tabular import Clock, Table, Target, linear

RATE, HOP = 8_000, 80
CLOCK = signals.Config(("loudness", "pitch"), rate_hz=100.0, cutoff_hz=50.0, window_s=0.4, step_s=0.2, gap_s=0.05)
WHOLE = {"emodb": 2.0, "fsdd": 0.6}  # seconds a network sees at once
NETWORKS = {
    "temporal": {},
    "jitter": {"augment": ("jitter",)},
    "warp": {"augment": ("warp",)},
    "mixed": {"mixed": 0.2},
}
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def read(home: Path, name: str) -> tuple[pl.DataFrame, pl.Series]:
    """Return (id, series, label) and the speaker of each."""
    if name == "emodb":
        clips = pl.read_parquet(home / "emodb/emodb_16k.parquet").rename({"emotion": "label"})
    else:
        clips = pl.read_parquet(home / "fsdd/fsdd.parquet").filter(pl.col("index") < 8).rename({"digit": "label"})
    things = clips.select("id", bytes="flac")
    lines: list[list[dict[str, object]]] = [[] for _ in range(clips.height)]
    for place, sound in samples.decoded(things, np.ascontiguousarray, rate=RATE, seconds=3.0, workers=1):
        if isinstance(sound, np.ndarray):
            lines[place] = contour(sound)
    made = clips.select("id", pl.col("label").cast(pl.String))
    return made.select("id", series=pl.Series(lines, dtype=signals.SERIES), label="label"), clips["speaker"]


def contour(sound: np.ndarray) -> list[dict[str, object]]:
    """Return loudness in decibels and pitch in octaves above 100 Hz, every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, HOP), 2 * HOP)[::HOP]
    loud = 10 * np.log10(np.square(frames.astype(np.float64)).mean(axis=1) + 1e-8)
    high = np.log2(pitch.track(sound, rate=RATE, hop=HOP) / 100)
    told = []
    for name, values in (("loudness", loud), ("pitch", high)):
        at = [START + dt.timedelta(milliseconds=10 * n) for n in range(values.size)]
        told += [
            {"signal": name, "at": a, "value": float(v)} for a, v in zip(at, values, strict=True) if np.isfinite(v)
        ]
    return told


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("sets", nargs="*", default=list(WHOLE))
    asked.add_argument("--networks", default=",".join(NETWORKS), help="names with commas; the first must be temporal")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    home = ground.tables()
    wanted = options.networks.split(",")
    for name in options.sets or WHOLE:
        things, who = read(home, name)
        classes = tuple(sorted(things["label"].unique()))
        target = Target("classes", np.array([classes.index(v) for v in things["label"]]), classes)
        fold = (who.rank("dense").to_numpy().astype(np.int64) - 1) // 2
        guesses: dict[str, np.ndarray] = {}
        spent: dict[str, float] = {}
        counted = encode.run("signals", things.select("id", "series"), CLOCK).dense
        clock = replace(CLOCK, window_s=WHOLE[name], step_s=WHOLE[name] / 2)
        networks = {m: temporal.Config(signals=clock, passes=12, **more) for m, more in NETWORKS.items() if m in wanted}
        for model in ("signals", *networks, "signals and temporal"):
            began, guess = time.process_time(), np.zeros(things.height, dtype=np.int64)
            for k in np.unique(fold):
                learn, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                if model in networks:
                    fitted = temporal.fit(things[learn], networks[model])
                    guess[held] = temporal.answer(things[held].drop("label"), fitted, networks[model]).argmax(axis=1)
                    if model == "temporal":
                        rows = encode.run("temporal", things.drop("label"), networks[model], fitted=fitted).dense
                        seen = {**(locals().get("seen") or {}), k: rows}
                    continue
                middle, spread = counted[learn].mean(axis=0), np.maximum(counted[learn].std(axis=0), 1e-9)
                vectors = {"signals": ((counted - middle) / spread).clip(-8, 8).astype(np.float32)}
                if model != "signals":
                    vectors["temporal"] = seen[k]
                table = Table(pl.DataFrame(), {}, vectors)
                lesson = table.take(learn), target.take(learn)
                state = linear.fit(*lesson, linear.Config(), runtime=runtime.detect(), clock=Clock())
                guess[held] = linear.answer(state, table.take(held)).argmax(axis=1)
            guesses[model], spent[model] = guess, time.process_time() - began
            print(name, model, (guess == target.values).mean(), round(spent[model], 1), flush=True)
        several = {model: rows_of(model, guess, target.values, name) for model, guess in guesses.items()}
        tables = [
            evaluate.table(some, dataset=name, modalities=("signals",), cpu_s=spent[m]) for m, some in several.items()
        ]
        gaps = evaluate.compare([row for some in several.values() for row in some], against="signals")
        document = bench.document(pl.concat(tables), commit=ground.commit())
        document["differences"] = gaps.drop("protocol", "slice").to_dicts()
        (one,) = gaps.filter(pl.col("model") == "temporal", pl.col("metric") == "accuracy").iter_rows(named=True)
        sure = f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}) for the network against the statistics"
        clear = "The network is" if one["low"] > 0 else "The statistics are" if one["high"] < 0 else "Neither is"
        document["sentence"] = f"{clear} clearly better: {sure}."
        print(bench.save(document, options.out / f"series-{name}.json"), document["sentence"], flush=True)


def rows_of(model: str, guess: np.ndarray, truth: np.ndarray, name: str) -> list[Measured]:
    rows, protocol = np.arange(truth.size), f"series of voices, {name}, by speaker"
    several = {
        "accuracy": lambda w: metrics.accuracy(truth, guess, weight=w),
        "macro_recall": lambda w: metrics.macro_recall(truth, guess, weight=w),
    }
    return [Measured(protocol, model, "all", metric, rows, of, "higher") for metric, of in several.items()]


if __name__ == "__main__":
    main()
