"""Speech as text, and words beside voice: what `encode.transcript` gets right, and what words add to how they are said.

    python benchmarks/quality/speech.py [--digits 120] [--out benchmarks/quality]

digits    spoken English digits of six speakers at 8 kHz, half a second each ($HABITUE_DATA/fsdd), as many of each; one
          that is refused counts as wrong
german    four sentences of EmoDB that end within its two seconds: word error rate, all speakers and emotions
emotion   of the same clips, seven emotions, each speaker told by models of the other five: average recall by the words
          that were understood (`sentence`), by the voice (`acoustics`, `sound`), and by both. Everybody says the same
          neutral sentences in every emotion, so words can carry nothing here: above chance is above what may be
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import ground
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from habitue import encode, evaluate
from habitue.core import runtime
from habitue.encode import transcript
from habitue.evaluate import bench
from habitue.evaluate.measured import Measured, per_user
from habitue.model import fuse

HERE = Path(__file__).parent
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ALIKE = {"to": "two", "too": "two", "for": "four", "ate": "eight", "won": "one", "oh": "zero", "o": "zero"}
SENTENCES = {
    "a01": "der lappen liegt auf dem eisschrank",
    "a02": "das will sie am mittwoch abgeben",
    "a04": "heute abend könnte ich es ihm sagen",
    "a07": "in sieben stunden wird es soweit sein",
}
PROTOCOL = "speech"


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def digit(text: str) -> int:
    """Return the digit a text says, -1 = none; words that sound the same count."""
    said = words(text)
    if len(said) != 1:
        return -1
    if said[0].isdigit() and len(said[0]) == 1:
        return int(said[0])
    word = ALIKE.get(said[0], said[0])
    return DIGITS.index(word) if word in DIGITS else -1


def of_digits(home: Path, count: int) -> pl.DataFrame:
    clips = pl.read_parquet(home / "fsdd/fsdd.parquet").sort("id")
    speakers = clips["speaker"].n_unique()
    rng = np.random.default_rng(0)
    some = pl.concat(part[rng.permutation(part.height)[: count // speakers]] for part in clips.partition_by("speaker"))
    began = time.process_time()
    told = transcript.told(some.select("id", bytes="flac"), transcript.Config(size="tiny-en", language="en"))
    spent = time.process_time() - began
    joined = some.join(told.texts, on="id", how="left", maintain_order="left")
    pairs = zip(joined["text"], joined["digit"], strict=True)
    right = np.array([text is not None and digit(text) == number for text, number in pairs], dtype=float)
    place = np.arange(some.height)
    print("digits refused", told.refused.height, "seconds of sound", float(some["seconds"].sum()), "cpu", spent)
    return evaluate.table(
        [per_user(PROTOCOL, "tiny-en", "digits", "accuracy", place, right)],
        dataset="spoken digits and EmoDB", modalities=("sound",), cpu_s=round(spent, 1), peak_mb=runtime.peak_mb(),
    )  # fmt: skip


def german(home: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """METRICS of the words, and the clips with their texts."""
    clips = pl.read_parquet(home / "emodb/emodb_16k.parquet").filter(pl.col("text_code").is_in(list(SENTENCES)))
    began = time.process_time()
    told = transcript.told(clips.select("id", bytes="flac"), transcript.Config(language="de"))
    spent = time.process_time() - began
    clips = clips.join(told.texts.select("id", "text"), on="id", how="left", maintain_order="left")
    wrong, meant = [], []
    for code, text in clips.select("text_code", "text").iter_rows():
        meant.append(len(words(SENTENCES[code])))
        wrong.append(ground.edits(words(text or ""), words(SENTENCES[code])))
    print(
        "german refused",
        told.refused.height,
        "of",
        clips.height,
        "seconds",
        float(clips["seconds"].sum()),
        "cpu",
        spent,
    )
    errors, length = np.array(wrong, dtype=float), np.array(meant, dtype=float)
    rate = Measured(
        PROTOCOL, "base", "german sentences", "word error rate", np.arange(len(errors)),
        lambda w: (w @ errors) / (w @ length), "lower",
    )  # fmt: skip
    table = evaluate.table(
        [rate], dataset="spoken digits and EmoDB", modalities=("sound",), cpu_s=round(spent, 1),
        peak_mb=runtime.peak_mb(),
    )  # fmt: skip
    return table, clips


def emotion(clips: pl.DataFrame) -> pl.DataFrame:
    text = encode.run("sentence", clips.select("id", pl.col("text").fill_null("?")))
    heard = {name: encode.run(name, clips.select("id", bytes="flac")) for name in ("acoustics", "sound")}
    voice = np.hstack([one.dense for one in heard.values()])
    views = {"words": text.dense, "voice": voice, "words and voice": np.hstack([text.dense, voice])}
    truth, names = clips["emotion"].to_numpy(), sorted(clips["emotion"].unique())
    speaker = clips["speaker"].to_numpy()
    answers = {name: np.zeros((len(truth), len(names))) for name in views}
    for one in np.unique(speaker):
        learn = speaker != one
        for name, rows in views.items():
            spread = rows[learn].std(axis=0) + 1e-6
            scaled = (rows - rows[learn].mean(axis=0)) / spread / np.sqrt(rows.shape[1])
            model = LogisticRegression(C=10, max_iter=2_000, class_weight="balanced").fit(scaled[learn], truth[learn])
            places = [names.index(c) for c in model.classes_]
            answers[name][np.ix_(~learn, places)] = model.predict_proba(scaled[~learn])
    answers["words, voice: decision"] = fuse.decided([answers["words"], answers["voice"]], "average")
    code = np.array([names.index(c) for c in truth])
    place = np.arange(len(code))
    told = []
    for name, shares in answers.items():
        said = shares.argmax(axis=1)

        def recall(w: np.ndarray, said: np.ndarray = said) -> np.ndarray:
            each = [(w @ ((said == c) & (code == c))) / np.maximum(w @ (code == c), 1e-9) for c in range(len(names))]
            return np.mean(each, axis=0)

        told.append(Measured(PROTOCOL, name, "emotion, strangers", "average recall", place, recall, "higher"))
    return evaluate.table(
        told, dataset="spoken digits and EmoDB", modalities=("sound", "text"), peak_mb=runtime.peak_mb()
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--digits", type=int, default=120)
    asked.add_argument("--out", type=Path, default=HERE)
    options = asked.parse_args()
    home = ground.tables()
    rate, clips = german(home)
    table = pl.concat([of_digits(home, options.digits), rate, emotion(clips)])
    print(bench.save(bench.document(table), options.out / "speech-text.json"))
    with pl.Config(tbl_rows=-1):
        print(table.select("model", "slice", "metric", "mean", "low", "high", "n", "cpu_s"))


if __name__ == "__main__":
    main()
