import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from habitue.collect import runs

TOP = 2**64 - 1


def frame(hashes):
    return pl.DataFrame(
        {"hash": pl.Series(hashes, dtype=pl.UInt64), "row": range(len(hashes)), "word": [f"w{h}" for h in hashes]},
        schema_overrides={"row": pl.Int64},
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 5, 2**63, TOP]) | st.integers(0, TOP), min_size=1, max_size=60), st.data())
def test_a_range_holds_what_lies_in_it_in_the_order_of_the_file(tmp_path_factory, hashes, data):
    path = tmp_path_factory.mktemp("runs") / "a.run"
    rows = frame(hashes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SLICE", 7)
        runs.write(path, rows)
    low = data.draw(st.integers(0, TOP))
    high = data.draw(st.integers(low, TOP))
    found = pl.concat([rows.clear(), *runs.within(path, runs.listed(path), low, high)])
    within = rows.filter(pl.col("hash").is_between(pl.lit(low, pl.UInt64()), pl.lit(high, pl.UInt64())))
    assert_frame_equal(found, within.sort("hash", maintain_order=True))
    assert_frame_equal(runs.every(path, ["word"]), rows.sort("hash", maintain_order=True).select("word"))
    assert runs.columns(path) == ["row", "word"]


def test_only_the_slices_of_a_range_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SLICE", 10)
    runs.write(tmp_path / "a.run", frame(list(range(1_000))))
    slices = runs.listed(tmp_path / "a.run")
    assert slices.shape == (100, 3) and slices[:, 0].tolist() == list(range(0, 1_000, 10))
    assert np.all(np.diff(slices[:, 2].astype(np.int64)) > 0)
    read = []
    of_file = runs._slice
    monkeypatch.setattr(runs, "_slice", lambda *asked: read.append(asked[2]) or of_file(*asked))
    assert sum(rows.height for rows in runs.within(tmp_path / "a.run", slices, 205, 214)) == 10
    assert read == [20, 21]
    assert list(runs.within(tmp_path / "a.run", slices, 1_000, TOP)) == []
