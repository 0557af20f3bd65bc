"""Rows that are changed by compare-and-set, again and again."""

from __future__ import annotations

from modelhub.coordinator.context import Context
from modelhub.errors import ModelhubError, OutcomeUnknown, Unavailable

_TRIES = 6


def change_row(ctx: Context, table: str, key: bytes, standing: bytes | None, fresh: bytes) -> bool:
    """Put ``fresh`` in the place of ``standing``; whether it is there now, and nothing else.

    ``fresh`` must be unlike whatever was there before: then a put that is applied late, or twice,
    meets another row and does nothing.

    Raises:
        Unavailable: the store stays away; the row may be there, or appear later.
    """
    rows = ctx.stores.rows
    for attempt in range(1, _TRIES + 1):
        try:
            if rows.check_and_put(table, key, standing, fresh):
                return True
            # A False may be this very put, sent twice by a gateway.
            found = rows.get(table, key)
        except (Unavailable, OutcomeUnknown) as exc:
            failure: ModelhubError = exc
        else:
            return found == fresh
        ctx.back_off(attempt)
    raise Unavailable(failure.message, remedy=failure.remedy) from failure
