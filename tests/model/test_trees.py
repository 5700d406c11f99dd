import dataclasses
import datetime as dt
import hashlib
import re
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest

from habitue import plan
from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import FEATURES, LABELS
from habitue.model import artifact, trees
from habitue.model.past import check_past
from habitue.prepare import recipe

RUNTIME = Runtime(seed=3, threads=1)
HORIZON = dt.timedelta(days=30)
TIME = pl.Datetime("us", "UTC")


@pytest.fixture
def make(make_past, as_of):
    def make(*, ages=(30, 45, 60, 90, 120), users=120, noise=1.0, seed=0, names=("days", "orders", "flat")):
        """Who was seen `days` ago; the larger, the likelier no order; who orders spends 10 x `orders`."""
        rng = np.random.default_rng(seed)
        rows = []
        for age in (*ages, 0):
            days, orders = rng.uniform(0, 60, users), rng.integers(1, 9, users).astype(float)
            churned = days + noise * rng.normal(0, 10, users) > 30
            value = np.where(churned, 0, 10 * orders + rng.normal(0, 1, users))
            for u in range(users):
                seen = None if u % 10 == 9 else days[u]
                rows.append((u, as_of - dt.timedelta(days=age), seen, orders[u], 1.0, churned[u], value[u]))
        columns = ["user_key", "as_of", "f0", "f1", "f2", "churned", "value"]
        table = pl.DataFrame(rows, schema=columns, orient="row").with_columns(pl.col("as_of").cast(TIME))
        features = table.select("user_key", "as_of", **dict(zip(names, map(pl.col, ("f0", "f1", "f2")), strict=True)))
        features = FEATURES.shape(features)
        labels = table.with_columns(orders=pl.lit(0), horizon_end=pl.col("as_of") + HORIZON)
        labels = LABELS.shape(labels.select(*LABELS.schema))
        now = pl.col("as_of") == as_of
        past = make_past(items="A", users=range(users))
        past = dataclasses.replace(
            past,
            features=features.filter(now),
            train_features=features.filter(~now),
            train_labels=labels.filter(~now),
        )
        check_past(past)
        return past, labels.filter(now)

    return make


def test_learns_both_answers(make):
    past, truth = make(noise=0.0)
    told = trees.predict(trees.fit(past, trees.Config(), runtime=RUNTIME), past)
    seen = past.features["days"].is_not_null().to_numpy()
    churned = truth["churned"].to_numpy()
    assert ((told["churn"].to_numpy() > 0.5) == churned)[seen].mean() > 0.95
    stays = seen & ~churned
    np.testing.assert_allclose(told["value"].to_numpy()[stays].sum(), truth["value"].to_numpy()[stays].sum(), rtol=0.2)
    assert np.corrcoef(told["value"].to_numpy()[stays], truth["value"].to_numpy()[stays])[0, 1] > 0.9
    assert told["value"].to_numpy()[seen & churned].mean() < 5


def test_a_feature_called_like_a_label_stays_a_feature(make):
    """LABELS has `orders` and `value` too: a feature of that name must be the feature, not the answer."""
    past, _ = make(names=("orders", "value", "churned_before"), noise=3.0)
    renamed, _ = make(names=("a", "b", "c"), noise=3.0)
    told, plain = (trees.predict(trees.fit(p, trees.Config(), runtime=RUNTIME), p) for p in (past, renamed))
    assert told.equals(plain)


def test_reads_no_feature_but_the_declared(make):
    past, _ = make()
    state = trees.fit(past, trees.Config(), runtime=RUNTIME)
    assert state.features == ("days", "orders", "flat")
    assert len(state.churn) == len(state.value) == trees.Config().boosters
    for text in (*state.churn, *state.value):
        assert lightgbm.Booster(model_str=text).feature_name() == list(state.features)
        assert text.startswith("tree\n")


def test_the_number_of_trees_is_found_where_the_horizon_had_closed(make, monkeypatch):
    past, _ = make(ages=(30, 45, 60, 90, 120))  # 60 days before the latest moment its horizon of 30 had closed
    grown = []
    train = lightgbm.train

    def watched(settings, data, rounds, **more):
        booster = train(settings, data, rounds, **more)
        late = more.get("valid_sets", [None])[0]
        grown.append((data.num_data(), late and late.num_data(), rounds, booster.num_trees(), booster.best_iteration))
        return booster

    monkeypatch.setattr(lightgbm, "train", watched)
    trees.fit(past, trees.Config(patience=20), runtime=RUNTIME)
    assert len(grown) == 2 * 2 * trees.Config().boosters  # churn and value, the search and the trees kept
    (early, late, most, tried, best), (every, none, rounds, _, _) = grown[:2]
    assert (early, late, most) == (3 * 120, 120, 600)  # 60, 90 and 120 days ago; not 45
    assert tried < 600  # more trees stopped helping
    assert (every, none, rounds) == (5 * 120, None, best)


