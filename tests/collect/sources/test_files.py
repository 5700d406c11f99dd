import os

import pytest

from habitue.collect.sources import read, require
from habitue.core.errors import InputError


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: there is no such file.*Check the path"):
        read(tmp_path / "absent.csv", ["a"])


def test_a_folder(tmp_path):
    with pytest.raises(InputError, match="this is a folder.*One file is imported at a time.*Name a CSV"):
        read(tmp_path, ["a"])


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv: the file is empty.*Export it again"):
        read(tmp_path / "a.csv", ["a"])


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04rest", "an Excel workbook or a zip archive"),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook"),
        (b"\x1f\x8brest", "a gzip archive"),
        ("at,code\n".encode("utf-16"), "text in UTF-16"),
        (b"%PDF-1.7", "a PDF"),
        (b"at,code\x00\n1,2\n", "a binary file"),
        (bytes(range(256)) * 20, "a binary file"),
    ],
)
def test_what_is_neither_csv_nor_parquet(tmp_path, content, kind):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"this is {kind}, neither CSV nor Parquet.*Export it as CSV in UTF-8"):
        read(tmp_path / "a.csv", ["at"])


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")

    def denied(self, *args, **kwargs):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(InputError, match=r"cannot be opened \(Permission denied\).*you may read it"):
        read(path, ["a"])


def test_a_missing_column_suggests_the_closest(tmp_path):
    (tmp_path / "a.csv").write_text("InvoiceDate,Code\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'Invoicedate'.*Did you mean 'InvoiceDate'"):
        read(tmp_path / "a.csv", ["Invoicedate", "Code"])


def test_a_column_name_that_comes_twice():
    with pytest.raises(InputError, match="file: 2 columns are called 'a'.*a name of its own"):
        require(["a", "b", "a"], ["a"], where="file")
    require(["a", "b", "b"], ["a"], where="file")
