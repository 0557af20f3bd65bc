"""Who else takes part in the collection models: who deletes, undeletes, sweeps, and reads."""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.testing.protocol.collected import (
    PACKS,
    TRASH,
    Entry,
    PutLog,
    Reading,
    Settle,
    Stores,
    facts,
)
from modelhub.testing.protocol.pack_mutations import PackMutation, Variant
from modelhub.testing.protocol.turns import DEAD, DONE, Actor, Call


class Changer(Actor, frozen=True):
    """The memory of who deletes or undeletes: what it was told, and its base."""

    told: str = ""
    base: int = 0


class ChangerScript:
    """Deletes or undeletes version 1, or is told that there is nothing to change.

    Who undeletes waits until the version is deleted: what comes before that changes nothing.
    """

    def __init__(self, name: str, op: str) -> None:
        self.name = name
        self._op = op

    def start(self) -> Changer:
        """Before it looked."""
        return Changer("read_head")

    def calls(self, me: Changer, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        if me.at == "read_head":
            return self._read_head(stores)
        if me.at == "put_log":
            return [self._put_log(me)]
        return [self._read_log(me, stores)] if me.at == "read_log" else []

    def crashed(self, me: Changer) -> Changer | None:
        """Nothing is left."""
        return None if me.at in {"read_head", DONE, DEAD} else Changer(DEAD)

    def private(self, me: Changer) -> bool:
        """Everything that it does is seen."""
        del me
        return False

    def _read_head(self, stores: Stores) -> list[Call]:
        known = facts(stores.log)
        if self._op == "undelete" and 1 not in known.deleted:
            return []
        if 1 in known.purged:
            return [Call("1", (Changer(DONE, "refused"),))]
        return [Call("1", (Changer("put_log", base=len(stores.log)),))]

    def _put_log(self, me: Changer) -> Call:
        read = replace(me, at="read_log")
        entry = Entry(f"{self.name}.{me.base}", self._op, 1)
        write = PutLog(me.base + 1, entry)
        return Call(entry.txid, (Changer(DONE, "ok"),), (read,), (write,), refused=read)

    def _read_log(self, me: Changer, stores: Stores) -> Call:
        """Mine: it landed. Another's: from the head again. Absent: again, or give up."""
        if len(stores.log) <= me.base:
            return Call("1", (replace(me, at="put_log"), Changer(DONE, "unknown")))
        own = stores.log[me.base].txid == f"{self.name}.{me.base}"
        return Call("1", (Changer(DONE, "ok") if own else self.start(),))


class SweeperScript:
    """Settles any attempt at any time, in a single moment: when is a matter of clocks."""

    name = "sweeper"

    def start(self) -> Actor:
        """It is always about to."""
        return Actor("sweep")

    def calls(self, me: Actor, stores: Stores) -> list[Call]:
        """One for each attempt."""
        attempts = dict.fromkeys((pin.txid, pin.base) for pin in stores.pins)
        return [Call(txid, (me,), writes=(Settle(txid, base),)) for txid, base in attempts]

    def crashed(self, me: Actor) -> None:
        """That changes nothing."""

    def private(self, me: Actor) -> bool:
        """Everything that it does is seen."""
        del me
        return False


class Reader(Actor, frozen=True):
    """A reader's memory: the chunk, the pack that it looks at, those that it has come through.

    ``told`` says where it found the chunk in the end, or that it is missing.
    """

    told: str = ""
    chunk: str = ""
    pack: str = ""
    trail: tuple[str, ...] = ()


class ReaderScript:
    """Reads a chunk of version 1, if that is not purged when it begins.

    Its time is shorter than the grace period: what gets into the trash meanwhile stays there.
    """

    name = "reader"

    def __init__(self, mutation: Variant | None = None) -> None:
        self._mutation = mutation

    def start(self) -> Reader:
        """Before it knows where the chunk is."""
        return Reader("read_head")

    def calls(self, me: Reader, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        steps = {
            "read_head": self._read_head,
            "read_file": self._read_file,
            "read_packs": self._read_packs,
            "read_trash": self._read_trash,
        }
        return [steps[me.at](me, stores)] if me.at in steps else []

    def crashed(self, me: Reader) -> None:
        """What it leaves is a grace period that ends, which a reader that waits makes too."""

    def private(self, me: Reader) -> bool:
        """Everything that it does depends on others."""
        del me
        return False

    def _read_head(self, _me: Reader, stores: Stores) -> Call:
        version = facts(stores.log).versions[0]
        if 1 in facts(stores.log).purged:
            return Call("1", (Reader(DONE, "purged"),))
        chunk, pack = version.places[0]
        then = Reader("read_file", chunk=chunk, pack=pack)
        return Call(pack, (then,), writes=(Reading(begins=True),))

    def _read_file(self, me: Reader, stores: Stores) -> Call:
        pack = stores.pack(me.pack)
        if pack.where != PACKS:
            return Call(me.pack, (replace(me, at="read_packs"),))
        if me.chunk in pack.holds:
            return self._end(me, "in a successor" if me.trail else "in its pack")
        return Call(me.pack, (self._to_trash(me),))

    def _read_packs(self, me: Reader, stores: Stores) -> Call:
        row = stores.pack(me.pack).row
        if row.state != "moved" or self._mutation is PackMutation.MOVED_NOT_READ:
            return Call(me.pack, (self._to_trash(me),))
        trail = (*me.trail, me.pack)
        then = replace(me, at="read_file", pack=row.successors[0], trail=trail)
        return Call(me.pack, (then,))

    def _to_trash(self, me: Reader) -> Reader:
        return replace(me, at="read_trash")

    def _read_trash(self, me: Reader, stores: Stores) -> Call:
        """All packs on its way: which of them still has the chunk depends on when it began."""
        packs = [stores.pack(name) for name in (*me.trail, me.pack)]
        if self._mutation is PackMutation.TRASH_NOT_READ and me.trail:
            packs = []
        found = any(pack.where == TRASH and me.chunk in pack.holds for pack in packs)
        return self._end(me, "in the trash" if found else "missing")

    def _end(self, me: Reader, told: str) -> Call:
        return Call(me.pack, (Reader(DONE, told),), writes=(Reading(begins=False),))
