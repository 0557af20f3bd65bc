"""What a search asks for, as a tree of frozen values; and the text that such a tree came from.

``parse`` makes trees of text, search indices answer trees and never see text. The values of
``Equal`` and ``Prefix`` are as they were written; an index compares them in folded form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec

from modelhub.query.fields import Kind, kind_of, written_time


class Word(msgspec.Struct, frozen=True, tag=True):
    """A text without spaces, each word of which occurs in one field, or (``""``) in any."""

    text: str
    field: str = ""


class Phrase(msgspec.Struct, frozen=True, tag=True):
    """A text whose words follow each other in one field, or (``""``) in any."""

    text: str
    field: str = ""


class Bag(msgspec.Struct, frozen=True, tag=True):
    """Words and phrases side by side: enough of them occur, or (``any``) at least a part of one.

    How many are enough is for ``backends.words`` to say, which knows what a word is.
    """

    words: tuple[Word | Phrase, ...]
    any: bool = False


class Equal(msgspec.Struct, frozen=True, tag=True):
    """A field has this keyword, whatever its case."""

    field: str
    value: str


class Prefix(msgspec.Struct, frozen=True, tag=True):
    """A field has a keyword that begins so."""

    field: str
    value: str


class Range(msgspec.Struct, frozen=True, tag=True):
    """A field has a number from ``low`` to ``high``, where there are such bounds.

    ``strict``: the one bound that there is does not belong to it. Times are milliseconds since 1970
    and sizes are bytes.
    """

    field: str
    low: float | None = None
    high: float | None = None
    strict: bool = False


class And(msgspec.Struct, frozen=True, tag=True):
    """All of these hold."""

    clauses: tuple[Clause, ...]


class Or(msgspec.Struct, frozen=True, tag=True):
    """One of these holds."""

    clauses: tuple[Clause, ...]


class Not(msgspec.Struct, frozen=True, tag=True):
    """This does not hold."""

    clause: Clause


Clause = Word | Phrase | Bag | Equal | Prefix | Range | And | Or | Not

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def sought(clause: Clause | None) -> Iterator[Word | Phrase]:
    """The words and phrases that a hit may hold: those that are not ruled out by ``Not``."""
    match clause:
        case Word() | Phrase():
            yield clause
        case Bag(words=clauses) | And(clauses=clauses) | Or(clauses=clauses):
            for inner in clauses:
                yield from sought(inner)
        case _:
            pass


def text_of(clause: Clause) -> str:
    """The query that ``parse`` reads as ``clause``, if ``parse`` made it."""
    match clause:
        case And(clauses=(Bag() as bag, *others)) if not any(map(_is_bare, others)):
            return " ".join([text_of(bag), *map(_grouped, others)])
        case And(clauses=clauses):
            return " AND ".join(map(_grouped, clauses))
        case Or(clauses=clauses):
            return " OR ".join(map(_grouped, clauses))
        case Not(clause=inner):
            return f"NOT {_grouped(inner)}"
        case Bag(words=words):
            return " ".join(map(text_of, words))
        case _:
            return _leaf(clause)


def _leaf(clause: Word | Phrase | Equal | Prefix | Range) -> str:
    match clause:
        case Word(text=text, field=field):
            return f"{field}:{text}" if field else text
        case Phrase(text=text, field=field):
            return f"{field}:{_quoted(text)}" if field else _quoted(text)
        case Equal(field=field, value=value):
            return f"{_field(field)}:{_quoted(value)}"
        case Prefix(field=field, value=value):
            return f"{_field(field)}:{value}*"
        case Range():
            return _range(clause)


def _is_bare(clause: Clause) -> bool:
    """Whether it would join a bag that it stands beside."""
    return isinstance(clause, Bag) or (isinstance(clause, Word | Phrase) and not clause.field)


def _grouped(clause: Clause) -> str:
    text = text_of(clause)
    several = isinstance(clause, Bag) and len(clause.words) > 1
    return f"({text})" if several or isinstance(clause, And | Or) else text


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _field(field: str) -> str:
    group, dot, key = field.partition(".")
    return field if not dot or _PLAIN_KEY.fullmatch(key) else f"{group}.{_quoted(key)}"


def _range(clause: Range) -> str:
    bounds = [_bound(clause.field, bound) for bound in (clause.low, clause.high)]
    field, equal = _field(clause.field), "" if clause.strict else "="
    if clause.high is None:
        return f"{field}:>{equal}{bounds[0]}"
    if clause.low is None:
        return f"{field}:<{equal}{bounds[1]}"
    return f"{field}:{bounds[0]}..{bounds[1]}"


def _bound(field: str, bound: float | None) -> str:
    if bound is None:
        return ""
    if kind_of(field) is Kind.TIME:
        return written_time(math.floor(bound))
    return repr(bound)
