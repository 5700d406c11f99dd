"""Raw columns -> the contract's types, with a reason beside every value that could not be read."""

from __future__ import annotations

import polars as pl

MONEY_LIMIT = 2**53 / 100  # beyond it a double no longer holds the last cent

EPOCHS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}  # microseconds in one of them

_OFFSET = r"(?:Z|[+-]\d{2}:?\d{2})$"
_NAIVE_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")

_WIDE = {wide: plain for wide, plain in zip("０１２３４５６７８９．，－＋（）", "0123456789.,-+()", strict=True)}
_SIGNS = {
    "US$": "USD",
    "HK$": "HKD",
    "A$": "AUD",
    "C$": "CAD",
    "R$": "BRL",
    "NT$": "TWD",
    "€": "EUR",
    "£": "GBP",
    "￡": "GBP",
    "¥": "CNY",  # also yen: a column of it is told by the mapping's currency
    "￥": "CNY",
    "元": "CNY",
    "RMB": "CNY",
    "円": "JPY",
    "₩": "KRW",
    "₹": "INR",
    "₽": "RUB",
    "₺": "TRY",
    "₫": "VND",
    "฿": "THB",
    "zł": "PLN",
    "$": "USD",
}
ISO_4217 = frozenset(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD "
    "CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD "
    "GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT "
    "LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR "
    "NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP "
    "STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF "
    "XPF YER ZAR ZMW ZWG HRK".split()
)
_MONEY = rf"(?:US\$|HK\$|NT\$|A\$|C\$|R\$|[$€£￡¥￥元円₩₹₽₺₫฿]|zł|RMB|kr\.?|{'|'.join(sorted(ISO_4217))})"
_SPACES = "[ \u00a0\u202f\u2009]"
_PLAIN = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_GROUPED = {
    ".": rf"^[+-]?\d{{1,3}}(?:(?:,\d{{3}})+|(?:{_SPACES}\d{{3}})+|(?:'\d{{3}})+)(?:\.\d+)?$",
    ",": rf"^[+-]?\d{{1,3}}(?:(?:\.\d{{3}})+|(?:{_SPACES}\d{{3}})+|(?:'\d{{3}})+)(?:,\d+)?$",
}


def words(raw: pl.Series) -> pl.Series:
    """Read ids and names as text, as they stand: whole numbers without a decimal point, blanks alone as null."""
    if raw.dtype.is_float():
        whole = (raw.is_finite() & (raw == raw.floor()) & (raw.abs() < 2**53)).fill_null(False)
        raw = raw.set(~whole, None).cast(pl.Int64).cast(pl.String).zip_with(whole, raw.cast(pl.String))
    text = raw.cast(pl.String)
    return text.set(text.str.strip_chars() == "", None)


def numbers(raw: pl.Series, *, decimal: str = ".") -> tuple[pl.Series, pl.Series]:
    """Read numbers; returns (f64, bad): bad where something stood there that is no finite number below the limit.

    Text may carry a currency's sign or code, a minus behind it or round brackets for it, thousands apart by a comma
    (a point where `decimal` is ","), a space or an apostrophe, and full-width digits.
    """
    if raw.dtype == pl.String:
        text = raw.str.strip_chars()
        there = text.is_not_null() & (text != "")
        value = _plain(text) if decimal == "." else pl.Series(raw.name, [None] * len(raw), dtype=pl.Float64)
        hard = there & value.is_null()
        if hard.any():
            value = value.zip_with(~hard, _written(text.set(~hard, None), decimal))
    else:
        there = raw.is_not_null()
        value = (
            raw.cast(pl.Float64) if raw.dtype.is_numeric() else pl.repeat(None, len(raw), dtype=pl.Float64, eager=True)
        )
    good = (value.is_finite() & (value.abs() < MONEY_LIMIT)).fill_null(False)
    value = value.set(~good, None)
    return value.set(value == 0.0, 0.0), there & ~good  # -0.0 and 0.0 are one number, so they are one in an id


_YES = ("yes", "y", "true", "t", "1", "on", "granted", "given", "opt-in", "opted in", "subscribed", "ja", "oui", "是")
_NO = (
    *("no", "n", "false", "f", "0", "off", "withdrawn", "denied", "refused", "opt-out", "opted out", "unsubscribed"),
    *("nein", "non", "否"),
)


