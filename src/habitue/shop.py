"""The Python API: a shop is a workspace and its plan, and each method is a thin call of the pipeline."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from habitue import collect
from habitue.core import settings, workspace
from habitue.core.errors import ModelError, UsageError, did_you_mean
from habitue.core.progress import stage
from habitue.core.schemas import CONSENT, EXPOSURES, PURCHASE
from habitue.protect import consent, identities, people

if TYPE_CHECKING:  # torch takes seconds to load: an import or a check of a file must not wait for it
    from habitue.apply.experiment import Experiment
    from habitue.apply.personas import Personas
    from habitue.checking import Checked
    from habitue.encode import table
    from habitue.model import blend
    from habitue.model.past import Past
    from habitue.model.states import State as States
    from habitue.plan import Plan
    from habitue.quality.repairs import Proposal
    from habitue.tables import Tables

TASKS = ("churn", "churn_7", "churn_30", "churn_90", "value")
MODEL = "blend"  # what answers: the late fusion of every view


@dataclass(frozen=True)
class Trained:
    """A fitted model on disk."""

    folder: Path
    state: blend.State
    manifest: dict[str, Any]

    @property
    def as_of(self) -> dt.datetime:
        """The moment up to which it knows the shop."""
        return settings.moment(self.manifest["as_of"])


@dataclass(frozen=True)
class Shop:
    """An open workspace. Make one with `habitue.init`, open it with `habitue.open`."""

    space: workspace.Workspace

    @cached_property
    def plan(self) -> Plan:
        """Every setting, as habitue.toml says. Raises SettingsError."""
        from habitue.plan import load

        return load(self.space.plan)

    @property
    def folder(self) -> Path:
        """The workspace's folder."""
        return self.space.root

    def import_(
        self,
        file: Path | str,
        *,
        mapping: collect.Mapping | Path | str | None = None,
        seed: int | None = None,
        limits: collect.Limits | None = None,
    ) -> collect.Imported:
        """Bring a file, a folder of media or a query of a database in; see `collect.import_file`."""
        return collect.import_file(self.space, file, mapping, seed=seed, limits=limits)

    def check(self, *, before: str | None = None, after: str | None = None) -> Checked:
        """Say what the data is worth trusting; also written to reports/quality.html and reports/quality.json.

        `before`, `after`: the two periods of drift, e.g. '2011-01-01..2011-03-31' (default: the latest weeks). Raises
        no error for bad data: `Checked.hold` does, when a limit of the plan is broken.
        """
        from habitue import checking

        between = None if before is None or after is None else (checking.period(before), checking.period(after))
        return checking.run(self.space, self.plan, between=between)

    def repair(self, name: str) -> Proposal:
        """Make one of the repairs that a check proposes; `undo` takes it back. Raises UsageError for any other name."""
        from habitue import checking

        return checking.repair(self.space, self.plan, name)

    def undo(self, name: str) -> int:
        """Take a repair back; returns how many entries it had. Raises UsageError when it is not in force."""
        from habitue import checking

        return checking.undo(self.space, name)

    def train(self, *, as_of: str | dt.date | None = None) -> Trained:
        """Fit the customer model and the simple models beside it on what is known before `as_of` (default: all).

        Training that was interrupted goes on where it stopped; on the same data and plan it is not done again. The
        manifest holds the flagship's learning curve: step, targets, cpu_s, loss, metric.
        """
        from habitue import pipeline
        from habitue.core import runtime as machine
        from habitue.encode import traits
        from habitue.look_back import traits_learnt
        from habitue.model import artifact, blend, knowledge, newcomers
        from habitue.model import train as training
        from habitue.tables import version

        tables = self._tables(as_of)
        moment, listed = self._moment(tables, as_of), self._listed(as_of)
        data = version(tables, self.plan, moment, listed=listed)
        folder = self.space.models / MODEL / f"{moment:%Y%m%dT%H%M%SZ}-{data[:8]}"
        if not folder.exists():
            began, runtime = time.monotonic(), machine.detect(seed=self.plan.seed)
            with stage("Looking back"):
                traits.named(tables.users, self.plan.traits)
                learnt = traits_learnt(tables, self.plan, as_of=moment)
                past, _ = pipeline.look_back(tables, as_of=moment, plan=self.plan, listed=listed, traits=learnt)
                knowledge.check(past.knowledge)
            checkpoints = folder.parent / f".{folder.name}"
            state = pipeline.fit(past, self.plan, runtime=runtime, folder=checkpoints)
            manifest = {
                "as_of": moment.isoformat(),
                "horizon_days": self.plan.horizon_days,
                "data": data,
                "seed": self.plan.seed,
                "content": dict(past.parts),
                "traits": traits.written(learnt),
                "weights": {name: round(float(weight), 4) for name, weight in state.weights.items()},
                "newcomers": newcomers.words(state.newcomers),
                "curve": training.curve(checkpoints / blend.WHOLE),
                "train_s": round(time.monotonic() - began, 3),  # of the run that ended it
            }
            artifact.save(folder, MODEL, state, manifest)
            shutil.rmtree(checkpoints, ignore_errors=True)
        loaded = artifact.load(folder)
        return Trained(folder, loaded.state, loaded.manifest)

    def recommend(
        self, *, user_id: str, n: int = 10, why: bool = True, as_of: str | dt.date | None = None
    ) -> pl.DataFrame:
        """Return rank, item_id, title, score, because (titles whose deletion lowers the rank), fallback, reason.

        Somebody the shop has never met, or who has not granted personalisation, gets what everyone buys now: then
        `fallback` says 'popular' and `reason` why. Raises ModelError when no model was trained by `as_of`.
        """
        from habitue import explain, pipeline
        from habitue.model import blend

        tables = self._tables(as_of)
        past, titles, trained = self._ask(tables, as_of)
        key = self._key(user_id, tables.consents.as_of)
        at = np.flatnonzero(past.histories.user_keys == key) if key is not None else np.zeros(0, dtype=np.int64)
        if at.size:
            scores = blend.score(trained.state, past.take(at))[0]
        else:
            scores = pipeline.popularity(trained.state.views["popular"], past.take([0]))[0]
        order = np.argsort(-scores, kind="stable")[:n]
        because: dict[str, list[str]] = {}
        if at.size and why:
            told = explain.reasons(
                lambda asked: blend.score(trained.state, asked), past, int(at[0]), order.tolist(), model=MODEL
            )
            for row in told.to_dicts():
                because.setdefault(row["item_id"], []).append(titles.get(row["because"], row["because"]))
        items = [past.items[i] for i in order]
        return pl.DataFrame(
            {
                "rank": np.arange(1, len(items) + 1),
                "item_id": items,
                "title": [titles.get(item) for item in items],
                "score": scores[order].astype(float),
                "because": [because.get(item, []) for item in items],
                "fallback": [None if at.size else "popular"] * len(items),
                "reason": [None if at.size else self._unanswered(tables, key)] * len(items),
            },
            schema_overrides={"because": pl.List(pl.String)}
            | dict.fromkeys(("fallback", "reason", "title"), pl.String),
        )

    def predict(self, task: str, *, as_of: str | dt.date | None = None) -> pl.DataFrame:
        """Return user_id, user_key, as_of, score, orders, spent, fallback, reason of every known customer.

        `task` churn: probability of no order within the plan's horizon_days; value: expected money in it; churn_7,
        churn_30, churn_90: probability of no order within so many days. Highest score first. Who has not granted
        personalisation gets the mean of the others' scores: then `fallback` says 'mean', `reason` why, and orders and
        spent are null. Raises UsageError for another task, ModelError when no model was trained by `as_of` and when its
        past was too short to show so many days.
        """
        from habitue.model import blend

        if task not in TASKS:
            raise UsageError(
                "predict",
                found=f"there is no task '{task}'",
                consequence="Nothing can be predicted by that name",
                remedy=f"Ask for {', '.join(TASKS[:-1])} or {TASKS[-1]}",
            )
        tables = self._tables(as_of)
        past, _, trained = self._ask(tables, as_of)
        told: pl.DataFrame = blend.predict(trained.state, past.take(np.flatnonzero(past.known)))
        if task not in told.columns:
            raise ModelError(
                f"predict {task}",
                found="the model was trained on a past too short to show it, or without the flagship",
                consequence="It never saw so many days go by, so it would be guessing",
                remedy="Ask for a shorter time, or train again when the ledger is longer",
            )
        events = tables.events.filter(pl.col("at") < past.as_of)
        so_far = events.group_by("user_key").agg(
            orders=pl.col("order_id").filter(pl.col("kind") == PURCHASE).n_unique().cast(pl.Int64),
            spent=pl.col("value").sum().round(2),
        )
        answered = told.select("user_key", score=task).join(so_far, on="user_key", how="left")
        everyone = pl.concat([answered, self._unasked(tables, answered, past.as_of)], how="diagonal")
        return (
            everyone.join(self._user_ids(everyone["user_key"], tables.consents.as_of), on="user_key", how="left")
            .with_columns(as_of=pl.lit(past.as_of))
            .select("user_id", "user_key", "as_of", "score", "orders", "spent", "fallback", "reason")
            .sort("score", "user_key", descending=[True, False])
        )

    def states(self, *, as_of: str | dt.date | None = None) -> tuple[States, dt.datetime]:
        """Infer what the known customers are doing (`model.states`); return that, and the moment it holds for.

        Raises ModelError for too few customers with an event.
        """
        from habitue.core.runtime import detect
        from habitue.model import states

        tables = self._tables(as_of)
        past, _ = self._past(tables, as_of, purpose=consent.ANALYTICS)
        return states.fit(past, states.Config(), runtime=detect(seed=self.plan.seed)), past.as_of

    def personas(
        self,
        *,
        as_of: str | dt.date | None = None,
        method: str = "auto",
        count: int | None = None,
        time_zone: str = "UTC",
    ) -> Personas:
        """Group the known customers by how and what they buy; see `apply.personas.find`.

        `method` auto, kmeans, hdbscan or mixture; `count` None takes as many as are stable; `time_zone` in which hours
        and weekdays are read. Where a model was trained by `as_of`, each persona has its churn risk.
        """
        from habitue.apply import personas
        from habitue.encode import traits
        from habitue.model import blend

        config = personas.Config(method=method, count=count, time_zone=time_zone)
        tables = self._tables(as_of)
        moment = self._moment(tables, as_of)
        trained = self._newest(moment) if self._models(moment) else None
        told_by = None if trained is None else traits.read(trained.manifest)
        past, titles = self._past(tables, as_of, purpose=consent.ANALYTICS, traits=told_by)
        risk = None if trained is None else blend.predict(trained.state, past.take(np.flatnonzero(past.known)))
        before = personas.earlier(past, tables.events, config)
        with stage("Grouping customers"):
            return personas.find(
                past, titles, config, before=before, items=tables.items, risk=risk, seed=self.plan.seed
            )

    def audience(self, found: Personas, persona: str | None = None) -> pl.DataFrame:
        """Return user_id, user_key, persona, distance, probability, as_of of one persona's customers, or of everybody.

        Distance (k-means, HDBSCAN) or probability (mixture) says how surely; the other is null. Surest first. Who has
        not granted marketing, as it stands today, is left out. Raises UsageError for a persona
        that there is not.
        """
        names = found.cards["name"].to_list()
        if persona is not None and persona not in names:
            raise UsageError(
                "audience",
                found=f"there is no persona '{persona}'",
                consequence="Nobody can be exported by that name",
                remedy=did_you_mean(persona, names),
            )
        members = found.members if persona is None else found.members.filter(pl.col("name") == persona)
        present, said = (
            people.joined(frame, self.space.identities) for frame in (members, self.space.lake.read(CONSENT))
        )
        refused = consent.withheld(present["user_key"], said, purpose=consent.MARKETING, silence=self.plan.consent)
        members = members.filter(~present["user_key"].is_in(refused.implode()))
        return (
            members.join(self._user_ids(members["user_key"]), on="user_key", how="left", maintain_order="left")
            .with_columns(as_of=pl.lit(found.as_of))
            .sort("name", "distance", pl.col("probability").neg(), "user_key")
            .select("user_id", "user_key", pl.col("name").alias("persona"), "distance", "probability", "as_of")
        )

    def experiment(self, name: str, **settings: Any) -> Experiment:
        """Say what the arms of an experiment or campaign brought; settings as `apply.experiment.judge` takes them.

        People who may not be counted are in no arm.
        """
        from habitue.apply import experiment

        tables = self._tables()
        met = people.joined(self.space.lake.read(EXPOSURES), self.space.identities)
        met = consent.without(met, tables.consents.withheld(met["user_key"].drop_nulls(), consent.ANALYTICS))
        return experiment.judge(met, tables.events, name=name, **settings)

    def report(self, *, cut: str | dt.date | None = None) -> Path:
        """Back-test: forecast from `cut` (default: one horizon before the end), open the rest, write one page."""
        from habitue import backtest

        return backtest.run(self, cut=cut)

    def run(self) -> dict[str, str]:
        """Import the plan's [[source]] files, check, train and report; returns where each result is.

        Raises QualityError, before training, when the data breaks a limit of the plan.
        """
        done: dict[str, str] = {}
        for source in self.plan.source:
            told = self.import_(self.folder / source.file, mapping=self.folder / source.mapping)
            done[source.file] = f"{told.read:,} rows read, {told.new:,} new, {told.refused:,} refused"
        checked = self.check()
        checked.hold()
        return done | {
            "check": str(checked.page),
            "model": str(self.train().folder),
            "report": str(self.report()),
        }

    def _tables(self, as_of: str | dt.date | None = None) -> Tables:
        from habitue import pipeline

        moment = None if as_of is None else settings.moment(as_of)
        tables = pipeline.read(self.space, self.plan, as_of=moment)
        if tables.events.is_empty():
            raise UsageError(
                str(self.folder),
                found="no event that can be believed is in the lake",
                consequence="There is nothing to learn from",
                remedy="Import a file first: habitue import orders.csv --mapping orders.toml",
            )
        return tables

    def _moment(self, tables: Tables, as_of: str | dt.date | None) -> dt.datetime:
        if as_of is not None:
            return settings.moment(as_of)
        last = tables.events["at"].max()
        assert isinstance(last, dt.datetime)
        return dt.datetime(last.year, last.month, last.day, tzinfo=dt.UTC) + dt.timedelta(days=1)

    def _listed(self, as_of: str | dt.date | None) -> dt.datetime | None:
        """Return the catalogue's moment: today where none is asked for, though the events end earlier."""
        return dt.datetime.now(dt.UTC) if as_of is None else None

    def _ask(self, tables: Tables, as_of: str | dt.date | None) -> tuple[Past, dict[str, str], Trained]:
        from habitue.encode import traits

        trained = self._newest(self._moment(tables, as_of))
        past, titles = self._past(tables, as_of, traits=traits.read(trained.manifest))
        return past, titles, trained

    def _past(
        self,
        tables: Tables,
        as_of: str | dt.date | None,
        *,
        purpose: str = consent.PERSONALISATION,
        traits: table.Fitted | None = None,
    ) -> tuple[Past, dict[str, str]]:
        """Return what may be known when a question is asked, without training rows, and the products' words."""
        from habitue import pipeline

        return pipeline.look_back(
            tables,
            as_of=self._moment(tables, as_of),
            plan=self.plan,
            train=False,
            purpose=purpose,
            listed=self._listed(as_of),
            traits=traits,
        )

    def _models(self, moment: dt.datetime | None = None) -> list[Path]:
        """Return the trained models, oldest first; with `moment` those that know nothing at or after it."""
        folders = sorted(p for p in (self.space.models / MODEL).glob("[0-9]*") if p.is_dir())
        return [p for p in folders if moment is None or p.name.split("-")[0] <= f"{moment:%Y%m%dT%H%M%SZ}"]

    def _newest(self, moment: dt.datetime) -> Trained:
        """Return the latest model that knows nothing at or after `moment`."""
        from habitue.model import artifact

        early = self._models(moment)
        if early:
            loaded = artifact.load(early[-1])
            return Trained(early[-1], loaded.state, loaded.manifest)
        folders, day = self._models(), f"{moment:%Y-%m-%d}"
        raise ModelError(
            str(self.space.models / MODEL),
            found=f"{len(folders)} trained models, each knows the shop after {day}" if folders else "no trained model",
            consequence=f"An answer as of {day} would know the future" if folders else "Nobody can answer",
            remedy=f"Train one: habitue train --as-of {day}" if folders else "Train one: habitue train",
        )

    def _unasked(self, tables: Tables, answered: pl.DataFrame, moment: dt.datetime) -> pl.DataFrame:
        """Return the fallback of every known customer seen before `moment` who may not be asked about in person."""
        seen = tables.raw.filter(pl.col("at") < moment)["user_key"].unique()
        known = tables.known.filter("known", pl.col("user_key").is_in(seen.implode())).select("user_key")
        rest = known.join(answered, on="user_key", how="anti").with_columns(reason=pl.lit(None, dtype=pl.String))
        for purpose in (consent.ANALYTICS, consent.PERSONALISATION):
            refused = pl.col("user_key").is_in(tables.withheld(purpose).implode())
            rest = rest.with_columns(reason=pl.when(refused).then(pl.lit(_no(purpose))).otherwise("reason"))
        return rest.drop_nulls("reason").with_columns(score=pl.lit(answered["score"].mean()), fallback=pl.lit("mean"))

    def _unanswered(self, tables: Tables, key: int | None) -> str:
        """Say why somebody gets no answer of their own."""
        for purpose in (consent.PERSONALISATION, consent.ANALYTICS):
            if key is not None and key in tables.withheld(purpose):
                return _no(purpose)
        return "not met before"

    def _user_ids(self, keys: pl.Series, as_of: dt.datetime | None = None) -> pl.DataFrame:
        """Return user_key, user_id: the shop's own id of each person, of several the one met first."""
        names = people.joined(identities.aliases(self.space.identities), self.space.identities, as_of=as_of)
        names = names.filter(pl.col("user_key").is_in(keys.implode()))
        names = names.sort(pl.col("alias_kind") != "user_id", "linked_at", "alias")
        first = names.unique("user_key", keep="first", maintain_order=True)
        return first.select("user_key", user_id="alias")

    def _key(self, user_id: str, as_of: dt.datetime | None = None) -> int | None:
        kinds = identities.aliases(self.space.identities)["alias_kind"].unique().sort()
        found = (identities.lookup(self.space.identities, kind, user_id) for kind in ("user_id", *kinds))
        key = next((key for key in found if key is not None), None)
        became = dict(people.joins(self.space.identities, as_of=as_of).iter_rows())
        return None if key is None else became.get(key, key)


def _no(purpose: str) -> str:
    return f"no consent to {purpose}"


def init(folder: Path | str, *, currency: str = "EUR") -> Shop:
    """Make `folder` a workspace (kept when there is anything in it) and open it."""
    workspace.init(folder, currency=currency)
    return open(folder)


def open(folder: Path | str = ".") -> Shop:
    """Open a workspace. Raises UsageError when `folder` is none."""
    return Shop(workspace.open_workspace(Path(folder)))


def demo(folder: Path | str = "demo-shop", *, seed: int = 0) -> Path:
    """Run the sealed forecast on the bundled ledger and return the path of its page."""
    from habitue import demonstration

    return demonstration.run(Path(folder), seed=seed, say=lambda _: None).page
