"""Every model goes through the same checks, on a shop whose truth was planted; found by listing the folder."""

import dataclasses
import datetime as dt
import functools
import importlib
import math
import pkgutil
import re
from types import ModuleType

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import habitue.model
from habitue import prepare
from habitue.collect import synthetic
from habitue.core.errors import ModelError, SettingsError
from habitue.core.runtime import Runtime
from habitue.core.schemas import FEATURES
from habitue.encode import text
from habitue.model import behaviour, blocks, fuse, fused, gru, load, save, trees
from habitue.model.past import Histories, Past, check_past, histories, next_sets, reads

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
CUT = START + dt.timedelta(days=210)  # half the users stopped ordering on day 160
HORIZON = 28  # days, four weeks; moments of training are a week apart, so that a rewound past has the same ones
RUNTIME = Runtime(seed=1, threads=1)
SHORT = {"steps": 30}  # a setting of this name, at any depth, is cut to this in these tests


def models(answer: str = "") -> list[ModuleType]:
    names = [m.name for m in pkgutil.iter_modules(habitue.model.__path__)]
    files = [importlib.import_module(f"habitue.model.{name}") for name in names]
    return [m for m in [*files, *VARIANTS] if hasattr(m, "ANSWERS") and (not answer or answer in m.ANSWERS)]


def variant(model: ModuleType, **settings: object) -> ModuleType:
    """Return the model with other settings than its own."""
    other = ModuleType(model.__name__)
    vars(other).update(vars(model), SETTINGS=settings)
    return other


VARIANTS = [variant(behaviour, mixer=mixer, steps=60) for mixer in blocks.KINDS if mixer != behaviour.Config().mixer]
VARIANTS += [variant(behaviour, fusion=fuse.Config(kind), steps=80) for kind in fuse.WAYS]
VARIANTS += [variant(fused, fusion="decision"), variant(gru, cell="lstm")]
VARIANTS.append(variant(behaviour, clock=False, taught=0.35))  # as for files with an order and no clock
VARIANTS[-1].ANSWERS = frozenset({"rank"})
del VARIANTS[-1].predict


def every_model(answer: str = "") -> pytest.MarkDecorator:
    """Run a test on every model; on those with other settings among the slow tests."""
    found = []
    for model in models(answer):
        settings = getattr(model, "SETTINGS", {})
        name = "-".join([model.__name__.rpartition(".")[2], *(str(getattr(v, "kind", v)) for v in settings.values())])
        found.append(pytest.param(model, id=name, marks=[pytest.mark.slow] if settings else []))
    return pytest.mark.parametrize("model", found)


@functools.cache
def events(one_item: bool = False) -> pl.DataFrame:
    shop = synthetic.shop(users=80, items=40, days=240, start=START)
    return shop.with_columns(item_id=pl.lit("P000")) if one_item else shop


