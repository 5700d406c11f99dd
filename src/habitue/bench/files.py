"""Read a table that a person names on the command line, whatever of the usual formats it is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from habitue.core.errors import SchemaError, UsageError

PARQUET = b"PAR1"


def read(path: Path, *, what: str) -> pl.DataFrame:
    """Return the table in `path`: Parquet, JSON lines, or text with a header and ',', ';', '|' or tab between.

    The format is told by content, not by suffix. `what` names the option in errors ('--events'). Raises UsageError
    when there is no such file, SchemaError when it is no table, is empty, or has two columns of one name.
    """
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError as error:
        raise UsageError(
            what,
            found=f"'{path}' cannot be read ({error.strerror})",
            consequence="There is nothing to measure on",
            remedy="Check the path",
        ) from error
    try:
        frame = _parse(path, head)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        sentence = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _no_table(path, what, f"it is no table that can be read ({sentence})") from error
    if frame.is_empty():
        raise _no_table(path, what, f"it holds no row ({len(frame.columns)} columns)")
    return frame


def _parse(path: Path, head: bytes) -> pl.DataFrame:
    if head.startswith(PARQUET):
        return pl.read_parquet(path)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return pl.read_ndjson(path, infer_schema_length=None)
    header = start.partition(b"\n")[0].decode("utf-8")
    separator = max("\t,;|", key=header.count)
    names = [name.strip().strip('"') for name in header.rstrip("\r").split(separator)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise pl.exceptions.DuplicateError(f"two columns are called '{twice[0]}'")
    # Types are told from every row: an order number may get its first letter in row 500,000.
    return pl.read_csv(path, separator=separator, infer_schema_length=None, try_parse_dates=True)


def _no_table(path: Path, what: str, found: str) -> SchemaError:
    return SchemaError(
        f"{what} {path.name}",
        found=found,
        consequence="There is nothing to measure on",
        remedy="Give Parquet, JSON lines, or text (UTF-8) with a header and one separator",
    )
