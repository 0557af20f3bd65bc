"""Rewriting packs: many small ones become one, and of those that are mostly dead the rest is kept.

A pack's row is condemned and names the new pack; then one complete scan finds out who counts on it.
A pin on it ends the matter. Else the chunks that versions use are copied and the row says where to.
So of a push and a rewriter that meet at one pack, either the push sees the condemned row, and takes
it back under a new token, which ends the matter too, or the scan sees its pin or its entry.

What is copied is checked against its digest. What is raw may become smaller on the way; nothing
becomes a difference, since others may be differences from it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from msgspec.structs import replace

from modelhub.content.encoder import StoragePolicy
from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import (
    RAW,
    PackWriter,
    TrailerRecord,
    new_pack_id,
    read_pack,
    read_trailer,
)
from modelhub.content.read import placed
from modelhub.coordinator import keys, relatives
from modelhub.coordinator.context import Context
from modelhub.coordinator.marks import Held, Marks
from modelhub.coordinator.packs import chunk_hint, register
from modelhub.coordinator.settle import change_row
from modelhub.errors import CorruptData, OutcomeUnknown, Unavailable
from modelhub.records import PackRow, VersionRecord, decode, encode

SMALL_BYTES = 16 << 20
"""A pack below this costs a name node more than its bytes are worth."""
FEWEST = 8
"""So many small packs of one model are worth a rewriting."""
DEAD_SHARE = 0.5
"""From here on a pack is mostly dead."""
LARGEST_BYTES = 256 << 20
"""A new pack that merges small ones grows to this."""


class Group(NamedTuple):
    """Packs whose chunks are to lie in one new pack, with their rows as they stand."""

    successor: str
    packs: tuple[Held, ...]


def condemn(ctx: Context, packs: Sequence[Held]) -> Group:
    """Condemn ``packs``, naming the pack that takes their place; those that let it be done."""
    successor = new_pack_id()
    condemned = []
    for held in packs:
        fresh = _change(ctx, held, state="condemned", successors=(successor,))
        if fresh is not None:
            condemned.append(fresh)
    return Group(successor, tuple(condemned))


def give_up(ctx: Context, packs: Iterable[Held]) -> None:
    """Take condemned packs back to live: they stay as they were."""
    for held in packs:
        _change(ctx, held, state="live", successors=())


def note_uses(ctx: Context, marks: Marks, version: VersionRecord) -> None:
    """Note which chunks a version uses, if it needs any pack that is to be rewritten.

    Raises:
        CorruptData: its manifest cannot be read, so nobody knows.
    """
    if marks.are_sources(version.packs):
        manifest = relatives.manifest_at(ctx, version.manifest)
        marks.use(bytes.fromhex(version.manifest.digest), None)
        for ref in manifest.every_chunk():
            marks.use(ref.digest, ref.base)
            if ref.base is not None:
                marks.use(ref.base.digest, None)


def batches(small: Iterable[Held]) -> list[list[Held]]:
    """Small packs by the new packs that they are to make."""
    found: list[list[Held]] = []
    size_bytes = LARGEST_BYTES
    for held in small:
        if size_bytes + held.size_bytes > LARGEST_BYTES:
            found.append([])
            size_bytes = 0
        found[-1].append(held)
        size_bytes += held.size_bytes
    return [batch for batch in found if len(batch) > 1]


class Rewritten(NamedTuple):
    """The packs that gave way to a new one, and by how much they were larger than it."""

    packs: tuple[Held, ...]
    saved_bytes: int


NOTHING = Rewritten((), 0)


def rewrite(
    ctx: Context, marks: Marks, group: Group, policy: StoragePolicy, touch: Callable[[], None]
) -> Rewritten:
    """Copy what is used out of a group's packs, and let their rows lead there.

    Only after the scan that followed the condemning; ``marks`` knows what it saw. A pack that is
    rewritten alone has to be mostly dead.
    """
    free = [
        held
        for held in group.packs
        if not (marks.is_pinned(held.pack) or marks.is_awaited(held.pack))
    ]
    give_up(ctx, [held for held in group.packs if held not in free])
    copying = _Copying(ctx, marks, group.successor, policy, touch)
    try:
        size_bytes = copying.run(free)
    except CorruptData:
        size_bytes = 0  # Something is damaged: a matter for fsck. What there is stays as it is.
    if not size_bytes:
        give_up(ctx, free)
        return NOTHING
    changed = [_change(ctx, held, state="moved") for held in free]
    moved = tuple(held for held in changed if held is not None)
    return Rewritten(moved, sum(held.size_bytes for held in moved) - size_bytes)


class _Copying:
    """The writing of one new pack."""

    def __init__(
        self,
        ctx: Context,
        marks: Marks,
        successor: str,
        policy: StoragePolicy,
        touch: Callable[[], None],
    ) -> None:
        self._ctx = ctx
        self._marks = marks
        self._successor = successor
        self._policy = policy
        self._touch = touch
        self._placed: dict[bytes, ChunkRef] = {}

    def run(self, packs: Sequence[Held]) -> int:
        """Write and register it; its size, 0 where there is to be none.

        Raises:
            CorruptData: a chunk or a trailer is damaged.
        """
        weights = self._ctx.stores.weights
        used = [
            (held.pack, record)
            for held in packs
            for record in read_trailer(weights, held.pack)
            if self._marks.is_used(record.digest)
        ]
        used_bytes = sum(record.stored for _, record in used)
        if not used or (len(packs) == 1 and used_bytes > (1 - DEAD_SHARE) * packs[0].size_bytes):
            return 0
        writer = PackWriter(weights, self._successor)
        try:
            for pack, record in used:
                self._touch()
                if record.digest not in self._placed:
                    self._add(writer, pack, record)
            size_bytes = writer.finish()
        except BaseException:
            writer.abort()
            raise
        if not register(self._ctx, self._successor, size_bytes):
            return 0  # Taken for an orphan: this run lost its lease long ago.
        self._put_hints()
        return size_bytes

    def _add(self, writer: PackWriter, pack: str, record: TrailerRecord) -> None:
        """Copy a chunk, checked against its digest; one that is raw may become smaller."""
        base = None if record.base is None else self._marks.base_of(record.digest)
        data = self._ctx.reader.chunk(placed(pack, record, base))
        encoding, stored = record.encoding, data
        if record.encoding != RAW:
            stored = read_pack(self._ctx.stores.weights, pack, record.offset, record.stored)
        elif self._policy != "fast":
            from modelhub.content.encoding import encode as encoded  # what it needs is heavy

            smaller = encoded(data, width=None, small=self._policy == "small")
            encoding, stored = smaller.encoding, smaller.stored
        offset = writer.add(
            record.digest, stored, length=record.length, encoding=encoding, base=record.base
        )
        self._placed[record.digest] = ChunkRef(
            record.digest,
            record.length,
            self._successor,
            offset,
            len(stored),
            encoding,
            base,
        )

    def _put_hints(self) -> None:
        """So that pushes find the chunks at their new place. Best effort, as all hints."""
        rows = {keys.chunk(digest): chunk_hint(ref) for digest, ref in self._placed.items()}
        with suppress(Unavailable, OutcomeUnknown):
            self._ctx.stores.rows.put_many(keys.CHUNKS, rows)


def _change(ctx: Context, held: Held, **changes: object) -> Held | None:
    """A pack's row changed under a new token; None where it is another by now."""
    row = replace(decode(held.value, PackRow, f"the row of pack {held.pack}"), **changes)
    fresh = encode(replace(row, token=secrets.token_hex(8)))
    if change_row(ctx, keys.PACKS, keys.pack(held.pack), held.value, fresh):
        return Held(held.pack, row.state, fresh, held.size_bytes)
    return None