def past_at(as_of: dt.datetime, shop: pl.DataFrame, *, words: bool = True) -> Past:
    """What may be known at a moment, by the project's own stages, from rows before it only."""
    seen, _ = prepare.split(shop, as_of)
    items = tuple(seen["item_id"].unique().sort())
    weeks = range(8, (as_of - START).days // 7 + 1 - HORIZON // 7)
    moments = [START + dt.timedelta(days=7 * week) for week in weeks]  # each horizon closes by `as_of`
    features = prepare.features(seen, as_of=[*moments, as_of])
    titles = seen.group_by("item_id").agg(pl.col("title").min()).sort("item_id")
    history = histories(prepare.timeline(seen), items)
    past = Past(
        as_of=as_of,
        horizon_days=HORIZON,
        items=items,
        histories=history,
        known=np.ones(len(history.user_keys), dtype=bool),
        words=text.encode(titles).matrix if words else None,
        features=features.filter(pl.col("as_of") == as_of),
        train_features=features.filter(pl.col("as_of") < as_of),
        train_labels=prepare.labels(seen, as_of=moments, horizon_days=HORIZON, until=as_of),
    )
    check_past(past)
    return past


@functools.cache
def past() -> Past:
    return past_at(CUT, events())


def config(model: ModuleType) -> object:
    return dataclasses.replace(shortened(model.Config()), **getattr(model, "SETTINGS", {}))


def shortened(settings: object) -> object:
    changed = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            changed[field.name] = shortened(value)
        elif field.name in SHORT:
            changed[field.name] = min(value, SHORT[field.name])
    return dataclasses.replace(settings, **changed)


def fit(model: ModuleType, given: Past) -> object:
    return model.fit(given, config(model), runtime=RUNTIME)


@functools.cache
def fitted(model: ModuleType) -> object:
    return fit(model, past())


def answers(model: ModuleType, state: object, asked: Past) -> dict[str, np.ndarray]:
    """Everything the model says, held against the contract."""
    said = {}
    users = len(asked.histories.user_keys)
    if "rank" in model.ANSWERS:
        said["rank"] = model.score(state, asked)
        assert said["rank"].dtype == np.float32
        assert said["rank"].shape == (users, len(asked.items))
    if model.ANSWERS & {"churn", "value"}:
        table = model.predict(state, asked)
        assert table["user_key"].to_list() == asked.histories.user_keys.tolist()
        assert table.schema["churn"] == table.schema["value"] == pl.Float64
        said["churn"], said["value"] = table["churn"].to_numpy(), table["value"].to_numpy()
        more = table.drop("user_key", "churn", "value")  # what a model tells beside: probabilities all
        assert all(kind == pl.Float64 for kind in more.schema.values())
        said |= {name: more[name].to_numpy() for name in more.columns}
        for name in {"churn", *more.columns}:
            assert ((said[name] >= 0) & (said[name] <= 1)).all(), name
    for name, values in said.items():
        assert np.isfinite(values).all(), name
    return said


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(one[k].tobytes() == other[k].tobytes() for k in one)


def recall(scores: np.ndarray, truth: np.ndarray, k: int = 5) -> float:
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float(np.take_along_axis(truth, top, axis=1).sum() / np.minimum(truth.sum(axis=1), k).sum())


def test_the_folder_is_read():
    """No list of models is kept anywhere; but were the folder not found, nothing below would run."""
    assert {"popular", "neighbours", "ease", "clv", "trees"} <= {m.__name__.rpartition(".")[2] for m in models()}


@every_model()
def test_defines_what_the_contract_asks_for(model):
    assert model.ANSWERS and model.ANSWERS <= {"rank", "churn", "value"}
    for name in ("Config", "State"):
        assert getattr(model, name).__dataclass_params__.frozen
    assert ("rank" in model.ANSWERS) == hasattr(model, "score")
    assert bool(model.ANSWERS & {"churn", "value"}) == hasattr(model, "predict")
    assert dataclasses.is_dataclass(fitted(model)) and isinstance(fitted(model), model.State)


@every_model("rank")
def test_finds_the_next_order(model):
    """Two staples and the successor of the last lead were planted: 5 places hold them, popularity cannot know."""
    every = histories(prepare.timeline(events()), past().items)
    truth = next_sets(every, after=past().day, until=past().day + HORIZON).toarray() > 0
    asked = truth.any(axis=1)
    bought = np.bincount(past().histories.row_item, minlength=len(past().items)).astype(np.float32)
    busiest = recall(np.tile(bought, (asked.sum(), 1)), truth[asked])
    found = recall(answers(model, fitted(model), past())["rank"][asked], truth[asked])
    assert busiest < 0.25
    assert found > 2 * busiest


@every_model("churn")
def test_tells_who_has_left(model):
    labels = prepare.labels(events(), as_of=CUT, horizon_days=HORIZON).sort("user_key")
    said = answers(model, fitted(model), past())
    assert 0.3 < labels["churned"].mean() < 0.7
    assert roc_auc_score(labels["churned"], said["churn"]) > 0.9
    assert spearmanr(labels["value"], said["value"]).statistic > 0.6


@every_model()
def test_is_the_same_after_saving_and_loading(model, tmp_path):
    first = save(tmp_path / "one", model.__name__, fitted(model), {})
    back = load(tmp_path / "one")
    assert equal(answers(model, fitted(model), past()), answers(model, back.state, past()))
    assert save(tmp_path / "two", model.__name__, back.state, {}) == first


@every_model()
def test_same_seed_same_answer(model):
    assert equal(answers(model, fitted(model), past()), answers(model, fit(model, past()), past()))


@every_model()
def test_truncating_the_events_changes_nothing_before(model):
    """The past of an earlier moment is the same whether later rows were cut before or after the stages ran."""
    earlier = CUT - dt.timedelta(days=HORIZON)
    rewound, truncated = past().rewind(earlier), past_at(earlier, events())
    assert len(rewound.train_labels) == len(truncated.train_labels) > 0
    assert equal(
        answers(model, fit(model, rewound), rewound),
        answers(model, fit(model, truncated), truncated),
    )


@every_model()
def test_users_do_not_see_each_other(model):
    """Asked in another order, or alone, a user gets the same answer."""
    together = answers(model, fitted(model), past())
    order = np.random.default_rng(0).permutation(len(past().known))
    shuffled = answers(model, fitted(model), past().take(order))
    alone = answers(model, fitted(model), past().take([7]))
    for name in together:
        np.testing.assert_allclose(shuffled[name], together[name][order], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(alone[name], together[name][[7]], rtol=1e-5, atol=1e-5)


@every_model()
def test_leaves_what_it_is_given_as_it_was(model):
    answers(model, fitted(model), past())
    fresh = past_at(CUT, events())
    for field in dataclasses.fields(fresh.histories):
        np.testing.assert_array_equal(getattr(past().histories, field.name), getattr(fresh.histories, field.name))
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(past().words, part), getattr(fresh.words, part))
    for table in ("features", "train_features", "train_labels"):
        assert getattr(past(), table).equals(getattr(fresh, table))


@every_model()
def test_survives_a_product_it_has_never_met(model):
    last = events().filter(pl.col("at") < CUT).group_by("user_key", maintain_order=True).last()
    new = last.with_columns(
        item_id=pl.lit("P020x"), title=pl.lit("travel thing 20x"), event_id=pl.format("{}-x", "event_id")
    )
    later = past_at(CUT, pl.concat([events(), new.select(events().columns)]))
    assert "P020x" in later.items
    said = answers(model, fitted(model), later)
    if "rank" in said:  # what it says of the others stays with the product it was said of
        old = [later.items.index(item) for item in past().items]
        before = answers(model, fitted(model), past())["rank"]
        agree = [np.corrcoef(a, b)[0, 1] for a, b in zip(said["rank"][:, old], before, strict=True)]
        assert np.mean(agree) > 0.95


@every_model()
def test_a_catalogue_of_which_it_knows_nothing_tells_it_nothing(model):
    """Asked with another shop's products, and no words, it prefers none of those that the user never had."""
    items = tuple(f"other {item}" for item in past().items)
    said = answers(model, fitted(model), dataclasses.replace(past(), items=items, words=None))
    if "rank" in said:
        had = past().histories
        new = np.ones(said["rank"].shape, dtype=bool)
        new[had.set_user[had.row_set], had.row_item] = False
        for scores, free in zip(said["rank"], new, strict=True):
            assert np.ptp(scores[free]) <= 1e-5 * max(np.abs(scores).max(), 1)


@pytest.mark.parametrize("model", [trees, behaviour], ids=["trees", "behaviour"])
def test_shuffled_labels_teach_nothing(model):
    """The two that learn who leaves from labels alone: were one better than chance, it would have seen the answer."""
    labels = prepare.labels(events(), as_of=CUT, horizon_days=HORIZON).sort("user_key")
    areas = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(past().train_labels.height)
        mixed = past().train_labels.with_columns(past().train_labels.select("churned", "orders", "value")[order])
        blind = dataclasses.replace(past(), train_labels=mixed)
        areas.append(roc_auc_score(labels["churned"], answers(model, fit(model, blind), past())["churn"]))
    assert 0.35 < np.mean(areas) < 0.65, areas


@every_model("rank")
def test_shuffled_products_teach_nothing(model):
    """Who bought what is dealt anew, so the future holds nothing to foretell but what sells: 5 of 40 products."""
    item = events().select("item_id", "title").sample(fraction=1, shuffle=True, seed=5)
    shop = events().with_columns(item)
    mixed = past_at(CUT, shop)
    every = histories(prepare.timeline(shop), mixed.items)
    truth = next_sets(every, after=mixed.day, until=mixed.day + HORIZON).toarray() > 0
    asked = truth.any(axis=1)
    bought = np.bincount(mixed.histories.row_item, minlength=len(mixed.items)).astype(np.float32)
    busiest = recall(np.tile(bought, (asked.sum(), 1)), truth[asked])
    found = recall(answers(model, fit(model, mixed), mixed)["rank"][asked], truth[asked])
    assert found < busiest + 0.1, (found, busiest)


@every_model()
def test_survives_a_user_without_a_history(model):
    timeline = prepare.timeline(prepare.split(events(), CUT)[0])
    keys = [*past().histories.user_keys, 999]
    empty = dataclasses.replace(
        past(), histories=histories(timeline, past().items, users=keys), known=np.ones(len(keys), dtype=bool)
    )
    said = answers(model, fit(model, empty), empty)
    before = answers(model, fitted(model), past())
    asked = answers(model, fitted(model), empty)
    for name in said:
        np.testing.assert_allclose(asked[name][:-1], before[name], rtol=1e-5, atol=1e-5)


@every_model()
def test_survives_without_words(model):
    wordless = dataclasses.replace(past(), words=None)
    answers(model, fit(model, wordless), wordless)
    answers(model, fitted(model), wordless)
    blank = dataclasses.replace(past(), words=sp.csr_matrix(past().words.shape, dtype=np.float32))
    answers(model, fit(model, blank), blank)


@every_model()
def test_survives_a_shop_with_one_product(model):
    one = past_at(CUT, events(one_item=True))
    assert one.items == ("P000",)
    answers(model, fit(model, one), one)


@every_model("rank")
def test_survives_a_product_nobody_has_bought(model):
    items = (*past().items, "Q")
    words = sp.vstack([past().words, past().words[:1]], format="csr")
    timeline = prepare.timeline(prepare.split(events(), CUT)[0])
    launched = dataclasses.replace(past(), items=items, histories=histories(timeline, items), words=words)
    answers(model, fit(model, launched), launched)


@every_model()
def test_words_that_are_no_numbers_are_refused_or_not_read(model):
    words = past().words.copy()
    words.data[3] = np.nan
    broken = dataclasses.replace(past(), words=words)
    try:
        state = fit(model, broken)
    except ModelError as error:
        assert re.search(r"the products' words: 1 weights are NaN or infinite\. .*'words' or 'content' = 0", str(error))
    else:
        answers(model, state, broken)
        assert reads(config(model)) == ["events"]


WRONG = {  # numbers of the settings that a shop writes into habitue.toml, of which no model can be made
    "popular": {"half_life_days": -1.0, "background": -0.1},
    "neighbours": {"history_half_life_days": 0.0, "neighbours": 0, "shrink": -1.0},
    "rules": {"window": 0, "half_life_days": -1.0},
    "ease": {"most": -1, "half_life_days": 0.0},
    "slist": {"window": -1, "ahead": -1, "words": -5.0},
    "trees": {"leaves": 1, "rows": 0.0, "columns": 1.5, "usual_trees": 0, "tweedie_power": 2.0},
    "behaviour": {"width": 0, "heads": 3, "blocks": 0, "window": 0, "content": -1, "questions": 0, "passes": 0.0}
    | {"learning_rate": -1.0, "taught": 2.0},
    "gru": {"width": 0, "hidden": -1, "window": 0, "stretches": 0, "dropout": 1.0},
    "cnn": {"width": 0, "kernel": 0, "passes": 0.0, "learning_rate": math.nan},
    "vae": {"hidden": 0, "history_half_life_days": 0.0, "beta": -1.0, "dropout": 1.5},
    "graph": {"width": 0, "temperature": 0.0, "words": 1.5, "trips": -1},
    "als": {"factors": 0, "regularization": 0.0, "half_life_days": -1.0, "alpha": -1.0},
    "clv": {"ridge": -1.0, "least_customers": 0},
    "states": {"kinds": 0, "days": 0, "prior": 0.0, "states": -1},
}


@pytest.mark.parametrize("name, setting", [(name, setting) for name, some in WRONG.items() for setting in some])
def test_settings_that_mean_nothing_are_refused_in_words(name, setting):
    model = importlib.import_module(f"habitue.model.{name}")
    with pytest.raises(SettingsError, match=rf"^model\.{name}, settings? .*'{setting}'"):
        model.Config(**{setting: WRONG[name][setting]})


def crowd(many: int) -> Past:
    """Twelve users of three events, one of a single event, and one who bought the first product `many` times."""
    day = past().day
    count = np.array([many, 1, *[3] * 12])
    items = [np.zeros(many), [1], *([(u + turn) % 3 for turn in range(3)] for u in range(12))]
    days = [np.arange(many, 0, -1) / 1000, [7], *([140 - 40 * turn - u for turn in range(3)] for u in range(12))]
    ones = np.ones(int(count.sum()), dtype=np.float32)
    every = Histories(
        user_keys=np.arange(len(count)),
        set_start=np.concatenate([[0], np.cumsum(count)]),
        set_at=day - np.concatenate(days),
        set_kind=np.zeros(len(ones), dtype=np.int8),
        row_start=np.arange(len(ones) + 1),
        row_item=np.concatenate(items).astype(np.int32),
        row_quantity=ones,
        row_value=ones,
    )
    none = {name: getattr(past(), name)[:0] for name in ("features", "train_features", "train_labels")}
    known = np.ones(len(count), dtype=bool)
    return dataclasses.replace(past(), items=("a", "b", "c"), histories=every, known=known, words=None, **none)


@pytest.mark.slow
@every_model()
def test_survives_a_user_of_one_event_and_one_of_100_000_all_of_one_product(model):
    shop = crowd(100_000)
    if model is trees:
        with pytest.raises(ModelError, match="0 labelled rows"):
            fit(model, shop)
        return
    settings = [config(model)]
    if hasattr(model, "SEQUENCE") and not hasattr(model, "SETTINGS"):  # as for files with an order and no clock
        settings.append(shortened(model.SEQUENCE))
    for each in settings:
        state = model.fit(shop, each, runtime=RUNTIME)
        if "rank" in model.ANSWERS:
            scores = model.score(state, shop)
            assert scores.shape == (14, 3) and np.isfinite(scores).all()
        else:
            answers(model, state, shop)


@every_model("churn")
def test_survives_labels_of_one_class_and_features_that_never_differ(model):
    for churned in (True, False):
        labels = past().train_labels.with_columns(churned=pl.lit(churned), value=pl.lit(0.0 if churned else 5.0))
        same = [pl.lit(1.0).alias(c) for c in past().features.columns if c not in FEATURES.schema]
        flat = dataclasses.replace(
            past(),
            train_labels=labels,
            features=past().features.with_columns(same),
            train_features=past().train_features.with_columns(same),
        )
        said = answers(model, fit(model, flat), flat)
        if model is trees:  # it learns from these labels alone
            assert np.allclose(said["churn"], churned, atol=0.05) and (
                churned or np.allclose(said["value"], 5, atol=0.5)
            )
            assert not churned or not said["value"].any()
