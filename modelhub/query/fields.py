"""The fields that a search can name, where a document's body keeps each, and what to sort by."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import NamedTuple

import msgspec

from modelhub.errors import InvalidInput
from modelhub.names import shown


class Kind(Enum):
    """What a field's values are, and so which clauses it can stand in."""

    TEXT = "text"
    NAME = "name"  # a text, and a keyword as well
    KEYWORD = "keyword"
    NUMBER = "number"
    SIZE = "size"
    TIME = "time"
    PAIR = "pair"  # a keyword or a number, under a key of the user's own


class Field(NamedTuple):
    """A field's kind, and the key in the body under which its values are."""

    kind: Kind
    key: str


FIELDS = {
    "name": Field(Kind.NAME, "name"),
    "title": Field(Kind.TEXT, "title"),
    "description": Field(Kind.TEXT, "description"),
    "card": Field(Kind.TEXT, "card"),
    "message": Field(Kind.TEXT, "message"),
    "label": Field(Kind.KEYWORD, "labels"),
    "owner": Field(Kind.KEYWORD, "owner"),
    "creator": Field(Kind.KEYWORD, "creator"),
    "actor": Field(Kind.KEYWORD, "actor"),
    "dataset": Field(Kind.KEYWORD, "datasets"),
    "framework": Field(Kind.KEYWORD, "framework"),
    "licence": Field(Kind.KEYWORD, "licence"),
    "alias": Field(Kind.KEYWORD, "aliases"),
    "branch": Field(Kind.KEYWORD, "branches"),
    "tag": Field(Kind.KEYWORD, "tags"),
    "base": Field(Kind.KEYWORD, "bases"),
    "parent": Field(Kind.KEYWORD, "parents"),
    "origin": Field(Kind.KEYWORD, "origin"),
    "digest": Field(Kind.KEYWORD, "digest"),
    "number": Field(Kind.NUMBER, "number"),
    "files": Field(Kind.NUMBER, "files"),
    "size": Field(Kind.SIZE, "size_bytes"),
    "created": Field(Kind.TIME, "created"),
}
PAIRS = {"param": "params", "metric": "metrics", "extra": "extra"}
"""Fields with keys (``param.lr``), and where the body keeps them."""

_SYNONYMS = {
    "labels": "label",
    "license": "licence",
    "datasets": "dataset",
    "bases": "base",
    "params": "param",
    "metrics": "metric",
}
_SORTED = {Kind.NAME, Kind.NUMBER, Kind.SIZE, Kind.TIME, Kind.PAIR}
_FIRST, _LAST = (moment.replace(tzinfo=UTC) for moment in (datetime.min, datetime.max))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCORE = "score"


class Sort(msgspec.Struct, frozen=True):
    """What hits are ordered by; those without a value come last, equal ones by id."""

    field: str = SCORE
    descending: bool = True


def field_of(text: str) -> str:
    """The field that ``text`` names, by its own name: ``licence`` for ``license``.

    Raises:
        InvalidInput: there is no such field; the remedy names some that are spelt alike.
    """
    group, dot, key = text.partition(".")
    group = _SYNONYMS.get(group, group)
    if (group in PAIRS and key) or (group in FIELDS and not dot):
        return f"{group}{dot}{key}"
    if group in PAIRS:
        raise InvalidInput(f"{shown(text)} names no key", remedy=f"Write {group}.KEY:VALUE.")
    names = [*FIELDS, *PAIRS, *_SYNONYMS]
    near = difflib.get_close_matches(group.lower(), names, n=3, cutoff=0.5)
    known = dict.fromkeys(_SYNONYMS.get(name, name) for name in near) or [*FIELDS, *PAIRS]
    raise InvalidInput(
        f"{shown(text)} is not a field of search",
        remedy=f"There is {', '.join(known)}; text with a colon goes into quotes.",
    )


def kind_of(field: str) -> Kind:
    """The kind of a field that ``field_of`` gave."""
    return FIELDS[field].kind if field in FIELDS else Kind.PAIR


def facet_of(text: str) -> str:
    """The keyword field that ``text`` names.

    Raises:
        InvalidInput: it names none.
    """
    field = field_of(text)
    if kind_of(field) is not Kind.KEYWORD:
        raise InvalidInput(
            f"{shown(text)} is not a field whose values can be counted",
            remedy="Count "
            + ", ".join(name for name, (kind, _) in FIELDS.items() if kind is Kind.KEYWORD)
            + ".",
        )
    return field


def sort_of(text: str) -> Sort:
    """``score``, ``name``, or a field of numbers; a ``-`` in front of it turns the order round.

    Raises:
        InvalidInput: nothing can be sorted by that.
    """
    name = text.removeprefix("-")
    if name == SCORE:
        return Sort()
    group, quoted, key = name.partition('."')
    if quoted and key.endswith('"'):
        name = f"{group}." + re.sub(r"\\(.)", r"\1", key[:-1])
    field = field_of(name)
    if kind_of(field) not in _SORTED:
        raise InvalidInput(
            f"{shown(text)} is nothing to sort by",
            remedy="Sort by score, name, number, files, size, created, param.KEY, metric.KEY or "
            "extra.KEY.",
        )
    return Sort(field, descending=text.startswith("-"))


def is_sortable(sort: Sort) -> bool:
    """Whether an index can sort so."""
    if sort.field == SCORE:
        return sort.descending
    return _known(sort.field) and kind_of(sort.field) in _SORTED


def is_facet(field: str) -> bool:
    """Whether an index can count the field's values."""
    return _known(field) and kind_of(field) is Kind.KEYWORD


def _known(field: str) -> bool:
    group, _, key = field.partition(".")
    return field in FIELDS or (group in PAIRS and bool(key))


def milliseconds(moment: datetime) -> int:
    """A moment in whole milliseconds since 1970, the unit in which search knows times."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def written_time(since_1970_ms: int) -> str:
    """That moment in ISO 8601, to the millisecond; beyond the calendar, its end."""
    within = min(max(since_1970_ms, milliseconds(_FIRST)), milliseconds(_LAST))
    moment = _EPOCH + timedelta(milliseconds=within)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
