"""The stores as the models see them: rows, files and documents of one model, and writes to them."""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec.structs import replace

FENCE = "fence"
INTENT = ("",)
"""The key, behind its txid, of an attempt's own row in ``intents``."""


class Entry(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """A log row; its sequence is its place in the log, from 1.

    ``number`` is the version that it is about, ``parent`` the one that a new version follows.
    """

    txid: str
    op: str
    previous: str
    number: int = 0
    parent: int = 0
    request: str = ""
    packs: tuple[str, ...] = ()


class Row(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """A row of ``intents``: the attempt's own, or with ``pack`` one of its pins."""

    txid: str
    pack: str
    base: int


class Pack(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """A pack's row (``state`` empty: none; ``token`` counts its changes) and its file: ``whole``,
    ``torn`` or none."""

    name: str
    state: str = ""
    token: int = 0
    file: str = ""


class Stores(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
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


class Write(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """One atomic write, of one row, file or document."""

    def apply(self, stores: Stores) -> Stores | None:
        """The stores after it; None where its condition does not hold."""
        raise NotImplementedError

    def spent(self, stores: Stores) -> bool:
        """Whether it can change nothing any more, whatever happens before it lands."""
        del stores
        return False


class PutLog(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """Put-if-absent of log row ``seq``."""

    seq: int
    entry: Entry

    def apply(self, stores: Stores) -> Stores | None:
        if len(stores.log) >= self.seq:
            return None
        return replace(stores, log=(*stores.log, self.entry))

    def spent(self, stores: Stores) -> bool:
        return len(stores.log) >= self.seq


class PutRow(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """Put of an intent or a pin."""

    row: Row

    def apply(self, stores: Stores) -> Stores:
        key = (self.row.txid, self.row.pack)
        others = [row for row in stores.intents if (row.txid, row.pack) != key]
        return replace(stores, intents=tuple(sorted([*others, self.row])))


class RemoveRows(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """Removal of rows of one attempt: its intent (``packs`` is ``INTENT``), these pins, or all."""

    txid: str
    packs: tuple[str, ...] = ()

    def apply(self, stores: Stores) -> Stores:
        """The stores without them."""
        rows = tuple(row for row in stores.intents if not self._names(row))
        return replace(stores, intents=rows)

    def _names(self, row: Row) -> bool:
        return row.txid == self.txid and (row.pack in self.packs or (not self.packs and row.pack != ""))


class ChangePack(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """Check-and-put of a pack's row: it must hold ``token`` (0: be absent)."""

    name: str
    token: int
    state: str

    def apply(self, stores: Stores) -> Stores | None:
        pack = stores.pack(self.name)
        if pack.token != self.token:
            return None
        return stores.with_pack(replace(pack, state=self.state, token=pack.token + 1))

    def spent(self, stores: Stores) -> bool:
        return stores.pack(self.name).token > self.token


class PutFile(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """A pack's file: written whole, torn by an overwrite that began, or removed."""

    name: str
    file: str

    def apply(self, stores: Stores) -> Stores:
        return stores.with_pack(replace(stores.pack(self.name), file=self.file))


class PutLookup(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """Put of the row that says: entry ``seq`` makes version ``number`` for the request id."""

    number: int
    seq: int

    def apply(self, stores: Stores) -> Stores:
        others = [row for row in stores.lookup if row[0] != self.number]
        return replace(stores, lookup=tuple(sorted([*others, (self.number, self.seq)])))


class PutDocument(Write, frozen=True, order=True, gc=False, cache_hash=True):
    """A version's search document as of entry ``seq``; where ``versioned``, never over a newer."""

    number: int
    seq: int
    versioned: bool = True

    def apply(self, stores: Stores) -> Stores:
        documents = [*stores.documents, *[0] * (self.number - len(stores.documents))]
        if self.versioned and documents[self.number - 1] >= self.seq:
            return stores
        documents[self.number - 1] = self.seq
        return replace(stores, documents=tuple(documents))

    def spent(self, stores: Stores) -> bool:
        known = len(stores.documents) >= self.number
        return self.versioned and known and stores.documents[self.number - 1] >= self.seq


class Facts(msgspec.Struct, frozen=True):
    """What a log adds up to, and what is wrong with it.

    ``touched`` holds, by version, the newest entry that touches its search document;
    ``by_request`` the version made for the request id; ``packs`` all that versions need.
    """

    next: int
    head: int
    deleted: frozenset[int]
    touched: tuple[int, ...]
    by_request: int
    packs: tuple[str, ...]
    wrong: tuple[str, ...]


@cache
def facts(log: tuple[Entry, ...]) -> Facts:
    """Fold a log, checking numbers, chain, txids and request ids on the way."""
    parents: list[int] = []
    newest: list[int] = []
    deleted: set[int] = set()
    wrong: list[str] = []
    made: list[int] = []
    head = 0
    for seq, entry in enumerate(log, 1):
        if entry.previous != (log[seq - 2].txid if seq > 1 else ""):
            wrong.append(f"entry {seq} names {entry.previous!r} as its predecessor")
        if entry.op == FENCE:
            continue
        if entry.op == "publish":
            if entry.number != len(parents) + 1:
                wrong.append(f"entry {seq} makes version {entry.number} after {len(parents)}")
            parents.append(entry.parent)
            touched.append(seq)
            made += [entry.number] if entry.request else []
        elif (entry.number in deleted) == (entry.op == "delete"):
            wrong.append(f"entry {seq}: {entry.op} of version {entry.number}, which is so already")
        deleted = (deleted | {entry.number}) if entry.op == "delete" else deleted - {entry.number}
        before, head = head, _head(parents, deleted)
        for number in {entry.number, *({before, head} - {0} if before != head else ())}:
            touched[number - 1] = seq
    txids = [entry.txid for entry in log if entry.op != FENCE]
    wrong += [f"{txid} is twice in the log" for txid in set(txids) if txids.count(txid) > 1]
    if len(made) > 1:
        wrong.append(f"one request made versions {made}")
    packs = sorted({pack for entry in log for pack in entry.packs})
    return Facts(
        next=len(parents) + 1,
        head=head,
        deleted=frozenset(deleted),
        touched=tuple(touched),
        by_request=made[0] if made else 0,
        packs=tuple(packs),
        wrong=tuple(wrong),
    )


def _head(parents: list[int], deleted: set[int]) -> int:
    number = len(parents)
    while number and number in deleted:
        number = parents[number - 1]
    return number
