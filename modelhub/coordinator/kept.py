"""Rows that a repair replaces are kept as they were, since nobody knows what they are good for."""

from __future__ import annotations

from modelhub.coordinator import keys
from modelhub.coordinator.context import Context
from modelhub.coordinator.transaction import put_settled
from modelhub.records import hex_digest


def keep(ctx: Context, table: str, key: bytes, value: bytes) -> None:
    """Copy a row's bytes into ``system``, under its table, its key and their digest.

    Raises:
        Unavailable: the row store stays away.
    """
    place = keys.kept(table, key, hex_digest(value))
    put_settled(ctx, keys.SYSTEM, {place: value})
