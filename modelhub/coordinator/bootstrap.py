"""Making a hub in empty stores, and recognising one."""

from __future__ import annotations

import secrets
from contextlib import suppress

from modelhub.coordinator import index, keys
from modelhub.coordinator.context import Context
from modelhub.errors import CorruptData, InvalidInput, NotFound, OutcomeUnknown, Unavailable
from modelhub.records import Format, Targets, decode, encode
from modelhub.results import Made
from modelhub.stores import RowStore

FORMAT_NUMBER = 1


def initialise(ctx: Context) -> Made:
    """Make what is missing of tables, the first search target and the format row.

    May be run again after a failure, and by two at once: the format row comes last and is put once.

    Raises:
        InvalidInput: a hub of a newer format is there, or models without a format row; then nothing
            was made.
    """
    rows = ctx.stores.rows
    missing = tuple(table for table in keys.TABLES if not _is_there(rows, table))
    _refuse_remains(rows)
    rows.create_tables(keys.TABLES)
    if rows.get(keys.SYSTEM, keys.FORMAT) is not None:
        recognise(ctx)
        return Made(hub=False, tables=missing)
    made = Format(FORMAT_NUMBER, secrets.token_hex(8))
    target = target_prefix(made) + "000001"
    registered = encode(Targets(live=target, targets=(target,), layout=index.LAYOUT))
    ctx.stores.search.create_target(target)
    if not rows.check_and_put(keys.SYSTEM, keys.SEARCH, None, registered):
        standing = rows.get(keys.SYSTEM, keys.SEARCH)
        if standing != registered:
            ctx.stores.search.drop_target(target)
            # Somebody else came so far: the hub is the one that its target is named after.
            made = Format(FORMAT_NUMBER, index.take_targets(ctx, standing).live.split("-")[1])
    first = rows.check_and_put(keys.SYSTEM, keys.FORMAT, None, encode(made))
    return Made(hub=first, tables=missing)


def target_prefix(hub: Format) -> str:
    """How the names of a hub's search targets begin, and no other hub's."""
    return f"modelhub-{hub.hub}-"


def _is_there(rows: RowStore, table: str) -> bool:
    try:
        rows.get(table, keys.FORMAT)
    except NotFound:
        return False
    return True


def _refuse_remains(rows: RowStore) -> None:
    """Refuse a log without a format row: a new hub would take somebody's models for its own."""
    with suppress(NotFound):
        if not list(rows.scan(keys.LOG, b"\0", b"\xff", limit=1)):
            return
        # Read after the log: whoever makes a hub puts this row before any model.
        with suppress(NotFound):
            if rows.get(keys.SYSTEM, keys.FORMAT) is not None:
                return
        where = rows.describe()
        raise InvalidInput(
            f"the log in {where['address']} holds models, but its table {keys.SYSTEM} has no row "
            f"{keys.FORMAT.decode()!r}: this hub is damaged, or the tables are another program's",
            remedy=f"Restore the table {keys.SYSTEM} from a backup; to make a new hub, choose "
            "another folder, or other tables with rows_prefix.",
        )


def try_weights(ctx: Context) -> None:
    """Write a small file to the weight store, read it back and remove it, as pushes will.

    Raises:
        Forbidden, Unavailable: it cannot be written, read or removed.
        CorruptData: other bytes came back.
    """
    weights = ctx.stores.weights
    path, data = f"probe-{secrets.token_hex(16)}", secrets.token_bytes(1024)
    try:
        writer = weights.create(path)
        try:
            writer.write(data)
            writer.commit()
        except BaseException:
            writer.abort()
            raise
        back = weights.read(path, 0, 2 * len(data))
        weights.remove(path)
    except OutcomeUnknown as exc:
        raise Unavailable(
            exc.message, remedy=f"Look at the weight store, where {path} may remain, then repeat."
        ) from exc
    if back != data:
        raise CorruptData(
            f"the weight store gave other bytes back than were written to {path}",
            remedy="Check the weight store before anything is pushed; `modelhub admin fsck` checks "
            "what it holds.",
        )


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
