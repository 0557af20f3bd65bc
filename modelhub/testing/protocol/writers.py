"""Who writes search documents beside a re-index: publishers after their commit, and the sweeper."""

from __future__ import annotations

from enum import Enum

from msgspec.structs import replace

from modelhub.testing.protocol.targets import Commit, PutDocument, Settle, Stores, touched
from modelhub.testing.protocol.turns import DEAD, DONE, Actor, Call


class TargetMutation(Enum):
    """A rule of re-indexing, broken. The value says how."""

    TARGETS_NOT_READ_AGAIN = "search targets not read again after writing"
    LATE_REGISTRATION = "late registration of the target (filled and compared before)"
    UNVERSIONED = "documents filled in without external versions"
    DROPPED_UNSEEN = "targets dropped on a listing from before another run took over"
    LISTED_UNSEEN = "the list of targets changed by a run that has lost its lease"
    BEGUN_DROPPED = "a target that was begun dropped by a comparison, before it is registered"


class Writer(Actor, frozen=True):
    """A writer's memory.

    It has to show the entries after ``since`` up to ``head``, and then to remove the intents
    ``owed``. ``known`` are the targets as it last read them, ``written`` those that it wrote to.
    """

    since: int = 0
    head: int = 0
    owed: tuple[tuple[str, int], ...] = ()
    known: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


class WriterScript:
    """What publishers and the sweeper have in common: write everywhere, then remove intents."""

    def __init__(self, name: str, mutation: TargetMutation | None) -> None:
        self.name = name
        self._mutation = mutation

    def start(self) -> Writer:
        """Before it knows of any target."""
        return Writer("open")

    def calls(self, me: Writer, stores: Stores) -> list[Call]:
        """The calls of which it makes one next."""
        steps = {
            "open": self._open,
            "begin": self._begin,
            "write_search": self._write_search,
            "find_target": self._find_target,
            "read_targets": self._read_targets,
            "remove_intent": self._remove_intent,
        }
        return steps[me.at](me, stores) if me.at in steps else []

    def crashed(self, me: Writer) -> Writer | None:
        """Nothing is left."""
        return None if me.at in {"open", "begin", DONE, DEAD} else self._ended(DEAD)

    def private(self, me: Writer) -> bool:
        """Everything that it does is seen."""
        del me
        return False

    def _ended(self, at: str) -> Writer:
        return Writer(at)

    def _open(self, me: Writer, stores: Stores) -> list[Call]:
        """The targets as of before any commit."""
        return [Call(self.name, (replace(me, at="begin", known=stores.listed.targets),))]

    def _begin(self, me: Writer, stores: Stores) -> list[Call]:
        raise NotImplementedError

    def _write_search(self, me: Writer, stores: Stores) -> list[Call]:
        target = next(name for name in me.known if name not in me.written)
        fresh = replace(me, written=(*me.written, target))
        if stores.target(target) is None:
            return [Call(target, (replace(fresh, at="find_target"),))]
        newest = touched(me.head)
        writes = tuple(
            PutDocument(target, number, seq)
            for number, seq in enumerate(newest, 1)
            if seq > me.since
        )
        return [Call(target, (self._after(fresh),), (self._ended(DONE),), writes)]

    def _after(self, me: Writer) -> Writer:
        if set(me.known) - set(me.written):
            return replace(me, at="write_search")
        again = self._mutation is not TargetMutation.TARGETS_NOT_READ_AGAIN
        return replace(me, at="read_targets" if again else "remove_intent")

    def _find_target(self, me: Writer, stores: Stores) -> list[Call]:
        """A target that is missing counts as written unless it is registered."""
        target = me.written[-1]
        then = self._ended(DONE) if target in stores.listed.targets else self._after(me)
        return [Call(target, (then,))]

    def _read_targets(self, me: Writer, stores: Stores) -> list[Call]:
        known = stores.listed.targets
        more = not set(known) <= set(me.written)
        then = replace(me, known=known, at="write_search" if more else "remove_intent")
        return [Call(self.name, (then,))]

    def _remove_intent(self, me: Writer, _stores: Stores) -> list[Call]:
        out = self._ended(DONE)
        return [Call(self.name, (out,), (out,), (Settle(me.owed),))]


class PublisherScript(WriterScript):
    """Publishes one version. That its commit may fail is the other models' concern."""

    def _begin(self, me: Writer, stores: Stores) -> list[Call]:
        base = stores.log
        mine = replace(me, at="write_search", since=base, head=base + 1, owed=((self.name, base),))
        return [Call(self.name, (mine,), writes=(Commit(self.name),), action="put_log")]


class SweeperScript(WriterScript):
    """Shows search what anybody owes it, again and again."""

    def _begin(self, me: Writer, stores: Stores) -> list[Call]:
        if not stores.owed:
            return []
        since = min(base for _, base in stores.owed)
        sweep = replace(me, at="write_search", since=since, head=stores.log, owed=stores.owed)
        return [Call(self.name, (sweep,), action="scan_intents")]

    def _ended(self, at: str) -> Writer:
        """The next one begins afresh."""
        del at
        return Writer("open")
