"""`habitue demo`: it is 9 September 2011; nine months of a real shop are in, the next 92 days are sealed away."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from habitue import backtest, collect, pipeline
from habitue.apply import reviews, sessions, slots
from habitue.apply.spend import Season
from habitue.collect import bundled
from habitue.core import runtime as machine
from habitue.core import workspace
from habitue.core.errors import ModelError, UsageError
from habitue.core.progress import stage
from habitue.core.runtime import Runtime
from habitue.dashboard import page
from habitue.dashboard.words import money
from habitue.plan import Plan

CUT = dt.datetime(2011, 9, 8, 23, tzinfo=dt.UTC)  # midnight in London
SEASON = Season(
    factor=1.4,
    source="a prior stated here before the opening, no measurement: shops that buy for Christmas order one to three "
    "months ahead, and in the nine months seen December alone sold a quarter more a day than the others. The set is "
    "public and well known, so take the adjusted line as an illustration of how to state such a prior",
)
MARK = ".habitue-demo"  # a folder with this file may be made anew


@dataclass(frozen=True)
class Shown:
    """What the demo leaves behind."""

    page: Path
    data: Path
    seal: str
    report: dict[str, Any]


def run(folder: Path, *, seed: int = 0, say: Callable[[str], object] = print) -> Shown:
    """Run the sealed forecast in `folder`, made anew; `say` gets the lines for the terminal, fewer than 40.

    The same seed gives the same report but for times, on one machine, build and thread count. Raises UsageError when
    `folder` holds something that is no demo.
    """
    started = time.monotonic()
    runtime = machine.detect(seed=seed)
    plan = Plan(seed=seed, season=SEASON)
    space = _workspace(folder)
    ledger = bundled.ledger()
    say("It is 9 September 2011. Habitue has seen nine months of this shop. It seals its forecasts.\n")
    say(_imported("Import", collect.import_file(space, ledger.file, ledger.mapping, seed=seed, before=CUT)))
    coming = collect.import_file(space, *bundled.launches(), seed=seed)
    say(f"Coming   {coming.new:,} products of a later catalogue: code and description, nothing else")
    sealed = backtest.foretell(
        pipeline.read(space, plan), as_of=CUT, plan=plan, runtime=runtime, folder=folder / "sealed"
    )
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in sealed.forecast.state.weights.items())
    say(f"Train    {len(sealed.forecast.past.histories.user_keys):,} customers; weights: {weights}")
    say(f"Seal     sha256 {sealed.sha256}\n         {sealed.folder / 'seal.json'}\n")
    say(f"Now the next {plan.horizon_days} days are opened.\n")
    say(_imported("Import", collect.import_file(space, ledger.file, ledger.mapping, seed=seed, since=CUT)))
    report = backtest.opened(
        sealed,
        pipeline.read(space, plan),
        plan=plan,
        runtime=runtime,
        dataset="Online Retail",
        currency=space.currency,
    )
    report["other_shops"] = other_shops(runtime)
    report["meta"] |= {
        "title": "A gift shop in Britain, 9 September 2011",
        "time_zone": "Europe/London",
        "command": f"habitue demo --seed {seed}",
        "seconds": round(time.monotonic() - started, 1),
        "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    path = page.write(report, space.reports, name="demo")
    for line in _told(report, space.currency):
        say(line)
    say(f"\nReport   {path}   ({time.monotonic() - started:.0f} s)")
    say("Yours    habitue init my-shop && habitue import orders.csv --mapping orders.toml -w my-shop")
    return Shown(path, path.with_suffix(".json"), sealed.sha256, report)


def other_shops(runtime: Runtime) -> dict[str, Any]:
    """Section 9: three public sets of other shops, each on its own."""
    with stage("Three other shops"):
        texts = reviews.run(reviews.read(bundled.reviews()), runtime=runtime)
        visits = sessions.run(sessions.read(bundled.sessions()), runtime=runtime)
        logs = bundled.bandit()
        places = slots.run(slots.read(logs.random), slots.read(logs.bts), seed=runtime.seed)
    return {"reviews": _plain(texts), "sessions": _plain(visits), "slots": _plain(places)}


def _workspace(folder: Path) -> workspace.Workspace:
    """Make the demo's workspace; an earlier demo in the folder is taken away, anything else stays and is refused."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            str(folder),
            found="this is a file",
            consequence="The demo needs a folder of its own",
            remedy="Name another folder: habitue demo --workspace DIR",
        )
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise UsageError(
                str(folder),
                found="the folder holds something that is no demo",
                consequence="The demo would mix with it",
                remedy="Name another folder: habitue demo --workspace DIR",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return workspace.init(folder, currency="GBP")


def _imported(title: str, done: collect.Imported) -> str:
    first, last = done.first, done.last
    if first is None or last is None:
        raise ModelError(
            "demo", found="no new row", consequence="There is nothing to show", remedy="Run the demo in a new folder"
        )
    return (
        f"{title:<8} {done.new:,} rows, {done.orders:,} orders of {done.users:,} customers and {done.guests:,} guest "
        f"orders, {money(done.money, done.currency)} net,\n         {first:%Y-%m-%d} to {last:%Y-%m-%d}; "
        f"{done.refused:,} refused"
    )


def _told(report: dict[str, Any], currency: str) -> list[str]:
    """Return the verdicts for the terminal."""
    sums = report["headline"]["money"]
    found = sorted(report["quality"]["findings"], key=lambda f: -abs(f["money"]))[:4]
    totals = report["spend"]["totals"]
    lines = ["What was found in the ledger (all of it: the report)"]
    lines += [f"  {f['sentence']}" for f in found]
    lines += ["", *report["headline"]["sentences"]]
    lines.append(
        f"Totals: forecast {money(totals['forecast'], currency)}, with the season stated beforehand "
        f"{money(totals['adjusted'], currency)}, actual {money(totals['actual'], currency)}."
    )
    lines.append(f"New products: {report['launches'].get('verdict', report['launches'].get('absent'))}")
    lines.append("Money: " + ", ".join(f"{name} {money(value, currency)}" for name, value in sums.items()) + ".")
    return lines


def _plain(told: Any) -> dict[str, Any]:
    """Return a dataclass as plain lists and numbers."""
    shown: dict[str, Any] = {}
    for field in dataclasses.fields(told):
        value = getattr(told, field.name)
        if isinstance(value, pl.DataFrame):
            shown[field.name] = value.to_dicts()
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            shown[field.name] = dataclasses.asdict(value)
        else:
            shown[field.name] = value
    return shown
