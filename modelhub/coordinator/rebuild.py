"""Packs made anew from whole copies of their chunks, where something of them is lost or rotten.

The steps are those of rewriting a pack. Its row X first names the new pack Y, before there is
anything of Y: a live or condemned X becomes condemned, one that was collected by mistake stays
deleting or gone. From then on no collector takes Y: whoever scans later sees a version that needs
X, and follows X to Y. Then come scans of intents, log and rows; a pin on X, and nothing is done.
Then Y is written with every chunk of X that an unpurged version needs, read back, and registered;
and X becomes moved by a compare-and-set of the very row that named Y.

That a collected pack becomes moved is no way back from deleting. The name X is never live again,
and so nobody comes to rely on it: to a push gone and moved are alike, and only readers, who found X
in the trash at best, now follow it to Y. A collector that was paused while it deleted X finds
another row in its place, whatever it goes on to do to X's file; the file may go, since every chunk
that is needed was read back from Y before.

A moved X that lacks something cannot name Y beforehand, because readers would follow it to a pack
that is not there. Y is named once it is registered, and its row is read again then, as a reused
pack's is after its pin: a collector that condemned it before is undone, and one that got further
leaves X to the next repair; what Y was made of is where it was.

Old files are kept in ``quarantine``. Where one chunk that is needed is nowhere to be had, nothing
is done.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import (
    RAW,
    PackWriter,
    is_pack_id,
    new_pack_id,
    pack_path,
    quarantine_path,
    read_pack,
    read_trailer,
    trash_path,
)
from modelhub.content.read import Chunk, placed
from modelhub.coordinator import keys
from modelhub.coordinator.check_marks import CheckMarks
from modelhub.coordinator.context import Context
from modelhub.coordinator.copies import Copies, whole
from modelhub.coordinator.kept import keep
from modelhub.coordinator.needs import Needed, Needs
from modelhub.coordinator.packs import chunk_hint, hinted_chunk, register, standing
from modelhub.coordinator.settle import change_row
from modelhub.errors import AlreadyExists, CorruptData, ModelhubError, NotFound
from modelhub.records import PackRow, decode, encode


class Outcome(NamedTuple):
    """Whether something is right now, and what is to be said of it."""

    repaired: bool
    told: str


@dataclass
class _Task:
    """One pack on its way: its row as it was found, and as it names the new pack."""

    pack: str
    successor: str
    before: PackRow
    standing: bytes | None


def rebuild(
    ctx: Context, wanted: dict[str, bool], files: Path | None, *, dry_run: bool
) -> dict[str, Outcome]:
    """Bring packs back that versions need; what became of each.

    ``wanted`` says of each pack whether bytes in it are wrong, rather than its row or file alone.
    ``files`` is where plain files may hold chunks that are whole nowhere else.

    Raises:
        Unavailable, OutcomeUnknown: a store is away; the next run begins afresh.
    """
    with closing(CheckMarks()) as marks:
        return _Rebuild(ctx, marks, files, dry_run=dry_run).run(wanted)


class _Rebuild:
    def __init__(
        self, ctx: Context, marks: CheckMarks, files: Path | None, *, dry_run: bool
    ) -> None:
        self._ctx = ctx
        self._marks = marks
        self._copies = Copies(ctx, marks, files)
        self._dry_run = dry_run

    def run(self, wanted: dict[str, bool]) -> dict[str, Outcome]:
        """See ``rebuild``."""
        needs = Needs(self._ctx, self._marks, self._copies)
        needs.follow()
        done: dict[str, Outcome] = {}
        tasks = []
        for pack, rotten in sorted(wanted.items()):
            outcome = self._reinstate(needs, pack, rotten=rotten)
            if outcome is None:
                outcome = self._can_be_made(needs, pack)
            if outcome is None:
                tasks.append(self._announce(pack))
            else:
                done[pack] = outcome
        if tasks:
            # Afresh, after every row that names a new pack.
            needs = Needs(self._ctx, self._marks, self._copies)
            pinned = {task.pack for task in tasks if needs.is_pinned(task.pack)}
            needs.follow()
            for task in tasks:
                done[task.pack] = self._make(needs, task, pinned=task.pack in pinned)
        return done

    # --- without a new pack --------------------------------------------------------------------

    def _reinstate(self, needs: Needs, pack: str, *, rotten: bool) -> Outcome | None:
        """Put a row right whose file is whole; None where that is not all."""
        if not is_pack_id(pack):
            return Outcome(False, "no pack can have this name; delete the row")
        value, row = self._row(pack)
        size = self._sound_size(pack)
        state = None
        if row is None or row.state == "condemned":
            state = "live" if size is not None and (row is None or row.size_bytes == size) else None
        if state is None and value is not None and row is None and not needs.is_needed(pack):
            if not needs.is_whole or self._ctx.stores.weights.size(pack_path(pack)) is not None:
                return Outcome(False, "its file is damaged too; look at it, then delete it")
            state, size = "gone", 0
        if state is not None and not (self._dry_run or self._put(pack, value, state, size or 0)):
            return Outcome(False, _MEANWHILE)
        if rotten or (state is None and not self._is_live(row, size)):
            return None
        says = "would say" if self._dry_run else "says"
        return Outcome(not self._dry_run, f"its row {says} {state or 'live'}")

    def _is_live(self, row: PackRow | None, size: int | None) -> bool:
        return row is not None and row.state == "live" and row.size_bytes == size

    def _put(self, pack: str, value: bytes | None, state: str, size_bytes: int) -> bool:
        if value is None:
            return register(self._ctx, pack, size_bytes)
        keep(self._ctx, keys.PACKS, keys.pack(pack), value)
        row = PackRow(state=state, size_bytes=size_bytes, token=secrets.token_hex(8))  # type: ignore[arg-type]
        return change_row(self._ctx, keys.PACKS, keys.pack(pack), value, encode(row))

    def _row(self, pack: str) -> tuple[bytes | None, PackRow | None]:
        value = self._ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
        try:
            return value, None if value is None else decode(value, PackRow, "a row")
        except CorruptData:
            return value, None

    def _sound_size(self, pack: str) -> int | None:
        """The size of a pack's file, where its trailer is as it was written."""
        try:
            read_trailer(self._ctx.stores.weights, pack)
        except CorruptData:
            return None
        return self._ctx.stores.weights.size(pack_path(pack))

    # --- what is to be in the new one ----------------------------------------------------------

    def _can_be_made(self, needs: Needs, pack: str) -> Outcome | None:
        """None where every chunk can be had that a version needs; else what is lost."""
        needed = self._needed(needs, pack)
        if needed is None:
            return Outcome(False, f"nobody can read which of its chunks are needed. {_LOST}")
        lost = {ref.digest for ref in needed if self._chunk(ref) is None}
        if lost:
            what = ", ".join(needs.losses(pack, lost))
            return Outcome(False, f"{len(lost):,} chunks are lost: {what}. {_LOST}")
        if self._dry_run:
            return Outcome(False, "every chunk can be had: they would go into a new pack")
        return None

    def _needed(self, needs: Needs, pack: str) -> list[ChunkRef] | None:
        """What versions need; where not all of them can be read, everything the pack has."""
        needed = needs.of(pack)
        if not needed.is_all:
            try:
                records = read_trailer(self._ctx.stores.weights, pack, path=self._path(pack))
            except CorruptData:
                return None
            for record in records:
                base = None if record.base is None else self._base(record.base, needed)
                needed.refs.setdefault(record.digest, placed(pack, record, base))
        return sorted(needed.refs.values(), key=lambda ref: (ref.pack != pack, ref.offset))

    def _base(self, digest: bytes, needed: Needed) -> ChunkRef | None:
        if digest in needed.refs:
            return needed.refs[digest]
        value = self._ctx.stores.rows.get(keys.CHUNKS, keys.chunk(digest))
        return None if value is None else hinted_chunk(digest, value)

    def _path(self, pack: str) -> str:
        """Where a pack's file is: in the trash, if it was collected."""
        _, row = self._row(pack)
        if row is None or not row.trash or self._ctx.stores.weights.size(pack_path(pack)):
            return pack_path(pack)
        try:
            return trash_path(row.trash)
        except CorruptData:
            return pack_path(pack)

    def _chunk(self, ref: ChunkRef) -> Chunk | None:
        return whole(self._ctx.reader, ref) or self._copies.find(ref.digest, ref.length)

    # --- the new pack --------------------------------------------------------------------------

    def _announce(self, pack: str) -> _Task:
        """Name the new pack in the row of the old one."""
        value, row = self._row(pack)
        successor = new_pack_id()
        if row is not None and row.state == "moved":
            return _Task(pack, successor, row, value)
        if row is None:
            if value is not None:
                keep(self._ctx, keys.PACKS, keys.pack(pack), value)
            size_bytes = self._ctx.stores.weights.size(pack_path(pack)) or 0
            row = PackRow(state="live", size_bytes=size_bytes, token="")
        state = "condemned" if row.state == "live" else row.state
        named = replace(row, state=state, successors=(successor,), token=secrets.token_hex(8))
        fresh = encode(named)
        changed = change_row(self._ctx, keys.PACKS, keys.pack(pack), value, fresh)
        return _Task(pack, successor, row, fresh if changed else None)

    def _make(self, needs: Needs, task: _Task, *, pinned: bool) -> Outcome:
        """Write the new pack, and let the old one's row lead to it."""
        if task.standing is None:
            return Outcome(False, _MEANWHILE)
        needed = None if pinned else self._needed(needs, task.pack)
        refs: list[ChunkRef] = []
        if needed:
            try:
                refs = self._write(task, needed)
            except ModelhubError:
                # A collector that set the old row back to live takes the new file for an orphan.
                if self._row(task.pack)[0] == task.standing:
                    raise
        if not refs:
            self._withdraw(task)
            return Outcome(False, _MEANWHILE)
        if not self._lead(task):
            return Outcome(False, _MEANWHILE)
        self._quarantine(task.pack)
        hints = {keys.chunk(ref.digest): chunk_hint(ref) for ref in refs}
        self._ctx.stores.rows.put_many(keys.CHUNKS, hints)
        return Outcome(
            True, f"its {len(refs):,} chunks that are needed are in pack {task.successor}"
        )

    def _write(self, task: _Task, needed: Sequence[ChunkRef]) -> list[ChunkRef]:
        """The new pack, read back and registered; what it holds, nothing where it is none."""
        weights = self._ctx.stores.weights
        path = self._path(task.pack)
        writer = PackWriter(weights, task.successor)
        refs: list[ChunkRef] = []
        try:
            for ref in needed:
                fresh = self._add(writer, task, ref, path)
                if fresh is None:
                    writer.abort()
                    return []
                refs.append(fresh)
            size_bytes = writer.finish()
        except BaseException:
            writer.abort()
            raise
        # A base that goes along lies beside what is a difference from it.
        beside = {ref.digest: ref for ref in refs if ref.base is None}
        refs = [
            ref if ref.base is None else replace(ref, base=beside.get(ref.base.digest, ref.base))
            for ref in refs
        ]
        held = {record.digest: record for record in read_trailer(weights, task.successor)}
        for ref in refs:
            self._ctx.reader.chunk(placed(task.successor, held[ref.digest], ref.base))
        return refs if register(self._ctx, task.successor, size_bytes) else []

    def _add(self, writer: PackWriter, task: _Task, ref: ChunkRef, path: str) -> ChunkRef | None:
        """Add a chunk as it was stored, if it is whole there, else raw; where it lies now."""
        own = whole(self._ctx.reader, ref) if ref.pack == task.pack else None
        if own is not None and task.before.state != "moved":
            stored = read_pack(
                self._ctx.stores.weights, task.pack, ref.offset, ref.stored, path=path
            )
            base = ref.base
            encoding = ref.encoding
        else:
            data = own or self._chunk(ref)
            if data is None:
                return None
            stored, base, encoding = bytes(data), None, RAW
        offset = writer.add(
            ref.digest,
            stored,
            length=ref.length,
            encoding=encoding,
            base=None if base is None else base.digest,
        )
        return ChunkRef(ref.digest, ref.length, task.successor, offset, len(stored), encoding, base)

    def _lead(self, task: _Task) -> bool:
        """Let the old row lead to the new pack; False where it is another by now."""
        value = task.standing
        for _ in range(_TRIES):
            assert value is not None
            row = decode(value, PackRow, "a row")
            before = row.successors if task.before.state == "moved" else ()
            fresh = replace(
                row,
                state="moved",
                successors=(*before, task.successor),
                trash="",
                token=secrets.token_hex(8),
            )
            if change_row(self._ctx, keys.PACKS, keys.pack(task.pack), value, encode(fresh)):
                # One that nothing named before may have been condemned meanwhile.
                return bool(standing(self._ctx, [task.successor]).live)
            value, found = self._row(task.pack)
            # A collector may have gone on deleting; it keeps what the row names.
            if found is None or found.state != "gone" or found.successors != (task.successor,):
                return False
        return False

    def _withdraw(self, task: _Task) -> None:
        """The old row as it was, under a new token; what was written of the new pack is gc's."""
        if task.before.state == "moved" or task.standing is None:
            return
        state = "live" if task.before.state == "condemned" else task.before.state
        row = replace(task.before, state=state, successors=(), token=secrets.token_hex(8))
        change_row(self._ctx, keys.PACKS, keys.pack(task.pack), task.standing, encode(row))

    def _quarantine(self, pack: str) -> None:
        """Keep the old file, from which nobody reads any more."""
        place = f"{self._ctx.clock.now():%Y-%m-%d/%H%M%S}-{pack}"
        with suppress(NotFound, AlreadyExists):
            self._ctx.stores.weights.move(pack_path(pack), quarantine_path(place))


_TRIES = 3
_MEANWHILE = "a push or a collection has to do with it just now; run this again"
_LOST = (
    "Restore the pack from a backup, or run `modelhub admin fsck --repair --from FOLDER` with the "
    "files themselves."
)
