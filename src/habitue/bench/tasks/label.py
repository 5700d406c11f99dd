"""What is asked: the kind of answer, found from the label and the task's name, and the rows that have one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from habitue.core.errors import InputError, UsageError, did_you_mean
from habitue.model.tabular import Kind, Target

NUMBERS = frozenset({"value", "spend", "price"})  # tasks that ask for an amount
CHOICES = frozenset({"churn", "purchase", "sentiment", "intent", "category", "recommended"})  # tasks that ask which
KINDS: tuple[Kind, ...] = ("binary", "classes", "number")
FEW = 20  # different whole numbers up to which a label is a choice, when the task's name does not say
YES = frozenset({"1", "1.0", "yes", "y", "true", "t", "positive", "good"})
NO = frozenset({"0", "0.0", "-1", "no", "n", "false", "f", "negative", "bad"})


@dataclass(frozen=True)
class Label:
    """The target of the kept rows."""

    target: Target
    kept: pl.Series  # [rows of the file] bool: the row has a label
    notes: tuple[str, ...]


def read(frame: pl.DataFrame, name: str, *, task: str, kind: str | None) -> Label:
    """Return the target of a column. `kind` None = found from its values and the task's name.

    Class 1 of two is the yes (1, true, yes, good), else the rarer. Raises UsageError for an unknown kind or one that
    the values cannot be, InputError when every label is null or all are the same.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError("--kind", found=f"'{kind}' is none", consequence="", remedy=did_you_mean(kind, KINDS))
    values = frame[name]
    if values.dtype.is_nested() or values.dtype == pl.Binary or values.dtype.is_temporal():
        raise UsageError(
            f"--label '{name}'",
            found=f"it is {values.dtype}",
            consequence="A label is a word, a number, or yes and no",
            remedy="Name another column",
        )
    kept = values.is_not_null()
    if values.dtype.is_float():
        kept = kept & values.is_finite().fill_null(False)
    if values.dtype == pl.String:
        kept = kept & (values.str.strip_chars() != "").fill_null(False)
    known = values.filter(kept)
    dropped = values.len() - known.len()
    notes = [f"{dropped:,} of {values.len():,} rows have no label and are left out"] if dropped else []
    _varied(known, name, values.len())
    found, why = (kind, "as --kind says") if kind else _kind(known, name, task)
    if found == "number":
        if not (known.dtype.is_numeric() or known.dtype == pl.Boolean):
            raise UsageError(
                f"--label '{name}'",
                found=f"it is {known.dtype}, no number",
                consequence=f"'{task}' asks for a number here",
                remedy="Name another column, or say --kind classes",
            )
        return Label(Target("number", known.cast(pl.Float64).to_numpy()), kept, (*notes, f"a number, {why}"))
    words = _words(known)
    classes, positive = _ordered(words)
    if found == "binary" and len(classes) != 2:
        raise UsageError(
            f"--label '{name}'",
            found=f"it has {len(classes):,} different values",
            consequence="Yes or no has two",
            remedy="Say --kind classes, or name another column",
        )
    place = {word: i for i, word in enumerate(classes)}
    index = words.replace_strict(place, return_dtype=pl.Int64).to_numpy().astype(np.int64)
    two = len(classes) == 2
    said = f"yes or no ('{classes[1]}' is the yes, {positive})" if two else f"one of {len(classes):,} classes"
    return Label(Target("binary" if two else "classes", index, classes), kept, (*notes, f"{said}, {why}"))


def _varied(known: pl.Series, name: str, rows: int) -> None:
    if known.len() == 0:
        raise InputError(
            f"--label '{name}'",
            found=f"none of {rows:,} rows has a label",
            consequence="There is nothing to learn",
            remedy="Name another column",
        )
    if known.n_unique() == 1:
        raise InputError(
            f"--label '{name}'",
            found=f"all {known.len():,} labels are the same ('{str(known[0])[:40]}')",
            consequence="Every model would say that, and be right",
            remedy="Give rows of at least two kinds, or name another column",
        )


def _kind(known: pl.Series, name: str, task: str) -> tuple[Kind, str]:
    different = known.n_unique()
    numeric = known.dtype.is_numeric()
    whole = numeric and bool((known == known.round()).all())
    if task in NUMBERS:
        return "number", f"because the task is {task}"
    if task in CHOICES and numeric and not (whole and different <= 1000):
        raise UsageError(
            f"--label '{name}'",
            found=f"it has {different:,} different numbers",
            consequence=f"'{task}' asks for one of a few answers",
            remedy="Use --task value, or say --kind number",
        )
    if different == 2:
        return "binary", "because the label has two values"
    if not numeric or task in CHOICES:
        return "classes", f"because the label has {different:,} values"
    if whole and different <= FEW:
        return "classes", f"because the label has only {different} whole numbers (--kind number for their distance)"
    return "number", f"because the label has {different:,} different numbers"


def _words(known: pl.Series) -> pl.Series:
    if known.dtype.is_float() and bool(((known == known.round()) & (known.abs() < 2**53)).all()):
        known = known.cast(pl.Int64)  # beyond 2**53 a double is no longer a whole number of its own
    return known.cast(pl.String)


def _ordered(words: pl.Series) -> tuple[tuple[str, ...], str]:
    """Return the classes in order, the yes last of two, and why it is the yes."""
    counted = words.value_counts().sort(words.name).rows()
    names = [name for name, _ in counted]
    if len(names) == 2:
        plain = [name.strip().lower() for name in names]
        if plain[0] in YES and plain[1] in NO:
            return (names[1], names[0]), "as its name says"
        if plain[1] in YES and plain[0] in NO:
            return (names[0], names[1]), "as its name says"
        rarer = min(counted, key=lambda pair: (pair[1], pair[0]))[0]
        return (*[n for n in names if n != rarer], rarer), "being the rarer"
    if all(name.lstrip("-").isdigit() for name in names):
        names.sort(key=int)
    return tuple(names), ""
