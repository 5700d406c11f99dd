"""docs/encode.md does what it says: its Python, its example of a modality, its commands and its numbers."""

import doctest
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from habitue import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/encode.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_its_python_answers_what_it_shows(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_shop").mkdir()
    (example,) = blocks("python")
    (tmp_path / "my_shop/scent.py").write_text(example, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shown = "\n".join(blocks("pycon"))
    test = doctest.DocTestParser().get_doctest(shown, {}, "encode.md", "docs/encode.md", 0)
    assert len(test.examples) > 20
    assert doctest.DocTestRunner().run(test).failed == 0, capsys.readouterr().out


def test_its_list_of_weights_is_what_the_command_prints(models, monkeypatch, capsys):
    shown = next(block for block in blocks("console") if "models list" in block)
    monkeypatch.setattr(sys, "argv", ["habitue", "models", "list"])
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    # the title names the folder, and is folded where that is longer than the table
    start = next(i for i, line in enumerate(lines) if line.startswith("name "))
    printed = [line.split() for line in lines[start:]]
    assert len(printed) > 10
    listed = [line.split() for line in shown.splitlines()]
    assert all(line in listed for line in printed if line)


def test_its_sentence_for_a_wrong_name_is_the_real_one(models, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["habitue", "models", "fetch", "audio-vat"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err in PAGE


def test_its_numbers_are_those_measured():
    script = runpy.run_path(str(ROOT / "benchmarks/speed/encode.py"))
    measured = json.loads((ROOT / "benchmarks/speed/shop-texts-and-photos-p7-encode.json").read_text(encoding="utf-8"))
    assert script["cost_table"](measured) in PAGE


def test_it_names_every_modality_and_its_version():
    from habitue.encode import (
        acoustics,
        colour,
        photo,
        picture,
        sentence,
        sound,
        spectrogram,
        speech,
        static,
        texture,
        unsafe,
        video,
        writing,
    )

    seeing = (picture, colour, texture, photo, unsafe, writing)
    for module in (static, sentence, *seeing, sound, speech, acoustics, spectrogram, video):
        by = module.encoder(module.Config())
        name = module.__name__.rpartition(".")[2]
        assert re.search(rf"\| `{name}` \| {re.escape(by.name)} \| {by.dimension} \|", PAGE)
    files = {path.stem for path in (ROOT / "src/habitue/encode").glob("*.py")}
    named = set(re.findall(r"^\| `(\w+)` \| \w+\.", PAGE, flags=re.MULTILINE))
    assert named <= files and len(named) == 19


def test_what_it_says_of_strangers_and_of_retrieval_was_measured():
    def mean(name: str, **wanted: str) -> str:
        document = json.loads((ROOT / f"benchmarks/quality/{name}.json").read_text(encoding="utf-8"))
        (value,) = [row["mean"] for row in document["rows"] if all(row[k] == v for k, v in wanted.items())]
        return f"{value:.3f}".lstrip("0")

    table = {line.split("|")[2].strip(): line for line in PAGE.splitlines() if line.count("|") == 4}
    assert mean("tasks-q13", model="linear", metric="accuracy") in table["`speech`, tiny-en, and a linear model"]
    told = [line for line in PAGE.splitlines() if "`spectrogram` and a linear model" in line]
    assert mean("tasks-q13-logmel", model="linear", metric="accuracy") in told[0]
    assert mean("tasks-emotion-logmel", model="linear", metric="macro_recall") in told[1]
    (voice,) = [line for line in PAGE.splitlines() if line.startswith("| seven emotions")]
    assert mean("tasks-emotion", model="linear", metric="macro_recall") in voice
    for way in ("text -> picture", "picture -> text"):
        for metric in ("recall@1", "recall@10"):
            assert mean("retrieval-fashion", model="cca", metric=metric, slice=way) in PAGE


def test_what_it_says_of_products_in_pictures_was_measured():
    def rows(name: str) -> list[dict]:
        return json.loads((ROOT / f"benchmarks/quality/{name}.json").read_text(encoding="utf-8"))["rows"]

    def short(value: float) -> str:
        return f"{value:.3f}".lstrip("0")

    page = " ".join(PAGE.split())
    found = [r for r in rows("detection-fashion") if r["model"] == "objects" and r["metric"] == "map@.5"]
    told = [f"{short(r['mean'])} ({short(r['low'])} to {short(r['high'])})" for r in found]
    places = ("on 400 composites", "on 100 real photos", "on all 46 that are not on white", "on 54 on white")
    assert all(f"{one} {where}" in page for one, where in zip(told, places, strict=True))
    for what, other in (("type", "(no clear gain)"), ("colour", "(a clear one)")):
        alone, beside = (
            short(
                next(
                    r["mean"]
                    for r in rows(f"tasks-q12-{what}{end}")
                    if (r["model"], r["metric"]) == ("linear", "accuracy")
                )
            )
            for end in ("-probe", "")
        )
        assert f"the {what} " in page and f"for {alone}" in page and f"{beside} {other}" in page
