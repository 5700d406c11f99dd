import polars as pl
import pytest

from habitue.core.errors import InputError

FRAME = pl.DataFrame({"a": list(range(2_000)), "b": [f"title {i}" for i in range(2_000)]})


@pytest.fixture
def path(tmp_path):
    FRAME.write_parquet(tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def test_columns_keep_their_types(path, read):
    assert read(path, ["b", "a"]).equals(FRAME.select("b", "a"))


def test_a_missing_column_suggests_the_closest(path, read):
    with pytest.raises(InputError, match=r"a\.parquet: there is no column 'B'.*Known: a, b"):
        read(path, ["B"])


def test_the_name_of_the_file_does_not_matter(path, read):
    renamed = path.rename(path.with_suffix(".csv"))
    assert read(renamed, ["a"]).equals(FRAME.select("a"))


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path, read):
    (tmp_path / "year=2024").mkdir()
    FRAME.write_parquet(tmp_path / "year=2024" / "a.parquet")
    assert read(tmp_path / "year=2024" / "a.parquet", ["a"]).columns == ["a"]


@pytest.mark.parametrize("keep", [4, 5, 12, 100, 0.3, 0.6, 0.99, -1])
def test_a_truncated_file_is_said(path, keep, capfd, read):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"a\.parquet: the file starts as Parquet and is cut off or damaged.*again"):
        read(path, ["a", "b"])
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("place", ["pages", "footer", "length"])
def test_a_damaged_file_is_said(path, place, read):
    raw = bytearray(path.read_bytes())
    start, end = {"pages": (4, 600), "footer": (-200, -10), "length": (-8, -4)}[place]
    raw[start:end] = b"\xff" * len(raw[start:end])
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cut off or damaged"):
        read(path, ["a", "b"])
