"""A sealed forecast: foretell from a moment of the past, write it down, and only then open the rest.

sealed = foretell(tables, ...)        fit, answer, write everything down and take its sha256
report = opened(sealed, later, ...)   hold the seal, judge, and arrange the dict that the page draws
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from habitue import __version__, pipeline, prepare, quality
from habitue.apply import launches, personas, recommend, risk, spend, tryit
from habitue.core import runtime as machine
from habitue.core import settings
from habitue.core.errors import ModelError, UsageError
from habitue.core.progress import stage
from habitue.core.runtime import Runtime
from habitue.core.schemas import SCORES, Scores
from habitue.dashboard import page, summaries
from habitue.evaluate.paired import Verdict, verdict
from habitue.look_back import TRAIN_HISTORY_DAYS, traits_learnt
from habitue.model import artifact, blend, newcomers, train
from habitue.pipeline import Forecast, Outcome
from habitue.plan import Plan
from habitue.tables import Tables

if TYPE_CHECKING:
    from habitue.shop import Shop

SIMPLE = ("popularity", "popular", "clv")  # models that only count
NAMES = {
    "popularity": "30-day popularity",
    "popular": "personal repeat with decay",
    "clv": "BG/NBD",
    "trees": "boosted trees",
    "ease": "EASE",
    "behaviour": "the flagship",
    "blend": "the blend",
}
MODEL = "blend"  # the answers that are acted on: late fusion of every view
GROUPING = personas.Config(draws=4, rows=2000, map_rows=800)  # a report must not wait long for its groups
LISTED = 20  # places of each customer's list that are written out; the seal covers every score
T = TypeVar("T")


@dataclass(frozen=True)
class Sealed:
    """A forecast that was written down before anything later was read."""

    forecast: Forecast
    named: pl.DataFrame  # apply.risk: whom to call first
    told: launches.Told | None
    groups: personas.Personas | None
    ticks: dict[str, Any] | None
    absent: dict[str, str]  # section -> why the shop's past does not allow it
    folder: Path
    sha256: str
    curve: list[dict[str, float | None]]  # of the flagship's training, by train.CURVE


def run(shop: Shop, *, cut: str | dt.date | None = None) -> Path:
    """Back-test a shop on its own past and return the path of the page."""
    started = time.monotonic()
    today = pipeline.read(shop.space, shop.plan)
    as_of = _moment(today, shop.plan, cut)
    tables = pipeline.read(shop.space, shop.plan, as_of=as_of)  # who was who, and who agreed, at the cut
    runtime = machine.detect(seed=shop.plan.seed)
    sealed = foretell(tables, as_of=as_of, plan=shop.plan, runtime=runtime, folder=shop.space.reports / "sealed")
    name = shop.folder.resolve().name
    report = opened(
        sealed, tables, plan=shop.plan, runtime=runtime, dataset=name, currency=shop.space.currency, today=today
    )
    report["meta"] |= {
        "title": f"{name}: what could be foretold on {as_of.day} {as_of:%B %Y}",
        "command": f"habitue report --cut {as_of:%Y-%m-%d}",
        "seconds": round(time.monotonic() - started, 1),
        "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    return page.write(report, shop.space.reports, name="report")


def foretell(tables: Tables, *, as_of: dt.datetime, plan: Plan, runtime: Runtime, folder: Path) -> Sealed:
    """Answer everything from what is known before `as_of`, write it into `folder` and seal it.

    `folder` is made anew: the model, scores.parquet (each list's first places, churn and value), seal.json with the
    sha256 of every answer of every model, of the launches told and of the season factor.
    """
    with stage("Looking back"):
        learnt = traits_learnt(tables, plan, as_of=as_of)
        past, titles = pipeline.look_back(tables, as_of=as_of, plan=plan, traits=learnt)
    cost: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as kept:
        state = pipeline.fit(past, plan, runtime=runtime, folder=Path(kept), cost=cost)
        curve = train.curve(Path(kept) / blend.WHOLE)
    with stage("Asking every model about every customer"):
        forecast = pipeline.foresee(past, titles, state=state, cost=cost)
    named = risk.name(forecast.answers[MODEL], forecast.past)
    absent: dict[str, str] = {}
    with stage("Products nobody has bought yet, personas"):
        told = _attempt(lambda: launches.tell(past), "launches", absent)
        groups = _attempt(lambda: _grouped(tables, forecast, runtime), "personas", absent)
        ticks = _attempt(lambda: tryit.embed(past, titles), "try_it", absent)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = artifact.save(folder / "model", MODEL, state, {"as_of": as_of.isoformat(), "seed": runtime.seed})
    told_scores = SCORES.empty() if told is None else told.scores
    pl.concat([_scores(forecast), told_scores]).write_parquet(folder / "scores.parquet")
    seal = {
        "as_of": as_of.isoformat(),
        "horizon_days": plan.horizon_days,
        "season": {"factor": plan.season.factor, "source": plan.season.source},
        "model": model,
        "answers": _sums(forecast, told),
    }
    text = json.dumps(seal, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "seal.json").write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Sealed(forecast, named, told, groups, ticks, absent, folder, digest, curve)


def opened(
    sealed: Sealed,
    later: Tables,
    *,
    plan: Plan,
    runtime: Runtime,
    dataset: str,
    currency: str,
    today: Tables | None = None,
) -> dict[str, Any]:
    """Judge a sealed forecast by the rows after its moment and return the report dict.

    `today`: the tables with who is who today, where `later` has who was who at the moment of the forecast. What the
    data is worth is told of these: of `later`, whoever came after that moment would be nobody known.

    Raises ModelError when an answer is no longer the one that was sealed.
    """
    _hold(sealed)
    forecast, past = sealed.forecast, sealed.forecast.past
    until = past.as_of + dt.timedelta(days=plan.horizon_days)
    with stage("Holding every model against what happened"):
        outcome = pipeline.judge(forecast, later, plan=plan, dataset=dataset, runtime=runtime)
    verdicts = _verdicts(outcome, runtime)
    with stage("Looking through the tables"):
        now = today or later
        findings = quality.inspect(now.raw, now.items, known=now.known, refused=now.refused)
        scores = quality.scores(now.raw, now.items, now.users, known=now.known)
    with stage("Reasons that deleting confirms"):
        state = forecast.state
        bought = summaries.buy(forecast, outcome, verdicts["rank"], score=lambda p: blend.score(state, p), model=MODEL)
    spent = spend.judge(
        forecast.answers[MODEL],
        outcome.labels,
        past,
        plan.season,
        users=past.histories.user_keys,
        model=MODEL,
        seed=runtime.seed,
    )
    report: dict[str, Any] = {
        "meta": {
            "version": __version__,
            "seed": runtime.seed,
            "cut": past.as_of.isoformat(),
            "until": until.isoformat(),
            "currency": currency,
            "seal_sha256": sealed.sha256,
        },
        "headline": summaries.headline(forecast, outcome, findings, verdicts)
        | {"weeks": summaries.weeks(later.events, past.as_of, until)},
        "lost": summaries.lost(forecast, outcome, _called(sealed, outcome), verdicts["churn"]),
        "spend": summaries.spending(spent, outcome, verdicts["value"]),
        "buy": bought | {"curve": sealed.curve},
        "launches": _launched(sealed, later, plan, dataset, runtime),
        "try_it": sealed.ticks or {"absent": sealed.absent["try_it"]},
        "personas": {"absent": sealed.absent["personas"]} if sealed.groups is None else personas.to_dict(sealed.groups),
        "quality": summaries.trust(findings, scores, now.dropped, now.refused.height),
        "other_shops": {"absent": "The demo shows three: habitue demo."},
    }
    return report


def _called(sealed: Sealed, outcome: Outcome) -> risk.Risk | None:
    """Return what happened to those who were named; None when nobody was held more likely lost than not."""
    return risk.outcome(sealed.named, outcome.labels) if sealed.named["named"].any() else None


def _launched(sealed: Sealed, later: Tables, plan: Plan, dataset: str, runtime: Runtime) -> dict[str, Any]:
    if sealed.told is None:
        return {"absent": sealed.absent["launches"]}
    told = sealed.told
    _, future = prepare.split(later.events, sealed.forecast.past.as_of)
    try:
        found = launches.outcome(told, future, horizon_days=plan.horizon_days, dataset=dataset, seed=runtime.seed)
    except ModelError as error:
        return {"absent": _why(error)}
    note = "Code and description were known before the seal, from a catalogue of coming products; nothing else was."
    lists = newcomers.words(sealed.forecast.state.newcomers)
    return summaries.launches(found, sealed.forecast.titles, f"{note} {lists}".rstrip())


def _verdicts(outcome: Outcome, runtime: Runtime) -> dict[str, Verdict]:
    """Say who won each task."""
    asked = {"rank": ("BASKET", "ndcg@10"), "churn": ("churn", "auc"), "value": ("value", "mae")}
    return {
        task: verdict(
            [one for one in outcome.measured if one.protocol.startswith(protocol)],
            metric=metric,
            simple=SIMPLE,
            names=NAMES,
            seed=runtime.seed,
        )
        for task, (protocol, metric) in asked.items()
    }


def _scores(forecast: Forecast) -> Scores:
    """Return SCORES: the first places of every list, and each churn and value."""
    past, frames = forecast.past, [SCORES.empty()]
    now = forecast.ranks["popularity"][0]
    for model, scores in forecast.ranks.items():
        frames.append(recommend.top(scores, past, model=model, n=LISTED, fallback=now, fallback_model="popularity"))
    for model, told in forecast.answers.items():
        for task in ("churn", "value"):
            answer = told.select("user_key", score=pl.col(task))
            answer = answer.with_columns(as_of=pl.lit(past.as_of), model=pl.lit(model), task=pl.lit(task))
            frames.append(SCORES.shape(answer))
    return pl.concat(frames)


def _sums(forecast: Forecast, told: launches.Told | None) -> dict[str, str]:
    """Return the sha256 of every answer, so that none can be changed after the seal."""
    sums = {f"rank {name}": hashlib.sha256(s.tobytes()).hexdigest() for name, s in forecast.ranks.items()}
    for name, answer in forecast.answers.items():
        for task in ("churn", "value"):
            sums[f"{task} {name}"] = hashlib.sha256(answer[task].to_numpy().tobytes()).hexdigest()
    if told is not None:
        sums["launches"] = hashlib.sha256(told.scores.write_csv().encode()).hexdigest()
    return sums


def _hold(sealed: Sealed) -> None:
    """Raise ModelError when the seal is not the one that was written, or an answer is not the one it covers."""
    text = (sealed.folder / "seal.json").read_bytes()
    changed = [n for n, s in _sums(sealed.forecast, sealed.told).items() if json.loads(text)["answers"].get(n) != s]
    if changed or hashlib.sha256(text).hexdigest() != sealed.sha256:
        raise ModelError(
            str(sealed.folder),
            found=f"'{changed[0]}' is not what was sealed" if changed else "seal.json was changed after sealing",
            consequence="A forecast that can be changed afterwards proves nothing",
            remedy="Run the forecast again",
        )


def _grouped(tables: Tables, forecast: Forecast, runtime: Runtime) -> personas.Personas:
    """Return the personas at the cut, with the risk that was sealed."""
    before = personas.earlier(forecast.past, tables.events, GROUPING)
    return personas.find(
        forecast.past,
        forecast.titles,
        GROUPING,
        before=before,
        items=tables.items,
        risk=forecast.answers[MODEL],
        seed=runtime.seed,
    )


def _attempt(answer: Callable[[], T], section: str, absent: dict[str, str]) -> T | None:
    """Return the answer, or None when this shop's past does not allow it; the page says why."""
    try:
        return answer()
    except ModelError as error:
        absent[section] = _why(error)
        return None


def _why(error: ModelError) -> str:
    """Return what an error says, without the module it names first: a page's reader knows none."""
    words = str(error).removeprefix(f"{error.where}: ")
    return words[:1].upper() + words[1:]


def _moment(tables: Tables, plan: Plan, cut: str | dt.date | None) -> dt.datetime:
    """Return the back-test's moment: as asked, as planned, or one horizon before the end of the data."""
    first, last = tables.events["at"].min(), tables.events["at"].max()
    if not isinstance(first, dt.datetime) or not isinstance(last, dt.datetime):
        raise UsageError(
            "report",
            found="no event that can be believed is in the lake",
            consequence="There is nothing to forecast from",
            remedy="Import a file first: habitue import orders.csv --mapping orders.toml",
        )
    end = dt.datetime(last.year, last.month, last.day, tzinfo=dt.UTC) + dt.timedelta(days=1)
    horizon = dt.timedelta(days=plan.horizon_days)
    asked = plan.cut if cut is None else settings.moment(cut)
    moment = end - horizon if asked is None else asked
    least = dt.timedelta(days=TRAIN_HISTORY_DAYS + plan.horizon_days)
    if moment - first < least or moment + horizon > end:
        raise UsageError(
            "report",
            found=f"the data run from {first:%Y-%m-%d} to {last:%Y-%m-%d}, the cut is {moment:%Y-%m-%d}",
            consequence=f"A back-test needs {least.days} days before its cut to learn from and {horizon.days} after it",
            remedy="Set a shorter horizon_days in habitue.toml, another --cut, or import a longer history",
        )
    return moment
