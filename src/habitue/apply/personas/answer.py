"""From what is known of a shop to its personas: profiles, groups, names, map, movement."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import threadpoolctl  # comes with scikit-learn

from habitue import prepare
from habitue.apply.personas import clusters, maps, movement, portraits
from habitue.apply.personas.clusters import Assigned, Fitted
from habitue.apply.personas.profile import (
    DECLARED,
    Floats,
    Habits,
    Ints,
    Scale,
    categories,
    learn,
    lines,
    measure,
    points,
    profiles,
)
from habitue.apply.wording import percent
from habitue.core.errors import ModelError, UsageError, did_you_mean
from habitue.core.progress import track
from habitue.core.schemas import FEATURES, Events, Features, Items
from habitue.model.past import Past

FEWEST = 20  # customers
STABLE, IN_PART = 0.6, 0.4  # adjusted Rand of two halves, from which a grouping is stable, or stable in part
KEEPS = 0.5  # Jaccard below which a single persona is called not stable (Hennig 2008: dissolved)


@dataclass(frozen=True)
class Config:
    """Settings. Raises UsageError for an unknown method or time zone, and a number that the method cannot be told."""

    method: str = "auto"  # auto, kmeans, hdbscan or mixture
    count: int | None = None  # personas; None = as many as are stable
    time_zone: str = "UTC"  # in which hours and weekdays are read
    groups: int = 12  # of products, for taste
    taste_weight: float = 1.5  # of all tastes together; recency, frequency, money weigh 2, other families 1
    draws: int = 5  # random pairs of halves
    rows: int = 3000  # customers that the choice looks at; all are assigned
    least: int = 10  # customers in a persona: fewer describe chance, and may point to a person
    lift: float = 1.5
    products: int = 5  # shown of each persona
    periods: int = 4  # ends of periods of 90 days between which movement is told
    map_rows: int = 1200

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.method not in ("auto", *clusters.METHODS):
            raise UsageError(
                "apply.personas",
                found=f"there is no method '{self.method}'",
                consequence="Nobody can be grouped by it",
                remedy=did_you_mean(self.method, ("auto", *clusters.METHODS)),
            )
        if self.count is not None and (self.count < 2 or self.method == "hdbscan"):
            hdbscan = self.method == "hdbscan"
            raise UsageError(
                "apply.personas",
                found=f"{self.count} personas are asked of HDBSCAN" if hdbscan else f"{self.count} personas are asked",
                consequence="It finds their number by itself" if hdbscan else "One group tells nobody apart",
                remedy="Drop the count, or ask for kmeans or mixture" if hdbscan else "Ask for 2 or more, or for none",
            )
        if self.time_zone not in zoneinfo.available_timezones():
            raise UsageError(
                "apply.personas",
                found=f"there is no time zone '{self.time_zone}'",
                consequence="Hours and weekdays of orders could not be read",
                remedy="Write it as Europe/London",
            )


@dataclass(frozen=True)
class Rule:
    """How a customer of any moment is given a persona: what was fitted at one moment."""

    habits: Habits
    scale: Scale
    fitted: Fitted
    names: tuple[str, ...]  # of the groups; the last is 'No group'


@dataclass(frozen=True)
class Personas:
    """The answer. Cards stand by money, the most first; customers whom HDBSCAN puts nowhere are in 'No group'."""

    cards: pl.DataFrame  # name, sentence, size, share, money (net), money_share, stability, stable, sure, risk
    products: pl.DataFrame  # name, item_id, title, lift, buyers: most lift first
    effects: pl.DataFrame  # name, column, difference, low, high, here, rest
    members: pl.DataFrame  # user_key, name, distance, probability
    tried: pl.DataFrame  # place, said, groups, stability, error, apart, silhouette, smallest, none, score, taken
    map: pl.DataFrame  # user_key, name, x, y
    flows: pl.DataFrame  # step, from, to, n, expected, surprise, more
    periods: pl.DataFrame  # step, as_of, name, size, share, money, orders, an_order, silence
    moments: tuple[dt.datetime, ...]  # of the steps, ascending; the last is as_of
    left_out: tuple[str, ...]  # what could not be used, in sentences
    verdict: str  # the first sentence says whether the personas can be believed
    as_of: dt.datetime
    rule: Rule

    @property
    def labels(self) -> tuple[str, ...]:
        """The moments as a page says them."""
        return tuple(f"{moment:%-d %b %Y}" for moment in self.moments)


@dataclass(frozen=True)
class Grouped:
    """The chosen grouping, and everybody's place in it."""

    fitted: Fitted
    told: Assigned
    tried: pl.DataFrame
    stability: Floats  # [K] of each group


