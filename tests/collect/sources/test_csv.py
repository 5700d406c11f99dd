import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitue.core.errors import InputError

# what a field may hold: any text a CSV can carry. A lone carriage return ends a line for some readers, not for others.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=8)


def write(path, records, delimiter=",", **form):
    path.write_text(written(records, delimiter, **form), encoding="utf-8", newline="")
    return path


def written(records, delimiter=",", lineterminator="\n", quoting=csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=lineterminator, quoting=quoting).writerows(records)
    return out.getvalue()


@given(
    records=st.lists(st.tuples(text, text, text.filter(bool)), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    lineterminator=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    mark=st.booleans(),
)
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory, records, delimiter, lineterminator, quoting, mark, read
):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    content = written([("a", "b", "c"), *records], delimiter, lineterminator, quoting)
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + content.encode())
    frame = read(path, ["c", "a", "b"], delimiter=delimiter)
    assert frame.columns == ["c", "a", "b"]
    assert frame.with_columns(pl.all().fill_null("")).select("a", "b", "c").rows() == records


def test_every_column_is_text_and_an_empty_field_null(tmp_path, read):
    path = write(tmp_path / "a.csv", [("a", "b"), ("1", ""), ("", "2.50")])
    frame = read(path, ["a", "b"])
    assert frame.schema == {"a": pl.String, "b": pl.String}
    assert frame.rows() == [("1", None), (None, "2.50")]


def test_line_breaks_in_quotes_in_a_file_of_many_blocks(tmp_path, read):
    records = [(str(i), f"line {i}\nnext, {i}" if i % 3 else "plain", "z" * (i % 40)) for i in range(60_000)]
    path = write(tmp_path / "a.csv", [("a", "b", "c"), *records])
    frame = read(path, ["a", "b"])
    assert frame.height == 60_000
    assert frame.rows() == [record[:2] for record in records]


@pytest.mark.parametrize(("used", "toml"), [(";", '";"'), ("\t", '"\\t"'), ("|", '"|"')])
def test_another_delimiter_is_named(tmp_path, used, toml, read):
    path = write(tmp_path / "a.csv", [("at", "code"), ("1", "2")], delimiter=used)
    with pytest.raises(InputError, match=r"a\.csv: its columns are separated by '.{1,2}', not by ','.*one column") as e:
        read(path, ["at", "code"], delimiter=",")
    assert f"delimiter = {toml}." in str(e.value)
    assert read(path, ["at", "code"]).rows() == [("1", "2")]


def test_a_row_of_too_many_fields_is_refused_alone(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n"1\n1",2\n3,4,5\n6\n7,8\n')
    broken, numbers = {}, []
    assert read(path, ["a", "b"], broken=broken, numbers=numbers).rows() == [("1\n1", "2"), ("6", None), ("7", "8")]
    assert (broken, numbers) == ({2: "too_many_fields"}, [1, 3, 4])


@pytest.mark.parametrize(("content", "line"), [('a,b\n1,"2\n3,4\n', 3), ('a,b\n1,"2"x\n3,4\n', 2)])
def test_quotes_that_do_not_close(tmp_path, content, line, read):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"the quotes near line {line} do not close.*run into each other"):
        read(path, ["a", "b"])


def test_text_that_is_not_what_the_mapping_says(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\n1,2\nCafé,3\n".encode("latin-1"))
    with pytest.raises(InputError, match=r'line 3 is not UTF-8.*garbled.*encoding = "gb18030"'):
        read(path, ["a"], encoding="utf-8")


def test_header_only_is_no_row(tmp_path, read):
    assert read(write(tmp_path / "a.csv", [("a", "b")]), ["a", "b"]).is_empty()
