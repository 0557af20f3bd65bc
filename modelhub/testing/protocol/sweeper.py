"""The sweeper of the models: settles attempts that crashed or paused clients left behind."""

from __future__ import annotations

from itertools import groupby

from msgspec.structs import replace

from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.turns import Actor, Call
from modelhub.testing.protocol.world import (
    FENCE,
    Change,
    Entry,
    PutLog,
    RemoveRows,
    Row,
    Stores,
    documents,
)


class Sweeper(Actor, frozen=True):
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
        steps = {
            "scan_intents": self._scan_intents,
            "read_head": self._read_head,
            "put_fence": self._put_fence,
            "read_log": self._read_log,
            "write_search": self._write_search,
            "put_hints": self._put_hints,
            "remove_pins": self._remove_pins,
            "remove_intent": self._remove_intent,
        }
        return steps[me.at](me, stores)

    def crashed(self, me: Sweeper) -> Sweeper | None:
        """The next one begins with a scan."""
        return None if me.at == "scan_intents" else self.start()

    def private(self, me: Sweeper) -> bool:
        """Nobody looks at hints."""
        return me.at == "put_hints"

    def sweep(self, rows: tuple[Row, ...], stores: Stores) -> list[Call]:
        """The ways to settle the attempt of ``rows`` in a single moment."""
        base, head = rows[0].base, len(stores.log)
        first = self._fence(head, stores) if base == head else self._stale(base, head, stores)
        return [
            Call(rows[0].txid, (self.start(),), writes=(*first, *_removals(doomed)), action="sweep")
            for doomed in _doomed(rows, stores)
        ]

    def _scan_intents(self, _me: Sweeper, stores: Stores) -> list[Call]:
        attempts = [tuple(rows) for _, rows in groupby(stores.intents, key=lambda row: row.txid)]
        if self._whole:
            return [call for rows in attempts for call in self.sweep(rows, stores)]
        if len(attempts) > 1:
            attempts.insert(0, stores.intents)
        return [self._call(Sweeper("read_head", rows)) for rows in attempts]

    def _read_head(self, me: Sweeper, stores: Stores) -> list[Call]:
        me = replace(me, head=len(stores.log))
        if any(row.base == me.head for row in me.rows) and self._fence(me.head, stores):
            return [self._call(replace(me, at="put_fence"))]
        return [self._call(self._settling(me, stores))]

    def _put_fence(self, me: Sweeper, stores: Stores) -> list[Call]:
        fenced = self._settling(replace(me, head=me.head + 1), stores)
        read = replace(me, at="read_log")
        call = self._call(fenced, writes=self._fence(me.head, stores))
        return [replace(call, refused=read, unsure=(read,))]

    def _read_log(self, me: Sweeper, stores: Stores) -> list[Call]:
        """Absent or unreadable: put it again, or give up. Another's entry serves as well."""
        again = replace(me, at="put_fence")
        out = (again, self.start())
        if len(stores.log) == me.head:
            return [replace(self._call(*out), unsure=out)]
        fenced = stores.log[me.head].op == FENCE
        then = self._settling(replace(me, head=me.head + 1), stores) if fenced else None
        return [replace(self._call(then or replace(me, at="read_head")), unsure=out)]

    def _settling(self, me: Sweeper, stores: Stores) -> Sweeper:
        """What follows once the head is beyond every base."""
        stale = self._stale(_since(me), me.head, stores)
        return replace(me, at="write_search" if stale else "put_hints")

    def _write_search(self, me: Sweeper, stores: Stores) -> list[Call]:
        stale = self._stale(_since(me), me.head, stores)
        return [self._call(replace(me, at="put_hints"), writes=stale)]

    def _put_hints(self, me: Sweeper, stores: Stores) -> list[Call]:
        """Then the rows go, pins first; but the pins of an attempt that did not land may stay."""
        ways = [replace(me, rows=doomed) for doomed in _doomed(me.rows, stores)]
        return [self._call(*(self._removing(way) for way in ways))]

    def _remove_pins(self, me: Sweeper, _stores: Stores) -> list[Call]:
        pins, rest = _first_pins(me.rows)
        then = self._removing(replace(me, rows=rest))
        return [self._call(then, subject=pins[0].txid, writes=_removals(pins))]

    def _remove_intent(self, me: Sweeper, _stores: Stores) -> list[Call]:
        then = self._removing(replace(me, rows=me.rows[1:]))
        return [self._call(then, subject=me.rows[0].txid, writes=_removals(me.rows[:1]))]

    def _removing(self, me: Sweeper) -> Sweeper:
        if not me.rows:
            return self.start()
        return replace(me, at="remove_pins" if _first_pins(me.rows)[0] else "remove_intent")

    def _fence(self, head: int, stores: Stores) -> tuple[Change, ...]:
        if self._mutation is Mutation.NO_FENCE:
            return ()
        previous = stores.log[head - 1].txid if head else ""
        return (PutLog(head + 1, Entry(FENCE, FENCE, previous)),)

    def _stale(self, since: int, head: int, stores: Stores) -> tuple[Change, ...]:
        versioned = self._mutation is not Mutation.NO_EXTERNAL_VERSION
        return documents(stores.log[:head], since, versioned=versioned)

    def _call(self, *then: Sweeper, writes: tuple[Change, ...] = (), subject: str = "") -> Call:
        """A call; an error ends this sweep, and the next one begins with a scan."""
        return Call(subject, then, (self.start(),), writes)


def _since(me: Sweeper) -> int:
    return min(row.base for row in me.rows)


def _first_pins(rows: tuple[Row, ...]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The pins of the first attempt, and all other rows."""
    pins = tuple(row for row in rows if row.txid == rows[0].txid and row.pack)
    return pins, tuple(row for row in rows if row not in pins)


def _removals(rows: tuple[Row, ...]) -> tuple[Change, ...]:
    return tuple(RemoveRows(row.txid, (row.pack,)) for row in rows)


def _doomed(rows: tuple[Row, ...], stores: Stores) -> list[tuple[Row, ...]]:
    """Which of ``rows`` may go: all, or those but the pins of attempts that did not land."""
    landed = {entry.txid for entry in stores.log}
    fewer = tuple(row for row in rows if row.txid in landed or not row.pack)
    return [rows, fewer] if fewer and fewer != rows else [rows]