def find(
    past: Past,
    titles: Mapping[str, str],
    config: Config | None = None,
    *,
    before: Features | None = None,
    items: Items | None = None,
    risk: pl.DataFrame | None = None,
    seed: int = 0,
) -> Personas:
    """Group the known customers who have ordered by `past.as_of`, describe the groups, and tell who moved.

    `titles`: item_id -> words. `before`: what `earlier` gives, for movement; without it there is none. `items`: ITEMS,
    for their categories. `risk`: user_key, churn. Everything is fitted at `past.as_of`; the same seed gives the same
    personas. O(customers x columns) beside a choice that looks at `config.rows` of them. Raises ModelError when there
    are fewer than 20 such customers, when nothing tells them apart, when no grouping has groups of at least
    `config.least`.
    """
    config = config or Config()
    _enough(past, config)
    with threadpoolctl.threadpool_limits(1):  # sums of several threads have no fixed order: same seed, same groups
        habits = learn(
            past,
            titles,
            categories=categories(items, past.as_of),
            groups=config.groups,
            time_zone=config.time_zone,
            seed=seed,
        )
        frame = profiles(past, past.features, habits)
        scale = measure(frame, habits, taste_weight=config.taste_weight)
        places = points(scale, frame)
        grouped = _grouped(places, frame, config, seed)
        labels, groups = grouped.told.labels, grouped.fitted.groups
        bought = lines(past, frame["user_key"].to_numpy())
        table = portraits.effects(frame, labels, groups)
        spoken = portraits.words(past.items, titles, bought, labels, groups)
        names = portraits.names(table, spoken)
        rule = Rule(habits, scale, grouped.fitted, (*names, portraits.NO_GROUP))
        members = _members(frame, rule.names, grouped.told)
        named = members["name"].to_list()
        drawn = maps.draw(places, frame["user_key"].to_list(), named, rows=config.map_rows, seed=seed)
        frames, persona_of = _moments(past, frame, named, before, rule, config)
    told = movement.states(frames, persona_of)
    flows = movement.flows(told, least=config.least)
    cards = _cards(frame, table, grouped, names, spoken, risk)
    listed = cards["name"].to_list()
    return Personas(
        cards=cards,
        products=portraits.products(
            past.items,
            titles,
            bought,
            labels,
            names,
            lift=config.lift,
            buyers=config.least,
            shown=config.products,
        ),
        effects=table.with_columns(name=pl.col("group").replace_strict(dict(enumerate(names)), return_dtype=pl.String)),
        members=members,
        tried=grouped.tried,
        map=drawn,
        flows=flows,
        periods=movement.periods(frames, told, listed),
        moments=tuple(moment["as_of"][0] for moment in frames),
        left_out=scale.left_out,
        verdict=_verdict(grouped, cards, flows),
        as_of=past.as_of,
        rule=rule,
    )


def place(rule: Rule, past: Past, features: Features) -> tuple[Features, pl.DataFrame]:
    """Return the profiles of customers at another moment, and user_key, name, distance, probability by the rule.

    `past` with the same items as when the rule was made, `features` at `past.as_of`. O(customers x columns).
    """
    frame = profiles(past, features, rule.habits)
    return frame, _members(frame, rule.names, clusters.assign(rule.fitted, points(rule.scale, frame)))


def earlier(past: Past, events: Events, config: Config | None = None) -> Features:
    """Return FEATURES of `past`'s known customers at the earlier moments that movement is told between.

    `events`: EVENTS after quality.clean; nothing at or after `past.as_of` is read. O(events x moments). No row where
    the shop is too young to have an earlier moment.
    """
    moments = movement.moments(past, (config or Config()).periods)[:-1]
    if not moments:
        return FEATURES.empty()
    seen, _ = prepare.split(events, past.as_of)
    people = past.histories.user_keys[past.known]
    return prepare.features(seen, as_of=moments, users=people.tolist(), declared=DECLARED)


