"""Names and revisions, parsed once at the door; everything behind it holds parsed values.

Model names allow lower-case ASCII alone: names that look alike in other scripts or differ only in
case are the classic way to be given the wrong model. File paths inside a version may be in any
script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from modelhub.errors import InvalidInput

DEFAULT_BRANCH = "main"

_MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HEX = re.compile(r"[0-9a-f]{8,64}", re.IGNORECASE)
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
_SHOWN = 60


def shown(text: str) -> str:
    """``text`` as a message may hold it: escaped, so that it cannot disguise itself, and cut."""
    escaped = ascii(text)
    return escaped if len(escaped) <= _SHOWN else f"{escaped[:_SHOWN]}… ({len(text)} characters)"


def model_name(text: str) -> str:
    """``text`` if it names a model.

    Raises:
        InvalidInput: it does not match ``[a-z0-9][a-z0-9._-]{0,127}``, or holds two dots in a row.
    """
    if not isinstance(text, str) or not _MODEL.fullmatch(text) or ".." in text:
        raise InvalidInput(
            f"{shown(str(text))} is not a model name",
            remedy="Use 1 to 128 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, "
            "no '..'; dots make namespaces, as in nlp.sentiment.",
        )
    return text


def ref_name(text: str) -> str:
    """``text`` if it may name a branch, tag or alias.

    Raises:
        InvalidInput: it does not match ``[A-Za-z0-9][A-Za-z0-9._-]{0,127}``, or reads as a number
            or a digest.
    """
    if (
        not isinstance(text, str)
        or not _REF.fullmatch(text)
        or ".." in text
        or text.isdigit()
        or _HEX.fullmatch(text)
    ):
        raise InvalidInput(
            f"{shown(str(text))} cannot name a branch, tag or alias",
            remedy="Use 1 to 128 letters, digits, '.', '_' and '-', beginning with a letter or "
            "digit, no '..', neither all digits nor 8 to 64 hex digits.",
        )
    return text


def file_path(text: str) -> str:
    """``text`` if it is a relative POSIX path that stays inside a version.

    Raises:
        InvalidInput: absolute, empty, not UTF-8, over 1,024 bytes, or with a NUL or an empty, ``.``
            or ``..`` part.
    """
    try:
        size = len(text.encode("utf-8"))
    except (UnicodeEncodeError, AttributeError):
        size = 0
    if (
        not 0 < size <= 1024
        or "\0" in text
        or any(part in {"", ".", ".."} for part in text.split("/"))
    ):
        raise InvalidInput(
            f"{shown(str(text))} is not a file path that a version can hold",
            remedy="Use relative UTF-8 paths of at most 1,024 bytes without '.', '..' or NUL.",
        )
    return text


def request_id(text: str) -> str:
    """``text`` if it can identify a request: 1 to 256 printable ASCII characters.

    Raises:
        InvalidInput: it is not.
    """
    if not (
        isinstance(text, str) and 0 < len(text) <= 256 and text.isascii() and text.isprintable()
    ):
        raise InvalidInput(
            f"{shown(str(text))} is not a request id",
            remedy="Use 1 to 256 printable ASCII characters, such as a UUID.",
        )
    return text


def message_text(text: str) -> str:
    """``text`` if it can be a log message: at most 16 KiB of UTF-8 without NUL.

    Raises:
        InvalidInput: it cannot.
    """
    try:
        size = len(text.encode()) if isinstance(text, str) else -1
    except UnicodeEncodeError:
        size = -1
    if not 0 <= size <= 16 * 1024 or "\0" in text:
        raise InvalidInput(
            f"the message {shown(str(text))} cannot be stored",
            remedy="Use at most 16 KiB of UTF-8 text without NUL.",
        )
    return text


def texts(values: Sequence[str], what: str) -> tuple[str, ...]:
    """``values`` if they are several texts; a single text, which would be taken apart, is none.

    Raises:
        InvalidInput: they are not; ``what`` names them.
    """
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, str) for v in values):
        raise InvalidInput(
            f"{what} takes a list of texts, not {shown(str(values))}",
            remedy=f"Write {what}=['…'].",
        )
    return tuple(values)


def count(number: int, what: str) -> int:
    """``number`` if it is a whole one, 0 or more.

    Raises:
        InvalidInput: it is not; ``what`` names it.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidInput(
            f"{what} cannot be {shown(str(number))}", remedy="Give a whole number, 0 or more."
        )
    return number


