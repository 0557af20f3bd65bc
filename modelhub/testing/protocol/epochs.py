"""The stores of the restore models: one set of tables for each epoch, and the files they share.

There is one model; its versions are numbered, and each needs one pack. How collection and
publishing work in detail is the other models' concern: here it matters into whose tables they
write.
"""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.turns import Value, Write

TRASH = "trash"


class Entry(Value, frozen=True):
    """A log row: a version and its pack, or the purge of a version."""

    txid: str
    number: int
    pack: str = ""


class PackRow(Value, frozen=True):
    """A pack's row; ``token`` counts its changes."""

    name: str
    state: str
    token: int = 1


class Tables(Value, frozen=True):
    """What one epoch's tables hold.

    ``taken`` is the highest number that counts as taken, whatever the log says; versions that are
    ``missing`` are marked so, as their packs are not there.
    """

    log: tuple[Entry, ...] = ()
    rows: tuple[PackRow, ...] = ()
    pins: tuple[str, ...] = ()
    taken: int = 0
    missing: tuple[int, ...] = ()

    def row(self, pack: str) -> PackRow:
        """A pack's row, which may be absent."""
        return next((row for row in self.rows if row.name == pack), PackRow(pack, "", 0))


class System(Value, frozen=True):
    """The row that says which tables to use, and whether they may be used yet."""

    epoch: int = 1
    open: bool = True


class Stores(Value, frozen=True):
    """All that is stored. ``tables`` are there by epoch; ``files`` says which folder has a pack."""

    system: System = System()
    tables: tuple[Tables, ...] = ()
    files: tuple[tuple[str, str], ...] = ()

    def of(self, epoch: int) -> Tables:
        """The tables of an epoch."""
        return self.tables[epoch - 1] if epoch <= len(self.tables) else Tables()

    def with_tables(self, epoch: int, tables: Tables) -> Stores:
        """The stores with the tables of one epoch changed."""
        more = [Tables()] * (epoch - len(self.tables))
        changed = [*self.tables, *more]
        changed[epoch - 1] = tables
        return replace(self, tables=tuple(changed))

    def folder_of(self, pack: str) -> str:
        """Where a pack's file is."""
        return dict(self.files).get(pack, "")


def folder(epoch: int) -> str:
    """The folder of an epoch's packs."""
    return f"packs-{epoch}"


Change = Write[Stores]


class PutSystem(Change, frozen=True):
    """Check-and-put of the row that says which tables to use."""

    standing: System
    system: System

    def apply(self, stores: Stores) -> Stores | None:
        """The new row."""
        return replace(stores, system=self.system) if stores.system == self.standing else None

    def spent(self, stores: Stores) -> bool:
        """An epoch never comes back."""
        return stores.system > self.system


class PutLog(Change, frozen=True):
    """Put-if-absent of log row ``seq`` of an epoch."""

    epoch: int
    seq: int
    entry: Entry

    def apply(self, stores: Stores) -> Stores | None:
        """A longer log."""
        tables = stores.of(self.epoch)
        if len(tables.log) >= self.seq:
            return None
        return stores.with_tables(self.epoch, replace(tables, log=(*tables.log, self.entry)))

    def spent(self, stores: Stores) -> bool:
        """Log rows are never removed."""
        return len(stores.of(self.epoch).log) >= self.seq


class PutPin(Change, frozen=True):
    """Put of a publisher's pin on the one pack, or its removal."""

    epoch: int
    publisher: str
    there: bool = True

    def apply(self, stores: Stores) -> Stores:
        """With it, or without."""
        tables = stores.of(self.epoch)
        pins = {*tables.pins, self.publisher} if self.there else {*tables.pins} - {self.publisher}
        return stores.with_tables(self.epoch, replace(tables, pins=tuple(sorted(pins))))


class ChangePack(Change, frozen=True):
    """Check-and-put of a pack's row."""

    epoch: int
    standing: PackRow
    state: str

    def apply(self, stores: Stores) -> Stores | None:
        """The new row."""
        tables = stores.of(self.epoch)
        if tables.row(self.standing.name) != self.standing:
            return None
        rows = {row for row in tables.rows if row.name != self.standing.name}
        rows.add(PackRow(self.standing.name, self.state, self.standing.token + 1))
        return stores.with_tables(self.epoch, replace(tables, rows=tuple(sorted(rows))))

    def spent(self, stores: Stores) -> bool:
        """A token never comes back."""
        return stores.of(self.epoch).row(self.standing.name).token > self.standing.token


class Restore(Change, frozen=True):
    """All rows of a new epoch, which nobody else knows of yet."""

    epoch: int
    tables: Tables

    def apply(self, stores: Stores) -> Stores:
        """With them."""
        return stores.with_tables(self.epoch, self.tables)


class MoveFile(Change, frozen=True):
    """A pack's file from one folder to another."""

    pack: str
    source: str
    target: str = TRASH

    def apply(self, stores: Stores) -> Stores:
        """The file there, if it was in the folder that it was looked for in."""
        if self.spent(stores):
            return stores
        files = {pack: where for pack, where in stores.files if pack != self.pack}
        return replace(stores, files=tuple(sorted({**files, self.pack: self.target}.items())))

    def spent(self, stores: Stores) -> bool:
        """What has left a folder never comes back to it."""
        return stores.folder_of(self.pack) != self.source


class RenameFolder(Change, frozen=True):
    """All that is in one folder of packs to the new epoch's, at once."""

    source: str
    target: str

    def apply(self, stores: Stores) -> Stores:
        """The files there."""
        files = [(p, self.target if where == self.source else where) for p, where in stores.files]
        return replace(stores, files=tuple(files))

    def spent(self, stores: Stores) -> bool:
        """Where nothing is left in the folder: nothing is written in these models."""
        return all(where != self.source for _, where in stores.files)


class Facts(msgspec.Struct, frozen=True):
    """What a log adds up to: its versions that are not purged, and its highest number."""

    versions: tuple[Entry, ...]
    highest: int


@cache
def facts(log: tuple[Entry, ...]) -> Facts:
    """Fold a log."""
    purged = {entry.number for entry in log if not entry.pack}
    versions = tuple(entry for entry in log if entry.pack and entry.number not in purged)
    return Facts(versions, max((entry.number for entry in log), default=0))
