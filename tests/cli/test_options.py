"""What can be written is known before the work."""

import polars as pl
import pytest

from habitue.cli.options import DOCUMENT, TABLES, can_be_written, write_table
from habitue.core.errors import UsageError


@pytest.mark.parametrize(
    ("path", "suffixes", "message"),
    [
        (
            "a.html",
            DOCUMENT,
            "--to: 'a.html' does not end in .json. The result could not be written. Let the name end so",
        ),
        ("json", DOCUMENT, "--to: 'json' does not end in .json"),
        ("a.json", TABLES, "--to: 'a.json' does not end in .parquet or .csv or .jsonl or .ndjson"),
        ("none/a.json", DOCUMENT, "--to: there is no folder '.*none'.*Make the folder first, or name another"),
        ("taken.csv", TABLES, "--to: '.*taken.csv' is a folder.*Name a file"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, path, suffixes, message):
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(UsageError, match=message):
        can_be_written(tmp_path / path, "--to", suffixes)


def test_what_can_be_written_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    can_be_written(None, "--to", DOCUMENT)
    can_be_written(tmp_path / "a.json", "--to", DOCUMENT)
    frame = pl.DataFrame({"n": [1, 2]})
    for suffix, read in zip(TABLES, (pl.read_parquet, pl.read_csv, pl.read_ndjson, pl.read_ndjson), strict=True):
        path = tmp_path / f"table{suffix}"
        write_table(frame, path)
        assert read(path).equals(frame)
    with pytest.raises(UsageError, match="--out: 'table.xlsx' does not end in"):
        write_table(frame, tmp_path / "table.xlsx")
