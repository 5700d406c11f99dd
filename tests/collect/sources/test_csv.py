import csv
import io

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits
from habitue.core.errors import HabitueError, InputError

# what a field may hold: any text a CSV can carry. A lone carriage return ends a line for some readers, not for others.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=8)


def write(path, records, delimiter=",", **form):
    path.write_text(written(records, delimiter, **form), encoding="utf-8", newline="")
    return path


def written(records, delimiter=",", lineterminator="\n", quoting=csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=lineterminator, quoting=quoting).writerows(records)
    return out.getvalue()


@settings(deadline=None)
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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "::"])
def test_the_delimiter_is_told_from_the_file(tmp_path, delimiter, read):
    lines = [["when", "what, exactly", "how much"], ["2024-01-01", "a", "1.5"], ["2024-01-02", "b", "2.5"]]
    if delimiter == ",":
        lines[0][1] = '"what, exactly"'
    (tmp_path / "a").write_text("\n".join(delimiter.join(line) for line in lines))
    assert read(tmp_path / "a", ["what, exactly", "how much"]).rows() == [("a", "1.5"), ("b", "2.5")]
    assert read(tmp_path / "a").columns == ["when", "what, exactly", "how much"]


def test_without_a_header_the_columns_have_numbers(tmp_path, read):
    (tmp_path / "a").write_text("1\t2\t3\n4\t5\t6\n")
    numbers = []
    assert read(tmp_path / "a", ["3", "1"], header=False, numbers=numbers).rows() == [("3", "1"), ("6", "4")]
    assert numbers == [1, 2]


def test_line_ends_of_an_old_mac(tmp_path, read):
    (tmp_path / "a").write_bytes(b"a,b\r1,2\r3,4\r")
    assert read(tmp_path / "a", ["b"])["b"].to_list() == ["2", "4"]


def test_a_quote_inside_a_field_is_a_letter(tmp_path, read):
    (tmp_path / "a").write_text('size,name\n10",frame\n12",plate\n')
    assert read(tmp_path / "a", ["size"])["size"].to_list() == ['10"', '12"']
    (tmp_path / "b").write_text('size,name\n1,"a, b"\n10",frame\n2,c\n')
    assert read(tmp_path / "b", ["size", "name"]).rows() == [("1", "a, b"), ('10"', "frame"), ("2", "c")]
    (tmp_path / "c").write_text('size,name\n"10" wide,frame\n')
    assert read(tmp_path / "c", ["size"], quotes=False)["size"].to_list() == ['"10" wide']


def test_blocks_are_cut_where_records_end(tmp_path, read, monkeypatch):
    monkeypatch.setattr("habitue.collect.sources.csv.BLOCK", 50)
    monkeypatch.setattr("habitue.collect.sources.encoding.CHUNK", 7)
    records = [(str(n), f'line {n}\nnext, "{n}"', "z" * (n % 90)) for n in range(200)]
    numbers = []
    frame = read(write(tmp_path / "a.csv", [("a", "b", "c"), *records]), ["a", "b"], numbers=numbers)
    assert frame.rows() == [record[:2] for record in records]
    assert numbers == list(range(1, 201))


def test_a_record_without_end_stops_in_words(tmp_path, read, monkeypatch):
    monkeypatch.setattr("habitue.collect.sources.csv.BLOCK", 1_000)
    limits = Limits(max_record=100_000)
    (tmp_path / "a").write_text('a,b\n1,"' + "x\n" * 5_000_000)
    with pytest.raises(InputError, match="the quotes near line 2 do not close"):
        read(tmp_path / "a", ["a"], limits=limits)
    (tmp_path / "a").write_text("a,b\n1," + "x" * 9_000_000)
    with pytest.raises(InputError, match="line 2 is longer than 100,000 bytes"):
        read(tmp_path / "a", ["a"], limits=limits, quotes=False)


@settings(deadline=None)
@given(content=st.text(max_size=200), delimiter=st.sampled_from([None, ",", "\t"]))
def test_any_text_is_rows_or_one_sentence(tmp_path_factory, content, delimiter, read):
    path = tmp_path_factory.mktemp("csv") / "a"
    path.write_bytes(content.encode(errors="replace"))
    try:
        read(path, delimiter=delimiter)
    except HabitueError as error:
        assert "\n" not in str(error)


def test_a_title_above_the_table_is_passed_by(tmp_path, read):
    above = "Orders of March;;;\n\nExported;01.04.2024;;\n"
    path = tmp_path / "a.csv"
    path.write_text(above + "a;b;c;d\n1;2;3;4\n5;6;7;8\n;;;9\n", encoding="utf-8")
    numbers: list[int] = []
    assert read(path, ["a", "d"], numbers=numbers).rows() == [("1", "4"), ("5", "8"), (None, "9")]
    assert numbers == [1, 2, 3]


def test_the_header_is_where_the_wanted_columns_stand(tmp_path, read):
    """Also where what stands above it is as wide as the table."""
    (tmp_path / "a.csv").write_text("Shop,from,to,by\nBerlin,1,2,me\na,b,c,d\n1,2,3,4\n5,6,7,8\n", encoding="utf-8")
    assert read(tmp_path / "a.csv", ["a", "d"]).rows() == [("1", "4"), ("5", "8")]


def test_a_narrow_table_loses_no_row_to_the_search_for_its_header(tmp_path, read):
    (tmp_path / "a.csv").write_text("\na,b\n1,2\n,3\n", encoding="utf-8")
    assert read(tmp_path / "a.csv", ["a", "b"]).rows() == [("1", "2"), (None, "3")]
