"""Numbers, sizes and times as people write them in a search, each as the interval that it means.

``2026-05`` is a whole month and ``2026-05-01`` a whole day; a number is the interval of itself.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from datetime import UTC, datetime

from modelhub.errors import InvalidInput
from modelhub.names import instant, shown
from modelhub.query.fields import Kind, milliseconds

Interval = tuple[float, float]
"""First and last value, both included."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_SIZE = re.compile(r"((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)([A-Za-z]*)", re.ASCII)
_DECIMAL = {unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb", "pb"))}
_BINARY = {unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib", "tib", "pib"), 1)}
_UNITS = {"": 1, **_DECIMAL, **_BINARY}
_CALENDAR = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)
_CLOCK = re.compile(r".*[T ]\d{2}:\d{2}(:\d{2})?(\.\d+)?.*", re.ASCII)
_DAY_MS = 86_400_000
_EXAMPLES = {
    Kind.NUMBER: "Write a number, such as 3 or 1e-4.",
    Kind.SIZE: "Write a size, such as 500MB or 2GiB.",
    Kind.TIME: "Write a time, such as 2026, 2026-05, 2026-05-01 or 2026-05-01T12:00Z.",
}


def interval(kind: Kind, text: str) -> Interval:
    """What ``text`` means as a value of that kind.

    Raises:
        InvalidInput: it is none.
    """
    found = _time(text) if kind is Kind.TIME else _single(kind, text)
    if found is None:
        raise InvalidInput(
            f"{shown(text)} is not a {kind.value}",
            remedy=_EXAMPLES.get(kind, _EXAMPLES[Kind.NUMBER]),
        )
    return found


def number(text: str) -> float | None:
    """``text`` as a finite number, None where it is none."""
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def _single(kind: Kind, text: str) -> Interval | None:
    value = _size(text) if kind is Kind.SIZE else number(text)
    return None if value is None else (value, value)


def _size(text: str) -> float | None:
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        return None
    value = number(match[1])
    return None if value is None or not math.isfinite(value * unit) else value * unit


def _time(text: str) -> Interval | None:
    calendar = _CALENDAR.fullmatch(text)
    try:
        if calendar:
            return _days(*(int(part) if part else None for part in calendar.groups()))
        first = milliseconds(instant(text))
        parts = _CLOCK.fullmatch(text)
    except (ValueError, OverflowError, InvalidInput):
        return None
    if parts is None or parts[2]:
        return first, first
    return first, first + (1000 if parts[1] else 60_000) - 1


def _days(year: int | None, month: int | None, day: int | None) -> Interval:
    """A whole year, month or day.

    Raises:
        ValueError: there is none such.
    """
    assert year is not None
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    last_month = month or 12
    last = datetime(year, last_month, day or monthrange(year, last_month)[1], tzinfo=UTC)
    return milliseconds(first), milliseconds(last) + _DAY_MS - 1
