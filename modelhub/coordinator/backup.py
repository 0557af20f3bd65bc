"""Backup: every model's log up to one moment, and the packs that its versions need.

Writers go on meanwhile: a log only grows, so what it was at a moment can be read at any later one.
No collection is under way at the same time; what one before took away is found in the trash.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import msgspec

from modelhub.content.pack import pack_path
from modelhub.coordinator import backup_format, bootstrap, keys
from modelhub.coordinator.backup_format import PACKS, Copied, HeadAt, Point, Saved
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.lease import Lease
from modelhub.coordinator.log import Sealed, models, open_row
from modelhub.coordinator.marks import Marks
from modelhub.coordinator.packs import elsewhere, row_of
from modelhub.errors import CorruptData, InvalidInput
from modelhub.records import Collecting, Edited, Published, Purged, encode
from modelhub.results import BackedUp
from modelhub.stores import Folder, Row

_READ_BYTES = 16 << 20
_ROWS = 500


def back_up(
    ctx: Context, folder: Folder, *, whole: bool = False, progress: Progress = ignore_progress
) -> BackedUp:
    """Add a point to the backup in ``folder``; what it holds already is not copied again.

    Raises:
        Conflict: a collection or another backup is under way.
        CorruptData: a log cannot be read; there is no new point.
        InvalidInput: the folder holds another hub's backup; or the hub is not what it was at the
            last backup, which only a whole one can begin anew from.
        Unavailable: a store or the folder is away; the next backup copies only what is missing.
    """
    lease = Lease(ctx, keys.COLLECTION, Collecting, "collection or backup")
    try:
        with closing(Marks()) as marks:
            return _Run(ctx, folder, lease, marks, progress).run(whole=whole)
    finally:
        lease.end()


class _Run:
    """One backup."""

    def __init__(
        self,
        ctx: Context,
        folder: Folder,
        lease: Lease[Collecting],
        marks: Marks,
        progress: Progress,
    ) -> None:
        self._ctx = ctx
        self._folder = folder
        self._lease = lease
        self._marks = marks
        self._progress = progress
        self._cut = ctx.clock.now()
        self._name = backup_format.new_name(self._cut)
        self._heads: list[HeadAt] = []
        self._missing: list[str] = []
        self._models = self._entries = self._versions = self._packs = self._new_bytes = 0

    def run(self, *, whole: bool) -> BackedUp:
        """Copy, and write ``point.json`` last."""
        backup_format.begin(self._folder, bootstrap.recognise(self._ctx).hub)
        before = backup_format.points(self._folder)
        parent = None if whole or not before else before[-1]
        links = backup_format.chain(before, parent) if parent else []
        for point in before:
            for row in backup_format.rows(self._folder, point):
                if row.table == PACKS and (point in links or self._is_new(row)):
                    # What a point knows that this one goes on from need not be said again.
                    said = b"" if point in links else row.value
                    self._marks.file(row.key.decode(), 0, said)
        place = f"points/{self._name}"
        _, rows_digest = backup_format.write(
            self._folder, f"{place}/rows.zst", backup_format.packed(self._rows(parent))
        )
        _, heads_digest = backup_format.write(
            self._folder, f"{place}/heads.zst", backup_format.packed(self._heads)
        )
        point = Point(
            name=self._name,
            cut=self._cut,
            parent="" if parent is None else parent.name,
            models=self._models,
            entries=self._entries,
            versions=self._versions,
            packs=self._packs,
            new_bytes=self._new_bytes,
            missing=tuple(self._missing),
            rows_digest=rows_digest,
            heads_digest=heads_digest,
        )
        backup_format.write(self._folder, f"{place}/point.json", [msgspec.json.encode(point)])
        return BackedUp(
            point=point.name,
            cut=point.cut,
            whole=parent is None,
            models=point.models,
            entries=point.entries,
            versions=point.versions,
            packs=point.packs,
            new_bytes=point.new_bytes,
            missing=point.missing,
        )

    def _is_new(self, row: Saved) -> bool:
        return self._marks.note_of(row.key.decode()) is None

    # --- rows ----------------------------------------------------------------------------------

    def _rows(self, parent: Point | None) -> Iterator[Saved]:
        known = iter(()) if parent is None else backup_format.heads(self._folder, parent)
        last = next(known, None)
        found = self._ctx.stores.rows.scan(keys.LOG, *keys.log_from(""))
        for name, rows in models(found, _damaged):
            while last is not None and last.name < name:
                raise _changed(last.name)
            yield from self._model(name, rows, last if last and last.name == name else None)
            if last is not None and last.name == name:
                last = next(known, None)
            self._lease.renew()
            self._progress("backup models", self._models, 0)
        if last is not None:
            raise _changed(last.name)
        for pack in self._marks.every_name():
            yield from self._pack(pack)

    def _model(self, name: str, rows: Iterator[Row], last: HeadAt | None) -> Iterator[Saved]:
        """The entries that the last backup had not, newest first, and what they refer to."""
        purged: set[int] = set()
        for key, value, sealed in self._until_cut(name, rows):
            entry = sealed.entry
            if last is not None and entry.seq == last.seq:
                if sealed.digest != last.digest:
                    raise _changed(name)
                return
            yield Saved(keys.LOG, key, value)
            self._entries += 1
            yield from self._metadata(name, sealed)
            if isinstance(entry.change, Purged):
                purged.update(entry.change.numbers)
            if isinstance(entry.change, Published):
                self._versions += 1
                if entry.change.number not in purged:
                    self._marks.name(entry.change.version.packs, name)
        if last is not None:
            raise _changed(name)

    def _until_cut(self, name: str, rows: Iterator[Row]) -> Iterator[tuple[bytes, bytes, Sealed]]:
        """The model's log as it was then: rows with their entries, an unbroken chain."""
        expected: tuple[int, str] | None = None
        for key, value in rows:
            sealed = open_row(key, value)
            if expected is None and sealed.entry.time > self._cut:
                continue
            if expected is None:
                self._heads.append(HeadAt(name, sealed.entry.seq, sealed.digest))
                self._models += 1
            elif expected != (sealed.entry.seq, sealed.digest):
                raise _broken(name, expected[0])
            expected = sealed.entry.seq - 1, sealed.entry.previous
            yield key, value, sealed
        if expected is not None and expected[0] != 0:
            raise _broken(name, expected[0])

    def _metadata(self, name: str, sealed: Sealed) -> Iterator[Saved]:
        change = sealed.entry.change
        if isinstance(change, Published):
            key = keys.metadata(name, change.number, change.version.metadata)
        elif isinstance(change, Edited):
            key = keys.metadata(name, change.number, change.metadata)
        else:
            return
        value = self._ctx.stores.rows.get(keys.METADATA, key)
        if value is not None:  # else it was erased, or fsck says so
            yield Saved(keys.METADATA, key, value)

    # --- packs ---------------------------------------------------------------------------------

    def _pack(self, pack: str) -> Iterator[Saved]:
        """Copy a pack that the backup has not; of one that was rewritten, its successors."""
        self._lease.renew()
        row = row_of(self._ctx.stores, pack)
        if row is not None and row.state == "moved":
            yield Saved(keys.PACKS, keys.pack(pack), encode(row))
            for successor in row.successors:
                yield from self._pack(successor)
            return
        path = pack_path(pack)
        said = self._marks.note_of(pack)
        if said is not None and self._folder.stat(path) is not None:
            if said:
                yield Saved(PACKS, keys.pack(pack), said)
            return
        source = path
        size_bytes = self._ctx.stores.weights.size(path)
        if size_bytes is None:
            source = elsewhere(self._ctx.stores, pack).path
            size_bytes = self._ctx.stores.weights.size(source) if source else None
        if size_bytes is None:
            self._missing.append(pack)
            return
        copied, digest = backup_format.write(self._folder, path, self._bytes(source))
        self._marks.file(pack, copied)
        self._packs += 1
        self._new_bytes += copied
        self._progress("backup packs", self._packs, 0)
        yield Saved(PACKS, keys.pack(pack), msgspec.json.encode(Copied(copied, digest)))

    def _bytes(self, path: str) -> Iterator[bytes]:
        offset = 0
        while piece := self._ctx.stores.weights.read(path, offset, _READ_BYTES):
            yield piece
            self._lease.renew()
            offset += len(piece)


def _damaged(_key: str, exc: CorruptData) -> None:
    raise exc


def _broken(name: str, seq: int) -> CorruptData:
    return CorruptData(
        f"the log of {name} is broken at entry {seq}", remedy="Run `modelhub admin fsck`."
    )


def _changed(name: str) -> InvalidInput:
    return InvalidInput(
        f"the log of {name} is not what it was at the last backup",
        remedy="Make a whole backup, into another folder if this one is to be kept.",
    )
