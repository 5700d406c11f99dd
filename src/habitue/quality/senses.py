"""Can the shop's pictures, sounds and videos be opened, and which of them are the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from habitue.core import media
from habitue.core.schemas import Quality
from habitue.quality import alike
from habitue.quality.ledger import Finding, plain
from habitue.quality.scores import Measure, table_of

LARGEST_FILE = 1 << 28  # bytes


@dataclass
class Looked:
    """What was seen of every medium: counts, flaws with one example's sentence, hashes of pictures."""

    rows: dict[str, int] = field(default_factory=dict)  # by modality
    sound: dict[str, int] = field(default_factory=dict)  # of them without a flaw
    whole: dict[str, int] = field(default_factory=dict)  # of them decoded to the end
    flaws: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)  # modality, code -> count, sentence
    hashes: list[int] = field(default_factory=list)


def look(parts: Iterable[pl.DataFrame], *, folder: Path) -> Looked:
    """Open every medium, one at a time; `parts`: rows with modality, bytes or path, and sha256 where it is known.

    Memory is one medium and one part. A path is absolute, as the importer wrote it, or relative to `folder`; a relative
    one that leads out of it is not opened, and is a flaw. So is a file that is no longer the one that was imported.
    """
    looked = Looked()
    for part in parts:
        names = [name for name in ("bytes", "path", "sha256") if name in part.columns]
        for row in part.select("modality", *names).iter_rows(named=True):
            kind = row["modality"]
            looked.rows[kind] = looked.rows.get(kind, 0) + 1
            try:
                data = row.get("bytes")
                data = _read(row.get("path"), folder) if data is None else data
                seen = media.look(data, kind)
                if row.get("sha256") not in (None, hashlib.sha256(data).hexdigest()):
                    raise media.Flaw("changed", "Its file is no longer the one that was imported.")
            except media.Flaw as flaw:
                count, sentence = looked.flaws.get((kind, flaw.code), (0, flaw.sentence))
                looked.flaws[kind, flaw.code] = (count + 1, sentence)
                continue
            looked.sound[kind] = looked.sound.get(kind, 0) + 1
            looked.whole[kind] = looked.whole.get(kind, 0) + seen.whole
            if seen.hash is not None:
                looked.hashes.append(seen.hash)
    return looked


def scores(looked: Looked) -> Quality:
    """Return QUALITY of each modality in MEDIA: how many can be opened."""
    measures: list[Measure] = []
    for kind, rows in sorted(looked.rows.items()):
        opened = looked.sound.get(kind, 0)
        whole = looked.whole.get(kind, 0) == opened
        formula = f"rows of {kind} that {'decode to their end' if whole else 'have a readable header'} / rows of {kind}"
        measures.append(("media", "accuracy", f"{kind} can be opened", opened / rows, formula))
    return table_of(measures)


def findings(looked: Looked) -> list[Finding]:
    """Return what cannot be opened, and pictures that look the same."""
    return list(_findings(looked))


def _findings(looked: Looked) -> Iterator[Finding]:
    for kind in sorted(looked.rows):
        mine = {code: told for (of, code), told in looked.flaws.items() if of == kind}
        if mine:
            rows = sum(count for count, _ in mine.values())
            words = "; ".join(
                f"{count:,} {code.replace('_', ' ')} ({said})" for code, (count, said) in sorted(mine.items())
            )
            yield plain(
                f"{kind}_unreadable",
                "media",
                "accuracy",
                f"{rows:,} of {looked.rows[kind]:,} rows of {kind} cannot be opened: {words}",
                rows,
                "kept; they get no vector",
            )
        blind = looked.sound.get(kind, 0) - looked.whole.get(kind, 0)
        if blind:
            yield plain(
                f"{kind}_header_only",
                "media",
                "accuracy",
                f"{blind:,} of {looked.rows[kind]:,} rows of {kind} were looked at by their header only.",
                blind,
                "kept; whether they decode to their end is unknown",
            )
    groups = alike.looking(looked.hashes)
    again = len(looked.hashes) - len(set(groups.tolist()))
    if again:
        yield plain(
            "near_pictures",
            "media",
            "consistency",
            f"{again:,} of {len(looked.hashes):,} pictures look like another one when they are small.",
            again,
            "kept; the same photo of two products tells them apart by nothing",
        )


def _read(path: str | None, folder: Path) -> bytes:
    if path is None:
        raise media.Flaw("empty", "It has neither bytes nor a path.")
    try:
        whole = (folder / path).resolve()
        if not Path(path).is_absolute() and not whole.is_relative_to(folder.resolve()):
            raise media.Flaw("outside", "Its path leads out of the folder it is in.")
        with whole.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise media.Flaw("no_file", "Its file cannot be read.") from error
    if len(data) > LARGEST_FILE:
        raise media.Flaw("too_large", "Its file is larger than 256 MB.")
    return data
