"""The life of packs as pushes and readers see it: registered, relied on, revived, moved."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from modelhub.content.encoding import is_based, is_known
from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import (
    PackMissing,
    TrailerRecord,
    pack_missing,
    pack_path,
    read_trailer,
    trash_path,
)
from modelhub.content.read import NOWHERE, Places, Whereabouts, placed
from modelhub.coordinator import keys
from modelhub.errors import CorruptData, OutcomeUnknown, Unavailable
from modelhub.records import BaseHint, ChunkHint, PackRow, decode, encode

if TYPE_CHECKING:
    from modelhub.coordinator.context import Context, Stores

TRIES = 4


class Standing(NamedTuple):
    """Which packs may be relied on, and where those went that were rewritten."""

    live: set[str]
    moved: dict[str, tuple[str, ...]]


def standing(ctx: Context, packs: Iterable[str]) -> Standing:
    """What the rows of ``packs``, all pinned before, say of them from now on.

    A condemned pack is taken back to live with a new token, which undoes a collector's decision for
    good; one that is being deleted, gone or unknown cannot be had, nor one whose file is missing or
    of another length.
    """
    wanted = [keys.pack(pack) for pack in sorted(set(packs))]
    found = ctx.stores.rows.get_many(keys.PACKS, wanted) if wanted else {}
    told = Standing(set(), {})
    for key, value in found.items():
        try:
            row = _revived(ctx, key, value)
        except CorruptData:
            continue  # What cannot be read cannot be relied on.
        pack = key.decode()
        if row is None:
            continue
        if row.state == "moved":
            told.moved[pack] = row.successors
        elif row.state == "live" and ctx.stores.weights.size(pack_path(pack)) == row.size_bytes:
            told.live.add(pack)
    return told


def _revived(ctx: Context, key: bytes, value: bytes | None) -> PackRow | None:
    """The pack's row, once it is not condemned any more; None where it could not be kept so."""
    rows = ctx.stores.rows
    for attempt in range(1, TRIES + 1):
        if value is None:
            return None
        row = decode(value, PackRow, f"the row of pack {key.decode()}")
        if row.state != "condemned":
            return row
        revived = PackRow(state="live", size_bytes=row.size_bytes, token=secrets.token_hex(8))
        try:
            if rows.check_and_put(keys.PACKS, key, value, encode(revived)):
                return revived
        except (Unavailable, OutcomeUnknown):
            ctx.back_off(attempt)
        value = rows.get(keys.PACKS, key)
    return None


def register(ctx: Context, pack: str, size_bytes: int) -> bool:
    """Put the row of a pack whose file is complete; False where another row is there already.

    Raises:
        Unavailable: the row does not stay.
    """
    row = PackRow(state="live", size_bytes=size_bytes, token=secrets.token_hex(8))
    rows, key, value = ctx.stores.rows, keys.pack(pack), encode(row)
    said = "the row does not stay"
    for attempt in range(1, TRIES + 1):
        try:
            if rows.check_and_put(keys.PACKS, key, None, value):
                return True
        except (Unavailable, OutcomeUnknown) as exc:
            said = exc.message
            ctx.back_off(attempt)
        found = rows.get(keys.PACKS, key)
        if found is not None:
            return found == value
    raise Unavailable(f"pack {pack} could not be registered: {said}", remedy="Try the push again.")


def elsewhere(stores: Stores, pack: str) -> Whereabouts:
    """What became of a pack whose file is not in its place.

    A rewritten pack's chunks are found by its successors' trailers; these may have been rewritten
    as well. The file of one that is of no more use stays in the trash for a while, for readers that
    began before: that of a successor too.

    Raises:
        CorruptData: the row, or a successor, cannot be read.
    """
    row = row_of(stores, pack)
    if row is None or row.state not in {"moved", "deleting", "gone"}:
        return NOWHERE
    path = trash_path(row.trash) if row.trash else ""
    if row.state != "moved":
        return Whereabouts({}, path)
    return Whereabouts(_moved(stores, pack, row, frozenset()), path)


def row_of(stores: Stores, pack: str) -> PackRow | None:
    """A pack's row; None where it has none.

    Raises:
        CorruptData: it cannot be read.
    """
    value = stores.rows.get(keys.PACKS, keys.pack(pack))
    return None if value is None else decode(value, PackRow, f"the row of pack {pack}")


def now_at(places: Mapping[str, Places], ref: ChunkRef) -> ChunkRef:
    """Where a chunk is, and its base, now that some packs were rewritten.

    ``places`` has the chunks of each of these; what moved to none of them is where it was.
    """
    base = None if ref.base is None else now_at(places, ref.base)
    if ref.pack not in places:
        return ref if base == ref.base else replace(ref, base=base)
    held = places[ref.pack].get(ref.digest)
    if held is None:
        return ref
    pack, record = held
    if record.base is None:
        return placed(pack, record, None)
    return placed(pack, record, base) if base and base.digest == record.base else ref


def _moved(stores: Stores, pack: str, row: PackRow, before: frozenset[str]) -> Places:
    if pack in before:
        raise pack_missing(pack)  # Rows that lead in a circle lead nowhere.
    found: dict[bytes, tuple[str, TrailerRecord]] = {}
    for successor in row.successors:
        try:
            records = read_trailer(stores.weights, successor)
        except PackMissing:
            further = row_of(stores, successor)
            if further is not None and further.state == "moved":
                found.update(_moved(stores, successor, further, before | {pack}))
                continue
            if further is None or not further.trash:
                raise
            records = read_trailer(stores.weights, successor, path=trash_path(further.trash))
        found.update((record.digest, (successor, record)) for record in records)
    return found


def chunk_hint(ref: ChunkRef) -> bytes:
    """The bytes of the row that says where a chunk lies."""
    base = None
    if (of := ref.base) is not None:
        base = BaseHint(of.digest.hex(), of.pack, of.offset, of.stored, of.encoding)
    return encode(ChunkHint(ref.pack, ref.offset, ref.stored, ref.length, ref.encoding, base))


def hinted_chunk(digest: bytes, value: bytes) -> ChunkRef | None:
    """Where a hint says that the chunk lies; None where it says nothing that could be so."""
    try:
        hint = decode(value, ChunkHint, f"the hint of chunk {digest.hex()}")
        base = hint.base and ChunkRef(
            bytes.fromhex(hint.base.digest),
            hint.length,
            hint.base.pack,
            hint.base.offset,
            hint.base.stored,
            hint.base.encoding,
        )
    except (CorruptData, ValueError):
        return None
    ref = ChunkRef(
        digest, hint.length, hint.pack, hint.offset, hint.stored, hint.encoding, base or None
    )
    sound = is_known(ref.encoding) and is_based(ref.encoding) == (ref.base is not None)
    return ref if sound else None