def test_with_one_moment_the_usual_number_is_grown(make):
    past, _ = make(ages=(30,))
    state = trees.fit(past, trees.Config(usual_trees=17), runtime=RUNTIME)
    grown = [lightgbm.Booster(model_str=text).num_trees() for text in state.churn]
    assert max(grown) == 17  # one that finds nothing more to split stops before


def test_one_answer_only_in_the_early_rows(make):
    """Nobody had left yet: the number of trees cannot be found there, and the usual one is grown."""
    past, _ = make()
    young = pl.col("as_of") < past.train_labels["as_of"].max()
    labels = past.train_labels.with_columns(churned=pl.col("churned") & ~young)
    state = trees.fit(dataclasses.replace(past, train_labels=labels), trees.Config(usual_trees=9), runtime=RUNTIME)
    assert {lightgbm.Booster(model_str=text).num_trees() for text in state.churn} == {9}


def test_boosters_draw_apart_and_their_mean_is_told(make):
    past, _ = make(noise=2.0)
    state = trees.fit(past, trees.Config(boosters=3), runtime=RUNTIME)
    assert len(set(state.churn)) == len(set(state.value)) == 3
    alone = [
        trees.predict(dataclasses.replace(state, churn=(churn,), value=(value,)), past)
        for churn, value in zip(state.churn, state.value, strict=True)
    ]
    told = trees.predict(state, past)
    for answer in ("churn", "value"):
        np.testing.assert_allclose(told[answer], np.mean([one[answer] for one in alone], axis=0))
    first = trees.fit(past, trees.Config(boosters=1), runtime=Runtime(seed=RUNTIME.seed + 1))
    assert first.churn[0] not in trees.fit(past, trees.Config(boosters=2), runtime=RUNTIME).churn  # no seed shares


def test_more_threads_same_trees(make):
    past, _ = make(noise=2.0)
    one, two = (trees.fit(past, trees.Config(), runtime=Runtime(seed=3, threads=t)) for t in (1, 2))
    assert trees.predict(one, past).equals(trees.predict(two, past))
    other = trees.fit(past, trees.Config(), runtime=Runtime(seed=4, threads=1))
    assert not trees.predict(one, past).equals(trees.predict(other, past))


def test_users_and_features_it_knows_nothing_of(make):
    past, _ = make()
    state = trees.fit(past, trees.Config(), runtime=RUNTIME)
    told = trees.predict(state, past)
    few = dataclasses.replace(past, features=past.features.filter(pl.col("user_key") != 5).drop("flat"))
    asked = trees.predict(state, few)
    others = pl.col("user_key") != 5
    assert asked.filter(others).equals(told.filter(others))
    # A user without a row is answered as one of whom every feature is unknown.
    blank = past.features.with_columns(
        pl.when(pl.col("user_key") == 5).then(None).otherwise(pl.col(c)).alias(c) for c in state.features
    )
    assert asked.equals(trees.predict(state, dataclasses.replace(past, features=blank)))


def test_money_given_back_counts_as_nothing_spent(make):
    past, _ = make()
    back = past.train_labels.with_columns(value=pl.when(pl.col("value") == 0).then(-40.0).otherwise(pl.col("value")))
    one, two = (
        trees.fit(dataclasses.replace(past, train_labels=labels), trees.Config(), runtime=RUNTIME)
        for labels in (past.train_labels, back)
    )
    assert one.value == two.value


def test_too_few_rows_are_refused_in_words(make):
    past, _ = make(ages=(30,), users=49)
    with pytest.raises(
        ModelError, match=r"model.trees: 49 labelled rows at moments whose 30 days had passed\. .*longer"
    ):
        trees.fit(past, trees.Config(), runtime=RUNTIME)
    trees.fit(past, trees.Config(least_rows=49), runtime=RUNTIME)


