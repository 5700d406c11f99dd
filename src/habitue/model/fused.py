"""The flagship over several modalities, fused in one of five ways behind one setting.

`concat`, `gate`, `attention` and `model` are one flagship whose products' vectors are made of their modalities, and
whose answers take in what is known of the person (fuse.py). `decision` is several: one that reads what customers did
and nothing else, and one more for each modality, which reads it beside; they are joined by `how`: `vote`, `average`, or
`stacked`, the weights found on the last horizon before `as_of` as `blend` finds its own. Churn and value are the means.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from habitue.core.errors import ModelError
from habitue.core.runtime import Runtime
from habitue.model import behaviour, blend, fuse
from habitue.model.past import TRAITS, Floats, Past, next_sets

ANSWERS = frozenset({"rank", "churn", "value"})
SEEDED = True  # another seed is another model
EVENTS = "events"  # the model that reads nothing else
FUSIONS = (*fuse.KINDS[1:], "decision")


@dataclass(frozen=True)
class Config:
    """Which way, and the flagship's settings; of those of its `fusion` the kind is this one. Raises ModelError."""

    fusion: str = "concat"
    how: str = "average"  # of `decision`
    behaviour: behaviour.Config = field(default_factory=behaviour.Config)

    def __post_init__(self) -> None:
        """Refuse ways that there are not."""
        if self.fusion not in FUSIONS or self.how not in fuse.LATE:
            raise ModelError(
                "model.fused.Config",
                found=f"fusion '{self.fusion}', how '{self.how}'",
                consequence="How the modalities become one answer is not known",
                remedy=f"Write a fusion of {', '.join(FUSIONS)} and how of {', '.join(fuse.LATE)}",
            )


@dataclass(frozen=True)
class State:
    """One trained flagship a member, and what each counts for where they are stacked."""

    config: Config
    members: dict[str, behaviour.State]
    weights: tuple[float, ...] | None


def fit(past: Past, config: Config, *, runtime: Runtime) -> State:
    """Train every member; `stacked` trains each twice, the first time on what was known one horizon before.

    The budget of CPU time is shared evenly. Raises what `behaviour.fit` does.
    """
    seen = members(past, config)
    stacked = config.fusion == "decision" and config.how == "stacked"
    fits = len(seen) * (1 + stacked)
    if runtime.budget_s is not None:
        runtime = dataclasses.replace(runtime, budget_s=runtime.budget_s / fits)
    weights = _weights(past, config, runtime) if stacked else None
    return State(config, _trained(seen, config, runtime), weights)


def members(past: Past, config: Config) -> dict[str, Past]:
    """Return what each member reads, by name."""
    if config.fusion != "decision":
        return {"all": past}
    named = [name for name, _ in past.modalities] + [TRAITS] * (past.traits is not None)
    return {EVENTS: past.of(()), **{name: past.of((name,)) for name in named}}


def score(state: State, past: Past) -> Floats:
    """Return float32 [B, I], higher = sooner in the next order; the cost is that of the members."""
    return joined(_views(state.members, past, state.config), state.config, state.weights)


def joined(views: list[Floats], config: Config, weights: tuple[float, ...] | None) -> Floats:
    """Return one table of scores out of the members'."""
    return views[0] if len(views) == 1 else fuse.decided(views, config.how, weights)


def predict(state: State, past: Past) -> pl.DataFrame:
    """Return user_key, churn, value and the rest of what `behaviour.predict` tells: means over the members."""
    told = [behaviour.predict(one, seen) for one, seen in _asked(state.members, past, state.config)]
    names = [name for name in told[0].columns if name != "user_key"]
    means = {name: np.mean([one[name].to_numpy() for one in told], axis=0) for name in names}
    return pl.DataFrame({"user_key": told[0]["user_key"], **means})


def _trained(seen: Mapping[str, Past], config: Config, runtime: Runtime) -> dict[str, behaviour.State]:
    """Train a member on each past; one of a single modality joins it to what was done side by side."""
    kind = "concat" if config.fusion == "decision" else config.fusion
    settings = dataclasses.replace(config.behaviour, fusion=dataclasses.replace(config.behaviour.fusion, kind=kind))
    return {name: behaviour.fit(one, settings, runtime=runtime) for name, one in seen.items()}


def _weights(past: Past, config: Config, runtime: Runtime) -> tuple[float, ...]:
    """Return what each member counts for, found on the last horizon before `as_of`; equal where nobody bought in it."""
    earlier = past.rewind(past.as_of - dt.timedelta(days=past.horizon_days))
    target = next_sets(past.histories, after=earlier.day, until=past.day)
    users = blend.judged(earlier, target, runtime.seed)
    count = len(members(past, config))
    if not len(users):
        return (1 / count,) * count
    asked = earlier.take(users)
    states = _trained(members(earlier, config), config, runtime)
    views = np.stack([fuse.standard(view) for view in _views(states, asked, config)])
    return tuple(blend.found_weights(views, asked, target[users]))


def _views(states: Mapping[str, behaviour.State], past: Past, config: Config) -> list[Floats]:
    """Return each member's scores, as `blend` compares the flagship's with others'."""
    found = [behaviour.score(one, seen) for one, seen in _asked(states, past, config)]
    return found if len(found) == 1 else [blend.comparable("behaviour", one) for one in found]


def _asked(states: Mapping[str, behaviour.State], past: Past, config: Config) -> list[tuple[behaviour.State, Past]]:
    """Return each member and what it is asked with; a modality that is missing altogether is none to it."""
    if config.fusion != "decision":
        return [(states["all"], past)]
    return [(state, past.of((name,))) for name, state in states.items()]