_LARGEST_AMOUNT = 1_000_000


def amount(number: float, what: str, *, least: float = 0, most: float = _LARGEST_AMOUNT) -> float:
    """``number`` if it is one from ``least`` to ``most``, a million without one.

    Raises:
        InvalidInput: it is not; ``what`` names it.
    """
    fits = isinstance(number, int | float) and not isinstance(number, bool)
    if not (fits and least <= number <= most):
        raise InvalidInput(
            f"{what} cannot be {shown(str(number))}",
            remedy=f"Give a number from {least:,} to {most:,}.",
        )
    return float(number)


class Head(msgspec.Struct, frozen=True, tag=True):
    """The head of the default branch."""


class Number(msgspec.Struct, frozen=True, tag=True):
    """A version's number."""

    number: int


class Ref(msgspec.Struct, frozen=True, tag=True):
    """A branch, tag or alias."""

    name: str


class Digest(msgspec.Struct, frozen=True, tag=True):
    """A commit digest, or its first 8 or more hex digits, lower case."""

    prefix: str


class AtTime(msgspec.Struct, frozen=True, tag=True):
    """What ``ref`` (None: the default branch) named at ``time``."""

    ref: str | None
    time: datetime


Selector = Head | Number | Ref | Digest | AtTime


class Revision(msgspec.Struct, frozen=True):
    """One version of one model, as a user named it."""

    model: str
    selector: Selector
    text: str

    def __str__(self) -> str:
        return self.text


def revision(text: str) -> Revision:
    """Parse ``NAME`` or ``NAME@REV``.

    REV is a number, ref, digest, ``{TIME}`` or ``REF@{TIME}``. All digits mean a number, 8 to 64
    hex digits a digest. TIME is ISO 8601; without an offset it is UTC.

    Raises:
        InvalidInput: not of that form.
    """
    if not isinstance(text, str):
        raise InvalidInput(
            f"{shown(str(text))} is not a revision",
            remedy="Write NAME or NAME@REV, as in nlp.sentiment@3.",
        )
    name, at, rest = text.partition("@")
    return Revision(model_name(name), _selector(rest, text) if at else Head(), text)


def relative_revision(model: str, text: str, what: str) -> Revision:
    """``text`` as a revision of ``model``, whose name it may leave out.

    ``what`` names it in errors.

    Raises:
        InvalidInput: it is none, or one of another model.
    """
    (text,) = texts([text], what)
    name, at, rest = text.partition("@")
    # REF@{TIME} is as relative as {TIME} and REF are; what has no @ is never a model's name.
    relative = not at or "{" in name or (name != model and rest.startswith("{"))
    parsed = revision(f"{model}@{text}" if relative else text)
    if parsed.model != model:
        raise InvalidInput(
            f"{shown(text)} is not a revision of {model}",
            remedy=f"Give a number, branch, tag, alias or digest of {model}.",
        )
    return parsed


def _selector(rest: str, text: str) -> Selector:
    if rest.isascii() and rest.isdigit():
        if len(rest) > 12 or int(rest) == 0:
            raise InvalidInput(
                f"{shown(text)}: version numbers begin at 1 and have at most 12 digits",
                remedy="Use a number from `log`.",
            )
        return Number(int(rest))
    if _HEX.fullmatch(rest):
        return Digest(rest.lower())
    if rest.endswith("}"):
        ref, brace, time = rest[:-1].partition("{")
        if brace and ref == "":
            return AtTime(None, instant(time))
        if brace and ref.endswith("@"):
            return AtTime(ref_name(ref[:-1]), instant(time))
    if not _REF.fullmatch(rest) or ".." in rest:
        raise InvalidInput(
            f"{shown(text)} is not a revision",
            remedy="After '@' comes a number, a branch, tag or alias, 8 or more digits of a commit "
            "digest, or {TIME}.",
        )
    return Ref(rest)


def instant(text: str) -> datetime:
    """A moment from ISO 8601 text, in UTC.

    Without an offset it is UTC, without a time of day it is midnight UTC.

    Raises:
        InvalidInput: not such a text, no such date, or one that in UTC leaves the years 1 to 9999.
    """
    refusal = InvalidInput(
        f"{shown(str(text))} is not a time", remedy="Write ISO 8601, such as 2026-05-01T12:00Z."
    )
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise refusal
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise refusal from exc
