"""A workspace: the folder that holds a shop's plan, lake, identities, models and reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from habitue.core import settings
from habitue.core.errors import LakeError, SettingsError, UsageError
from habitue.core.lake import Lake, open_lake

PLAN = "habitue.toml"
VERSION = 2  # of the folder's layout; `habitue migrate` brings an older one here

_PLAN_TEXT = """\
# Habitue's plan for this shop. Lines that start with # are comments; a setting that does not exist stops the run.

# Settings without a [section] stand before the first one. These are the defaults:
# horizon_days = 92       # churn = no order, value = money, in so many days
# cut = 2024-09-01        # the moment a back-test forecasts from; default: horizon_days before the end of the data
# seed = 0                # the same seed, the same numbers

[workspace]
schema_version = {version}    # layout of this folder, written by `habitue init`; leave it
buckets = {buckets}           # parts the users are divided into, fixed once rows are stored; more = less memory
currency = "{currency}"    # ISO 4217; of files whose mapping names none

# [[source]]              # a file that `habitue run` imports; paths from this folder
# file = "orders.csv"
# mapping = "orders.toml"

# [collect]               # what `habitue serve` takes from trackers (docs/collect.md); these are the defaults
# horizon_days = 30       # an event id met again within so many days is the same event
# compact_s = 60.0        # at most so long until an event is in the lake

# [adapt]                 # how a running server's model follows the shop (docs/serve.md); these are the defaults
# every_hours = 0.0       # between two tries; 0 = never
# canary = 0.0            # share of the customers who get a new model first

# [serve]                 # keys, rules and experiments (docs/serve.md, docs/experiments.md); these are the defaults
# store = ""              # a file in state/; or "postgresql://user@host/shop"
# hold_out = 0.0          # share of all people that no experiment touches
# hold_out_lists = "usual"    # what they get; or "popular", what everyone buys

# [consent]               # what it means that somebody has said nothing (docs/privacy.md); these are the defaults
# analytics = true        # counted and grouped
# personalisation = true  # learnt from and answered in person
# marketing = false       # in an exported audience

# [blend.trees]           # what is done to the features of customers first (docs/prepare.md); default: nothing
# prepare = "outliers=winsorise,impute=median"

# [blend.newcomers]       # products that nobody bought yet (docs/models.md); default: what the past shows
# weight = 0.0            # of the sales that facts foretell; 0 = off

# [erase]
# sign = true             # receipts of erasures are signed with the key in HABITUE_SIGNING_KEY; default: false

# [season]                # a prior on the level of the horizon, stated before it is opened; 1 = none
# factor = 1.2
# source = "where it comes from, in words"

# [check.least]           # `habitue check` fails below these: "table.dimension" or "table.measure" of docs/quality.md
# "events.customer named" = 0.6

