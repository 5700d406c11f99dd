import os

import pytest

from habitue.collect.sources import require
from habitue.core.errors import InputError


def test_a_missing_file(tmp_path, read):
    with pytest.raises(InputError, match=r"absent\.csv: there is no such file.*Check the path"):
        read(tmp_path / "absent.csv", ["a"])


def test_an_empty_folder(tmp_path, read):
    with pytest.raises(InputError, match="the folder is empty.*nothing to import"):
        read(tmp_path, ["path"])


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file(tmp_path, content, read):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv: the file is empty.*Export it again"):
        read(tmp_path / "a.csv", ["a"])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xd0\xcf\x11\xe0rest", r"an old Excel workbook \(.xls\).*Save it as .xlsx"),
        (b"%PDF-1.7", "a PDF.*Export it as CSV"),
        (b"SQLite format 3\x00rest", "an SQLite database.*sqlite:///FILE"),
        (b"Rar!\x1a\x07", "a RAR archive.*Unpack it"),
        (b"7z\xbc\xaf\x27\x1crest", "a 7z archive"),
        (b"BZh91AY", "a bzip2 archive"),
        (b"\xfd7zXZ\x00", "an xz archive"),
        (b"at,code\x00\n1,2\n", "a binary file, no text"),
        (bytes(range(256)) * 20, "a binary file, no text"),
    ],
)
def test_what_is_not_read(tmp_path, content, kind, read):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"this is {kind}"):
        read(tmp_path / "a.csv", ["at"])


def test_a_text_with_one_damaged_line_is_no_binary_file(tmp_path, read):
    rows = [f"2024-01-01 10:00:{i % 60:02},{i}".encode() for i in range(200)]
    rows[149] = b"2024-01-\x00\xff1"
    (tmp_path / "a.csv").write_bytes(b"\n".join([b"at,code", *rows]))
    with pytest.raises(InputError, match=r"a\.csv: line 151 holds a byte that no text has \(0\).*mend the line"):
        read(tmp_path / "a.csv", ["at"])
    for title in ("红茶杯", "Café crème"):  # nor is it Windows-1252 or GB18030 all of a sudden
        rows = [f"2024-01-01,{title}".encode() for _ in range(200)]
        rows[149] = b"2024-01-\xff\xfe1,x"
        (tmp_path / "a.csv").write_bytes(b"\n".join([b"at,code", *rows]))
        with pytest.raises(InputError, match=r"line 151 is not UTF-8.*If the line is damaged, mend it"):
            read(tmp_path / "a.csv", ["at"])


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch, read):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")

    def denied(self, *args, **kwargs):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(InputError, match=r"cannot be opened \(Permission denied\).*you may read it"):
        read(path, ["a"])


def test_a_missing_column_suggests_the_closest(tmp_path, read):
    (tmp_path / "a.csv").write_text("InvoiceDate,Code\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'Invoicedate'.*Did you mean 'InvoiceDate'"):
        read(tmp_path / "a.csv", ["Invoicedate", "Code"])


def test_a_column_name_that_comes_twice():
    with pytest.raises(InputError, match="file: 2 columns are called 'a'.*a name of its own"):
        require(["a", "b", "a"], ["a"], where="file")
    require(["a", "b", "b"], ["a"], where="file")
