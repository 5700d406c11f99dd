"""The table of a bench against a loop, and what a bench must never do: choose by the test, hide a model, run over."""

import dataclasses
import datetime as dt
import re
import types

import numpy as np
import polars as pl
import pytest

from habitue.bench import protocols, ranking, sequences
from habitue.core.errors import ModelError, SettingsError, UsageError
from habitue.core.runtime import Runtime
from habitue.core.schemas import METRICS, check
from habitue.core.settings import tuned
from habitue.model import ease, popular, slist

DAY = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
LETTERS = "abcdefghijkl"


def walks(users: int = 60, seed: int = 0, again: bool = False) -> pl.DataFrame:
    """Users walk round a ring of twelve items: what comes next is known but for one step in five."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        at = int(rng.integers(12))
        walk = [at]
        while len(walk) < 6:
            at = (at + 1 if rng.random() < 0.8 else int(rng.integers(12))) % 12
            if again or at not in walk:
                walk.append(at)
        rows.append((f"u{user:02d}", [LETTERS[i] for i in walk]))
    return pl.DataFrame(rows, schema=["user_id", "items"], orient="row")


def dated(frame: pl.DataFrame) -> pl.DataFrame:
    """The same walks, a step a week, the users one day apart."""
    listed = frame.with_row_index().explode("items", empty_as_null=True).rename({"items": "item_id"})
    step = pl.int_range(pl.len()).over("user_id")
    return listed.with_columns(at=pl.lit(DAY) + pl.duration(days=7 * step + pl.col("index") % 30)).drop("index")


def bench(frame: pl.DataFrame, protocol: str = "leave-one-out", repeats=False, **options) -> ranking.Result:
    data = sequences.read(frame)
    task = protocols.PROTOCOLS[protocol](data, protocols.Settings(horizon_days=14, repeats=repeats))
    return ranking.run(data, task, ranking.Options(**options), dataset="walks", runtime=Runtime())


def cell(result: ranking.Result, model: str, metric: str = "ndcg@10", slice_: str = "all") -> dict:
    (row,) = result.metrics.filter(model=model, metric=metric, slice=slice_).to_dicts()
    return row


def test_the_numbers_are_those_of_a_loop():
    frame = walks()
    result = bench(frame, models=("slist", "popular"))
    check(result.metrics, METRICS, at="test")
    data = sequences.read(frame)
    task = protocols.leave_one_out(data, protocols.Settings())
    state = slist.fit(task.test.fit, slist.SEQUENCE, runtime=Runtime())
    scores, gains = slist.score(state, task.test.ask), []
    for (user, walk), row in zip(frame.sort("user_id").iter_rows(), scores, strict=True):
        assert user in data.users
        own = {data.items[i]: s for i, s in enumerate(row)}
        others = [s for item, s in own.items() if item not in walk[:-1] and item != walk[-1]]
        above = sum(s > own[walk[-1]] for s in others)
        tied = sum(s == own[walk[-1]] for s in others)
        gains.append(np.mean([1 / np.log2(above + i + 2) if above + i < 10 else 0 for i in range(tied + 1)]))
    assert cell(result, "slist")["mean"] == pytest.approx(np.mean(gains), abs=1e-9)
    assert cell(result, "slist")["n"] == 60
    assert cell(result, "slist")["mean"] > cell(result, "popular")["mean"] + 0.2
    assert result.sentence.startswith("slist beats popular: NDCG@10")
    assert result.paired.filter(model="slist", metric="ndcg@10")["low"].item() > 0


def test_lists_hold_the_best_of_what_a_user_does_not_have():
    frame = walks()
    result = bench(frame, models=("popular", "ease"), top=4)
    assert result.lists.columns == ["user_id", "rank", "item_id", "score", "model"]
    assert result.lists.height == 2 * 60 * 4
    for (_, user), rows in result.lists.group_by("model", "user_id"):
        seen = frame.filter(user_id=user)["items"].item().to_list()[:-1]
        assert not set(rows["item_id"]) & set(seen)
        assert rows["rank"].to_list() == [1, 2, 3, 4]
        assert rows["score"].is_sorted(descending=True)
    again = bench(frame, models=("popular",), top=4, repeats=True).lists
    assert any(
        set(rows["item_id"]) & set(frame.filter(user_id=u)["items"].item().to_list()[:-1])
        for (u,), rows in again.group_by("user_id")
    )


@pytest.mark.parametrize("protocol", ["time", "basket"])
def test_dated_protocols(protocol):
    result = bench(dated(walks(again=True)), protocol, models=("popular", "rules"), repeats=True)
    slices = {"time": {"all", "later"}, "basket": {"all", "repeat", "first_time"}}[protocol]
    assert set(result.metrics["slice"]) == slices
    assert cell(result, "rules")["mean"] > cell(result, "popular")["mean"]
    assert set(result.metrics["protocol"].str.to_lowercase()) == {protocol}


def test_next_writes_lists_of_everybody_from_everything():
    frame = pl.concat([walks(), pl.DataFrame({"user_id": ["new"], "items": [["a"]]})])
    result = bench(frame, "next", models=("rules", "popular"), trials=2, top=3)
    assert result.metrics.is_empty()
    assert result.lists["user_id"].n_unique() == 61
    assert all(len(c.trials) == 2 and all(t.validation > 0 for t in c.trials) for c in result.cells)
    first = result.lists.filter(model="rules", user_id="new", rank=1)["item_id"].item()
    assert first == "b"  # the last event of each walk is learnt from too


def test_settings_are_chosen_on_validation_and_every_model_gets_the_same_trials(tmp_path):
    frame = walks()
    result = bench(frame, models=("ease", "rules", "slist"), trials=6, study=tmp_path / "study.sqlite")
    for one in result.cells:
        assert len(one.trials) == 6, one.model
        best = max(one.trials, key=lambda t: t.validation)
        assert best.settings == dataclasses.asdict(one.config)
        assert len({repr(t.settings) for t in one.trials}) == 6
        assert one.tuning_cpu_s >= 0
    # The same again goes on from the study: nothing new is drawn, the choice is the same.
    again = bench(frame, models=("ease", "rules", "slist"), trials=6, study=tmp_path / "study.sqlite")
    for one, other in zip(result.cells, again.cells, strict=True):
        assert one.config == other.config
        assert [t.settings for t in one.trials] == [t.settings for t in other.trials]
    assert again.metrics["mean"].to_list() == result.metrics["mean"].to_list()


def test_a_study_is_gone_on_from_only_with_the_same_file_and_protocol(tmp_path):
    def validations(frame, study, **more):
        (one,) = bench(frame, models=("ease",), trials=4, study=study, **more).cells
        return [trial.validation for trial in one.trials]

    store = tmp_path / "study.sqlite"
    cases = [(walks(), {}), (walks(seed=1), {}), (walks(seed=1, again=True), {"repeats": True})]
    alone = [validations(frame, None, **more) for frame, more in cases]
    assert [validations(frame, store, **more) for frame, more in cases] == alone
    assert len({tuple(one) for one in alone}) == 3


def test_given_settings_are_not_tuned_and_a_wrong_name_is_told():
    result = _with_settings({"ease": {"ridge": 7.0}})
    (one,) = result.cells
    assert len(one.trials) == 1 and one.config == dataclasses.replace(ease.SEQUENCE, ridge=7.0)
    with pytest.raises(SettingsError, match="--settings, ease: there is no setting 'rigde'.*Did you mean 'ridge'"):
        _with_settings({"ease": {"rigde": 7.0}})


def _with_settings(given):
    data = sequences.read(walks())
    task = protocols.leave_one_out(data, protocols.Settings())
    options = ranking.Options(models=("ease",), trials=9, settings=given)
    return ranking.run(data, task, options, dataset="walks", runtime=Runtime())


def test_the_settings_a_file_names_go_by_whether_there_is_a_clock():
    steps = protocols.leave_one_out(sequences.read(walks()), protocols.Settings())
    still_steps = protocols.leave_one_out(sequences.read(dated(walks())), protocols.Settings())
    clocked = protocols.time(sequences.read(dated(walks())), protocols.Settings())
    without = protocols.next(sequences.read(walks()), protocols.Settings())
    assert ranking.presets(ease, steps) == ranking.presets(ease, still_steps) == [ease.SEQUENCE, ease.Config()]
    assert ranking.presets(ease, without) == [ease.SEQUENCE, ease.Config()]
    assert ranking.presets(ease, clocked) == [ease.Config(), ease.SEQUENCE]
    assert ranking.presets(types.SimpleNamespace(Config=popular.Config), clocked) == [popular.Config()]


@dataclasses.dataclass(frozen=True)
class Slow:
    """A model whose fits cost what they are told to cost."""

    ridge: float = tuned(1.0, 0.1, 10, log=True)


def slow_model(cost_s: float, clock: list[float], *, noise: bool = False) -> types.SimpleNamespace:
    def fit(past, config, *, runtime):
        clock[0] += cost_s
        return (config, runtime.seed if noise else 0)

    def score(state, past):
        rng = np.random.default_rng(state[1])
        return rng.random((len(past.known), len(past.items))).astype(np.float32)

    return types.SimpleNamespace(Config=Slow, ANSWERS=frozenset({"rank"}), fit=fit, score=score, SEEDED=noise)


@pytest.fixture
def with_model(monkeypatch):
    def put(model, clock):
        monkeypatch.setattr(ranking.time, "process_time", lambda: clock[0])
        monkeypatch.setattr(ranking, "module_named", lambda name: model)

    return put


@pytest.mark.parametrize("protocol", ["time", "basket"])
def test_everybody_asked_is_scored_once_and_only_fit_and_score_are_counted(with_model, monkeypatch, protocol):
    clock, asked = [0.0], []
    model = slow_model(10.0, clock)

    def score(state, past):
        clock[0] += 1.0
        asked.extend(past.histories.user_keys.tolist())
        return np.zeros((len(past.known), len(past.items)), dtype=np.float32)

    listed = ranking._listed

    def slowly(*arguments):
        clock[0] += 100.0
        return listed(*arguments)

    model.score = score
    monkeypatch.setattr(ranking, "_listed", slowly)
    monkeypatch.setattr(ranking, "USERS_A_CALL", 20)
    with_model(model, clock)
    result = bench(dated(walks(again=True)), protocol, repeats=True, models=("slow",))
    assert len(result.metrics["slice"].unique()) > 1
    assert len(asked) == len(set(asked)) == result.lists["user_id"].n_unique() > 20
    assert result.cells[0].cpu_s == 10 + -(-len(asked) // 20)


def test_each_row_holds_the_memory_of_its_own_model(with_model, monkeypatch):
    told, forgotten = iter([300.0, 40.0]), []
    monkeypatch.setattr(ranking, "forget_peak", lambda: forgotten.append(1))
    monkeypatch.setattr(ranking, "peak_mb", lambda: next(told))
    result = bench(walks(), models=("ease", "popular"))
    assert (cell(result, "ease")["peak_mb"], cell(result, "popular")["peak_mb"]) == (300.0, 40.0)
    assert len(forgotten) == 2


def test_the_modalities_are_those_of_the_file_and_the_settings():
    items = pl.DataFrame({"item_id": list(LETTERS), "title": [f"thing {c * 3}" for c in LETTERS]})
    without, with_words = sequences.read(walks()), sequences.read(walks(), items)

    def modalities(data, **settings):
        task = protocols.leave_one_out(data, protocols.Settings())
        options = ranking.Options(models=("ease", "rules"), settings=settings)
        rows = ranking.run(data, task, options, dataset="walks", runtime=Runtime()).metrics
        return {r["model"]: r["modalities"] for r in rows.iter_rows(named=True)}

    assert modalities(with_words) == {"ease": ["events", "text"], "rules": ["events"]}
    assert modalities(with_words, ease={"words": 0.0})["ease"] == ["events"]
    assert modalities(without)["ease"] == ["events"]


def test_the_others_are_compared_with_the_count_or_else_with_the_first():
    assert set(bench(walks(), models=("rules", "popular", "ease")).paired["against"]) == {"popular"}
    assert set(bench(walks(), models=("rules", "ease")).paired["against"]) == {"rules"}


@pytest.mark.parametrize(("hours", "trials"), [(10 / 3600, 1), (45 / 3600, 3), (None, 8)])
def test_trials_end_at_the_budget_and_the_table_says_so(with_model, hours, trials):
    clock = [0.0]
    with_model(slow_model(10.0, clock), clock)
    (one,) = bench(walks(), models=("slow",), trials=8, cpu_hours=hours).cells
    assert len(one.trials) == trials
    assert any(f"{trials} of 8 trials: that is what fitted into the budget" in n for n in one.notes) == (trials < 8)
    if hours == 10 / 3600:
        assert one.cpu_s == pytest.approx(10)


def test_a_fit_that_runs_over_is_told(with_model):
    clock = [0.0]
    with_model(slow_model(100.0, clock), clock)
    (one,) = bench(walks(), models=("slow",), cpu_hours=10 / 3600).cells
    assert any("took 100 CPU-seconds of a budget of 10" in note for note in one.notes)


def test_a_table_of_a_part_of_the_catalogue_is_told():
    (one,) = bench(walks(), models=("slist",), settings={"slist": {"most": 5}}).cells
    assert any(re.search(r"table holds the 5 of \d+ items bought most", note) for note in one.notes)
    (whole,) = bench(walks(), models=("slist",)).cells
    assert not any("table holds" in note for note in whole.notes)


def test_seeds_are_averaged_user_by_user(with_model):
    clock = [0.0]
    with_model(slow_model(1.0, clock, noise=True), clock)
    singles = []
    for seed in range(3):
        data = sequences.read(walks())
        task = protocols.leave_one_out(data, protocols.Settings())
        done = ranking.run(data, task, ranking.Options(models=("slow",)), dataset="walks", runtime=Runtime(seed=seed))
        singles.append(cell(done, "slow")["mean"])
    three = bench(walks(), models=("slow",), seeds=3)
    assert cell(three, "slow")["mean"] == pytest.approx(np.mean(singles))
    assert cell(three, "slow")["seeds"] == 3 and len(set(singles)) == 3
    assert three.cells[0].cpu_s == pytest.approx(1.0)  # a seed
    with_model(slow_model(1.0, clock), clock)
    assert cell(bench(walks(), models=("slow",), seeds=3), "slow")["seeds"] == 1  # nothing random: once


def test_a_model_that_fails_is_named_and_the_others_go_on(monkeypatch):
    def broken(past, config, *, runtime):
        raise ModelError("model.ease", found="it broke", consequence="c", remedy="r")

    monkeypatch.setattr(ease, "fit", broken)
    result = bench(walks(), models=("ease", "popular"))
    assert [c.model for c in result.cells] == ["popular"] and "it broke" in result.failed["ease"]
    with pytest.raises(ModelError, match="no model could be fitted; ease: model.ease: it broke"):
        bench(walks(), models=("ease",))


def test_a_model_too_large_for_the_machine_is_named(monkeypatch):
    def huge(past, config, *, runtime):
        np.empty((2**45,))

    monkeypatch.setattr(ease, "fit", huge)
    result = bench(walks(), models=("ease", "popular"))
    assert "12 items do not fit into this machine's memory" in result.failed["ease"]


def test_scores_that_are_no_numbers_have_no_row(monkeypatch):
    monkeypatch.setattr(
        popular, "score", lambda state, past: np.full((len(past.known), len(past.items)), np.nan, np.float32)
    )
    result = bench(walks(), models=("popular", "rules"))
    assert "scores are NaN or infinite" in result.failed["popular"]


@pytest.mark.parametrize("protocol", ["leave-one-out", "next"])
def test_scores_of_another_shape_have_no_row(monkeypatch, protocol):
    monkeypatch.setattr(popular, "score", lambda state, past: np.zeros((len(past.known), 3), np.float32))
    result = bench(walks(), protocol, models=("popular", "rules"))
    found = r"model 'popular': 60 users and 12 items have scores of the shape \(60, 3\)"
    assert re.search(found, result.failed["popular"])


@pytest.mark.parametrize(
    ("name", "message"), [("eese", "Did you mean 'ease'"), ("clv", "'clv' foretells churn and value, it does not rank")]
)
def test_a_model_that_cannot_be_asked(name, message):
    with pytest.raises(UsageError, match=message):
        bench(walks(), models=(name,))


def test_a_test_of_nobody_is_refused_before_the_work():
    frame = pl.DataFrame({"user_id": ["u", "v"], "items": [["a", "b"], ["b", "a"]]})
    found = "no user has a past and then an event to be asked for. Nothing could be measured.*at least three events"
    with pytest.raises(ModelError, match=found):
        bench(frame, models=("popular",))
    again = [(u, i, DAY + dt.timedelta(days=d)) for u in "uv" for d, i in enumerate("abac")]
    data = sequences.read(pl.DataFrame(again, schema=["user_id", "item_id", "at"], orient="row"))
    task = protocols.time(data, protocols.Settings(cut=DAY + dt.timedelta(days=2)))  # next comes a again, later c
    with pytest.raises(ModelError, match=found):
        ranking.run(data, task, ranking.Options(models=("popular",)), dataset="again", runtime=Runtime())


def test_a_validation_of_nobody_is_refused_where_settings_are_chosen():
    rows = [(u, i, DAY + dt.timedelta(days=d)) for u in "uv" for d, i in ((0, "a"), (30, "b"), (31, "a"))]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "at"], orient="row")
    task = protocols.basket(sequences.read(frame), protocols.Settings(cut=DAY + dt.timedelta(days=25), horizon_days=10))

    def measure(trials):
        options = ranking.Options(models=("popular",), trials=trials)
        return ranking.run(sequences.read(frame), task, options, dataset="two", runtime=Runtime())

    assert cell(measure(1), "popular")["n"] == 2
    with pytest.raises(ModelError, match="event to be asked for. There would be nothing to choose settings by"):
        measure(2)


def test_a_basket_is_validated_as_it_is_tested(monkeypatch):
    rows = [(u, i, DAY + dt.timedelta(days=7 * d)) for u in "uvw" for d, i in enumerate("abaca")]
    data = sequences.read(pl.DataFrame(rows, schema=["user_id", "item_id", "at"], orient="row"))
    task = protocols.basket(data, protocols.Settings(cut=DAY + dt.timedelta(days=20), horizon_days=10))

    def firm(state, past):  # a, then b, then c
        return np.tile(np.float32([3, 2, 1]), (len(past.known), 1))

    monkeypatch.setattr(popular, "score", firm)
    result = ranking.run(data, task, ranking.Options(models=("popular",), trials=2), dataset="w", runtime=Runtime())
    # Validation asks for the third event, a again; the test for the fourth, c, behind what everybody has.
    assert [trial.validation for trial in result.cells[0].trials] == [1.0, 1.0]
    assert cell(result, "popular")["mean"] == pytest.approx(0.5)
    assert cell(result, "popular", slice_="first_time")["mean"] == 1.0


def test_all_items_equal_scores_are_worth_chance(monkeypatch):
    monkeypatch.setattr(popular, "score", lambda state, past: np.zeros((len(past.known), len(past.items)), np.float32))
    result = bench(walks(), models=("popular",))
    left = 12 - 5
    assert cell(result, "popular")["mean"] == pytest.approx(np.mean(1 / np.log2(np.arange(2, left + 2))), abs=1e-9)
