import polars as pl
import pytest

from habitue.bench import files
from habitue.core.errors import SchemaError, UsageError

FRAME = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "n": [1, 2]})


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "semicolon", "jsonl", "bom"])
def test_the_format_is_told_by_content(tmp_path, kind):
    path = tmp_path / "events.dat"  # a suffix that says nothing
    if kind == "parquet":
        FRAME.write_parquet(path)
    elif kind == "jsonl":
        FRAME.write_ndjson(path)
    elif kind == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + FRAME.write_csv().encode())
    else:
        FRAME.write_csv(path, separator={"csv": ",", "tsv": "\t", "semicolon": ";"}[kind])
    assert files.read(path, what="--events").equals(FRAME)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_column_may_change_its_kind_in_the_last_row(tmp_path, kind):
    path = tmp_path / "late"
    numbers = [str(n) for n in range(20_000)]
    if kind == "csv":
        path.write_text("order,n\n" + "".join(f"{n},1\n" for n in numbers) + "C7,2.5\n")
    else:
        path.write_text("".join(f'{{"order": {n}, "n": 1}}\n' for n in numbers) + '{"order": "C7", "n": 2.5}\n')
    frame = files.read(path, what="--events")
    assert frame["order"].to_list() == [*numbers, "C7"]
    assert frame["n"][-1] == 2.5


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"PAR1 and then nothing", "no table that can be read"),
        (b"user_id,item_id\n", "no row"),
        (b"", "no table that can be read"),
        (b"a,b,a\n1,2,3\n", "two columns are called 'a'"),
        (b"\xff\xfe\x00\x01,b\n1,2\n", "no table that can be read"),
        (b'{"user_id": [\n', "no table that can be read"),
    ],
)
def test_what_is_no_table_is_refused_in_words(tmp_path, content, found):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=found):
        files.read(path, what="--events")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="--events: 'no such"):
        files.read(tmp_path.relative_to(tmp_path) / "no such", what="--events")
