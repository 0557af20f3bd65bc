"""What every backend refuses alike, whatever its driver would have made of it."""

from __future__ import annotations

import re

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.stores import Query

_PART = re.compile(r"[A-Za-z0-9._-]+")
_TEXT_LIMIT = 4096
_LIMIT = 1000
_OFFSET_LIMIT = 10_000


def check_row(key: bytes, value: bytes | None) -> None:
    """A row's key and value are never empty: HBase reads emptiness as absence.

    Raises:
        InvalidInput: one of them is.
    """
    if not key or value == b"":
        what = "value" if key else "key"
        raise InvalidInput(
            f"a row with an empty {what} (key {shown(key.decode('latin-1'))})",
            remedy=f"Give the row a {what} of at least one byte.",
        )


def is_weight_path(path: str) -> bool:
    """Whether ``path`` can name a file of a weight store."""
    return all(_PART.fullmatch(part) and part not in {".", ".."} for part in path.split("/"))


def check_weight_path(path: str) -> None:
    """A weight store's path is relative, in parts of ``[A-Za-z0-9._-]+`` but not ``.`` and ``..``.

    Raises:
        InvalidInput: it is not such a path.
    """
    if not is_weight_path(path):
        raise InvalidInput(
            f"{shown(path)} is not a path in a weight store",
            remedy="Use parts of A-Z, a-z, 0-9, '.', '_' and '-', parted by '/'.",
        )


def check_query(query: Query) -> None:
    """A query's text is at most 4,096 characters, ``limit`` 1 to 1,000, ``offset`` 0 to 10,000.

    Raises:
        InvalidInput: it is not such a query, or holds a NUL or half a surrogate pair.
    """
    if len(query.text) > _TEXT_LIMIT:
        raise InvalidInput(
            f"a search text of {len(query.text):,} characters; the limit is {_TEXT_LIMIT:,}",
            remedy="Search for fewer words.",
        )
    if "\0" in query.text or any("\ud800" <= char <= "\udfff" for char in query.text):
        raise InvalidInput(
            f"{shown(query.text)} is not text to search for",
            remedy="Search for words without NUL and without halves of surrogate pairs.",
        )
    if not 1 <= query.limit <= _LIMIT or not 0 <= query.offset <= _OFFSET_LIMIT:
        raise InvalidInput(
            f"a search with limit {query.limit} and offset {query.offset}",
            remedy=f"Use a limit of 1 to {_LIMIT:,} and an offset of 0 to {_OFFSET_LIMIT:,}.",
        )
