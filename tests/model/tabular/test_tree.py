import numpy as np
import polars as pl
import pytest

from habitue.core.runtime import Runtime
from habitue.model.tabular import Clock, Table, Target, tree

ROWS = 400


def grown(kind="binary"):
    """Who pays more than 5, or is from the north and pays more than 2, buys."""
    rng = np.random.default_rng(0)
    paid, place = rng.uniform(0, 10, ROWS).round(2), rng.choice(["north", "south", "east"], ROWS)
    buys = (paid > 5) | ((place == "north") & (paid > 2))
    table = Table(pl.DataFrame({"paid": paid, "place": place}))
    target = Target("binary", buys.astype(np.int64), ("left", "bought"))
    if kind == "number":
        target = Target("number", 100.0 * buys + 7)
    return table, target, tree.fit(table, target, tree.Config(), runtime=Runtime(), clock=Clock())


def asked(paid, place):
    return Table(pl.DataFrame({"paid": [paid], "place": [place]}, schema={"paid": pl.Float64, "place": pl.String}))


def test_the_path_of_a_row_says_every_split_and_the_answer():
    _, _, state = grown()
    steps = tree.path(state, asked(9.0, "south"))
    assert any(step.startswith("paid above 5.0") for step in steps)
    assert steps[-1] == "So the answer is: 100 % are bought."
    steps = tree.path(state, asked(4.0, "north"))
    assert any("place is north" in step for step in steps)
    assert any("paid above 2" in step or "paid at most 5" in step for step in steps)
    steps = tree.path(state, asked(4.0, "south"))
    assert any(step.startswith(("place is east, south", "place is south, east")) for step in steps)
    assert steps[-1] == "So the answer is: 100 % are left."


def test_an_unknown_value_is_said():
    _, _, state = grown()
    steps = tree.path(state, asked(None, None))
    assert any(step.startswith("paid is unknown, which goes with: paid ") for step in steps)


def test_the_path_ends_at_the_answer():
    table, target, state = grown()
    said = tree.answer(state, table)
    for row in range(20):
        share = tree.path(state, table.take(np.array([row])))[-1]
        best = said[row].argmax()
        assert share == f"So the answer is: {100 * said[row, best]:.0f} % are {target.classes[best]}."


def test_the_picture_holds_every_row_at_every_level():
    _, _, state = grown()
    root = tree.picture(state)
    assert root["name"] == "all rows"
    assert root["value"] == ROWS

    def holds(node):
        if "children" in node:
            assert sum(child["value"] for child in node["children"]) == node["value"]
            assert len({child["name"] for child in node["children"]}) == 2
            for child in node["children"]:
                holds(child)

    holds(root)


def test_numbers_are_told_as_averages():
    _, _, state = grown("number")
    assert tree.path(state, asked(9.0, "south"))[-1] == "So the answer is: 107 on average."
    assert tree.picture(state)["note"].endswith("on average")


def test_the_tree_stops_where_it_is_told():
    table, target, _ = grown()
    flat = tree.fit(table, target, tree.Config(depth=2), runtime=Runtime(), clock=Clock())
    assert flat.model.get_depth() == 2
    assert tree.importance(flat)["importance"].sum() == pytest.approx(1)
