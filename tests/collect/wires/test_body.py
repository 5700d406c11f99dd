import gzip

import pytest

from habitue.collect.wires.body import BodyError, inflated, parsed, unnamed


def test_gzip_is_inflated_to_the_limit_and_not_beyond():
    assert inflated(gzip.compress(b"x" * 1_000, mtime=0), limit=1_000) == b"x" * 1_000
    with pytest.raises(BodyError, match="more than 999 bytes") as error:
        inflated(gzip.compress(b"x" * 1_000, mtime=0), limit=999)
    assert (error.value.code, error.value.status) == ("too_large", 400)
    with pytest.raises(BodyError, match="more than 3 bytes"):
        inflated(b"four", limit=3)


def test_an_id_is_made_of_a_body_with_a_time_and_drawn_without_one():
    message = {"b": 1, "a": [2.5, None, "ä"]}
    assert unnamed(message, timed=True) == unnamed(dict(reversed(message.items())), timed=True)
    assert unnamed(message, timed=True) != unnamed(message | {"b": 2}, timed=True)
    assert unnamed(message, timed=False) != unnamed(message, timed=False)


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":NaN}', b"\xff", b'{"a":"\\ud800"}', b"{}{}"])
def test_what_is_no_json_is_said_to_be_none(body):
    with pytest.raises(BodyError, match="no JSON that can be read"):
        parsed(body)