def to_dict(found: Personas) -> dict[str, Any]:
    """Return the answer as plain lists and numbers, for a page or a file; of single customers only the map."""
    return {
        "verdict": found.verdict,
        "as_of": found.as_of.isoformat(),
        "cards": [
            card | {"products": found.products.filter(pl.col("name") == card["name"]).drop("name").to_dicts()}
            for card in found.cards.to_dicts()
        ],
        "moves": found.flows.to_dicts(),
        "periods": list(found.labels),
        "compared": found.periods.drop("as_of").to_dicts(),
        "changes": movement.changes(found.periods),
        "surprises": movement.surprises(found.flows, found.labels),
        "map": [
            {"name": name, "points": found.map.filter(pl.col("name") == name).select("x", "y").rows()}
            for name in found.cards["name"]
        ],
        "effects": found.effects.drop("group").to_dicts(),
        "tried": found.tried.to_dicts(),
        "left_out": list(found.left_out),
    }


def _enough(past: Past, config: Config) -> None:
    ordered = past.features.filter(pl.col("order_count") > 0).height if past.features.height else 0
    if ordered >= FEWEST and (config.count or 0) * config.least <= ordered:
        return
    if ordered >= FEWEST:
        raise ModelError(
            "apply.personas",
            found=f"{config.count:,} personas of at least {config.least} are asked of {ordered:,} customers",
            consequence="Groups of fewer describe chance, and may point to a person",
            remedy=f"Ask for at most {ordered // config.least}",
        )
    guests = int((~past.known).sum())
    also = f", beside {guests:,} guests, who are nobody twice" if guests else ""
    raise ModelError(
        "apply.personas",
        found=f"{ordered:,} known customers have ordered before {past.as_of:%Y-%m-%d}{also}",
        consequence=f"Personas need {FEWEST}: groups of fewer than ten describe chance, and may point to a person",
        remedy="Ask as of a later moment, or wait for more customers",
    )


def _grouped(places: Floats, frame: Features, config: Config, seed: int) -> Grouped:
    """Try the grid, and take the best grouping that has no persona smaller than `config.least`."""
    if config.method == "auto":  # a number of personas cannot be asked of HDBSCAN
        methods = [m for m in clusters.METHODS if config.count is None or m != "hdbscan"]
    else:
        methods = [config.method]
    grid = clusters.grid(len(places), methods=methods, count=config.count, least=config.least)
    compared = clusters.compare(places, grid, draws=config.draws, rows=config.rows, least=config.least, seed=seed)
    tried = pl.DataFrame(list(track(compared, "Trying groupings", total=len(grid))))
    tried = tried.with_columns(pl.col("silhouette").cast(pl.Float64))
    tried = tried.with_columns(score=pl.col("stability") * pl.col("apart"))
    fit_on = places
    if len(places) > clusters.FITTED_ROWS:
        fit_on = places[np.sort(np.random.default_rng(seed).permutation(len(places))[: clusters.FITTED_ROWS])]
    for place in clusters.choose(tried):
        fitted = clusters.fit(grid[place], fit_on, seed=seed, least=config.least, starts=10)
        told = clusters.assign(fitted, places)
        sizes = np.bincount(told.labels[told.labels >= 0], minlength=max(fitted.groups, 1))
        if fitted.groups > 1 and sizes.min() >= config.least:
            stability = clusters.jaccard(places, fitted, draws=10, rows=config.rows, seed=seed)
            taken = tried.with_columns(taken=pl.col("place") == place)
            return Grouped(fitted, told, taken.sort("score", "place", descending=[True, False]), stability)
    raise ModelError(
        "apply.personas",
        found=f"no grouping of {frame.height:,} customers (of {len(grid)}) has only groups of {config.least} or more",
        consequence="Groups of fewer describe chance, and may point to a person",
        remedy="Ask for fewer personas, or for another method",
    )


def _moments(
    past: Past, frame: Features, named: list[str], told: Features | None, rule: Rule, config: Config
) -> tuple[list[Features], list[list[str]]]:
    """Return the profiles at each moment, and the persona that each customer had then, by today's rule."""
    known = FEATURES.empty() if told is None else told
    frames, persona_of = [], []
    for moment in movement.moments(past, config.periods)[:-1]:
        then = known.filter(pl.col("as_of") == moment)
        if then.height and (then["order_count"] > 0).any():
            before, members = place(rule, past.rewind(moment), then)
            frames.append(before)
            persona_of.append(members["name"].to_list())
    return [*frames, frame], [*persona_of, named]