def truths(raw: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Read yes or no; returns (bool, bad): bad where neither can be read, nothing at all included."""
    text = words(raw).str.strip_chars().str.to_lowercase()
    value = text.is_in(_YES)
    known = (value | text.is_in(_NO)).fill_null(False)
    return value.set(~known, None), ~known


def currencies(raw: pl.Series) -> pl.Series:
    """Read the ISO 4217 code in a text: "EUR", "eur", "12.50 EUR", "€ 12.50"; null where none is."""
    text = raw.cast(pl.String).str.strip_chars()
    text = text.zip_with(~text.str.contains("^[a-z]{3}$").fill_null(False), text.str.to_uppercase())
    code = text.str.extract(r"(?:^|[^A-Za-z])([A-Z]{3})(?:$|[^A-Za-z])", 1)
    code = code.replace("RMB", "CNY")
    code = code.set(~code.is_in(list(ISO_4217)).fill_null(False), None)
    for sign, name in _SIGNS.items():
        fits = text.str.contains(sign, literal=True).fill_null(False) & code.is_null()
        code = code.set(fits, name)
    return code


def moments(raw: pl.Series, *, zone: str, time_format: str | None, others: tuple[str, ...] = ()) -> pl.Series:
    """Read times as UTC; null where there is none, where it cannot be read, and in an hour the clocks skipped.

    A time with an offset keeps it; one without is local to `zone`, and the earlier one in the hour that came twice.
    `time_format`: strftime, or seconds, milliseconds, microseconds since 1970 (UTC); None = ISO 8601. `others` are
    tried in their order where it does not fit.
    """
    if raw.dtype == pl.Date:
        raw = raw.cast(pl.Datetime("us"))
    if isinstance(raw.dtype, pl.Datetime):
        return _of_our_era(_utc(raw.dt.cast_time_unit("us"), zone))
    if time_format in EPOCHS and raw.dtype.is_numeric():
        raw = raw.cast(pl.String)
    if raw.dtype != pl.String:
        return pl.Series(raw.name, [None] * len(raw), dtype=pl.Datetime("us", "UTC"))
    text = raw.str.strip_chars()
    found = _moments(text, zone, time_format)
    for other in others:
        left = text.set(found.is_not_null(), None)
        if left.null_count() == len(left):
            break
        found = found.fill_null(_moments(left, zone, None if other == "iso" else other))
    return _of_our_era(found)


def _of_our_era(found: pl.Series) -> pl.Series:
    """Leave out moments before the year 1 and after 9999: "-2026-05-01" is a date in ISO 8601, but not in Python."""
    year = found.dt.year()
    return found.set(((year < 1) | (year > 9_999)).fill_null(False), None)


def _moments(text: pl.Series, zone: str, time_format: str | None) -> pl.Series:
    if time_format is None:
        return _iso(text, zone)
    if time_format in EPOCHS:
        number = text.cast(pl.Float64, strict=False) * EPOCHS[time_format]
        number = number.set((number.abs() >= 2**53).fill_null(True), None)
        return number.round().cast(pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if "%p" in time_format:
        text = _half_days(text)
    if "%z" in time_format or "%:z" in time_format:
        return text.str.to_datetime(time_format, time_unit="us", strict=False).dt.convert_time_zone("UTC")
    return _utc(text.str.to_datetime(time_format, time_unit="us", strict=False), zone)


def _iso(text: pl.Series, zone: str) -> pl.Series:
    iso = text.str.replace(r"^(\d{4}-\d{2}-\d{2}) +", "${1}T").str.replace(r" *(?:UTC|GMT|Z)$", "Z")
    iso = iso.str.replace(r" ([+-]\d{2}:?\d{2})$", "${1}")
    local = pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us"))
    for pattern in _NAIVE_FORMATS:
        if local.null_count() == 0:
            break
        local = local.fill_null(iso.str.to_datetime(pattern, time_unit="us", strict=False))
    if local.null_count():
        local = local.fill_null(iso.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    found = _utc(local, zone)
    if not local.null_count() or not iso.str.contains(rf"T.*{_OFFSET}").any():
        return found
    offset = iso.str.replace("Z$", "+00:00")
    aware = offset.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    aware = aware.fill_null(offset.str.to_datetime("%Y-%m-%dT%H:%M%z", time_unit="us", strict=False))
    return aware.dt.convert_time_zone("UTC").fill_null(found)


def _half_days(text: pl.Series) -> pl.Series:
    """Write Chinese forenoons and afternoons as AM and PM."""
    return text.str.replace_many(["上午", "下午", "凌晨", "晚上"], ["AM", "PM", "AM", "PM"])


def _plain(text: pl.Series) -> pl.Series:
    return text.cast(pl.Float64, strict=False)


def _written(text: pl.Series, decimal: str) -> pl.Series:
    """Read numbers as people write them."""
    bare = text.str.replace_many(_WIDE).str.replace_all("\u2212", "-", literal=True)
    bare = bare.str.replace(r"^\((.*)\)$", "-${1}").str.replace(rf"^([+-]?){_SPACES}*{_MONEY}{_SPACES}*", "${1}")
    bare = bare.str.replace(rf"{_SPACES}*{_MONEY}(-?)$", "${1}").str.replace(r"^(\d.*)-$", "-${1}")
    bare = bare.str.replace(rf"^-{_SPACES}+", "-").str.strip_chars()
    grouped = bare.str.contains(_GROUPED[decimal]).fill_null(False)
    apart = "," if decimal == "." else "."
    plain = bare.zip_with(~grouped, bare.str.replace_all(rf"{_SPACES}|'|\{apart}", ""))
    if decimal == ",":
        plain = plain.set(plain.str.contains(".", literal=True).fill_null(False), None)  # 1.5: a half or 15?
        plain = plain.str.replace(",", ".", literal=True)
    return plain.set(~plain.str.contains(_PLAIN).fill_null(False), None).cast(pl.Float64, strict=False)


def _utc(local: pl.Series, zone: str) -> pl.Series:
    if isinstance(local.dtype, pl.Datetime) and local.dtype.time_zone is not None:
        return local.dt.convert_time_zone("UTC")
    aware = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return aware.dt.convert_time_zone("UTC")
