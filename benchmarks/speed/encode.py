"""P7: encode.run against the encoder alone, and what one changed item of 10,000 costs.

    HABITUE_DATA=... python benchmarks/speed/encode.py [--repeats 5] [--texts 2000] [--pictures 400] [--out FOLDER]

Texts: titles of Online Retail and reviews of Women's Clothing, both bundled. Pictures: $HABITUE_DATA/fashion_small,
JPEG bytes; left out where it is unset. "Alone" is the published model file in ONNX Runtime on inputs that are ready:
texts at batch 32 in their order, pictures decoded before. encode.run starts from an empty cache each time and does
everything: checks, hashes, decoding, batches, writing. The two take turns on one thread each (pictures decode beside
it), the share is the median of the turns, with its 95 % interval over 1,000 bootstraps of them. Weights come from
`habitue models fetch`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from habitue import encode
from habitue.collect import bundled
from habitue.core import plugins
from habitue.core.schemas import METRICS
from habitue.encode import onnx, picture, pixels, sentence, weights
from habitue.evaluate import bench

DATASET, PROTOCOL = "Shop texts and photos", "P7 encode"
TARGET = 0.95
DOCS = Path(__file__).parents[2] / "docs/encode.md"


def titles(count: int) -> pl.DataFrame:
    texts = pl.read_parquet(bundled.ledger().file)["Description"].drop_nulls().unique(maintain_order=True)
    return _things(texts.head(count))


def reviews(count: int) -> pl.DataFrame:
    return _things(
        pl.read_parquet(bundled.reviews())["Review Text"].drop_nulls().unique(maintain_order=True).head(count)
    )


def photos(count: int) -> pl.DataFrame | None:
    folder = os.environ.get("HABITUE_DATA")
    if folder is None:
        return None
    shop = pl.read_parquet(Path(folder) / "fashion_small/fashion_products.parquet").head(count)
    return shop.select(id=pl.col("ProductId").cast(pl.String), bytes="jpg")


def _things(texts: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"id": [str(n) for n in range(len(texts))], "text": texts})


def text_alone(things: pl.DataFrame) -> Callable[[], Any]:
    """The published file, which quantises by the range of each batch."""
    session = onnx.session(weights.path(sentence.NAME), threads=1, extra="text", strings=True)
    texts = things["text"].to_numpy()
    return lambda: [session.run(None, {"inputs": texts[i : i + 32]}) for i in range(0, len(texts), 32)]


def picture_alone(things: pl.DataFrame) -> Callable[[], Any]:
    config = picture.Config()
    session = onnx.session(picture.model(config), threads=1, extra="pictures")
    made = pixels.decoded(things, np.ascontiguousarray, side=224, largest=config.largest, workers=2, square=True)
    ready = np.stack([pixels for _, pixels in made])
    return lambda: [session.run(None, {"pictures": ready[i : i + 4]}) for i in range(0, len(ready), 4)]


def ours(modality: str, things: pl.DataFrame) -> Callable[[], Any]:
    def run() -> None:
        with tempfile.TemporaryDirectory() as cache:
            encode.run(modality, things, cache=Path(cache))

    return run


def in_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Return (wall seconds, CPU-seconds) of each run; turn 0 loads and warms and is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in list(runs.items())[:: 1 if turn % 2 else -1]:
            cpu, start = time.process_time(), time.perf_counter()
            run()
            if turn:
                times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return times


def compare(
    slice_: str, modality: str, things: pl.DataFrame, alone: Callable[[], Any], repeats: int
) -> list[dict[str, Any]]:
    """Rows: things a second of both, and the share that encode.run keeps: of the time, and of the CPU-seconds."""
    names = {"the encoder alone": alone, f"encode.run {modality}": ours(modality, things)}
    times = in_turns(names, repeats)
    kind = "pictures" if modality == "picture" else "texts"
    rows = []
    for name in names:
        speeds = [things.height / wall for wall, _ in times[name]]
        rows.append(_row(name, slice_, f"{kind} per second", speeds, times[name], kind, things.height))
    pairs = list(zip(times["the encoder alone"], times[f"encode.run {modality}"], strict=True))
    for column, what in enumerate(("share of the encoder alone", "share of its CPU")):
        shares = [raw[column] / run[column] for raw, run in pairs]
        rows.append(_row(f"encode.run {modality}", slice_, what, shares, [], kind, things.height))
    return rows


def cost(slice_: str, modality: str, things: pl.DataFrame, repeats: int) -> list[dict[str, Any]]:
    times = in_turns({modality: lambda: encode.run(modality, things)}, repeats)[modality]
    milliseconds = [1000 * cpu / things.height for _, cpu in times]
    kind = "texts" if "text" in things.columns else "pictures" if "bytes" in things.columns else "rows"
    return [_row(modality, slice_, "CPU ms an item", milliseconds, times, kind, things.height)]


def one_changed(count: int = 10_000) -> list[dict[str, Any]]:
    """Encode `count` texts, change one, encode again; count what the encoder is asked."""
    names = titles(count)["text"]
    shop = _things(pl.Series([f"{names[n % len(names)]} {n}" for n in range(count)]))
    module = plugins.load("encode", "sentence", contract=("Config", "encode"))
    honest, asked = module.encode, []

    def counted(things: pl.DataFrame, config: Any) -> Any:
        asked.append(things.height)
        return honest(things, config)

    module.encode = counted  # type: ignore[attr-defined]
    rows = []
    try:
        with tempfile.TemporaryDirectory() as cache:
            for name, things in (
                ("first run", shop),
                (
                    "one changed",
                    shop.with_columns(text=pl.when(pl.col("id") == "77").then(pl.lit("new")).otherwise("text")),
                ),
            ):
                asked.clear()
                cpu, start = time.process_time(), time.perf_counter()
                encode.run("sentence", things, cache=Path(cache))
                times = [(time.perf_counter() - start, time.process_time() - cpu)]
                rows.append(
                    _row("encode.run sentence", name, "items encoded", [float(sum(asked))], times, "texts", count)
                )
                rows.append(_row("encode.run sentence", name, "seconds", [times[0][0]], times, "texts", count))
            files = list(Path(cache).rglob("*.safetensors"))
            size = sum(file.stat().st_size for file in files) / 2**20
            rows.append(
                _row(
                    "encode.run sentence", "one changed", "files of the cache", [float(len(files))], [], "texts", count
                )
            )
            rows.append(_row("encode.run sentence", "one changed", "MB of the cache", [size], [], "texts", count))
    finally:
        module.encode = honest  # type: ignore[attr-defined]
    return rows


def _row(
    model: str, slice_: str, metric: str, values: list[float], times: list[tuple[float, float]], kind: str, n: int
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    row: dict[str, Any] = {"dataset": DATASET, "protocol": PROTOCOL, "model": model, "slice": slice_, "metric": metric}
    row |= {"modalities": [kind], "mean": float(np.median(values)), "n": n, "seeds": len(values)}
    if len(values) > 2:
        medians = np.median(rng.choice(values, size=(1_000, len(values))), axis=1)
        row["low"], row["high"] = (float(q) for q in np.quantile(medians, [0.025, 0.975]))
    if times:
        row["cpu_s"] = float(np.median([cpu for _, cpu in times]))
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return row | {"peak_mb": usage / (2**20 if sys.platform == "darwin" else 2**10)}


def measure(repeats: int, texts: int, pictures: int, changed: int = 10_000) -> pl.DataFrame:
    """METRICS of all of it."""
    shelf, told, seen = titles(texts), reviews(texts // 2), photos(pictures)
    rows = compare("titles", "sentence", shelf, text_alone(shelf), repeats)
    rows += compare("reviews", "sentence", told, text_alone(told), repeats)
    for modality in ("text", "static", "sentence"):
        rows += cost("titles", modality, shelf, repeats) + cost("reviews", modality, told, repeats)
    table = pl.read_parquet(bundled.sessions()).with_row_index("id").with_columns(pl.col("id").cast(pl.String))
    rows += cost("sessions", "table", table, repeats)
    if seen is not None:
        rows += compare("photos", "picture", seen, picture_alone(seen), repeats)
        for modality in ("picture", "colour", "texture"):
            rows += cost("photos", modality, seen, repeats)
    else:
        print("Pictures are left out: HABITUE_DATA is not set.")
    rows += one_changed(changed)
    return METRICS.shape(
        pl.DataFrame(rows, schema_overrides={"modalities": pl.List(pl.String)}, infer_schema_length=None)
    )


def cost_table(document: dict[str, Any]) -> str:
    """The Markdown of docs/encode.md: CPU milliseconds an item, and encode.run beside the encoder alone."""
    rows = document["rows"]
    costs = [row for row in rows if row["metric"] == "CPU ms an item"]
    lines = ["", "| modality | of | CPU ms each |", "|---|---|---|"]
    lines += [f"| `{row['model']}` | {row['slice']} | {row['mean']:.3f} |" for row in costs]
    lines += [
        "",
        "| | alone, each second | encode.run | share of the time | share of the CPU |",
        "|---|---|---|---|---|",
    ]
    told = {(row["slice"], row["model"].split()[0], row["metric"]): row["mean"] for row in rows}
    for slice_, kind in (("titles", "texts"), ("reviews", "texts"), ("photos", "pictures")):
        if (slice_, "the", f"{kind} per second") in told:
            speeds = [told[slice_, who, f"{kind} per second"] for who in ("the", "encode.run")]
            shares = [told[slice_, "encode.run", what] for what in ("share of the encoder alone", "share of its CPU")]
            numbers = [f"{speed:,.0f}" for speed in speeds] + [f"{share:.2f}" for share in shares]
            lines.append(f"| {slice_} | {' | '.join(numbers)} |")
    seconds = [told[name, "encode.run", "seconds"] for name in ("first run", "one changed")]
    changed = told["one changed", "encode.run", "items encoded"]
    lines += [
        "",
        f"10,000 titles through `sentence`: {seconds[0]:.1f} s; again with one changed: {changed:.0f} encoded, "
        f"{seconds[1]:.2f} s.",
        "",
    ]
    return "\n".join(lines)


def into_docs(table: str) -> None:
    page = DOCS.read_text(encoding="utf-8")
    start, end = page.index("-->", page.index("<!-- cost")) + 4, page.index("<!-- /cost -->")
    DOCS.write_text(page[:start] + table + page[end:], encoding="utf-8")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--texts", type=int, default=2_000)
    asked.add_argument("--pictures", type=int, default=400)
    asked.add_argument("--changed", type=int, default=10_000)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    table = measure(options.repeats, options.texts, options.pictures, options.changed)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for path in bench.write(table, options.out, commit=commit):
        print(path)
        if options.out == Path(__file__).parent:
            into_docs(cost_table(json.loads(path.read_text(encoding="utf-8"))))
    for row in table.iter_rows(named=True):
        verdict = f"  target {TARGET:.0%}" if row["metric"].startswith("share") else ""
        print(f"{row['slice']:12} {row['model']:22} {row['metric']:28} {row['mean']:10.3f}{verdict}")


if __name__ == "__main__":
    main()