def _cards(
    frame: Features,
    table: pl.DataFrame,
    grouped: Grouped,
    names: list[str],
    spoken: list[list[str]],
    risk: pl.DataFrame | None,
) -> pl.DataFrame:
    labels: Ints = grouped.told.labels
    net = (frame["spend"] + frame["refunded"]).fill_null(0).to_numpy()
    likely = _risk(frame, risk)
    whole = max(float(net.sum()), 1e-9)
    rows = []
    for k in [*range(len(names)), *([clusters.NONE] if (labels == clusters.NONE).any() else [])]:
        mine = labels == k
        share, money = float(mine.mean()), float(net[mine].sum())
        stability = None if k == clusters.NONE else float(grouped.stability[k])
        if stability is None:
            told = ["They resemble no group closely enough to be put there."]
        else:
            told = portraits.sentences(table, k, money_share=money / whole, share=share, spoken=spoken[k])
        lost = float(np.nanmean(likely[mine])) if np.isfinite(likely[mine]).any() else None
        if lost is not None:
            told.append(f"The model expects {percent(lost, 0)} of them to place no order in its horizon.")
        rows.append(
            {
                "name": portraits.NO_GROUP if k == clusters.NONE else names[k],
                "sentence": " ".join(told),
                "size": int(mine.sum()),
                "share": share,
                "money": money,
                "money_share": money / whole,
                "stability": stability,
                "stable": stability is not None and stability >= KEEPS,
                "sure": "No group, so there is nothing to come back." if stability is None else _sure(stability),
                "risk": lost,
            }
        )
    schema = {"stability": pl.Float64, "risk": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema).sort("money", "name", descending=[True, False])


def _sure(stability: float) -> str:
    again = portraits.again(stability)
    return f"Drawn again, this group {again} (overlap {stability:.2f} of 1)."


def _risk(frame: Features, risk: pl.DataFrame | None) -> Floats:
    if risk is None:
        return np.full(frame.height, np.nan)
    told = frame.select("user_key").join(
        risk.select("user_key", "churn"), on="user_key", how="left", maintain_order="left"
    )
    return told["churn"].cast(pl.Float64).to_numpy()


def _members(frame: Features, names: Sequence[str], told: Assigned) -> pl.DataFrame:
    number = {"distance": told.distance, "probability": told.probability}
    columns = {key: pl.Series(key, values, dtype=pl.Float64) for key, values in number.items() if values is not None}
    empty = {key: pl.lit(None, dtype=pl.Float64) for key in number if key not in columns}
    named = pl.Series("name", [names[k] for k in told.labels], dtype=pl.String)
    table = frame.select("user_key").with_columns(named, **columns, **empty)
    return table.select("user_key", "name", "distance", "probability")


def _verdict(grouped: Grouped, cards: pl.DataFrame, flows: pl.DataFrame) -> str:
    best = grouped.tried.filter("taken").row(0, named=True)
    score, k, said = best["stability"], len(grouped.stability), best["said"]
    agree = (
        f"two random halves of the customers, grouped apart, agree to {score:.2f} (adjusted Rand: 1 = in all, 0 = as "
        "by lot)"
    )
    if score >= STABLE:
        first = f"{k} personas that come back: {agree}"
    elif score >= IN_PART:
        first = f"{k} personas that come back only in part: {agree}"
    else:
        first = (
            f"No grouping of these customers is stable: {agree}. Read the cards as a description of today, not as "
            "kinds of customers that are there"
        )
    steady = int(cards["stable"].sum())
    text = (
        f"{first}. Taken: {said}, of {grouped.tried.height} groupings tried; {steady} of {k} personas keep half their "
        "members when the customers are drawn again."
    )
    outside = cards.filter(pl.col("name") == portraits.NO_GROUP)
    if outside.height:
        text += f" {percent(outside['share'][0])} of the customers are in no group."
    last = flows.filter(pl.col("step") == pl.col("step").max())
    awake = last.filter(~pl.col("from").is_in([movement.NOT_YET, movement.ASLEEP]), pl.col("to") != movement.ASLEEP)
    there = int(awake["n"].sum())
    if there:
        moved = int(awake.filter(pl.col("from") != pl.col("to"))["n"].sum())
        text += f" Of {there:,} customers awake in both of the last two periods {percent(moved / there)} moved."
    return text
