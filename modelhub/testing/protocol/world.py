"""The stores as the models see them: rows, files and documents of one model, and writes to them."""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.turns import Value, Write

FENCE = "fence"
INTENT = ""
"""Stands for the pack in the key of an attempt's own row in ``intents``."""


class Entry(Value, frozen=True):
    """A log row; its sequence is its place in the log, from 1.

    ``number`` is the version that it is about, ``parent`` the one that a new version follows.
    """

    txid: str
    op: str
    previous: str
    number: int = 0
    parent: int = 0
    request: bool = False
    packs: tuple[str, ...] = ()


class Row(Value, frozen=True):
    """A row of ``intents``: an attempt's own, or one of its pins."""

    txid: str
    pack: str
    base: int


class Pack(Value, frozen=True):
    """A pack's row and its file.

    ``state`` is empty where there is no row, ``token`` counts the row's changes, and ``file`` is
    ``whole``, ``torn`` or empty.
    """

    name: str
    state: str = ""
    token: int = 0
    file: str = ""


class Stores(Value, frozen=True):
    """All that is stored for one model. Tuples that stand for sets are sorted.

    ``documents`` holds, by version, the entry that its search document shows (0: none), and
    ``lookup`` the rows of the one request id: version, and the sequence that the row names.
    """

    log: tuple[Entry, ...] = ()
    documents: tuple[int, ...] = ()
    intents: tuple[Row, ...] = ()
    packs: tuple[Pack, ...] = ()
    lookup: tuple[tuple[int, int], ...] = ()

    def pack(self, name: str) -> Pack:
        """The row and file of a pack, which may have neither."""
        return next((pack for pack in self.packs if pack.name == name), Pack(name))

    def with_pack(self, changed: Pack) -> Stores:
        """The stores with one pack changed."""
        others = [pack for pack in self.packs if pack.name != changed.name]
        return replace(self, packs=tuple(sorted([*others, changed])))


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


class PutRow(Change, frozen=True):
    """Put of an intent or a pin."""

    row: Row

    def apply(self, stores: Stores) -> Stores:
        """The row, whatever was there."""
        key = (self.row.txid, self.row.pack)
        others = [row for row in stores.intents if (row.txid, row.pack) != key]
        return replace(stores, intents=tuple(sorted([*others, self.row])))


class RemoveRows(Change, frozen=True):
    """Removal of an attempt's rows: those of ``packs``, or all its pins where none are named."""

    txid: str
    packs: tuple[str, ...] = ()

    def apply(self, stores: Stores) -> Stores:
        """No such rows."""
        rows = tuple(row for row in stores.intents if not self._names(row))
        return replace(stores, intents=rows)

    def _names(self, row: Row) -> bool:
        named = row.pack in self.packs if self.packs else row.pack != INTENT
        return row.txid == self.txid and named


class ChangePack(Change, frozen=True):
    """Check-and-put of a pack's row: it must hold ``token`` (0: be absent)."""

    name: str
    token: int
    state: str

    def apply(self, stores: Stores) -> Stores | None:
        """The row with a new token."""
        pack = stores.pack(self.name)
        if pack.token != self.token:
            return None
        return stores.with_pack(replace(pack, state=self.state, token=pack.token + 1))

    def spent(self, stores: Stores) -> bool:
        """A token never comes back."""
        return stores.pack(self.name).token > self.token


class PutFile(Change, frozen=True):
    """A pack's file: written whole, torn by a creation that did not get further, or removed."""

    name: str
    file: str

    def apply(self, stores: Stores) -> Stores:
        """The file as it is now."""
        return stores.with_pack(replace(stores.pack(self.name), file=self.file))


class PutLookup(Change, frozen=True):
    """Put of the row that says: entry ``seq`` makes version ``number`` for the request id."""

    number: int
    seq: int

    def apply(self, stores: Stores) -> Stores:
        """The row, whatever was there."""
        others = [row for row in stores.lookup if row[0] != self.number]
        return replace(stores, lookup=tuple(sorted([*others, (self.number, self.seq)])))


