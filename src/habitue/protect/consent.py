"""Who may be used for what: consent per purpose, as of a moment.

| purpose | without it |
|---|---|
| analytics | the person's events are in no count, group, model or report |
| personalisation | the person is in no training row and no feature row, and gets what everyone gets instead of a personal answer |
| marketing | the person is in no exported audience |

Whoever has said nothing has said what the plan's section `[consent]` says for them. A person may be used at a moment
when the purpose was granted then and has not been withdrawn since: a back-test never uses who has left by now.
"""  # noqa: E501  a row of a table

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from habitue.core.errors import UsageError, did_you_mean
from habitue.core.schemas import CONSENT, Consents, check
from habitue.protect import people

ANALYTICS, PERSONALISATION, MARKETING = "analytics", "personalisation", "marketing"


@dataclass(frozen=True)
class Config:
    """What it means that a person has said nothing about a purpose: true = granted."""

    analytics: bool = True
    personalisation: bool = True
    marketing: bool = False  # writing to somebody takes a yes


PURPOSES = tuple(one.name for one in dataclasses.fields(Config))


def granted(rows: pl.DataFrame, consents: Consents, *, purpose: str, silence: Config) -> pl.Series:
    """Return for each row (user_key, as_of; null = now) whether the purpose was granted at `as_of`, in their order.

    `consents`: CONSENT under the same keys as the rows. A statement of that very moment counts; of two, the
    withdrawal. O(n log n). Raises UsageError for a purpose that is none.
    """
    check(consents, CONSENT, at="protect.consent")
    unsaid = _silent(purpose, silence)
    said = consents.filter(pl.col("purpose") == purpose).group_by("user_key", "at").agg(pl.col("granted").all())
    if said.is_empty():
        return pl.repeat(unsaid, rows.height, dtype=pl.Boolean, eager=True).alias("granted")
    asked = rows.select("user_key", pl.col("as_of").fill_null(_NEVER).cast(CONSENT.schema["at"])).with_row_index("row")
    met = asked.sort("as_of").join_asof(
        said.sort("at"),
        left_on="as_of",
        right_on="at",
        by="user_key",
        check_sortedness=False,  # both are sorted by time above; Polars cannot see it through `by`
    )
    return met.sort("row")["granted"].fill_null(unsaid)


def withheld(
    keys: pl.Series, consents: Consents, *, purpose: str, silence: Config, as_of: dt.datetime | None = None
) -> pl.Series:
    """Return those of `keys` (i64) that may not be used for the purpose at `as_of` (default: now), ascending."""
    asked = pl.DataFrame({"user_key": keys.unique().sort()})
    rows = asked.with_columns(as_of=pl.lit(as_of, dtype=CONSENT.schema["at"]))
    return asked["user_key"].filter(~granted(rows, consents, purpose=purpose, silence=silence))


@dataclass(frozen=True)
class Register:
    """Every statement, read under the people of one moment and of today.

    A back-test reads who was who at its cut; somebody who was joined to another since, and has withdrawn under that
    other id, has withdrawn as well.
    """

    silence: Config = field(default_factory=Config)
    then: Consents = field(default_factory=CONSENT.empty)  # under the people of `as_of`
    now: Consents = field(default_factory=CONSENT.empty)  # under the people of today
    joins: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"user_key": pl.Int64, "became": pl.Int64}))
    as_of: dt.datetime | None = None  # None = today

    def withheld(self, keys: pl.Series, purpose: str) -> pl.Series:
        """Return those of `keys` that may not be used: it was not granted at `as_of`, or does not stand today."""
        keys = keys.unique().sort()
        refused = withheld(keys, self.then, purpose=purpose, silence=self.silence, as_of=self.as_of)
        people = keys.to_frame("user_key").join(self.joins, on="user_key", how="left", maintain_order="left")
        people = people.with_columns(pl.coalesce("became", "user_key").alias("became"))
        left = withheld(people["became"], self.now, purpose=purpose, silence=self.silence)
        gone = keys.is_in(refused.implode()) | people["became"].is_in(left.implode())
        return keys.filter(gone)

    def granted(self, rows: pl.DataFrame, purpose: str) -> pl.Series:
        """Return for each row (user_key, as_of) whether the purpose was granted at that moment."""
        return granted(rows, self.then, purpose=purpose, silence=self.silence)


def register(path: Path, consents: Consents, silence: Config, *, as_of: dt.datetime | None = None) -> Register:
    """Read CONSENT, as it is stored, under the people of `as_of` and of today; `path`: the identities."""
    then, now = (people.joined(consents, path, as_of=moment) for moment in (as_of, None))
    return Register(silence, then, now, people.joins(path), as_of)


def without(frame: pl.DataFrame, keys: pl.Series) -> pl.DataFrame:
    """Return `frame` without the rows of these keys; order stays, and so does what names nobody."""
    return frame if keys.is_empty() else frame.filter(~pl.col("user_key").is_in(keys.implode()).fill_null(False))


_NEVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


def _silent(purpose: str, silence: Config) -> bool:
    if purpose not in PURPOSES:
        raise UsageError(
            "consent",
            found=f"there is no purpose '{purpose}'",
            consequence="Nobody could have agreed to it",
            remedy=did_you_mean(purpose, PURPOSES),
        )
    return bool(getattr(silence, purpose))