def hashed(state) -> str:
    return hashlib.sha256("".join((*state.churn, *state.value)).encode()).hexdigest()


EVERY = "outliers=isolation,impute=model,scale=quantile,reduce=pca,balance=over"


def test_preparations_reach_the_trees_and_are_learnt_from_the_rows_of_training_alone(make, monkeypatch):
    past, _ = make(noise=2.0)
    plain = trees.fit(past, trees.Config(), runtime=RUNTIME)
    assert plain.prepared is None and plain.shift == 0
    learnt = []
    fit = recipe.fit
    monkeypatch.setattr(
        trees.recipe,
        "fit",
        lambda rows, *a, until, **m: learnt.append((rows, until)) or fit(rows, *a, until=until, **m),
    )
    state = trees.fit(past, trees.Config(prepare=EVERY), runtime=RUNTIME)
    assert hashed(state) != hashed(plain) and state.features == plain.features
    assert [name for name, _ in state.prepared.steps] == ["outliers", "impute", "scale", "reduce"]
    names = lightgbm.Booster(model_str=state.churn[0]).feature_name()
    assert names and all(name.startswith("pc") for name in names)
    (every, by), (early, latest) = learnt
    assert by == past.as_of and every.height == past.train_labels.height
    assert latest == past.train_labels["as_of"].max() > early["as_of"].max() and early.height < every.height
    other = dataclasses.replace(past, features=past.features.with_columns(pl.col("days", "orders") * 9))
    assert hashed(trees.fit(other, trees.Config(prepare=EVERY), runtime=RUNTIME)) == hashed(state)


def test_what_was_prepared_is_kept_without_pickle(make, tmp_path):
    past, _ = make(noise=2.0)
    for number, prepare in enumerate((EVERY, "impute=median,outliers=iqr,scale=robust,reduce=lda", "impute=constant")):
        state = trees.fit(past, trees.Config(prepare=prepare), runtime=RUNTIME)
        artifact.save(tmp_path / str(number), "trees", state, {})
        again = artifact.load(tmp_path / str(number)).state
        assert trees.predict(again, past).equals(trees.predict(state, past))


def test_balanced_chances_are_brought_back_to_the_share_of_all(make):
    past, truth = make(noise=6.0, users=400)
    rare = past.train_labels.filter(~pl.col("churned") | (pl.col("user_key") % 8 == 0))
    past = dataclasses.replace(past, train_labels=rare)
    share = rare["churned"].mean()
    said = {
        name: trees.predict(trees.fit(past, trees.Config(prepare=name), runtime=RUNTIME), past)["churn"].to_numpy()
        for name in ("", "balance=over", "balance=under")
    }
    assert share < 0.2
    for name in ("balance=over", "balance=under"):
        assert abs(said[name].mean() - said[""].mean()) < 0.05, name
        assert np.corrcoef(said[name], said[""])[0, 1] > 0.9
    assert trees.fit(past, trees.Config(prepare="balance=over"), runtime=RUNTIME).shift == pytest.approx(
        np.log((1 - share) / share), rel=0.01
    )


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("impute=medain", r"there is no preparation 'impute=medain'.*Did you mean 'median'\?"),
        ("scle=robust", r"there is no preparation 'scle=robust'.*Did you mean 'scale'\?"),
        ("generate=mixture", r"trees, setting 'prepare': generate\. The trees are grown on real rows.*balance=over"),
        ("impute=interpolate", r"trees, setting 'prepare': interpolate\. Each row is the moment.*Fill gaps by"),
    ],
)
def test_a_preparation_that_is_not_there_stops_the_plan(prepare, words, tmp_path):
    (tmp_path / "habitue.toml").write_text(f'[blend.trees]\nprepare = "{prepare}"\n')
    with pytest.raises(SettingsError, match=words):
        plan.load(tmp_path / "habitue.toml")
    (tmp_path / "habitue.toml").write_text('[blend.trees]\nprepare = "impute=median,balance=under"\n')
    assert plan.load(tmp_path / "habitue.toml").blend.trees.prepare == "impute=median,balance=under"


def test_the_page_shows_a_plan_that_loads(tmp_path):
    page = (Path(__file__).parents[2] / "docs/prepare.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml plan\n(.*?)```", page, re.DOTALL)
    (tmp_path / "habitue.toml").write_text(shown)
    assert plan.load(tmp_path / "habitue.toml").blend.trees.prepare == "outliers=winsorise,impute=median"
