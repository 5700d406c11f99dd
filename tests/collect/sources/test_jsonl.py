import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits
from habitue.core.errors import HabitueError, InputError

ROWS = [{"a": 1, "b": {"c": "x", "d": [{"e": 2.5}]}}, {"a": 2.0, "b": None, "f": True}, {"a": "3", "b": {"c": "é\n🎁"}}]
WANTED = ["a", "b.c", "b.d.0.e", "f"]
FLAT = [("1", "x", "2.5", None), ("2", None, None, "true"), ("3", "é\n🎁", None, None)]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\r\n".join(map(json.dumps, ROWS)) + "\r\n\r\n",
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        " \n [\n" + ",\n".join(map(json.dumps, ROWS)) + "\n] \n",
        json.dumps({"data": {"orders": ROWS}, "total": 3}, indent=1),
    ],
    ids=["lines", "CRLF", "array", "pretty array", "loose array", "in an object"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_form_of_json_is_the_same_rows(tmp_path, text, encoding, read):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.txt", WANTED).rows() == FLAT


def test_a_list_in_a_record_may_become_rows(tmp_path, read):
    order = {"id": 7, "lines": [{"sku": "A", "n": 1}, {"sku": "B"}], "at": "2024-01-01"}
    (tmp_path / "a").write_text(json.dumps(order) + "\n" + json.dumps({"id": 8, "lines": []}) + "\n")
    numbers = []
    frame = read(tmp_path / "a", ["id", "lines.sku", "line"], lines="lines", numbers=numbers)
    assert frame.rows() == [("7", "A", "0"), ("7", "B", "1"), ("8", None, None)]
    assert numbers == [1, 1, 2]


DEEP = "[" * 10_000 + "]" * 10_000


@pytest.mark.parametrize(
    "bad", [DEEP, '{"a": ' * 10_000 + "1" + "}" * 10_000, "{", '{"a": 1', "[1]", "7", '"x"', "9" * 10_000, "nonsense"]
)
def test_a_line_that_cannot_be_read_is_refused_alone(tmp_path, bad, read):
    (tmp_path / "a").write_text('{"a": 1}\n' + bad + '\n{"a": 2}\n')
    broken, numbers = {}, []
    assert read(tmp_path / "a", ["a"], broken=broken, numbers=numbers)["a"].to_list() == ["1", "2"]
    assert (broken, numbers) == ({2: "bad_record"}, [1, 3])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"a": 1}, {"a": 2', "is cut off or is no JSON after object 1"),
        ('[{"a": 1}, ' + DEEP + "]", "is nested too deep after object 1"),
        ('[{"a": 1}', "is cut off or is no JSON after object 1"),
        ('{\n"a": [\n{"b": 1},\n{', "is cut off or is no JSON after object 0"),
        ('{\n"a":\n' + DEEP + "}", "is nested too deep"),
    ],
)
def test_a_document_that_cannot_be_read_is_one_sentence(tmp_path, text, words, read):
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match=f"the JSON {words}.*one object a line"):
        read(tmp_path / "a", ["a"])


def test_an_array_larger_than_its_pieces(tmp_path, monkeypatch, read):
    monkeypatch.setattr("habitue.collect.sources.encoding.CHUNK", 7)
    (tmp_path / "a").write_text(json.dumps(ROWS * 20, indent=1))
    assert read(tmp_path / "a", WANTED).rows() == FLAT * 20


def test_a_line_without_end_stops_in_words(tmp_path, read):
    (tmp_path / "a").write_text('{"a": 1}\n{"a": "' + "x" * 3_000_000)
    with pytest.raises(InputError, match="line 2 is longer than 1,000,000 bytes"):
        read(tmp_path / "a", ["a"], limits=Limits(max_record=1_000_000))


def test_a_cell_of_ten_million_letters_is_a_cell(tmp_path, read):
    (tmp_path / "a").write_text(json.dumps({"a": "x" * 10_000_000}) + "\n" + json.dumps({"a": "y"}) + "\n")
    assert read(tmp_path / "a", ["a"])["a"].str.len_chars().to_list() == [10_000_000, 1]


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(records=st.lists(st.dictionaries(st.text(max_size=4), value, max_size=4), min_size=1, max_size=5))
def test_what_the_standard_library_writes_is_read_back(tmp_path_factory, records, read):
    path = tmp_path_factory.mktemp("json") / "a"
    path.write_text("\n".join(map(json.dumps, [{"k": 1}, *records])))
    assert read(path, ["k"]).height == len(records) + 1


@settings(deadline=None)
@given(start=st.sampled_from(["{", "[", "[{", '{"a"']), rest=st.text(max_size=60))
def test_any_text_is_rows_or_one_sentence(tmp_path_factory, start, rest, read):
    path = tmp_path_factory.mktemp("json") / "a"
    path.write_bytes((start + rest).encode(errors="replace"))
    try:
        read(path, ["a"])
    except HabitueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("form", ["{}\n{}\n", "[{},\n{}]", '{{"rows":\n[{},\n{}]}}'])
def test_half_a_letter_becomes_the_sign_for_one_and_a_whole_one_stays(tmp_path, read, form):
    """What JavaScript leaves of an emoji that it cut; nothing could store it, and the row is good."""
    half, whole = '{"a": "Mug \\ud83d", "b\\uD83D": ["\\ude00"]}', '{"a": "\\ud83d\\ude00"}'
    (tmp_path / "a").write_text(form.format(half, whole))
    assert read(tmp_path / "a", ["a", "b\ufffd"]).rows() == [("Mug \ufffd", '["\ufffd"]'), ("\U0001f600", None)]
