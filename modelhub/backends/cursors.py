"""Where a page of hits ended, as a text for whoever asks for the next one."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated
from zlib import crc32

import msgspec

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.stores import Query

Key = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float | None
"""What a hit is ordered by, as its engine says it."""


def signature(query: Query) -> int:
    """A number for what the query finds and in which order: alike for all of its pages."""
    return crc32(msgspec.json.encode([query.where, query.current_only, query.sort]))


def cursor(query: Query, keys: Sequence[Key]) -> str:
    """What ``ended`` reads as ``keys``, for the same query."""
    return urlsafe_b64encode(msgspec.json.encode([signature(query), *keys])).decode()


def ended(query: Query) -> tuple[Key, str] | None:
    """The key and the id of the hit behind which the page begins; None for the first page.

    Raises:
        InvalidInput: ``after`` is not what a page of this query ended with.
    """
    if query.after is None:
        return None
    try:
        found = msgspec.json.decode(urlsafe_b64decode(query.after), type=tuple[int, Key, str])
    except (ValueError, msgspec.MsgspecError):
        found = (-1, None, "")
    if found[0] != signature(query):
        raise InvalidInput(
            f"{shown(query.after)} does not continue this search",
            remedy="Give the cursor that came with a page of the same search, or none.",
        )
    return found[1:]
