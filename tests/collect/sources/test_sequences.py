import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.sources import Limits
from habitue.core.errors import HabitueError, InputError


def test_lists_of_items_keep_their_order(tmp_path, read):
    (tmp_path / "a.txt").write_text("u1 i5 i9\nu2\n\nu3,i1\tno\n")
    broken, numbers = {}, []
    frame = read(
        tmp_path / "a.txt", ["user", "item", "position", "at"], reader="sequences", broken=broken, numbers=numbers
    )
    assert frame.rows() == [
        ("u1", "i5", "1", "2000-01-01T00:00:00+00:00"),
        ("u1", "i9", "2", "2000-01-01T00:00:01+00:00"),
        ("u3", "i1", "1", "2000-01-01T00:00:00+00:00"),
        ("u3", "no", "2", "2000-01-01T00:00:01+00:00"),
    ]
    assert (broken, numbers) == ({2: "no_item"}, [1, 1, 4, 4])


def test_a_list_without_end_stops_in_words(tmp_path, read, monkeypatch):
    monkeypatch.setattr("habitue.collect.sources.encoding.CHUNK", 1_000)
    (tmp_path / "a.txt").write_text("u1 " + "i " * 20_000)
    with pytest.raises(InputError, match="line 1 is longer than 10,000 bytes"):
        read(tmp_path / "a.txt", ["user"], reader="sequences", limits=Limits(max_record=10_000))


@settings(deadline=None)
@given(content=st.text(max_size=120))
def test_any_text_is_rows_or_one_sentence(tmp_path_factory, content, read):
    path = tmp_path_factory.mktemp("lists") / "a"
    path.write_bytes(content.encode(errors="replace"))
    try:
        frame = read(path, ["user", "item"], reader="sequences")
    except HabitueError as error:
        assert "\n" not in str(error)
    else:
        assert frame.null_count().sum_horizontal()[0] == 0
