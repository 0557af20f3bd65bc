"""Metadata in the making: what readers find is cut to its limits; what cannot be kept is noted."""

from __future__ import annotations

import msgspec

from modelhub.describe.facts import (
    LINE_CHARS,
    LISTS,
    SKIPPED,
    TEXT_BYTES,
    TEXTS,
    VALUE_BYTES,
    checked,
)
from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.records import Metadata

DRAFT_BYTES = 128 * 1024
"""Half a row, as JSON; like the number of pairs it leaves room for what people add."""

DRAFT_PAIRS = 128

_NOTE_BYTES = 512


class Draft:
    """Metadata as far as it is known; the first reader to state something is believed.

    Values may be anything that YAML or JSON can hold. What does not fit its field is left out, and
    named by ``finish``.
    """

    def __init__(self) -> None:
        self._found = Metadata()
        self._skipped: list[str] = []
        self._left_out: list[str] = []

    def skip(self, reason: str) -> None:
        """Note what could not be read: a file and why."""
        self._skipped.append(reason)

    def text(self, field: str, value: object) -> None:
        """State a text or time; a list becomes one text."""
        if _is_empty(value) or getattr(self._found, field):
            return
        text = _plain(value)
        if text is None:
            self._left_out.append(field)
        elif field in TEXTS:
            self._state(field, cut(text, TEXT_BYTES), field)
        else:
            self._state(field, " ".join(text.split())[:LINE_CHARS], field)

    def texts(self, field: str, values: object) -> None:
        """Add the items of a list; a single one needs no list around it."""
        for value in values if isinstance(values, list) else [values]:
            held = getattr(self._found, field)
            if len(held) == LISTS[field][0]:
                self._left_out.append(field)
                return
            if not _is_empty(value):
                self._state(field, [*held, _plain(value)], field)

    def pair(self, field: str, key: str, value: object) -> None:
        """State ``key`` of ``metrics`` or ``extra``; a list becomes one text."""
        held = getattr(self._found, field)
        if _is_empty(value) or key in held:
            return
        if len(held) == DRAFT_PAIRS:
            self._left_out.append(field)
            return
        if isinstance(value, list):
            value = _plain(value)
        if isinstance(value, str):
            value = cut(value, VALUE_BYTES)
        if value is None:
            self._leave_out(key)
        else:
            self._state(field, {key: value}, key)

    def finish(self) -> Metadata:
        """What was found, at most ``DRAFT_BYTES`` of it; what is missing stands in ``extra``."""
        found = self._found
        while len(msgspec.json.encode(found)) > DRAFT_BYTES:
            sizes = {
                field: len(msgspec.json.encode(value))
                for field, value in msgspec.structs.asdict(found).items()
            }
            largest = max(sizes, key=sizes.__getitem__)
            self._left_out.append(largest)
            found = msgspec.structs.replace(found, **{largest: getattr(Metadata(), largest)})
        notes = list(self._skipped)
        if self._left_out:
            notes.append(f"left out: {', '.join(dict.fromkeys(self._left_out))}")
        if not notes:
            return found
        note = cut("; ".join(notes), _NOTE_BYTES)
        return msgspec.structs.replace(found, extra={**found.extra, SKIPPED: note})

    def _state(self, field: str, value: object, what: str) -> None:
        try:
            changed = checked(self._found, field, value)
        except InvalidInput:
            self._leave_out(what)
        else:
            self._found = msgspec.structs.replace(self._found, **{field: changed})

    def _leave_out(self, what: str) -> None:
        self._left_out.append(what if what.isprintable() and len(what) < 60 else shown(what))


def cut(text: str, limit_bytes: int) -> str:
    """``text`` without what lies beyond ``limit_bytes`` of UTF-8, whole characters only."""
    return text.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore")


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | list) and not value)


def _plain(value: object) -> str | None:
    """A scalar, or a list of scalars, as one text; None for anything deeper."""
    if isinstance(value, list):
        items = [_plain(item) if not isinstance(item, list) else None for item in value]
        texts = [item for item in items if item is not None]
        return ", ".join(texts) if len(texts) == len(items) else None
    return str(value) if isinstance(value, str | int | float) else None
