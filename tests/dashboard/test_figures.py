from __future__ import annotations

from typing import Any

import pytest

from habitue.dashboard import figures


def _row(model: str, slice: str, metric: str, mean: float, **more: Any) -> dict[str, Any]:
    return {"model": model, "slice": slice, "metric": metric, "mean": mean, **more}


def test_best_first_by_the_measures_own_direction() -> None:
    rows = [_row(m, "all", "auc", x) for m, x in (("a", 0.6), ("b", 0.8), ("c", 0.7))]
    rows += [_row(m, "all", "mae", x) for m, x in (("a", 3.0), ("b", 9.0))]
    rows += [_row(m, "all", "bias", x) for m, x in (("a", -0.3), ("b", 0.1))]
    rows += [_row("d", "repeat", "auc", 0.9)]
    assert [r["model"] for r in figures.best(rows, "auc", "all")] == ["b", "c", "a"]
    assert [r["model"] for r in figures.best(rows, "auc")] == ["d", "b", "c", "a"]
    assert [r["model"] for r in figures.best(rows, "mae")] == ["a", "b"]
    assert [r["model"] for r in figures.best(rows, "bias")] == ["b", "a"]


@pytest.mark.parametrize(("share", "height"), [(0.0, 0.0), (0.05, 0.2), (0.1, 0.4), (0.55, 0.7), (1.0, 1.0)])
def test_reach_reads_the_curve_between_its_points(share: float, height: float) -> None:
    assert figures.reach([[0, 0], [0.1, 0.4], [1, 1]], share) == pytest.approx(height)


def test_reach_of_a_curve_without_its_origin() -> None:
    assert figures.reach([[0.5, 0.8], [1, 1]], 0.25) == pytest.approx(0.4)
    assert figures.reach([[0.5, 0.8]], 0.9) == pytest.approx(0.8)


def test_rows_at_a_path() -> None:
    report = {"lost": {"metrics": [_row("a", "all", "auc", 0.6)], "gains": []}, "spend": None}
    assert figures.rows(report, "lost.metrics") == report["lost"]["metrics"]
    assert figures.rows(report, "lost.metrics", "auc", "all") == report["lost"]["metrics"]
    for path, metric in (("lost.metrics", "mae"), ("lost.gains", None), ("spend.deciles", None), ("x.y.z", None)):
        assert figures.rows(report, path, metric) is None


def test_pivot_makes_a_table_per_slice_with_holes() -> None:
    rows = [
        _row("a", "all", "auc", 0.6, cpu_s=None),
        _row("a", "all", "mae", 3.0, cpu_s=2.0),
        _row("b", "all", "auc", 0.7),
        _row("b", "repeat", "auc", 0.8),
    ]
    every, repeat = figures.pivot(rows)
    assert (every["slice"], every["metrics"], every["costs"]) == ("all", ["auc", "mae"], True)
    assert [(r["model"], r["cpu_s"]) for r in every["rows"]] == [("a", 2.0), ("b", None)]
    assert every["rows"][1]["cells"] == [rows[2], None]
    assert (repeat["slice"], repeat["costs"], repeat["rows"][0]["cells"]) == ("repeat", False, [rows[3]])


def test_findings_stand_by_the_money_they_touch() -> None:
    rows = [{"code": code, "money": money} for code, money in (("a", 5.0), ("b", -9.0), ("c", 0.0), ("d", 7.0))]
    assert [row["code"] for row in figures.largest(rows)] == ["b", "d", "a", "c"]


def test_shown_models_are_those_of_the_shops_own_tables() -> None:
    def table(*models: str) -> dict[str, Any]:
        return {"metrics": [_row(m, "all", "auc", 0.5) for m in models]}

    report = {
        "lost": table("trees", "blend"),
        "buy": table("popular", "blend"),
        "other_shops": {"reviews": table("words")},
    }
    assert figures.shown_models(report) == ["popular", "blend", "trees"]


def test_a_learning_curve_is_a_line_in_a_box():
    curve = [
        {"step": 50, "loss": 6.0, "metric": None},
        {"step": 100, "loss": 5.0, "metric": 0.25},
        {"step": 200, "loss": 4.0, "metric": None},
    ]
    drawn = figures.learning(curve, "loss")
    assert drawn == {"line": "150.0,0.0 300.0,60.0 600.0,120.0", "first": 6.0, "last": 4.0, "low": 4.0, "high": 6.0}
    assert figures.learning(curve, "metric") is None and figures.learning([], "loss") is None
    flat = [{"step": step, "loss": 2.0} for step in (1, 2)]
    assert figures.learning(flat, "loss")["line"] == "300.0,0.0 600.0,0.0"