# [check.most]            # and when a finding touches a larger share of its table's rows; drift is a PSI
# exact_repeat = 0.02
# drift = 0.25
"""


@dataclass(frozen=True)
class Config:
    """The section `[workspace]` of habitue.toml."""

    schema_version: int = VERSION
    buckets: int = 8
    currency: str = "EUR"


@dataclass(frozen=True)
class Workspace:
    """An opened workspace; the folders below exist."""

    root: Path
    lake: Lake
    currency: str

    @property
    def plan(self) -> Path:
        """The file with every setting."""
        return self.root / PLAN

    @property
    def identities(self) -> Path:
        """The SQLite file with raw ids; absent until the first import."""
        return self.root / "identities.sqlite"

    @property
    def vectors(self) -> Path:
        """Encoder output, one folder a modality."""
        return self.root / "vectors"

    @property
    def models(self) -> Path:
        """Fitted models, `<name>/<version>`."""
        return self.root / "models"

    @property
    def receipts(self) -> Path:
        """What was erased and when, one JSON file each; absent until the first erasure."""
        return self.root / "receipts"

    @property
    def state(self) -> Path:
        """What the server keeps: its keys, rules, and what can be rebuilt from the lake."""
        return self.root / "state"

    @property
    def reports(self) -> Path:
        """Self-contained pages and the JSON behind them."""
        return self.root / "reports"


def init(folder: Path | str, *, buckets: int = 8, currency: str = "EUR") -> Workspace:
    """Make `folder` a workspace and open it; files that are there stay.

    Raises UsageError when it is one already or is a file, LakeError when it cannot be written, SettingsError for a
    currency that is not three capital letters or a number of buckets below 1.
    """
    root = Path(folder)
    _check(Config(VERSION, buckets, currency), root / PLAN)
    if (root / PLAN).exists():
        raise UsageError(
            str(root),
            found="this is a workspace already",
            consequence="Its plan would be overwritten",
            remedy="Use it as it is, or choose another folder",
        )
    try:
        for name in ("lake", "vectors", "models", "reports", "state"):
            (root / name).mkdir(parents=True, exist_ok=True)
        # last, so that a folder with a plan has everything else
        (root / PLAN).write_text(_PLAN_TEXT.format(version=VERSION, buckets=buckets, currency=currency))
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            str(root),
            found="a file is in the way of the folder",
            consequence="A workspace is a folder",
            remedy="Choose another name",
        ) from error
    except OSError as error:
        raise LakeError(
            str(root),
            found=f"the folder cannot be written ({error.strerror})",
            consequence="A workspace cannot be made there",
            remedy="Choose a folder you may write to",
        ) from error
    return open_workspace(root)


def open_workspace(folder: Path | str, *, older: bool = False) -> Workspace:
    """Open a workspace for reading and writing; nothing is written yet. `older`: one of an older layout as well.

    Raises UsageError when `folder` is none, LakeError when a newer or an older Habitue made it, SettingsError for its
    settings.
    """
    root = Path(folder)
    if not (root / PLAN).is_file():
        raise UsageError(
            str(root),
            found=f"there is no {PLAN}, so this is not a workspace",
            consequence="There is nothing to read or to import into",
            remedy=f"Make it one with: habitue init {root}",
        )
    section = settings.read_toml(root / PLAN).get("workspace", {})
    found = section.get("schema_version") if isinstance(section, dict) else None  # what else it is, `fill` says
    if isinstance(found, int) and found > VERSION:
        raise LakeError(
            str(root),
            found=f"the workspace has layout {found}; this Habitue knows up to {VERSION}",
            consequence="It could be read wrongly or damaged",
            remedy="Install the Habitue that made it, or a later one",
        )
    if isinstance(found, int) and found < VERSION and not older:
        raise LakeError(
            str(root),
            found=f"the workspace has layout {found}; this Habitue works on layout {VERSION}",
            consequence="It could be read wrongly; nothing was changed",
            remedy=f"Make a copy, then bring it up to date: habitue migrate -w {root}",
        )
    config = settings.fill(Config, section, where=f"{root / PLAN} [workspace]")
    _check(config, root / PLAN)
    return Workspace(root=root, lake=open_lake(root / "lake", buckets=config.buckets), currency=config.currency)


def set_layout(plan: Path) -> bool:
    """Write the present layout into `habitue.toml`, everything else as it stands; returns whether it changed.

    The file is written beside and then renamed, so it is whole at any moment. Raises LakeError.
    """
    text = plan.read_text(encoding="utf-8")
    new = re.sub(r"(?m)^(schema_version\s*=\s*)\d+", rf"\g<1>{VERSION}", text, count=1)
    if new == text:
        return False
    draft = plan.with_name(f".{plan.name}.draft")
    try:
        draft.write_text(new, encoding="utf-8")
        draft.replace(plan)
    except OSError as error:
        raise LakeError(
            str(plan),
            found=f"the file cannot be written ({error.strerror})",
            consequence="The workspace keeps its older layout",
            remedy="Give yourself the right to write it, then: habitue migrate",
        ) from error
    return True


def is_currency(code: str) -> bool:
    """Whether this looks like an ISO 4217 code."""
    return len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()


def _check(config: Config, where: Path) -> None:
    if config.buckets < 1:
        raise SettingsError(
            f"{where} [workspace].buckets",
            found=f"{config.buckets} buckets",
            consequence="A user must lie in one of them",
            remedy="Write a number from 1; 8 is right for most shops",
        )
    if not is_currency(config.currency):
        raise SettingsError(
            f"{where} [workspace].currency",
            found=f"'{config.currency}' is no currency code",
            consequence="Money without a currency cannot be added up",
            remedy="Write three capital letters, such as EUR, GBP or CNY",
        )
