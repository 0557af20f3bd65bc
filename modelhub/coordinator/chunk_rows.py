"""The rows that say where chunks lie, put again from what the packs themselves say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import TrailerRecord, read_trailer
from modelhub.content.read import placed
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.packs import chunk_hint, hinted_chunk
from modelhub.errors import CorruptData
from modelhub.records import PackRow, decode

_BATCH = 5000


def put_chunk_rows(ctx: Context, progress: Progress) -> int:
    """Put the ``chunks`` row of every chunk of every live pack; how many that were.

    Differences come last: where their bases lie is taken from the rows that are there by then. A
    pack that cannot be read is passed over, as ``fsck`` names it.

    Raises:
        Unavailable: a store is away.
    """
    packs = list(_live_packs(ctx))
    count = 0
    for differences in (False, True):
        for done, pack in enumerate(packs, 1):
            records = [each for each in _records(ctx, pack) if (each.base is None) != differences]
            for batch in _batches(records):
                refs = list(_placed(ctx, pack, batch))
                rows = {keys.chunk(ref.digest): chunk_hint(ref) for ref in refs}
                ctx.stores.rows.put_many(keys.CHUNKS, rows)
                count += len(rows)
            progress("chunks", done, len(packs))
    return count


def _live_packs(ctx: Context) -> Iterator[str]:
    for key, value in ctx.stores.rows.scan(keys.PACKS, b"\0", b"\xff"):
        try:
            if decode(value, PackRow, f"the row of pack {key.decode()}").state == "live":
                yield key.decode()
        except (CorruptData, UnicodeDecodeError):
            continue


def _records(ctx: Context, pack: str) -> list[TrailerRecord]:
    try:
        return read_trailer(ctx.stores.weights, pack)
    except CorruptData:
        return []


def _placed(ctx: Context, pack: str, records: list[TrailerRecord]) -> Iterator[ChunkRef]:
    wanted = {record.base for record in records if record.base is not None}
    rows = ctx.stores.rows.get_many(keys.CHUNKS, [keys.chunk(base) for base in sorted(wanted)])
    for record in records:
        if record.base is None:
            yield placed(pack, record, None)
        elif (row := rows.get(keys.chunk(record.base))) is not None:
            base = hinted_chunk(record.base, row)
            if base is not None and base.base is None:
                yield placed(pack, record, base)


def _batches(records: Iterable[TrailerRecord]) -> Iterator[list[TrailerRecord]]:
    rest = iter(records)
    while batch := list(islice(rest, _BATCH)):
        yield batch
