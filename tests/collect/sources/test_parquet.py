import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits
from habitue.core.errors import HabitueError, InputError

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


@settings(deadline=None)
@given(at=st.integers(0, 10_000), content=st.binary(min_size=1, max_size=8))
def test_a_file_with_bytes_changed_is_rows_or_one_sentence(tmp_path_factory, at, content, read):
    folder = tmp_path_factory.mktemp("parquet")
    FRAME.head(50).write_parquet(folder / "a.parquet")
    whole = bytearray((folder / "a.parquet").read_bytes())
    start = 4 + at % (len(whole) - 4)
    whole[start : start + len(content)] = content
    (folder / "a.parquet").write_bytes(whole)
    try:
        read(folder / "a.parquet", ["a", "b"])
    except HabitueError as error:
        assert "\n" not in str(error)


def test_blocks_keep_their_numbers(tmp_path, read, monkeypatch):
    monkeypatch.setattr("habitue.collect.sources.parquet.ROWS", 300)
    FRAME.write_parquet(tmp_path / "a.parquet", row_group_size=170)
    numbers = []
    assert read(tmp_path / "a.parquet", ["b", "a"], numbers=numbers).equals(FRAME.select("b", "a"))
    assert numbers == list(range(1, 2_001))


def test_parquet_in_an_archive(tmp_path, read):
    import gzip

    FRAME.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert read(tmp_path / "a.gz", ["a"]).equals(FRAME.select("a"))


def test_more_rows_than_may_be(path, read):
    with pytest.raises(InputError, match="more than 10 rows"):
        read(path, ["a"], limits=Limits(max_rows=10))
