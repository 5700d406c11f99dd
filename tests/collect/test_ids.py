import datetime as dt
import hashlib
import struct

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.collect.ids import event_ids

SECRET = b"s" * 32
SCHEMA = {"order_id": pl.String(), "price": pl.Float64(), "at": pl.Datetime("us", "UTC")}

# few values, so that repeats happen
row = st.tuples(
    st.sampled_from(["1", "2", "a;b", None]),
    st.sampled_from([0.1, 1.0, None]),
    st.sampled_from([dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)]),
)
rows = st.lists(row, max_size=12)


def frame(of: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(of, schema=SCHEMA, orient="row")


def ids(of: list[tuple] | pl.DataFrame, source: str = "s", secret: bytes = SECRET) -> list[str]:
    return event_ids(of if isinstance(of, pl.DataFrame) else frame(of), source=source, secret=secret).to_list()


@given(rows)
def test_ids_are_unique_whatever_repeats(of):
    assert len(set(ids(of))) == len(of)


@given(rows.flatmap(lambda of: st.tuples(st.just(of), st.permutations(of))))
def test_a_reordered_copy_has_the_same_ids(pair):
    of, shuffled = pair
    assert set(ids(of)) == set(ids(shuffled))


@given(rows, st.permutations(list(SCHEMA)))
def test_the_order_of_columns_does_not_show(of, columns):
    assert ids(frame(of).select(columns)) == ids(of)


@given(rows, rows)
def test_a_longer_export_adds_only_its_new_rows(of, more):
    before, after = ids(of), ids(of + more)
    assert after[: len(of)] == before
    assert len(set(after) - set(before)) == len(more)


@given(rows, row, st.integers(1, 4))
def test_each_further_repeat_is_one_more_id(of, again, times):
    of = [r for r in of if r != again]
    seen = [set(ids(of + [again] * n)) for n in range(times + 1)]
    for fewer, more in zip(seen, seen[1:], strict=False):
        assert fewer < more and len(more - fewer) == 1


@settings(max_examples=300)
@given(row, row)
def test_only_equal_rows_share_an_id(a, b):
    assert (ids([a]) == ids([b])) == (a == b)


def test_fields_cannot_run_into_each_other():
    split = [("a", "b;c=1:d"), ("a;b", "c=1:d"), ("a", None), (None, "a"), ("", None)]
    schema = {"x": pl.String(), "y": pl.String()}
    seen = {ids(pl.DataFrame([values], schema=schema, orient="row"))[0] for values in split}
    assert len(seen) == len(split)


def test_neighbouring_doubles_differ():
    one = frame([("1", 0.1 + 0.2, None)])
    other = frame([("1", 0.3, None)])
    assert ids(one) != ids(other)


def test_source_and_secret_count():
    of = [("1", 1.0, None)]
    assert len({*ids(of), *ids(of, source="other"), *ids(of, secret=b"t" * 32)}) == 3


def test_a_repeat_of_one_row_is_not_the_first_of_another():
    """n stands behind the row, so a row that ends in a digit must not meet the n of a shorter one."""
    of = pl.DataFrame({"x": ["v"] * 12 + ["v1"] * 2})
    assert len(set(ids(of))) == 14


def test_ids_stay_the_same_from_release_to_release():
    """Another value here means that every shop's next import brings all its rows a second time."""
    of = frame([("536365", 2.55, dt.datetime(2010, 12, 1, 8, 26, tzinfo=dt.UTC)), (None, None, None)])
    start = b"13:online_retail;"
    (bits,) = struct.unpack("<q", struct.pack("<d", 2.55))
    first = f"at=16:1291191960000000;order_id=6:536365;price={len(str(bits))}:{bits};0".encode()
    second = b"at-;order_id-;price-;0"
    assert ids(of, source="online_retail") == [
        hashlib.blake2b(start + row, digest_size=16, key=SECRET).hexdigest() for row in (first, second)
    ]
