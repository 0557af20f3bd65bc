"""The sweeper of the models: settles attempts that crashed or paused clients left behind."""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.testing.protocol.actors import Actor, Call, documents
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.world import (
    FENCE,
    INTENT,
    Entry,
    PutLog,
    RemoveRows,
    Row,
    Stores,
    Write,
)


class Sweeper(Actor, frozen=True, gc=False, cache_hash=True):
    """A sweeper's memory: the rows that it saw and has yet to remove, and the head that it read."""

    rows: tuple[Row, ...] = ()
    head: int = 0


class SweeperScript:
    """Scans, settles what it saw, and begins again.

    Every attempt that it sees may be one whose lease is over: clocks affect when, never whether.
    So a scan leads to any one attempt or to all of them, whatever their clients are doing.

    Args:
        mutation: what is wrong with it.
        whole: whether it settles an attempt in a single moment, to leave fewer states.
    """

    name = "sweeper"

    def __init__(self, mutation: Mutation | None, *, whole: bool = False) -> None:
        self._mutation = mutation
        self._whole = whole

    def start(self) -> Sweeper:
        """Before a scan."""
        return Sweeper("scan_intents")

    def calls(self, me: Sweeper, stores: Stores) -> list[Call]:
        """The calls of which it makes one next."""
        if me.at == "scan_intents":
            attempts = _attempts(stores.intents)
            if self._whole:
                return [call for rows in attempts for call in self.sweep(rows, stores)]
            return [_call(Sweeper("read_head", rows), action=me.at) for rows in attempts]
        steps = {
            "read_head": self._read_head,
            "put_fence": self._put_fence,
            "read_log": self._read_log,
            "write_search": self._write_search,
            "put_hints": self._put_hints,
            "remove_pins": self._remove_pins,
            "remove_intent": self._remove_intent,
        }
        return [steps[me.at](me, stores)]

    def crashed(self, me: Sweeper) -> Sweeper | None:
        """The next one begins with a scan."""
        return None if me.at == "scan_intents" else self.start()

    def private(self, me: Sweeper) -> bool:
        """Hints are looked at by nobody."""
        return me.at == "put_hints"

    def sweep(self, rows: tuple[Row, ...], stores: Stores) -> list[Call]:
        """The ways to settle ``rows`` of one attempt in a single moment."""
        base, head = rows[0].base, len(stores.log)
        first = self._fence(head, stores) if head == base else self._stale(base, head, stores)
        start = (self.start(),)
        return [
            Call(rows[0].txid, start, writes=(*first, *_removals(doomed)), action="sweep")
            for doomed in _doomed(rows, stores)
        ]

    def _read_head(self, me: Sweeper, stores: Stores) -> Call:
        me = replace(me, head=len(stores.log))
        fence = any(row.base == me.head for row in me.rows) and self._fence(me.head, stores)
        return _call(replace(me, at="put_fence")) if fence else self._settling(me, stores)

    def _put_fence(self, me: Sweeper, stores: Stores) -> Call:
        fenced = self._settling(replace(me, head=me.head + 1), stores)
        read = replace(me, at="read_log")
        return replace(fenced, writes=self._fence(me.head, stores), refused=read, unsure=(read,))

    def _read_log(self, me: Sweeper, stores: Stores) -> Call:
        """Absent: the same put again. Anything that is there serves."""
        at = "put_fence" if len(stores.log) == me.head else "read_head"
        return _call(replace(me, at=at))

    def _settling(self, me: Sweeper, stores: Stores) -> Call:
        """What follows once the head is beyond every base."""
        if self._stale(_since(me), me.head, stores):
            return _call(replace(me, at="write_search"))
        return _call(replace(me, at="put_hints"))

    def _write_search(self, me: Sweeper, stores: Stores) -> Call:
        stale = self._stale(_since(me), me.head, stores)
        return _call(replace(me, at="put_hints"), writes=stale)

    def _put_hints(self, me: Sweeper, stores: Stores) -> Call:
        """Then the rows go, pins first; but the pins of an attempt that did not land may stay."""
        ways = [replace(me, rows=rows) for rows in _doomed(me.rows, stores)]
        return _call(*(_removing(way) for way in ways))

    def _remove_pins(self, me: Sweeper, _stores: Stores) -> Call:
        txid = me.rows[0].txid
        pins = tuple(row.pack for row in me.rows if row.txid == txid and row.pack)
        rest = tuple(row for row in me.rows if row.txid != txid or not row.pack)
        return _call(_removing(replace(me, rows=rest)), writes=(RemoveRows(txid, pins),))

    def _remove_intent(self, me: Sweeper, _stores: Stores) -> Call:
        row, *rest = me.rows
        then = _removing(replace(me, rows=tuple(rest)))
        return _call(then, writes=(RemoveRows(row.txid, INTENT),), subject=row.txid)

    def _fence(self, head: int, stores: Stores) -> tuple[Write, ...]:
        if self._mutation is Mutation.NO_FENCE:
            return ()
        previous = stores.log[head - 1].txid if head else ""
        return (PutLog(head + 1, Entry(FENCE, FENCE, previous)),)

    def _stale(self, since: int, head: int, stores: Stores) -> tuple[Write, ...]:
        versioned = self._mutation is not Mutation.NO_EXTERNAL_VERSION
        return documents(stores, since, head, versioned=versioned)
