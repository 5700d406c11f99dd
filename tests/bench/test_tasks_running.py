"""The whole bench on small tables: what is measured, judged, written and drawn."""

import json

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk

from habitue.bench.tasks import Columns, Plan, measuring, picturing, run, running
from habitue.core.errors import LeakageError, PluginError, UsageError
from habitue.core.runtime import Runtime
from habitue.dashboard import sheet
from habitue.evaluate import bench

ROWS = 240
MODELS = ("tree", "svm")


def table(seed=0):
    rng = np.random.default_rng(seed)
    paid, colour, mood = rng.normal(size=ROWS), rng.choice(["red", "blue"], ROWS), rng.choice(["good", "bad"], ROWS)
    score = 1.5 * paid + (colour == "red") + 2 * (mood == "good")
    noisy = score + rng.normal(size=ROWS)
    return pl.DataFrame(
        {
            "paid": paid,
            "colour": colour,
            "note": [f"it was {m} {'x' * int(k)}" for m, k in zip(mood, rng.integers(5, size=ROWS), strict=True)],
            "who": rng.integers(40, size=ROWS),
            "bought": (noisy > np.quantile(noisy, 0.7)).astype(int),
            "stars": np.digitize(noisy, np.quantile(noisy, [0.3, 0.7])) + 1,
            "spent": noisy,
        }
    )


