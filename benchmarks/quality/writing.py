"""How much of Chinese shop writing is read from pictures: banners drawn here, letters told apart from what was meant.

    python benchmarks/quality/writing.py --font wqy-microhei.ttc [--pictures 40] [--out benchmarks/quality]

Drawn, for no photos with Chinese writing may ship: three lines a picture in one colour on plain ground, or on a film
poster ($HABITUE_DATA/ml100k). The first line is of a shop (sale, price, parcel), the two others are beginnings of
reviews ($HABITUE_DATA/zh_reviews) of 6 to 14 signs. Beside them the same with English titles in the same letters. A
line that is not found has all its signs wrong. Nothing is learnt or chosen here. Weights: image-writing.
"""

from __future__ import annotations

import argparse
import io
import re
import time
from pathlib import Path

import ground
import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageFont

from habitue import evaluate
from habitue.collect import bundled
from habitue.encode import writing
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured

PROTOCOL = "writing in pictures"
SHOP = (
    *("限时特价 ¥99.00", "满200减50", "全场包邮", "新品上市", "买一送一", "七天无理由退货", "正品保证 假一赔十"),
    *("双十一狂欢节", "库存仅剩3件", "会员专享价 ¥268", "顺丰次日达", "货到付款", "纯棉短袖T恤", "颜色:藏青 尺码:XL"),
)
GROUNDS = ("plain", "poster")
SIDE = 640


def lines(home: Path, count: int) -> dict[str, list[tuple[str, ...]]]:
    """Return what is written in each picture, three lines each, by language."""
    rng = np.random.default_rng(0)
    reviews = pl.read_parquet(home / "zh_reviews/online_shopping_10_cats.parquet")["review"].drop_nulls()
    chinese = [found[0] for text in reviews if (found := re.findall("[一-鿿]{6,14}", text))]
    english = [
        title
        for title in pl.read_parquet(bundled.ledger().file)["Description"].drop_nulls().unique(maintain_order=True)
        if re.fullmatch("[A-Z ]{8,20}", title)
    ]
    told = [chinese[n] for n in rng.permutation(len(chinese))[: 2 * count]]
    named = [english[n].strip() for n in rng.permutation(len(english))[: 3 * count]]
    return {
        "Chinese": [(SHOP[n % len(SHOP)], told[2 * n], told[2 * n + 1]) for n in range(count)],
        "English": [tuple(named[3 * n : 3 * n + 3]) for n in range(count)],
    }


def drawn(said: tuple[str, ...], font: Path, back: Image.Image | None, rng: np.random.Generator) -> bytes:
    """Return a picture with these lines, on plain ground or on a picture, as JPEG."""
    plain = tuple(int(v) for v in rng.integers(150, 256, 3))
    image = Image.new("RGB", (SIDE, SIDE), plain) if back is None else back.resize((SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(said):
        letters = ImageFont.truetype(str(font), int(rng.integers(24, 44)))
        ink = tuple(int(v) for v in rng.integers(0, 90, 3)) if back is None else (255, 255, 255)
        at = (int(rng.integers(10, 60)), 60 + 190 * row + int(rng.integers(0, 60)))
        draw.text(at, line, font=letters, fill=ink, stroke_width=0 if back is None else 3, stroke_fill=(0, 0, 0))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def posters(home: Path, count: int) -> list[Image.Image]:
    """Return posters to write on."""
    kept = pl.read_parquet(home / "ml100k/items_multimodal.parquet")["poster_jpg"].drop_nulls().head(count)
    return [Image.open(io.BytesIO(one)).convert("RGB") for one in kept]


def wrong(meant: tuple[str, ...], read: list[str]) -> int:
    """Return how many signs of the lines are wrong: each against the line that is nearest to it, of those not taken."""
    left, missed = [tight(one) for one in read], 0
    for line in map(tight, meant):
        costs = [ground.edits(one, line) for one in left]
        best = int(np.argmin(costs)) if costs else -1
        if best >= 0 and costs[best] < len(line):
            missed += costs[best]
            del left[best]
        else:
            missed += len(line)
    return missed


def tight(text: str) -> str:
    """Return the signs without spaces, wide and narrow colons and signs of money made one."""
    return re.sub(r"\s", "", text).replace("：", ":").replace("￥", "¥")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--font", type=Path, required=True, help="a file of letters that has Chinese signs")
    asked.add_argument("--pictures", type=int, default=40)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = asked.parse_args()
    home, count, tables = ground.tables(), options.pictures, []
    for language, several in lines(home, count).items():
        for where in GROUNDS:
            rng = np.random.default_rng(1)
            backs = posters(home, count) if where == "poster" else [None] * count
            files = [drawn(said, options.font, back, rng) for said, back in zip(several, backs, strict=True)]
            began = time.process_time()
            told = writing.told(pl.DataFrame({"id": [str(n) for n in range(count)], "bytes": files}))
            spent = time.process_time() - began
            read = [told.filter(pl.col("id") == str(n))["text"].to_list() for n in range(count)]
            errors = np.array([wrong(said, some) for said, some in zip(several, read, strict=True)])
            signs = np.array([sum(len(tight(line)) for line in said) for said in several])
            rate = Measured(
                PROTOCOL, "writing", f"{language}, {where}", "sign error rate", np.arange(count),
                lambda w, errors=errors, signs=signs: (w @ errors) / np.maximum(w @ signs, 1e-9), "lower",
            )  # fmt: skip
            tables.append(evaluate.table([rate], dataset="drawn banners", modalities=("picture",), cpu_s=spent))
            print(tables[-1].select("slice", "mean", "low", "high", "n", "cpu_s").row(0), flush=True)
            for said, some in list(zip(several, read, strict=True))[:3]:
                print("   meant", said, "read", some)
    print(bench.save(bench.document(pl.concat(tables), commit=ground.commit()), options.out / "writing.json"))


if __name__ == "__main__":
    main()
