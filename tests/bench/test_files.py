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