PLANS = {
    "purchase": Columns("bought", texts=("note",), group="who", drop=("stars", "spent")),
    "rating": Columns("stars", texts=("note",), drop=("bought", "spent", "who")),
    "value": Columns("spent", texts=("note",), drop=("bought", "stars", "who")),
}
MAIN = {"purchase": "auc", "rating": "accuracy", "value": "mae"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    path = tmp_path_factory.mktemp("tasks") / "shop.parquet"
    table().write_parquet(path)
    return {
        task: run(path, Plan(task, columns, models=MODELS, folds=3, seeds=2), runtime=Runtime())
        for task, columns in PLANS.items()
    }


@pytest.fixture(params=list(PLANS))
def outcome(request, outcomes):
    return outcomes[request.param]


def test_every_row_is_answered_once_a_seed_by_every_model(outcome):
    told = running.predictions(outcome)
    assert set(told["model"]) == {"constant", "linear", "svm", "tree"}
    for _, part in told.group_by("model", "seed"):
        assert sorted(part["row"]) == list(range(ROWS))
    shares = [c for c in told.columns if c.startswith("share of ")]
    if outcome.data.target.kind == "number":
        assert shares == []
        assert told["answer"].dtype == pl.Float64
    else:
        np.testing.assert_allclose(told.select(pl.sum_horizontal(shares)).to_series(), 1)
        assert set(told["answer"]) <= set(told["label"])
    column = outcome.plan.columns.label
    truth = table()[column].cast(told["label"].dtype)
    assert (truth.gather(told["row"]) == told["label"]).all()


def test_the_metrics_are_those_of_scikit_learn_averaged_over_seeds(outcome):
    told = running.predictions(outcome).filter(pl.col("model") == "linear")
    mean = {m: v for m, v in outcome.judged.table.filter(pl.col("model") == "linear").select("metric", "mean").rows()}
    parts = [told.filter(pl.col("seed") == s) for s in (0, 1)]
    kind = outcome.data.target.kind
    if kind == "number":
        expected = {
            "mae": lambda p: sk.mean_absolute_error(p["label"], p["answer"]),
            "rmse": lambda p: sk.root_mean_squared_error(p["label"], p["answer"]),
            "r2": lambda p: sk.r2_score(p["label"], p["answer"]),
        }
    elif kind == "binary":
        expected = {
            "auc": lambda p: sk.roc_auc_score(p["label"] == "1", p["share of 1"]),
            "ap": lambda p: sk.average_precision_score(p["label"] == "1", p["share of 1"]),
            "f1": lambda p: sk.f1_score(p["label"] == "1", p["answer"] == "1"),
            "accuracy": lambda p: sk.accuracy_score(p["label"] == "1", p["share of 1"] > 0.5),
            "macro_f1": lambda p: sk.f1_score(p["label"] == "1", p["share of 1"] > 0.5, average="macro"),
            "log_loss": lambda p: sk.log_loss(p["label"] == "1", p["share of 1"]),
        }
    else:
        shares = [f"share of {c}" for c in outcome.data.target.classes]
        expected = {
            "accuracy": lambda p: sk.accuracy_score(p["label"], p["answer"]),
            "macro_f1": lambda p: sk.f1_score(p["label"], p["answer"], average="macro"),
            "macro_recall": lambda p: sk.balanced_accuracy_score(p["label"], p["answer"]),
            "log_loss": lambda p: sk.log_loss(p["label"], p.select(shares).to_numpy()),
        }
    for name, of in expected.items():
        assert mean[name] == pytest.approx(np.mean([of(p) for p in parts])), name


def test_intervals_hold_the_mean_and_cost_stands_beside(outcome):
    for row in outcome.judged.table.iter_rows(named=True):
        if row["metric"] not in ("ece", "ece_calibrated"):  # which draws make larger
            assert row["low"] <= row["mean"] <= row["high"]
        assert row["cpu_s"] >= 0
        assert row["peak_mb"] > 50
        assert row["seeds"] == 2
        grouped = outcome.data.table.group is not None
        assert row["n"] == (np.unique(outcome.data.table.group).size if grouped else ROWS)


def test_the_winner_is_held_against_the_linear_baseline(outcome):
    ranked = outcome.judged.ranking
    main = MAIN[outcome.plan.task]
    means = dict(outcome.judged.table.filter(pl.col("metric") == main).select("model", "mean").rows())
    ordered = [means[name] for name in ranked]
    assert ordered == sorted(ordered, reverse=main != "mae")
    assert "linear" in outcome.judged.verdict
    assert "240 rows" in outcome.judged.verdict
    assert set(outcome.judged.differences["against"]) == {"linear"}
    gap = outcome.judged.differences.filter(pl.col("model") == "tree", pl.col("metric") == main)["mean"][0]
    assert gap == pytest.approx(means["tree"] - means["linear"])


def test_groups_are_whole_and_inner_folds_too(outcomes):
    outcome = outcomes["purchase"]
    group = outcome.data.table.group
    for one in outcome.answers:
        for seed in (0, 1):
            mine = one.seed == seed
            for g in np.unique(group):
                assert np.unique(one.fold[mine][group[one.row[mine]] == g]).size == 1


def test_what_matters_is_told_on_held_out_rows(outcome):
    for told in outcome.importance.values():
        assert set(told["column"]) == set(outcome.data.table.columns)
        assert {told["column"][0], told["column"][1]} <= {"paid", "note", "colour"}
        assert told["importance"][0] > 0


def test_the_document_is_of_the_one_schema(outcome, tmp_path):
    told = json.loads(bench.save(running.document(outcome, commit="abc"), tmp_path / "f.json").read_text())
    assert {"machine", "commit", "versions", "dataset", "protocol", "rows"} <= set(told)
    assert told["dataset"] == "shop"
    assert told["commit"] == "abc"
    assert told["protocol"].startswith(f"{outcome.plan.task}, 3 folds")
    assert told["verdict"] == outcome.judged.verdict
    assert told["permutation_check"]["scores"]
    assert told["settings"]["models"]["tree"]["depth"] == 5
    assert {row["slice"] for row in told["rows"]} == {"all"}


def test_the_page_can_be_drawn(outcome):
    spec = picturing.sheet(outcome, version="0", at="2024-01-01T00:00:00+00:00", command="habitue bench tasks")
    kinds = [part["kind"] for section in spec["sections"] for part in section["parts"]]
    assert kinds[:3] == ["table", "bars", "table"]
    wanted = {"binary": {"lines", "heat"}, "classes": {"lines", "heat"}, "number": {"scatter"}}
    assert wanted[outcome.data.target.kind] <= set(kinds)
    assert kinds.count("tree") == 1
    assert spec["lead"] == [outcome.judged.verdict]
    assert "Permutation check passed" in spec["sections"][-1]["text"][0]
    assert "<title>" in sheet.render(spec)


def path_of(tmp_path, frame=None):
    path = tmp_path / "shop.parquet"
    (table() if frame is None else frame).write_parquet(path)
    return path


def test_a_leak_stops_the_run_unless_it_is_kept(tmp_path):
    path = path_of(tmp_path)
    columns = Columns("bought", drop=("note", "who", "stars"))
    with pytest.raises(LeakageError, match="column 'spent' alone tells the label.*--drop 'spent'"):
        run(path, Plan("purchase", columns, models=("tree",), folds=2), runtime=Runtime())
    kept = run(path, Plan("purchase", columns, models=("tree",), folds=2, keep_leaks=True), runtime=Runtime())
    assert any(note.startswith("kept on request though column 'spent'") for note in kept.notes)
    assert kept.importance[kept.judged.best]["column"][0] == "spent"


def test_a_model_out_of_budget_says_where_it_stopped(tmp_path):
    plan = Plan("purchase", PLANS["purchase"], models=("forest",), folds=3, cpu_hours=1e-6)
    outcome = run(path_of(tmp_path), plan, runtime=Runtime())
    forest = next(one for one in outcome.answers if one.model == "forest")
    assert forest.stopped.startswith("the budget ended in fold 1 of 3: measured on the folds it finished")
    assert np.unique(forest.fold).tolist() == [0]
    assert any(note.startswith("'forest': the budget ended in fold 1 of 3") for note in outcome.notes)
    assert "forest" in set(outcome.judged.table["model"])
    gap = outcome.judged.differences.filter(pl.col("model") == "forest", pl.col("metric") == "auc")
    assert gap.height == (0 if forest.row.size == 0 else 1)  # against the linear baseline on those very rows


def test_the_constant_answer_wins_where_nothing_is_to_be_learnt(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"noise": rng.normal(size=200), "spent": rng.normal(size=200)})
    outcome = run(
        path_of(tmp_path, frame), Plan("value", Columns("spent"), models=("tree",), folds=3), runtime=Runtime()
    )
    assert outcome.judged.verdict.startswith(
        ("No model beats the constant answer", "The plain linear baseline is best")
    )


