"""PURE: numbers, times and sizes as people read them on a page."""

from __future__ import annotations

import math
from datetime import UTC, datetime

NONE = "\N{EN DASH}"
"""Stands where nothing tells."""

_MINUS, _TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PLAIN_FROM, _PLAIN_TO = 1e-4, 1e6


def number(value: float | str | None, digits: int = 4) -> str:
    """A number, to some significant digits; a dash for none."""
    if value is None:
        return NONE
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    if _PLAIN_FROM <= abs(value) < _PLAIN_TO:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.replace("-", _MINUS)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    if mantissa in {"1", "-1"}:
        return mantissa.replace("1", power).replace("-", _MINUS)
    return f"{mantissa}{_TIMES}{power}".replace("-", _MINUS)


def count(value: float | None) -> str:
    """How many there are; a dash where nothing tells."""
    return NONE if value is None else f"{value:,.0f}"


def counted(value: int, noun: str, plural: str = "") -> str:
    """How many there are of what: "1 shard", "2 shards"."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def share(part: float, whole: float) -> str:
    """A part of a whole, as a percentage: never 0% of what there is, nor 100% of less than all."""
    if not whole:
        return NONE
    percent = 100 * part / whole
    if 0 < percent < 0.01:
        return "< 0.01%"
    if 99.99 < percent < 100:
        return "> 99.99%"
    return f"{percent:.2f}".rstrip("0").rstrip(".") + "%"


def duration(seconds: float | None) -> str:
    """A time span."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s" if 0.05 <= seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def moment(text: str) -> str:
    """A time in ISO 8601, in UTC; as it is if it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    if found.tzinfo is not None:
        found = found.astimezone(UTC)
    return f"{found:%Y-%m-%d %H:%M:%S} UTC"


def short_duration(seconds: float) -> str:
    """A time span; below ten minutes to a tenth of a second."""
    return f"{seconds:,.1f} s" if seconds < 600 else duration(seconds)
