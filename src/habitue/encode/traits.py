"""What a shop says of its customers (USERS) as the numbers that the flagship reads beside their histories.

Only attributes that are named are read, and a value that fewer than LEAST people share is as good as not said: nobody
is learnt by heart, and what a model keeps of the columns points at nobody. What is learnt (which columns are numbers,
their means, the values there are) is kept with the model, so that whoever comes later gets the same columns.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from habitue.core.errors import SettingsError, did_you_mean
from habitue.core.schemas import USERS, Users, check
from habitue.encode import table

LEAST = 10  # people who share a value
NUMBER = re.compile(r"-?(0|[1-9]\d{0,15})(\.\d+)?")  # 02139 is a place, not a number
ADDED = "traits"  # what a manifest calls them

Floats = npt.NDArray[np.float32]


def told(users: Users, names: Sequence[str], *, as_of: dt.datetime) -> pl.DataFrame:
    """Return user_key and a column of words a name: of each attribute what was said last before `as_of`, else null.

    By user_key; people of whom none of it was said have no row. O(rows of USERS).
    """
    check(users, USERS, at="encode.traits")
    said: dict[int, dict[str, str]] = {}
    rows = users.filter(pl.col("valid_from") < as_of).sort("user_key", "valid_from")
    for key, text in rows.select("user_key", "attributes").iter_rows():
        values = json.loads(text)
        if words := {name: str(values[name]) for name in names if values.get(name) not in (None, "")}:
            said.setdefault(key, {}).update(words)
    columns = {name: pl.Series([one.get(name) for one in said.values()], dtype=pl.String) for name in names}
    return pl.DataFrame({"user_key": pl.Series(list(said), dtype=pl.Int64), **columns})


def named(users: Users, names: Sequence[str]) -> None:
    """Raise SettingsError for a name under which nothing is said of anybody."""
    known = sorted({name for text in users["attributes"].unique() for name in json.loads(text)})
    for name in names:
        if name not in known:
            raise SettingsError(
                "habitue.toml, traits",
                found=f"no customer has an attribute '{name}'",
                consequence="The model would be trained without it",
                remedy=did_you_mean(name, known)
                if known
                else "Import customers first (docs/mapping.md), or leave it out",
            )


def learn(users: Users, names: Sequence[str], *, as_of: dt.datetime) -> table.Fitted | None:
    """Return what the attributes become; None where nobody says anything that LEAST people share.

    An attribute whose every value is written as a number is one; of others the values of LEAST people or more count.
    """
    people = told(users, names, as_of=as_of)
    columns = []
    for series in people.drop("user_key"):
        values = series.drop_nulls()
        if len(values) >= LEAST and all(NUMBER.fullmatch(value) for value in values):
            columns.append(series.cast(pl.Float64))
        elif shared := values.value_counts().filter(pl.col("count") >= LEAST)[series.name].to_list():
            columns.append(_only(series, series.is_in(shared)))
    if not columns:
        return None
    fitted: table.Fitted = table.encode(pl.DataFrame({"id": _ids(people), **{c.name: c for c in columns}})).fitted
    return fitted


def rows(users: Users, learnt: table.Fitted, keys: npt.NDArray[np.int64], *, as_of: dt.datetime) -> Floats:
    """Return [B, U], what is known before `as_of` of the people of `keys`, in their order; zeros = nothing is known.

    A value that was not learnt from is as good as not said. O(rows of USERS + B U).
    """
    people = told(users, [column.name for column in learnt.columns], as_of=as_of)
    known = people.select("user_key", *(_as_learnt(people[column.name], column) for column in learnt.columns))
    known = known.filter(~pl.all_horizontal(pl.exclude("user_key").is_null()), pl.col("user_key").is_in(keys.tolist()))
    found = np.zeros((len(keys), len(learnt.names)), dtype=np.float32)
    if known.height:
        encoded = table.encode(known.drop("user_key").with_columns(id=_ids(known)), fitted=learnt).dense
        place = np.searchsorted(known["user_key"].to_numpy(), keys).clip(max=known.height - 1)
        there = known["user_key"].to_numpy()[place] == keys
        found[there] = encoded[place[there]]
    return found


def written(learnt: table.Fitted | None) -> dict[str, Any] | None:
    """Return what was learnt as JSON has words for it: what a manifest holds under ADDED."""
    return None if learnt is None else json.loads(json.dumps(asdict(learnt)))


def read(manifest: Mapping[str, Any]) -> table.Fitted | None:
    """Return what `written` put into a manifest; None = its model reads no traits."""
    said = manifest.get(ADDED)
    if said is None:
        return None
    columns = tuple(table.Column(**{**column, "values": tuple(column["values"])}) for column in said["columns"])
    return table.Fitted(table.Config(**said["config"]), columns)


def _as_learnt(said: pl.Series, column: table.Column) -> pl.Series:
    if column.kind == "number":
        return _only(said, said.str.contains(f"^(?:{NUMBER.pattern})$")).cast(pl.Float64)
    return _only(said, said.is_in(list(column.values))) if column.kind == "category" else said


def _only(series: pl.Series, kept: pl.Series) -> pl.Series:
    """Return the series with null wherever `kept` is not true."""
    return pl.select(pl.when(kept).then(series).alias(series.name)).to_series()


def _ids(people: pl.DataFrame) -> pl.Series:
    return people["user_key"].cast(pl.String)
