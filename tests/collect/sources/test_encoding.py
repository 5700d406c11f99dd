import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources.encoding import Utf8, detect
from habitue.core.errors import InputError

CHINESE = "订单编号,商品名称,价格\n1001,马克杯和茶壶的套装,￥12.50\n1002,大号花瓶，手工制作,￥99.00\n"
JAPANESE = "注文番号,商品名,価格\n1001,マグカップとティーポット,1200円\n1002,大きい花びん、手作り,9900円\n"
FRENCH = "numéro,produit,prix\n1001,thé à la menthe,12\n1002,crème brûlée déjà prête,9\n"
GERMAN = "Straße,Größe\nMüllerstraße 5,groß\nÄpfel,klein\n"


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        (CHINESE, "gb18030", "gb18030"),
        (CHINESE, "gbk", "gb18030"),
        (CHINESE, "utf-8", "utf-8"),
        (JAPANESE, "shift_jis", "cp932"),
        (JAPANESE, "utf-8", "utf-8"),
        (FRENCH, "cp1252", "cp1252"),
        (FRENCH, "latin-1", "cp1252"),
        (GERMAN, "cp1252", "cp1252"),
        (FRENCH, "utf-8", "utf-8"),
        ("price\n€5\n", "cp1252", "cp1252"),
        ("plain\n1\n", "ascii", "ascii"),
    ],
)
def test_the_letters_tell_the_encoding(text, encoding, found):
    assert detect(text.encode(encoding)) == found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "cp932"])
@pytest.mark.parametrize("ascii_before", [0, 9_000_000])
def test_every_letter_comes_back(tmp_path, encoding, ascii_before, read):
    text = JAPANESE if encoding == "cp932" else CHINESE
    names = text.split("\n")[0].split(",")
    rows = "0,plain,1\n" * (ascii_before // 10) if encoding not in ("utf-16", "utf-16-le", "utf-16-be") else ""
    head, body = text.split("\n", 1)
    if rows:  # nothing but ASCII for two blocks: the encoding shows late
        head, names = "a,b,c", ["a", "b", "c"]
    (tmp_path / "a.csv").write_bytes(f"{head}\n{rows}{body}".encode(encoding))
    expected = [tuple(line.split(",")) for line in body.strip().split("\n")]
    assert read(tmp_path / "a.csv", names).tail(2).rows() == expected


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=300))
def test_utf8_is_never_taken_for_anything_else(text):
    assert "".join(piece.decode() for piece in Utf8(io.BytesIO(text.encode()), "a", None)) == text.removeprefix(
        "\ufeff"
    )


@settings(deadline=None)
@given(content=st.binary(max_size=500))
def test_any_bytes_are_text_or_one_sentence(content):
    try:
        assert isinstance(b"".join(Utf8(io.BytesIO(content), "a", None)).decode(), str)
    except InputError as error:
        assert "\n" not in str(error)


def test_letters_that_are_cut_by_a_piece_are_whole(monkeypatch):
    monkeypatch.setattr("habitue.collect.sources.encoding.CHUNK", 3)
    for encoding in ("utf-8", "gb18030"):
        pieces = Utf8(io.BytesIO(CHINESE.encode(encoding)), "a", encoding)
        assert b"".join(pieces).decode() == CHINESE


def test_a_line_that_turns_to_something_else_is_named():
    content = b"a\n" + "é\n".encode() + b"\xff\xfe\xff\n"
    with pytest.raises(InputError, match="line 3 is not UTF-8.*encoding ="):
        list(Utf8(io.BytesIO(content), "a", "utf-8"))
