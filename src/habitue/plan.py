"""Every setting of a workspace, as `habitue.toml` writes it: frozen dataclasses, an unknown key stops the run."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from habitue.apply.spend import Season
from habitue.collect.receiver import Config as Collect
from habitue.core.settings import fill, read_toml
from habitue.core.workspace import Config as Workspace
from habitue.encode.content import Config as Content
from habitue.encode.text import Config as Words
from habitue.model.blend import Config as Blend
from habitue.model.knowledge import Rule
from habitue.protect.consent import Config as Consent
from habitue.protect.erase import Config as Erase
from habitue.quality import Config as Quality
from habitue.quality.limits import Config as Check
from habitue.serve.experiments import Experiment
from habitue.serve.operational import Config as Serve
from habitue.serve.registry import Adapt


@dataclass(frozen=True)
class Source:
    """One file that `habitue run` imports; paths are relative to the workspace."""

    file: str
    mapping: str


@dataclass(frozen=True)
class Plan:
    """All settings of one workspace."""

    workspace: Workspace = field(default_factory=Workspace)
    seed: int = 0
    horizon_days: int = 92  # churn = no order, value = money, in this many days
    cut: dt.datetime | None = None  # the back-test's moment; None = horizon_days before the end of the data
    source: tuple[Source, ...] = ()
    season: Season = Season(factor=1.0, source="none was stated")  # of the horizon's level; fixed before it is opened
    collect: Collect = field(default_factory=Collect)
    serve: Serve = field(default_factory=Serve)
    adapt: Adapt = field(default_factory=Adapt)
    experiment: tuple[Experiment, ...] = ()  # that the server runs; `began_at` and `ended_at` are the server's own
    consent: Consent = field(default_factory=Consent)
    erase: Erase = field(default_factory=Erase)
    quality: Quality = field(default_factory=Quality)
    check: Check = field(default_factory=Check)
    words: Words = field(default_factory=Words)
    content: Content = field(default_factory=Content)  # what models read of products beside their titles
    traits: tuple[str, ...] = ()  # attributes of the customers that the flagship reads, by name; () = none
    knowledge: tuple[Rule, ...] = ()  # what training is told of the products: who bought this wants that
    blend: Blend = field(default_factory=Blend)


def load(path: Path) -> Plan:
    """Read `habitue.toml`. Raises SettingsError for an unknown key, a wrong type or broken TOML."""
    return fill(Plan, read_toml(path), where=path.name)
