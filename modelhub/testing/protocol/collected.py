"""The stores of the collection models: a log, pins, the rows of packs, and where their files are.

A chunk is one letter or name. A version's manifest says in which pack each of its chunks lies; its
entry lists those packs. An attempt's own row in ``intents`` plays no part here: only its pins do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.turns import Value, Write

FENCE = "fence"
PACKS, TRASH = "packs", "trash"
"""The folders that a pack's file can be in."""

Place = tuple[str, str]
"""A chunk, and the pack that it lies in."""


class Entry(Value, frozen=True):
    """A log row; its sequence is its place in the log, from 1.

    ``places`` is what the manifest of version ``number`` says, ``packs`` what the entry lists.
    """

    txid: str
    op: str
    number: int = 0
    places: tuple[Place, ...] = ()
    packs: tuple[str, ...] = ()


Log = tuple[Entry, ...]


class Pin(Value, frozen=True):
    """A row that says: this attempt, on top of entry ``base``, relies on a pack."""

    txid: str
    pack: str
    base: int


class PackRow(Value, frozen=True):
    """A pack's row; ``token`` counts its changes. The state is empty where there is none."""

    state: str = ""
    token: int = 0
    successors: tuple[str, ...] = ()

    def then(self, state: str, *successors: str) -> PackRow:
        """The row after a change."""
        return PackRow(state, self.token + 1, successors)


ABSENT = PackRow()
Rows = Mapping[str, PackRow]


class Pack(Value, frozen=True):
    """A pack's row, its file's folder (empty: there is none), and the chunks in its file."""

    name: str
    row: PackRow = ABSENT
    where: str = ""
    holds: tuple[str, ...] = ()


class Stores(Value, frozen=True):
    """All that is stored. Tuples that stand for sets are sorted.

    ``other`` is the log of a second model, which only ``log`` names and ``models`` does not.
    ``reading`` is None, or what was in the trash already when the reader under way began.
    """

    log: Log = ()
    other: Log = ()
    pins: tuple[Pin, ...] = ()
    packs: tuple[Pack, ...] = ()
    reading: tuple[str, ...] | None = None

    def pack(self, name: str) -> Pack:
        """The row and file of a pack, which may have neither."""
        return next((pack for pack in self.packs if pack.name == name), Pack(name))

    def with_pack(self, changed: Pack) -> Stores:
        """The stores with one pack changed."""
        others = [pack for pack in self.packs if pack.name != changed.name]
        return replace(self, packs=tuple(sorted([*others, changed])))

    def within(self, folder: str) -> tuple[str, ...]:
        """The packs whose files are in a folder."""
        return tuple(pack.name for pack in self.packs if pack.where == folder)

    def rows(self) -> dict[str, PackRow]:
        """All rows of packs."""
        return {pack.name: pack.row for pack in self.packs if pack.row.state}


Change = Write[Stores]


class PutLog(Change, frozen=True):
    """Put-if-absent of log row ``seq``."""

    seq: int
    entry: Entry

    def apply(self, stores: Stores) -> Stores | None:
        """A longer log."""
        return None if self.spent(stores) else replace(stores, log=(*stores.log, self.entry))

    def spent(self, stores: Stores) -> bool:
        """Log rows are never removed."""
        return len(stores.log) >= self.seq


class PutPin(Change, frozen=True):
    """Put of a pin."""

    pin: Pin

    def apply(self, stores: Stores) -> Stores:
        """With it."""
        return replace(stores, pins=tuple(sorted({*stores.pins, self.pin})))


class RemovePins(Change, frozen=True):
    """Removal of an attempt's pins."""

    txid: str

    def apply(self, stores: Stores) -> Stores:
        """Without them."""
        return replace(stores, pins=tuple(pin for pin in stores.pins if pin.txid != self.txid))


class Settle(Change, frozen=True):
    """What a sweeper does about an attempt: see to it that it cannot land, and remove its pins."""

    txid: str
    base: int

    def apply(self, stores: Stores) -> Stores:
        """A fence where the head is still its base, and no pins."""
        if len(stores.log) == self.base:
            stores = replace(stores, log=(*stores.log, Entry(FENCE, FENCE)))
        return RemovePins(self.txid).apply(stores)