class PutDocument(Change, frozen=True):
    """A version's search document as of entry ``seq``; where ``versioned``, never over a newer."""

    number: int
    seq: int
    versioned: bool = True

    def apply(self, stores: Stores) -> Stores:
        """The document, unless a newer one is there."""
        if self.spent(stores):
            return stores
        documents = [*stores.documents, *[0] * (self.number - len(stores.documents))]
        documents[self.number - 1] = self.seq
        return replace(stores, documents=tuple(documents))

    def spent(self, stores: Stores) -> bool:
        """Versions only grow."""
        known = len(stores.documents) >= self.number
        return self.versioned and known and stores.documents[self.number - 1] >= self.seq


class Facts(msgspec.Struct, frozen=True):
    """What a log adds up to, and what is wrong with it.

    ``touched`` holds, by version, the newest entry that touches its search document, ``made`` the
    version made for the request id (0: none), ``packs`` all that versions need.
    """

    next: int
    head: int
    deleted: frozenset[int]
    touched: tuple[int, ...]
    made: int
    packs: tuple[str, ...]
    txids: frozenset[str]
    wrong: tuple[str, ...]


@cache
def facts(log: tuple[Entry, ...]) -> Facts:
    """Fold a log, checking its chain, numbers, txids and requests on the way."""
    if not log:
        return Facts(1, 0, frozenset(), (), 0, (), frozenset(), ())
    *earlier, entry = log
    before, seq = facts(tuple(earlier)), len(log)
    wrong = [*before.wrong, *_wrong(entry, earlier, before)]
    if entry.op == FENCE:
        return replace(before, wrong=tuple(wrong))
    deleted = before.deleted - {entry.number}
    touched = list(before.touched)
    if entry.op == "publish":
        touched.append(seq)
    elif entry.op == "delete":
        deleted |= {entry.number}
    head = _head(log, deleted)
    moved = {before.head, head} - {0} if head != before.head else set()
    for number in {entry.number, *moved}:
        touched[number - 1] = seq
    return Facts(
        next=len(touched) + 1,
        head=head,
        deleted=deleted,
        touched=tuple(touched),
        made=entry.number if entry.request else before.made,
        packs=tuple(sorted({*before.packs, *entry.packs})),
        txids=before.txids | {entry.txid},
        wrong=tuple(wrong),
    )


def _wrong(entry: Entry, earlier: list[Entry], before: Facts) -> list[str]:
    """What is wrong with ``entry`` on top of ``earlier`` entries."""
    wrong = []
    if entry.previous != (earlier[-1].txid if earlier else ""):
        wrong.append(f"{entry.txid} is chained to {entry.previous}, not to what is before it")
    if entry.txid in before.txids:
        wrong.append(f"{entry.txid} is twice in the log")
    if entry.op == "publish" and entry.number != before.next:
        wrong.append(f"{entry.txid} makes version {entry.number} where {before.next} is next")
    if entry.request and before.made:
        wrong.append(f"one request made versions {before.made} and {entry.number}")
    if entry.op in {"delete", "undelete"}:
        is_deleted = entry.number in before.deleted
        if is_deleted == (entry.op == "delete") or entry.number >= before.next:
            wrong.append(f"{entry.txid} is to {entry.op} version {entry.number}, which cannot be")
    return wrong


def _head(log: tuple[Entry, ...], deleted: frozenset[int]) -> int:
    """The nearest version that is not deleted, from the newest down the parents."""
    parents = {entry.number: entry.parent for entry in log if entry.op == "publish"}
    number = max(parents)
    while number and number in deleted:
        number = parents[number]
    return number


def documents(
    log: tuple[Entry, ...], since: int, *, versioned: bool = True
) -> tuple[PutDocument, ...]:
    """Writes of the documents that entries after ``since`` touch, as of the end of ``log``."""
    return tuple(
        PutDocument(number, seq, versioned)
        for number, seq in enumerate(facts(log).touched, 1)
        if seq > since
    )
