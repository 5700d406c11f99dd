"""Settings are frozen dataclasses beside the code they configure; TOML only fills them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import reprlib
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from habitue.core.errors import SettingsError, did_you_mean

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises SettingsError naming the line when it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of 5,000 digits
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise SettingsError(
            path.name,
            found=f"this is not TOML ({reason})",
            consequence="No setting can be read from it",
            remedy="Mend that line; values of text stand in quotes",
        ) from error
    except OSError as error:
        raise SettingsError(
            path.name,
            found=f"the file cannot be read ({error.strerror})",
            consequence="The settings it should hold are unknown",
            remedy="Check the path",
        ) from error


def fill(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build the frozen dataclass `cls` from a mapping, nested dataclasses included.

    Raises SettingsError for an unknown key ("did you mean"), a missing one, and a value of the wrong type.
    """
    name = where or f"{cls.__module__.removeprefix('habitue.')}.{cls.__qualname__}"
    if not isinstance(values, Mapping):  # `serve = 1` where a [serve] was meant
        raise _wrong(values, "a table of settings", name)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise SettingsError(
                name,
                found=f"there is no setting '{key}'",
                consequence="A setting that is not read would be ignored in silence",
                remedy=did_you_mean(key, fields),
            )
    filled: dict[str, Any] = {}
    for key, field in fields.items():
        if key in values:
            filled[key] = _convert(values[key], hints[key], f"{name}.{key}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SettingsError(
                name,
                found=f"the setting '{key}' is missing",
                consequence="It has no default that would be right for every shop",
                remedy=f"Add: {key} = ...",
            )
    return cls(**filled)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Convert a TOML value to the type a field declares."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return fill(hint, value, where=where)
    elif origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(v, arguments[0], where) for v in value)
    elif origin in (dict, Mapping) or hint is dict:
        if isinstance(value, Mapping):
            inner = arguments[1] if arguments else Any
            return {k: _convert(v, inner, f"{where}.{k}") for k, v in value.items()}
    elif hint is Any:
        return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # TOML has integers of any length
            number = math.inf
        if not math.isfinite(number):  # and it has nan and inf, which no setting means
            raise _wrong(value, "a finite number", where)
        return number
    elif hint is dt.datetime and isinstance(value, str | dt.date | dt.datetime):
        return _moment(value, where)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise _wrong(value, getattr(hint, "__name__", hint), where)


def check_range(
    settings: Any,
    *,
    positive: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    share: Iterable[str] = (),
    part: Iterable[str] = (),
) -> None:
    """Hold numbers of a settings dataclass to what they can mean; for its `__post_init__`.

    `positive`: above 0; `not_negative`: 0 or more; `share`: from 0 to 1; `part`: the same without 1. Raises
    SettingsError for the first that is not.
    """
    kinds: tuple[tuple[Iterable[str], Callable[[float], bool], str], ...] = (
        (positive, lambda number: number > 0, "above 0"),
        (not_negative, lambda number: number >= 0, "of 0 or more"),
        (share, lambda number: 0 <= number <= 1, "from 0 to 1"),
        (part, lambda number: 0 <= number < 1, "from 0 to below 1"),
    )
    for names, means, wanted in kinds:
        for name in names:
            value = getattr(settings, name)
            if not means(value) or math.isinf(value):
                raise SettingsError(
                    f"{type(settings).__module__.removeprefix('habitue.')}, setting '{name}'",
                    found=f"{_shown(value)} stands where a number {wanted} is asked for",
                    consequence="There is nothing that this could mean",
                    remedy=f"Write a number {wanted}, or leave the setting out",
                )


def _wrong(value: Any, wanted: object, where: str) -> SettingsError:
    return SettingsError(
        where,
        found=f"{_shown(value)} is not {wanted}",
        consequence="The setting would mean something else than was written",
        remedy="Write a value of that type",
    )


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)  # a list of a thousand is cut
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _moment(value: str | dt.date | dt.datetime, where: str) -> dt.datetime:
    """Read a date or time as UTC; a bare date is its first moment."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError as error:
            raise SettingsError(
                where,
                found=f"{value!r} is not a date",
                consequence="The moment it should name is unknown",
                remedy="Write it as 2011-09-09 or 2011-09-09T12:00:00Z",
            ) from error
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def moment(value: str | dt.date | dt.datetime) -> dt.datetime:
    """Read a date or time written by a person as a UTC datetime. Raises SettingsError."""
    return _moment(value, "time")


@dataclasses.dataclass(frozen=True)
class Choice:
    """What tuning may try for one setting: a range, or a few values."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False  # a range of ratios: 1 to 10 matters as much as 10 to 100
    whole: bool = False  # integers only
    values: tuple[Any, ...] = ()  # these and no range


def tuned(default: Any, low: float = 0.0, high: float = 0.0, *, log: bool = False, values: tuple[Any, ...] = ()) -> Any:
    """Return a dataclass field with `default` that tuning may vary: from `low` to `high`, or among `values`.

    The range stands where the setting stands; `space` collects it. An int default varies over integers.
    """
    whole = isinstance(default, int) and not isinstance(default, bool)
    return dataclasses.field(default=default, metadata={"choice": Choice(low, high, log, whole, values)})


def space(config: type[Any]) -> dict[str, Choice]:
    """Return what may be tuned of a frozen dataclass of settings, by field name, in order."""
    return {f.name: f.metadata["choice"] for f in dataclasses.fields(config) if "choice" in f.metadata}
