"""Making a hub in empty stores, and recognising one."""

from __future__ import annotations

import secrets
from contextlib import suppress

from modelhub.coordinator import index, keys
from modelhub.coordinator.context import Context
from modelhub.errors import CorruptData, InvalidInput, NotFound
from modelhub.records import Format, Targets, decode, encode

FORMAT_NUMBER = 1


def initialise(ctx: Context) -> bool:
    """Make tables, the first search target and the format row; False if a hub was there already.

    May be run again after a failure, and by two at once: the format row comes last and is put once.

    Raises:
        InvalidInput: a hub of a newer format is there.
    """
    rows = ctx.stores.rows
    rows.create_tables(keys.TABLES)
    if rows.get(keys.SYSTEM, keys.FORMAT) is not None:
        recognise(ctx)
        return False
    hub = secrets.token_hex(8)
    target = f"modelhub-{hub}-000001"
    registered = encode(Targets(live=target, targets=(target,)))
    ctx.stores.search.create_target(target)
    if not rows.check_and_put(keys.SYSTEM, keys.SEARCH, None, registered):
        standing = rows.get(keys.SYSTEM, keys.SEARCH)
        if standing != registered:
            ctx.stores.search.drop_target(target)
    return rows.check_and_put(keys.SYSTEM, keys.FORMAT, None, encode(Format(FORMAT_NUMBER, hub)))


def recognise(ctx: Context) -> Format:
    """The format of the hub in these stores.

    Raises:
        NotFound: there is none.
        InvalidInput: its format is newer than this release can read.
    """
    # Both at once, because whoever opens a hub to change it needs the search targets next.
    known = ctx.stores.rows.get_many(keys.SYSTEM, [keys.FORMAT, keys.SEARCH])
    value = known.get(keys.FORMAT)
    if value is None:
        raise NotFound("there is no hub here", remedy="Run `modelhub admin init`, or push a model.")
    # A damaged list keeps nobody from the models; whoever needs it reads it again, and is told.
    with suppress(KeyError, CorruptData):
        index.take_targets(ctx, known[keys.SEARCH])
    found = decode(value, Format, "the hub's format row")
    if found.format > FORMAT_NUMBER:
        raise InvalidInput(
            f"this hub has format {found.format}; this release reads up to {FORMAT_NUMBER}",
            remedy="Upgrade modelhub.",
        )
    return found
