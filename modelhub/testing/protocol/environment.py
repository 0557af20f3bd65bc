"""A collector, and somebody else's change: what the models' publishers have to live with."""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.testing.protocol.turns import DONE, Actor, Call
from modelhub.testing.protocol.world import (
    Change,
    ChangePack,
    Entry,
    Pack,
    PutFile,
    PutLog,
    Stores,
    documents,
    facts,
)


class Collector(Actor, frozen=True):
    """A collector's memory.

    The pack at hand, its row's token (0: an orphan file), which attempts it has yet to look at
    (that number and below), and how many runs are over.
    """

    pack: str = ""
    token: int = 0
    attempt: int = 0
    runs: int = 0


class CollectorScript:
    """Takes packs away that nobody refers to: condemn, scan intents, scan the log, delete.

    It condemns whatever it likes: what a real one does after a first scan is among that, so who is
    safe from this one is safe from both. Its scan of intents is no snapshot: it sees each client's
    newer attempts first, which is the worst order, as pins go from older attempts to newer. A
    file without a row is claimed by put-if-absent of the row, after a scan of intents.

    Args:
        runs: how often it is run, each time for one pack.
        attempts: the highest number of an attempt.
    """

    name = "collector"

    def __init__(self, runs: int, attempts: int) -> None:
        self._runs = runs
        self._attempts = attempts

    def start(self) -> Collector:
        """Before its first run."""
        return Collector("condemn_pack")

    def calls(self, me: Collector, stores: Stores) -> list[Call]:
        """The calls of which it makes one next."""
        steps = {
            "condemn_pack": self._condemn_pack,
            "scan_intents": self._scan_intents,
            "scan_log": self._scan_log,
            "revive_pack": self._revive_pack,
            "delete_pack": self._delete_pack,
            "remove_file": self._remove_file,
        }
        return steps[me.at](me, stores) if me.runs < self._runs else []

    def crashed(self, me: Collector) -> Collector | None:
        """The next run takes over, and scans afresh."""
        return None if me.at == "condemn_pack" else _over(me)

    def private(self, me: Collector) -> bool:
        """Nothing that it does is its own."""
        del me
        return False

    def _condemn_pack(self, me: Collector, stores: Stores) -> list[Call]:
        return [call for pack in stores.packs for call in self._begin(me, pack)]

    def _begin(self, me: Collector, pack: Pack) -> list[Call]:
        """A run for ``pack``, from where the one before got to."""
        me = replace(me, pack=pack.name, token=pack.token)
        scan = replace(me, at="scan_intents", attempt=self._attempts)
        if pack.state == "live":
            condemn = ChangePack(pack.name, pack.token, "condemned")
            return [_call(replace(scan, token=pack.token + 1), condemn)]
        if pack.state == "condemned" or (pack.file and not pack.state):
            return [_call(scan)]
        return [_call(replace(me, at="remove_file"))] if pack.file else []

    def _scan_intents(self, me: Collector, stores: Stores) -> list[Call]:
        suffix = f".{me.attempt}"
        if any(row.pack == me.pack and row.txid.endswith(suffix) for row in stores.intents):
            return [_call(_spared(me))]
        left = me.attempt - 1
        return [_call(replace(me, at="scan_intents" if left else "scan_log", attempt=left))]

    def _scan_log(self, me: Collector, stores: Stores) -> list[Call]:
        needed = me.pack in facts(stores.log).packs
        return [_call(_spared(me) if needed else replace(me, at="delete_pack"))]

    def _revive_pack(self, me: Collector, _stores: Stores) -> list[Call]:
        return [_call(_over(me), ChangePack(me.pack, me.token, "live"))]

    def _delete_pack(self, me: Collector, _stores: Stores) -> list[Call]:
        delete = ChangePack(me.pack, me.token, "deleting")
        return [_call(replace(me, at="remove_file"), delete)]

    def _remove_file(self, me: Collector, _stores: Stores) -> list[Call]:
        return [_call(_over(me), PutFile(me.pack, ""))]


def _call(then: Collector, *writes: Change) -> Call:
    return Call(then.pack, (then,), writes=writes, refused=_over(then))


def _spared(me: Collector) -> Collector:
    return replace(me, at="revive_pack", attempt=0) if me.token else _over(me)


def _over(me: Collector) -> Collector:
    return Collector("condemn_pack", runs=me.runs + 1)


class StrangerScript:
    """Somebody else, who publishes one version in a single moment, search and all."""

    name = "stranger"

    def start(self) -> Actor:
        """Before it."""
        return Actor("publish")

    def calls(self, me: Actor, stores: Stores) -> list[Call]:
        """The one thing that it does."""
        if me.at == DONE:
            return []
        log = stores.log
        known = facts(log)
        previous = log[-1].txid if log else ""
        entry = Entry(self.name, "publish", previous, known.next, known.head)
        shown = documents((*log, entry), len(log))
        return [Call(self.name, (Actor(DONE),), writes=(PutLog(len(log) + 1, entry), *shown))]

    def crashed(self, me: Actor) -> None:
        """It never does."""

    def private(self, me: Actor) -> bool:
        """Everybody sees it."""
        del me
        return False
