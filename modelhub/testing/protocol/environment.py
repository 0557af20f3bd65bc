"""Who else is at work on a model: the sweeper, a collector, and somebody else's change."""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.testing.protocol.actors import DONE, Actor, Call, documents
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.world import (
    FENCE,
    ChangePack,
    Entry,
    Pack,
    PutFile,
    PutLog,
    RemoveRows,
    Stores,
    Write,
    facts,
)


class Sweeper(Actor, frozen=True, gc=False, cache_hash=True):
    """A sweeper's memory: the attempt at hand, its base, and the head that was read."""

    txid: str = ""
    base: int = 0
    head: int = 0


class SweeperScript:
    """Settles one attempt after the other, for ever.

    Any attempt that it sees may be one whose lease is over: clocks affect when, never whether. So
    it waits for nothing, and a crash leaves nothing behind.
    """

    name = "sweeper"

    def __init__(self, mutation: Mutation | None, *, whole: bool = False) -> None:
        self._mutation = mutation
        self._whole = whole

    def start(self) -> Sweeper:
        """Before a scan."""
        return Sweeper("scan_intents")

    def calls(self, me: Sweeper, stores: Stores) -> list[Call]:
        """The call that it makes next; a scan may lead it to any attempt."""
        calls: list[Call] = getattr(self, me.at)(me, stores)
        return calls

    def crashed(self, me: Sweeper) -> Sweeper | None:
        """The next one starts anew."""
        return None if me.at == "scan_intents" else self.start()

    def private(self, me: Sweeper) -> bool:
        """Nothing that it does is its own."""
        del me
        return False

    def scan_intents(self, _me: Sweeper, stores: Stores) -> list[Call]:
        seen = sorted({(row.txid, row.base) for row in stores.intents})
        if self._whole:
            return [call for txid, base in seen for call in self.sweep(txid, base, stores)]
        return [self._call(txid, Sweeper("read_head", txid, base)) for txid, base in seen]

    def sweep(self, txid: str, base: int, stores: Stores) -> list[Call]:
        """All that is done for one attempt, in a single moment."""
        first = self._fence(base, stores) or self._stale(base, len(stores.log), stores)
        intent, pins = RemoveRows(txid, pins=False), RemoveRows(txid, pins=True)
        ways = [(*first, pins, intent)]
        if _may_leave_pins(txid, stores):
            ways.append((*first, intent))
        return [Call(txid, (self.start(),), (), way, action="sweep") for way in ways]

    def read_head(self, me: Sweeper, stores: Stores) -> list[Call]:
        if self._fence(me.base, stores):
            return [self._call(me.txid, replace(me, at="put_fence"))]
        me = replace(me, head=len(stores.log))
        if self._stale(me.base, me.head, stores):
            return [self._call(me.txid, replace(me, at="write_search"))]
        return [self._call(me.txid, *self._removing(me, stores))]

    def put_fence(self, me: Sweeper, stores: Stores) -> list[Call]:
        again = replace(me, at="read_head")
        fence = self._fence(me.base, stores)
        return [replace(self._call(me.txid, again, writes=fence), refused=again)]

    def write_search(self, me: Sweeper, stores: Stores) -> list[Call]:
        stale = self._stale(me.base, me.head, stores)
        return [self._call(me.txid, *self._removing(me, stores), writes=stale)]

    def remove_pins(self, me: Sweeper, _stores: Stores) -> list[Call]:
        then = replace(me, at="remove_intent")
        return [self._call(me.txid, then, writes=(RemoveRows(me.txid, pins=True),))]

    def remove_intent(self, me: Sweeper, _stores: Stores) -> list[Call]:
        return [self._call(me.txid, self.start(), writes=(RemoveRows(me.txid, pins=False),))]

    def _removing(self, me: Sweeper, stores: Stores) -> tuple[Sweeper, ...]:
        """Pins first; but those of an attempt that did not land may stay, to be swept much later."""
        pins = replace(me, at="remove_pins")
        if _may_leave_pins(me.txid, stores):
            return pins, replace(me, at="remove_intent")
        return (pins,)

    def _fence(self, base: int, stores: Stores) -> tuple[Write, ...]:
        if len(stores.log) > base or self._mutation is Mutation.NO_FENCE:
            return ()
        previous = stores.log[base - 1].txid if base else ""
        return (PutLog(base + 1, Entry(FENCE, FENCE, previous)),)

    def _stale(self, base: int, head: int, stores: Stores) -> tuple[Write, ...]:
        versioned = self._mutation is not Mutation.NO_EXTERNAL_VERSION
        return documents(stores, base, head, versioned=versioned)

    def _call(self, subject: str, *then: Sweeper, writes: tuple[Write, ...] = ()) -> Call:
        return Call(subject, then, (self.start(),), writes)