class ChangePack(Change, frozen=True):
    """Check-and-put of a pack's row, against the row ``standing``; ``blind``: against its state."""

    name: str
    standing: PackRow
    row: PackRow
    blind: bool = False

    def apply(self, stores: Stores) -> Stores | None:
        """The new row."""
        pack = stores.pack(self.name)
        same = pack.row.state == self.standing.state if self.blind else pack.row == self.standing
        return stores.with_pack(replace(pack, row=self.row)) if same else None

    def spent(self, stores: Stores) -> bool:
        """A token never comes back."""
        return not self.blind and stores.pack(self.name).row.token > self.standing.token


class CreateFile(Change, frozen=True):
    """A pack's file, under a name that is used once; torn where it holds nothing."""

    name: str
    holds: tuple[str, ...] = ()

    def apply(self, stores: Stores) -> Stores:
        """With the file."""
        return stores.with_pack(replace(stores.pack(self.name), where=PACKS, holds=self.holds))


class MoveFile(Change, frozen=True):
    """A pack's file to the trash."""

    name: str

    def apply(self, stores: Stores) -> Stores:
        """The file there, unless somebody moved it before."""
        pack = stores.pack(self.name)
        return stores.with_pack(replace(pack, where=TRASH)) if pack.where == PACKS else stores

    def spent(self, stores: Stores) -> bool:
        """Whoever moves a file has seen it, and it never comes back."""
        return stores.pack(self.name).where != PACKS


class RemoveFile(Change, frozen=True):
    """Removal of a pack's file from the trash."""

    name: str

    def apply(self, stores: Stores) -> Stores:
        """Without the file."""
        pack = stores.pack(self.name)
        return stores.with_pack(Pack(pack.name, pack.row)) if pack.where == TRASH else stores

    def spent(self, stores: Stores) -> bool:
        """It never comes back."""
        return not stores.pack(self.name).where


class Reading(Change, frozen=True):
    """A reader begins, or ends: what gets into the trash meanwhile is in its grace period."""

    begins: bool

    def apply(self, stores: Stores) -> Stores:
        """With a note of what was in the trash before."""
        return replace(stores, reading=stores.within(TRASH) if self.begins else None)


class Facts(msgspec.Struct, frozen=True):
    """What a log adds up to: its versions by number, which of them are not live, what is wrong."""

    versions: tuple[Entry, ...] = ()
    deleted: frozenset[int] = frozenset()
    purged: frozenset[int] = frozenset()
    wrong: tuple[str, ...] = ()

    @property
    def unpurged(self) -> tuple[Entry, ...]:
        """The versions that are live, or can become so again."""
        return tuple(entry for entry in self.versions if entry.number not in self.purged)

    @property
    def retained(self) -> frozenset[int]:
        """The versions that are deleted and not purged yet."""
        return self.deleted - self.purged


@cache
def facts(log: Log) -> Facts:
    """Fold a log, checking what comes after what."""
    if not log:
        return Facts()
    *earlier, entry = log
    before = facts(tuple(earlier))
    number, seq = entry.number, len(log)
    match entry.op:
        case "publish":
            known = replace(before, versions=(*before.versions, entry))
            right = number == len(known.versions)
        case "delete":
            known = replace(before, deleted=before.deleted | {number})
            right = number not in before.deleted
        case "undelete":
            known = replace(before, deleted=before.deleted - {number})
            right = number in before.retained
        case "purge":
            known = replace(before, purged=before.purged | {number})
            right = number in before.retained
        case _:
            known, right = before, True
    wrong = () if right else (f"entry {seq} is to {entry.op} version {number}, which cannot be",)
    return replace(known, wrong=(*known.wrong, *wrong))


def followed(packs: Iterable[str], rows: Rows) -> frozenset[str]:
    """Packs, and those that they were rewritten to, and those again."""
    found: set[str] = set()
    todo = list(packs)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            row = rows.get(name, ABSENT)
            todo += row.successors if row.state == "moved" else ()
    return frozenset(found)


def named(rows: Rows) -> frozenset[str]:
    """Packs that are being written, as condemned rows name them."""
    condemned = [row for row in rows.values() if row.state == "condemned"]
    return frozenset(name for row in condemned for name in row.successors)


def is_kept(stores: Stores, chunk: str, name: str) -> bool:
    """Whether a chunk of a pack can be had, and nobody is about to take it away."""
    pack = stores.pack(name)
    if pack.row.state == "moved":
        return any(is_kept(stores, chunk, successor) for successor in pack.row.successors)
    return pack.row.state in {"live", "condemned"} and pack.where == PACKS and chunk in pack.holds
