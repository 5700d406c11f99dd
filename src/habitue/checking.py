"""`habitue check`: read the lake, look at everything, keep the scores for the trend, write a page; repair and undo."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from habitue.core.errors import QualityError, UsageError, did_you_mean
from habitue.core.progress import stage
from habitue.core.schemas import CHECKS, REPAIRS, Checks, Findings, Quality
from habitue.core.settings import moment
from habitue.core.workspace import Workspace
from habitue.dashboard import quality as pages
from habitue.dashboard import sheet
from habitue.plan import Plan
from habitue.protect import people
from habitue.quality import contents, repairs
from habitue.quality.drift import Period
from habitue.quality.examine import Examined, examine
from habitue.quality.repairs import Proposal

MEDIA = "media"
AT_ONCE = 64  # media held in memory together


@dataclass(frozen=True)
class Checked:
    """What one check found, and where it is written."""

    examined: Examined
    refused: pl.DataFrame  # code, rows, sentence (of the first)
    in_force: pl.DataFrame  # repair, applied_at, rows, money
    trend: Checks  # of every check so far, this one last
    path: Path  # JSON
    page: Path

    @property
    def findings(self) -> Findings:
        """What is wrong, in words and money."""
        return self.examined.findings

    @property
    def scores(self) -> Quality:
        """Numbers from 0 to 1."""
        return self.examined.scores

    def hold(self) -> None:
        """Raise QualityError when a limit of the plan does not hold."""
        if self.examined.broken:
            raise QualityError(
                "check",
                found=" ".join(self.examined.broken),
                consequence="The plan says that nothing may be built on such data",
                remedy=f"See {self.page}, mend the data, or change the limits in habitue.toml [check]",
            )


def run(
    workspace: Workspace, plan: Plan, *, command: str = "habitue check", between: tuple[Period, Period] | None = None
) -> Checked:
    """Check every table of the workspace, keep the scores in CHECKS, and write reports/quality.html and .json.

    Raises UsageError when the lake holds nothing, SettingsError for limits that cannot be.
    """
    now = dt.datetime.now(dt.UTC)
    with stage("Looking through the tables"):
        tables = read(workspace)
        if not any(frame.height for frame in tables.values()):
            raise UsageError(
                str(workspace.root),
                found="no row is in the lake",
                consequence="There is nothing to look at",
                remedy="Import a file first: habitue import orders.csv --mapping orders.toml",
            )
        examined = examine(
            tables,
            known=people.known_keys(workspace.identities),
            now=now,
            currency=workspace.currency,
            config=plan.check,
            rule=plan.quality.products,
            media=_media(workspace),
            folder=workspace.root,
            between=between,
        )
    trend = _kept(workspace, examined, now)
    refused = (
        tables["refused"]
        .group_by("code", maintain_order=True)
        .agg(rows=pl.len().cast(pl.Int64), sentence=pl.col("sentence").first())
    )
    done = repairs.in_force(workspace.lake.read(REPAIRS))
    folder = workspace.reports
    checked = Checked(examined, refused, done, trend, folder / "quality.json", folder / "quality.html")
    folder.mkdir(exist_ok=True)
    checked.path.write_text(json.dumps(document(checked), ensure_ascii=False, indent=1, default=str), encoding="utf-8")
    page = pages.sheet(
        examined,
        trend=trend,
        in_force=done,
        refused=refused,
        shop=workspace.root.resolve().name,
        currency=workspace.currency,
        at=now,
        command=command,
    )
    sheet.write(page, checked.page)
    return checked


def read(workspace: Workspace) -> dict[str, pl.DataFrame]:
    """Return every table a shop brings, joined people under one key, the repairs in force done; not cleaned.

    The bytes of media are left out.
    """
    lake = workspace.lake
    tables = {}
    for table in contents.imported():
        names = [name for name in table.schema if name != "bytes"]
        tables[table.name] = lake.read(table, columns=names)
    with_people = [name for name, frame in tables.items() if "user_key" in frame.columns]
    tables |= {name: people.joined(tables[name], workspace.identities) for name in with_people}
    events, items = repairs.mend(tables["events"], tables["items"], lake.read(REPAIRS))
    return tables | {"events": events, "items": items}


def repair(workspace: Workspace, plan: Plan, name: str) -> Proposal:
    """Do one of the repairs that can be made now; `undo` takes it back. Raises UsageError for any other name."""
    now = dt.datetime.now(dt.UTC)
    with stage("Looking for what can be repaired"), workspace.lake.exclusive():
        tables = read(workspace)
        proposals = repairs.propose(
            tables["events"], tables["items"], now=now, currency=workspace.currency, bots=plan.check.bots
        )
        chosen = next((one for one in proposals if one.name == name), None)
        if chosen is None:
            names = [one.name for one in proposals]
            known = name in repairs.NAMES
            raise UsageError(
                f"repair '{name}'",
                found="it would touch no row" if known else "there is no repair of that name",
                consequence="Nothing was changed",
                remedy=f"What can be repaired now: {', '.join(names) or 'nothing'}"
                if known
                else did_you_mean(name, repairs.NAMES),
            )
        workspace.lake.append(REPAIRS, repairs.applied(chosen, at=now))
    return chosen


def undo(workspace: Workspace, name: str) -> int:
    """Take a repair back, every application of it; returns how many rows are as imported again."""
    with workspace.lake.exclusive():
        journal = workspace.lake.read(REPAIRS)
        kept = repairs.undone(journal, name)
        workspace.lake.replace(REPAIRS, kept)
    return journal.height - kept.height


def document(checked: Checked) -> dict[str, object]:
    """Return the check as JSON holds it."""
    seen = checked.examined
    return {
        "findings": seen.findings.to_dicts(),
        "scores": seen.scores.to_dicts(),
        "refused": checked.refused.to_dicts(),
        "columns": [asdict(column) for column in seen.columns],
        "drift": seen.drift.to_dicts(),
        "periods": {"before": seen.before, "after": seen.after},
        "repairs": [
            {"name": one.name, "rows": one.rows, "money": one.money, "sentence": one.sentence} for one in seen.proposals
        ],
        "in_force": checked.in_force.to_dicts(),
        "rows": dict(seen.rows),
        "broken": list(seen.broken),
        "checks": checked.trend["checked_at"].n_unique(),
    }


def period(text: str) -> Period:
    """Read '2011-01-01..2011-03-31' as a period, its last day included. Raises UsageError, SettingsError."""
    first, dots, last = text.partition("..")
    if not dots:
        raise UsageError(
            "check",
            found=f"'{text}' is no period",
            consequence="Nobody knows which days are meant",
            remedy="Write two days with two dots between them: 2011-01-01..2011-03-31",
        )
    return moment(first.strip()), moment(last.strip()) + dt.timedelta(days=1)


def _kept(workspace: Workspace, examined: Examined, now: dt.datetime) -> Checks:
    """Add the scores of this check to CHECKS and return all of them."""
    rows: Mapping[str, int] = examined.rows
    mine = examined.scores.select(
        "table",
        "dimension",
        "measure",
        "score",
        checked_at=pl.lit(now, dtype=pl.Datetime("us", "UTC")),
        rows=pl.col("table").replace_strict(list(rows), list(rows.values()), default=0, return_dtype=pl.Int64),
    )
    before = workspace.lake.read(CHECKS)
    mine = CHECKS.shape(mine)
    workspace.lake.append(CHECKS, mine)
    return pl.concat([before, mine])


def _media(workspace: Workspace) -> Iterator[pl.DataFrame]:
    """Yield the rows of MEDIA with what is needed to open them, a few at a time."""
    table = next((table for table in contents.imported() if table.name == MEDIA), None)
    if table is None:
        return
    wanted = [name for name in ("modality", "bytes", "path", "sha256") if name in table.schema]
    for file in workspace.lake.files(table):
        rows = pl.scan_parquet(file).select(wanted)
        height = rows.select(pl.len()).collect().item()
        for start in range(0, height, AT_ONCE):
            yield rows.slice(start, AT_ONCE).collect()