def test_the_rows_of_a_test_file_are_answered(tmp_path):
    test = tmp_path / "later.parquet"
    table(seed=5).head(50).write_parquet(test)
    outcome = run(
        path_of(tmp_path), Plan("purchase", PLANS["purchase"], models=("tree",)), test=test, runtime=Runtime()
    )
    assert outcome.protocol == "purchase, own split by group"
    assert sorted(running.predictions(outcome).filter(pl.col("model") == "tree")["row"]) == list(range(50))


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (Plan("purchase", PLANS["purchase"], seeds=0), UsageError, "--seeds: 0 is given"),
        (Plan("purchase", PLANS["purchase"], cpu_hours=0), UsageError, "--cpu-hours: 0 is given"),
        (Plan("purchase", PLANS["purchase"], models=("bosting",)), PluginError, "Did you mean 'boosting'"),
        (Plan("purchase", PLANS["purchase"], models=("profile",)), UsageError, "profile.*vectors of an encoder"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, plan, error, message):
    with pytest.raises(error, match=message):
        run(path_of(tmp_path), plan, runtime=Runtime())


def test_models_that_do_not_apply_are_named(outcomes):
    data = outcomes["purchase"].data
    found, notes = measuring.chosen(None, data)
    assert "profile" not in found
    assert found[:2] == ["constant", "linear"]
    assert notes == [
        "'profile' is not measured: it reads the vectors of an encoder, and there are none: name one with "
        "--encoder, or give --picture"
    ]


def test_what_is_typed_after_models_is_split():
    assert running.models_of([" linear, tree", "svm,"]) == ("linear", "tree", "svm")
