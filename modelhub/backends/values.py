"""What a document can be filtered, sorted and counted by: keywords and numbers of its fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from modelhub.backends.words import folded, texts
from modelhub.query.fields import FIELDS, PAIRS, Kind, milliseconds

KEYWORD_CHARS = 1024
"""Longer keywords are told apart by so many characters."""

_WHOLE = range(-(2**63), 2**63)


def keyword(text: str) -> str:
    """``text`` as keywords are stored and compared."""
    return " ".join(folded(text).split())[:KEYWORD_CHARS]


def keywords(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """The keywords of each field that has some, pairs (``param.optimizer``) included."""
    found = {
        field: [keyword(text) for text in texts(body, key)]
        for field, (kind, key) in FIELDS.items()
        if kind in {Kind.KEYWORD, Kind.NAME}
    }
    for field, value in _pairs(body):
        if isinstance(value, bool):
            found[field] = [str(value).lower()]
        elif isinstance(value, str):
            found[field] = [keyword(value)]
    distinct = {field: list(dict.fromkeys(filter(None, values))) for field, values in found.items()}
    return {field: values for field, values in distinct.items() if values}


def numbers(body: Mapping[str, Any]) -> dict[str, float]:
    """The number of each field that has one, pairs included.

    Times are whole milliseconds since 1970, sizes and counts whole numbers of 64 bits.
    """
    found: dict[str, float] = {}
    for field, (kind, key) in FIELDS.items():
        value = body.get(key)
        if kind is Kind.TIME and isinstance(value, str):
            found |= _moment(field, value)
        elif kind in {Kind.NUMBER, Kind.SIZE} and isinstance(value, int) and _is_whole(value):
            found[field] = value
    for field, value in _pairs(body):
        if _is_number(value):
            found[field] = float(value)
    return found


def _pairs(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for group, key in PAIRS.items():
        held = body.get(key)
        for name, value in held.items() if isinstance(held, dict) else ():
            yield f"{group}.{name}", value


def _moment(field: str, value: str) -> dict[str, float]:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return {}
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return {field: milliseconds(aware)}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _WHOLE


def _is_number(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or _is_whole(value)
