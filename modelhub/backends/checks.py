"""What every backend refuses alike, whatever its driver would have made of it."""

from __future__ import annotations

import re

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.query.fields import is_facet, is_sortable
from modelhub.stores import Query

_PART = re.compile(r"[A-Za-z0-9._-]+")
_LIMIT = 1000
_CURSOR_CHARS = 4096
_FACETS = 10


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
    """What to hand back of a search is bounded, and sorted and counted by fields that can be.

    Raises:
        InvalidInput: it is not.
    """
    if not 1 <= query.limit <= _LIMIT:
        raise InvalidInput(
            f"a search with a limit of {query.limit}", remedy=f"Use a limit of 1 to {_LIMIT:,}."
        )
    if query.after is not None and len(query.after) > _CURSOR_CHARS:
        raise InvalidInput(
            f"{shown(query.after)} does not continue a search",
            remedy="Give the cursor that came with a page of the same search, or none.",
        )
    if not is_sortable(query.sort):
        raise InvalidInput(
            f"{shown(query.sort.field)} is nothing to sort by",
            remedy="Sort by score, by name or by a field of numbers.",
        )
    if len(query.facets) > _FACETS or not all(map(is_facet, query.facets)):
        raise InvalidInput(
            f"{shown(', '.join(query.facets))} cannot be counted",
            remedy=f"Count at most {_FACETS} fields of keywords.",
        )
