"""Ranges as people write them: ``3``, ``>=1e-4``, ``<2GB``, ``2026-01..2026-03``, ``0.9..``."""

from __future__ import annotations

import re

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.query.clauses import Range
from modelhub.query.fields import Kind
from modelhub.query.scalars import interval, number

_UNIT = re.compile(r"[A-Za-z]+$")
_COMPARED = re.compile(r"(>=|<=|>|<)(.*)", re.DOTALL)


def range_of(field: str, kind: Kind, text: str) -> Range:
    """The values of a field of that kind which ``text`` means; both ends of ``a..b`` are included.

    Raises:
        InvalidInput: it means none.
    """
    if compared := _COMPARED.fullmatch(text):
        return _compared(field, kind, compared[1], compared[2])
    first, dots, last = text.partition("..")
    if not dots:
        low, high = interval(kind, text)
        return Range(field, low, high)
    if not first and not last:
        raise InvalidInput("a range without ends", remedy="Write 1..5, 1.. or ..5.")
    if (
        kind is Kind.SIZE
        and first
        and last
        and (unit := _UNIT.search(last))
        and first[-1].isdigit()
    ):
        first += unit[0]  # 1..5GB
    bounds = Range(
        field,
        interval(kind, first)[0] if first else None,
        interval(kind, last)[1] if last else None,
    )
    if bounds.low is not None and bounds.high is not None and bounds.low > bounds.high:
        raise InvalidInput(
            f"the range {shown(text)} ends before it begins", remedy="Write the lower end first."
        )
    return bounds


def pair_range(field: str, text: str) -> Range | None:
    """The same for a field that may hold numbers or texts; None where ``text`` is a text."""
    ends = [end for end in text.split("..", 1) if end]
    if _COMPARED.fullmatch(text) or (ends and all(number(end) is not None for end in ends)):
        return range_of(field, Kind.NUMBER, text)
    return None


def _compared(field: str, kind: Kind, sign: str, text: str) -> Range:
    low, high = interval(kind, text)
    if kind is Kind.TIME:
        # In whole milliseconds, what is after a day begins with its next one.
        edges = {">": high + 1, ">=": low, "<": low - 1, "<=": high}
        return Range(field, low=edges[sign]) if ">" in sign else Range(field, high=edges[sign])
    strict = "=" not in sign
    if ">" in sign:
        return Range(field, low=low, strict=strict)
    return Range(field, high=high, strict=strict)