def _may_leave_pins(txid: str, stores: Stores) -> bool:
    pinned = any(row.pack for row in stores.intents if row.txid == txid)
    announced = any(not row.pack for row in stores.intents if row.txid == txid)
    return pinned and announced and all(entry.txid != txid for entry in stores.log)


class Collector(Actor, frozen=True, gc=False, cache_hash=True):
    """A collector's memory: the pack at hand, its row's token (0: an orphan file), which attempts it
    has yet to look at, and how often it was run."""

    pack: str = ""
    token: int = 0
    attempt: int = 0
    runs: int = 0


class CollectorScript:
    """Takes packs away that nobody refers to: condemn, scan intents, scan the log, delete.

    It condemns whatever it likes: what a real one does after a first scan is among that, so
    publishers are safe from both. Its scan of intents is no snapshot: it sees each client's newer
    attempts first, which is the worst order, as pins go from older to newer ones. An orphan file is
    claimed by put-if-absent of its row.
    """

    name = "collector"

    def __init__(self, runs: int, attempts: int) -> None:
        self._runs = runs
        self._attempts = attempts

    def start(self) -> Collector:
        """Before a run."""
        return Collector("condemn_pack")

    def calls(self, me: Collector, stores: Stores) -> list[Call]:
        """The call that it makes next; a run may be about any pack."""
        calls: list[Call] = getattr(self, me.at)(me, stores) if me.runs < self._runs else []
        return calls

    def crashed(self, me: Collector) -> Collector | None:
        """The next run takes over, and scans afresh."""
        return None if me.at == "condemn_pack" else self._over(me)

    def private(self, me: Collector) -> bool:
        """Nothing that it does is its own."""
        del me
        return False

    def condemn_pack(self, me: Collector, stores: Stores) -> list[Call]:
        return [call for pack in stores.packs for call in self._begin(me, pack)]

    def _begin(self, me: Collector, pack: Pack) -> list[Call]:
        me = replace(
            me, at="scan_intents", pack=pack.name, token=pack.token, attempt=self._attempts
        )
        if pack.state == "live":
            condemned = replace(me, token=pack.token + 1)
            write = ChangePack(pack.name, pack.token, "condemned")
            return [self._call(pack.name, condemned, write)]
        if pack.state == "condemned" or (not pack.state and pack.file):
            return [self._call(pack.name, me)]
        if pack.state == "deleting" and pack.file:
            return [self._call(pack.name, replace(me, at="remove_file"))]
        return []

    def scan_intents(self, me: Collector, stores: Stores) -> list[Call]:
        suffix = f".{me.attempt}"
        if any(row.pack == me.pack and row.txid.endswith(suffix) for row in stores.intents):
            return [self._call(me.pack, self._spared(me))]
        then = replace(me, attempt=me.attempt - 1)
        return [self._call(me.pack, then if then.attempt else replace(then, at="scan_log"))]

    def scan_log(self, me: Collector, stores: Stores) -> list[Call]:
        if me.pack in facts(stores.log).packs:
            return [self._call(me.pack, self._spared(me))]
        return [self._call(me.pack, replace(me, at="delete_pack"))]

    def _spared(self, me: Collector) -> Collector:
        return replace(me, at="spare_pack", attempt=0) if me.token else self._over(me)

    def spare_pack(self, me: Collector, _stores: Stores) -> list[Call]:
        return [self._call(me.pack, self._over(me), ChangePack(me.pack, me.token, "live"))]

    def delete_pack(self, me: Collector, _stores: Stores) -> list[Call]:
        won = replace(me, at="remove_file")
        call = self._call(me.pack, won, ChangePack(me.pack, me.token, "deleting"))
        return [replace(call, refused=self._over(me))]

    def remove_file(self, me: Collector, _stores: Stores) -> list[Call]:
        return [self._call(me.pack, self._over(me), PutFile(me.pack, ""))]

    def _over(self, me: Collector) -> Collector:
        return Collector("condemn_pack", runs=me.runs + 1)

    def _call(self, subject: str, then: Collector, *writes: Write) -> Call:
        return Call(subject, (then,), (), writes, refused=self._over(then))


class StrangerScript:
    """Somebody else, who publishes one version in a single moment, search and all."""

    name = "stranger"

    def start(self) -> Actor:
        """Before it."""
        return Actor("publish")

    def calls(self, me: Actor, stores: Stores) -> list[Call]:
        """The one call that it makes."""
        if me.at == DONE:
            return []
        log = stores.log
        known = facts(log)
        entry = Entry(
            txid=self.name,
            op="publish",
            previous=log[-1].txid if log else "",
            number=known.next,
            parent=known.head,
        )
        after = replace(stores, log=(*log, entry))
        shown = documents(after, len(log), len(log) + 1, versioned=True)
        return [Call("", (Actor(DONE),), (), (PutLog(len(log) + 1, entry), *shown))]

    def crashed(self, me: Actor) -> None:
        """It never does."""

    def private(self, me: Actor) -> bool:
        """Others see it."""
        del me
        return False
