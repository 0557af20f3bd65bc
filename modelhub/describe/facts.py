"""What people say about a version: checked, typed, and laid over what was read from the model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from numbers import Integral, Rational, Real
from typing import TypedDict

import msgspec

from modelhub.errors import InvalidInput
from modelhub.names import instant, shown
from modelhub.records import Metadata, Scalar

SKIPPED = "describe.skipped"
"""The key in ``extra`` under which ``describe`` says what it could not use."""

LINES = ("title", "owner", "creator", "licence", "framework")
LINE_CHARS = 512
TEXTS = ("description", "card")
TEXT_BYTES = 64 * 1024
LISTS = {"labels": (64, 128), "datasets": (256, LINE_CHARS), "bases": (64, LINE_CHARS)}
"""For each list, how many items it may have and how many characters each of them."""

PAIRS = ("params", "metrics", "extra")
PAIRS_COUNT = 256
KEY_CHARS = 128
VALUE_BYTES = 4 * 1024
INTEGERS = range(-(2**63), 2**63)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INT = re.compile(r"[+-]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")


class Facts(TypedDict, total=False):
    """The keywords by which ``push`` and ``edit`` describe a version; those not given stay as is.

    ``params``, ``metrics`` and ``extra`` are merged key by key, and None as a value removes the
    key. Every other field is replaced; None or ``""`` clears it. ``created`` is when the model was
    made: a datetime or ISO 8601 text, UTC where it does not say.
    """

    title: str | None
    description: str | None
    card: str | None
    owner: str | None
    creator: str | None
    created: datetime | str | None
    datasets: list[str] | tuple[str, ...] | None
    params: Mapping[str, Scalar | None] | None
    metrics: Mapping[str, Scalar | None] | None
    labels: list[str] | tuple[str, ...] | None
    licence: str | None
    framework: str | None
    extra: Mapping[str, Scalar | None] | None


def apply(metadata: Metadata, facts: Mapping[str, object]) -> Metadata:
    """``metadata`` with ``facts`` laid over it, as ``Facts`` describes.

    Raises:
        InvalidInput: an unknown field, a value of the wrong type, or one over its limit: title,
            owner, creator, licence and framework one line of at most 512 characters; description
            and card 64 KiB; 64 labels of 128 characters; 256 datasets of 512; 256 each of params,
            metrics and extra, their keys at most 128 printable characters, their texts 4 KiB, their
            integers 64 bits, their floats finite.
    """
    for field in facts.keys() - Facts.__annotations__.keys():
        raise InvalidInput(
            f"{shown(field)} is not a field of a version's metadata",
            remedy=f"The fields are {', '.join(Facts.__annotations__)}.",
        )
    return msgspec.structs.replace(
        metadata, **{field: checked(metadata, field, given) for field, given in facts.items()}
    )


def parse_value(text: str) -> Scalar:
    """The value in ``KEY=VALUE`` on a command line or in a card, typed by how it is written.

    Digits make an int (``3``, ``-40``), a point or an exponent makes a float (``.5``, ``1e-4``),
    ``true`` and ``false`` in any case a bool. Everything else is the text itself: ``007``,
    ``1_000``, ``nan``, a number too large for 64 bits. Quotes around a value force text and are
    taken off: ``"3"`` is the text 3.
    """
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if _INT.fullmatch(text) and int(text) in INTEGERS:
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def facts_text(metadata: Metadata) -> list[str]:
    """What search should find beside title, description, labels and card, as short strings."""
    lines = (metadata.owner, metadata.creator, metadata.licence, metadata.framework)
    pairs = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for field in (metadata.params, metadata.metrics, metadata.extra)
        for key, value in field.items()
        if key != SKIPPED
    ]
    return [*filter(None, lines), *metadata.datasets, *metadata.bases, *pairs]


def checked(metadata: Metadata, field: str, given: object) -> object:
    """What ``field`` of ``metadata`` becomes by ``given``.

    Raises:
        InvalidInput: as ``apply``.
    """
    if field == "created":
        return _moment(given)
    if field in LISTS:
        return _texts(field, given)
    if field in PAIRS:
        return _merged(field, getattr(metadata, field), given)
    return _text(field, given) if given is not None else ""


def _moment(given: object) -> datetime | None:
    if given is None or given == "":
        return None
    if isinstance(given, datetime):
        given = given.isoformat()
    if not isinstance(given, str):
        raise InvalidInput(
            f"created takes a datetime or a text, not {_kind(given)}",
            remedy="Write ISO 8601, such as 2026-05-01T12:00Z.",
        )
    return instant(given)


def _text(field: str, given: object) -> str:
    if not isinstance(given, str):
        raise InvalidInput(
            f"{field} takes a text, not {_kind(given)}", remedy=f"Give {field} as a string."
        )
    size = _utf8_bytes(field, given)
    if field in TEXTS:
        if size > TEXT_BYTES:
            raise InvalidInput(
                f"{field} has {size:,} bytes; the limit is {TEXT_BYTES:,}",
                remedy="Put long texts into files of the version.",
            )
    elif len(given) > LINE_CHARS or _CONTROL.search(given):
        raise InvalidInput(
            f"{field} {shown(given)} is not one line of at most {LINE_CHARS} characters",
            remedy="Use the description for longer texts.",
        )
    return _exact(given)


def _texts(field: str, given: object) -> tuple[str, ...]:
    if given is None or given == "":
        return ()
    if not isinstance(given, list | tuple):
        example = shown(given) if isinstance(given, str) else "'a', 'b'"
        raise InvalidInput(
            f"{field} takes a list of texts, not {_kind(given)}",
            remedy=f"Write {field}=[{example}].",
        )
    count, chars = LISTS[field]
    if len(given) > count:
        raise InvalidInput(
            f"{field} has {len(given):,} items; the limit is {count}",
            remedy="Put long lists into files of the version.",
        )
    for text in given:
        if not isinstance(text, str) or not 0 < len(text) <= chars or _CONTROL.search(text):
            raise InvalidInput(
                f"{_named(text)} cannot be one of the {field}",
                remedy=f"Each is one line of 1 to {chars} characters.",
            )
        _utf8_bytes(field, text)
    return tuple(dict.fromkeys(map(_exact, given)))


def _merged(field: str, held: Mapping[str, Scalar], given: object) -> dict[str, Scalar]:
    if given is None or given == "":
        return {}
    if not isinstance(given, Mapping):
        raise InvalidInput(
            f"{field} takes keys and values, not {_kind(given)}",
            remedy=f"Write {field}={{'key': value}}.",
        )
    merged = dict(held)
    for key, value in given.items():
        name = _key(field, key)
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _scalar(f"{field}[{shown(name)}]", value)
    if len(merged) > PAIRS_COUNT:
        raise InvalidInput(
            f"{field} would have {len(merged):,} keys; the limit is {PAIRS_COUNT}",
            remedy="Put long lists into files of the version.",
        )
    return merged


def _key(field: str, key: object) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS or not key.isprintable():
        raise InvalidInput(
            f"{_named(key)} cannot be a key of {field}",
            remedy=f"Use 1 to {KEY_CHARS} printable characters.",
        )
    return _exact(key)


def _scalar(where: str, value: object) -> Scalar:
    # Real and Integral take in numpy's numbers; they are stored as Python's own.
    match value:
        case bool():
            return value
        case str() if _utf8_bytes(where, value) <= VALUE_BYTES:
            return _exact(value)
        case Integral() if int(value) in INTEGERS:
            return int(value)
        case Real() if not isinstance(value, Rational) and math.isfinite(value):
            return float(value)
        case _:
            raise InvalidInput(
                f"{where} cannot be this: {_kind(value)}",
                remedy=f"Use a text of at most {VALUE_BYTES:,} bytes, a 64-bit integer, a finite "
                "float or a bool; write others as text.",
            )


def _utf8_bytes(where: str, text: str) -> int:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        size = -1
    if size < 0 or "\0" in text:
        raise InvalidInput(
            f"{where} {shown(text)} is not text that can be stored",
            remedy="Use valid Unicode without NUL.",
        )
    return size


def _exact(text: str) -> str:
    # A plain str: rows cannot hold subclasses such as numpy's.
    return str.__str__(text)


def _named(value: object) -> str:
    return shown(value) if isinstance(value, str) else _kind(value)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
