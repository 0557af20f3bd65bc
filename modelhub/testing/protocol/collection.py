"""Collection and rewriting as a model to explore: who relies on packs, and who takes them away.

Separate from ``Protocol``, whose collector takes away whatever it likes: what this adds is what is
garbage and what is not, where a pack's chunks go, and who finishes what another one began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol import turns
from modelhub.testing.protocol.bystanders import ChangerScript, ReaderScript, SweeperScript
from modelhub.testing.protocol.collected import (
    PACKS,
    Entry,
    Log,
    Pack,
    PackRow,
    Settle,
    Stores,
    facts,
    followed,
    is_kept,
)
from modelhub.testing.protocol.collecting import CollectorScript
from modelhub.testing.protocol.pack_mutations import PackMutation, Variant
from modelhub.testing.protocol.reusers import PublisherScript, Reuse
from modelhub.testing.protocol.rewriting import RewriterScript
from modelhub.testing.protocol.turns import DEAD, DONE, Script, Turns

State = turns.State[Stores]

OLD = Pack("x", PackRow("live", 1), PACKS, ("a", "b"))
"""A pack that is there from the beginning; version 1 uses its chunk a."""

PUBLISHED = (Entry("old.1", "publish", 1, (("a", "x"),), ("x",)),)
DELETED = (*PUBLISHED, Entry("old.2", "delete", 1))
PURGED = (*DELETED, Entry("old.3", "purge", 1))


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part, and how much may go wrong.

    Args:
        log: the model's log at first.
        other: the log of another model, which ``models`` does not name.
        packs: the packs at first.
        publishes: one publisher each; they are named p1, p2 and so on.
        changes: one client each that deletes or undeletes version 1.
        collections: one collector each, and how many runs it makes.
        rewriters: one rewriter each, and which packs each of its runs is about.
        reader: whether somebody reads version 1.
        sweeper: whether somebody settles attempts meanwhile.
        faults: how many writes may get lost or come late.
    """

    log: Log = PUBLISHED
    other: Log = ()
    packs: tuple[Pack, ...] = (OLD,)
    publishes: tuple[Reuse, ...] = ()
    changes: tuple[str, ...] = ()
    collections: tuple[int, ...] = (1,)
    rewriters: tuple[tuple[tuple[str, ...], ...], ...] = ()
    reader: bool = False
    sweeper: bool = False
    faults: int = 0


class Collecting(Turns[Stores]):
    """The ``Model`` of one configuration, right or with a mutation."""

    def __init__(self, configuration: Collection, mutation: Variant | None = None) -> None:
        self.configuration = configuration
        attempts = max((task.attempts for task in configuration.publishes), default=1)
        self.publishers = [
            PublisherScript(f"p{number}", task, mutation)
            for number, task in enumerate(configuration.publishes, 1)
        ]
        scripts: list[Script[Any, Stores]] = [*self.publishers]
        scripts += [ChangerScript(op, op) for op in configuration.changes]
        scripts += [
            CollectorScript(
                f"c{number}",
                runs=runs,
                attempts=attempts,
                pages=bool(configuration.rewriters),
                mutation=mutation,
            )
            for number, runs in enumerate(configuration.collections, 1)
        ]
        scripts += [
            RewriterScript(f"r{number}", runs, attempts=attempts, mutation=mutation)
            for number, runs in enumerate(configuration.rewriters, 1)
        ]
        if configuration.reader:
            scripts.append(ReaderScript(mutation))
        if configuration.sweeper:
            scripts.append(SweeperScript())
        self.names = [script.name for script in scripts]
        super().__init__(scripts)

    def initial(self) -> State:
        """Nothing is under way."""
        one = self.configuration
        stores = Stores(log=one.log, other=one.other, packs=tuple(sorted(one.packs)))
        return self.begin(stores, one.faults)

    def violations(self, state: State) -> list[str]:
        """What ARCHITECTURE.md says always holds, and does not.

        An attempt that can still land needs no word here: where it lands, that is another state.
        """
        stores = state.stores
        wrong = [*facts(stores.log).wrong, *_lost(stores)]
        told = dict(zip(self.names, state.actors, strict=True))
        if getattr(told.get("reader"), "told", "") == "missing":
            wrong.append("a version that was not purged when its reader began cannot be read")
        return wrong

    def at_rest(self, state: State) -> list[str]:
        """Whether a sweep and collections put all in order, once everybody is through.

        What is still in flight is lost here; where it lands first, that is another state.
        """
        resting = {DONE, DEAD, "sweep"}
        undone = {"undelete"} if 1 not in facts(state.stores.log).deleted else set()
        for name, actor in zip(self.names, state.actors, strict=True):
            if actor.at not in resting and name not in undone:
                return []
        return list(_garbage(state.stores))


@cache
def _lost(stores: Stores) -> tuple[str, ...]:
    """Chunks of unpurged versions that cannot be had: promises 1 and 6."""
    versions = [*facts(stores.log).unpurged, *facts(stores.other).unpurged]
    return tuple(
        f"chunk {chunk} in pack {pack} of version {entry.number} ({entry.txid}) is lost"
        for entry in versions
        for chunk, pack in entry.places
        if not is_kept(stores, chunk, pack)
    )


@cache
def _garbage(stores: Stores) -> tuple[str, ...]:
    """What is there still, and nobody needs, after a sweep and collections without faults."""
    for pin in stores.pins:
        stores = Settle(pin.txid, pin.base).apply(stores)
    stores = _collected(_collected(stores))
    return (*_lost(stores), *_unneeded(stores), *_trashed(_collected(stores)))


def _unneeded(stores: Stores) -> Iterator[str]:
    versions = [*facts(stores.log).unpurged, *facts(stores.other).unpurged]
    needed = followed([pack for entry in versions for pack in entry.packs], stores.rows())
    for pack in stores.packs:
        if pack.where == PACKS and (pack.name not in needed or pack.row.state != "live"):
            yield f"after two runs {pack.name} is {pack.row.state}, and its file there still"
        elif pack.row.state in {"live", "condemned", "deleting"} and pack.where != PACKS:
            yield f"after two runs {pack.name} is {pack.row.state}, and its file is not there"


def _trashed(stores: Stores) -> Iterator[str]:
    for pack in stores.packs:
        if pack.where and pack.where != PACKS:
            yield f"after three runs the file of {pack.name} is in the trash still"


@cache
def _collected(stores: Stores) -> Stores:
    """The stores after one run, which nothing disturbs and which ends no retention."""
    stores = replace(stores, reading=None)
    script = CollectorScript("last")
    me = script.start()
    while me.at != DONE:
        call = script.calls(me, stores)[0]
        after: Stores | None = stores
        for write in call.writes:
            after = write.apply(stores)
        stores, me = (stores, call.refused) if after is None else (after, call.then[0])
    return stores


_REUSER = Reuse("a", "x")
_DEAD = Reuse("b", "x")
_NEW = Reuse("a", names=2)
_OTHER = (Entry("other.1", "publish", 1, (("c", "w"),), ("w",)),)
_W = Pack("w", PackRow("live", 1), PACKS, ("c",))
_MOVED = (
    replace(OLD, row=PackRow("moved", 3, ("y",))),
    Pack("y", PackRow("live", 1), PACKS, ("a",)),
)
"""What a rewriter left: chunk b was not in use."""

_ONCE = ((("x",),),)

COLLECTIONS: Mapping[str, Collection] = {
    "an old pack reused": Collection(log=PURGED, publishes=(_REUSER,), sweeper=True, faults=1),
    "a new pack": Collection(log=(), packs=(), publishes=(_NEW,), sweeper=True, faults=1),
    "a delta": Collection(
        log=PURGED, publishes=(Reuse("a", "x", delta=True, attempts=1),), sweeper=True, faults=1
    ),
    "two collectors and a publisher": Collection(
        log=PURGED, publishes=(replace(_REUSER, attempts=1),), collections=(1, 1), sweeper=True
    ),
    "two collectors alone": Collection(log=PURGED, collections=(2, 2), faults=1),
    "two publishers": Collection(log=PURGED, publishes=(_REUSER, _DEAD)),
    "delete, undelete and a reader": Collection(
        changes=("delete", "undelete"), reader=True, collections=(2,), faults=1
    ),
    "undelete while retention ends": Collection(
        log=DELETED, publishes=(_REUSER,), changes=("undelete",)
    ),
    "another model": Collection(other=_OTHER, packs=(OLD, _W), publishes=(_DEAD,)),
    "a moved pack reused": Collection(log=DELETED, packs=_MOVED, publishes=(_REUSER,), faults=1),
    "a dead chunk of a moved pack reused": Collection(packs=_MOVED, publishes=(_DEAD,), faults=1),
    "a rewriter, a collector and a reader": Collection(
        rewriters=_ONCE, reader=True, collections=(2,), faults=1
    ),
    "a rewriter and a publisher": Collection(
        publishes=(_DEAD,), rewriters=_ONCE, collections=(), sweeper=True, faults=1
    ),
    "a rewriter, a publisher and a collector": Collection(publishes=(_DEAD,), rewriters=_ONCE),
    "two packs rewritten to one": Collection(
        other=_OTHER,
        packs=(OLD, _W),
        publishes=(replace(_DEAD, attempts=1),),
        rewriters=((("w", "x"),),),
    ),
    "two rewriters": Collection(rewriters=((("x",),), (("x",), ("r1-1",)))),
    "two packs rewritten to one, and that to another": Collection(
        other=_OTHER,
        packs=(OLD, _W),
        collections=(),
        rewriters=((("w", "x"),), (("r1-1",),)),
        faults=1,
    ),
    "a pack rewritten twice": Collection(rewriters=((("x",), ("r1-1",)),), reader=True),
    "a pack rewritten while retention ends": Collection(
        log=DELETED, changes=("undelete",), rewriters=_ONCE, reader=True
    ),
}
"""What is explored at every run, each to its end."""

COLLECTIONS_FULL: Mapping[str, Collection] = {
    **{
        name: replace(COLLECTIONS[name], faults=COLLECTIONS[name].faults + 1)
        for name in (
            "two collectors alone",
            "delete, undelete and a reader",
            "undelete while retention ends",
            "a moved pack reused",
            "a rewriter, a collector and a reader",
            "a rewriter and a publisher",
            "two rewriters",
            "a pack rewritten twice",
            "a pack rewritten while retention ends",
        )
    },
    "an old pack reused": Collection(
        log=PURGED, publishes=(_REUSER,), collections=(2,), sweeper=True, faults=1
    ),
    "a new pack": Collection(
        log=(), packs=(), publishes=(_NEW,), collections=(2,), sweeper=True, faults=1
    ),
    "a delta": Collection(
        log=PURGED, publishes=(Reuse("a", "x", delta=True),), sweeper=True, faults=1
    ),
    "two collectors and a publisher": Collection(
        log=PURGED, publishes=(_REUSER,), collections=(1, 1), sweeper=True
    ),
    "two publishers": Collection(
        log=PURGED, publishes=(_REUSER, replace(_DEAD, attempts=1)), sweeper=True
    ),
    "a pack rewritten twice, a publisher and a collector": Collection(
        publishes=(replace(_DEAD, attempts=1),), rewriters=((("x",), ("r1-1",)),), sweeper=True
    ),
    "a pack rewritten twice and reused": Collection(
        publishes=(_REUSER,), rewriters=((("x",), ("r1-1",)),), sweeper=True
    ),
    "a rewriter, a publisher and two collectors": Collection(
        publishes=(replace(_DEAD, attempts=1),), rewriters=_ONCE, collections=(1, 1)
    ),
    "a rewriter, a publisher and a collector": Collection(
        publishes=(_DEAD,), rewriters=_ONCE, sweeper=True, faults=1
    ),
    "two packs rewritten to one": Collection(
        other=_OTHER,
        packs=(OLD, _W),
        publishes=(_DEAD,),
        rewriters=((("w", "x"),),),
        sweeper=True,
    ),
}
"""The same, further."""

PACKS_CAUGHT_BY: Mapping[PackMutation, str] = {
    PackMutation.LOG_BEFORE_INTENTS: "an old pack reused",
    PackMutation.NO_SECOND_SCAN: "an old pack reused",
    PackMutation.BY_AGE_ALONE: "an old pack reused",
    PackMutation.RETENTION_BY_CLOCK: "delete, undelete and a reader",
    PackMutation.TAKEOVER_UNSCANNED: "two collectors and a publisher",
    PackMutation.ROWS_NOT_READ_AGAIN: "a rewriter, a collector and a reader",
    PackMutation.ROW_READ_LATE: "two collectors and a publisher",
    PackMutation.MOVED_UNCLAIMED: "a new pack",
    PackMutation.BACK_FROM_DELETING: "an old pack reused",
    PackMutation.NAMES_FROM_MODELS: "another model",
    PackMutation.MOVED_NOT_FOLLOWED: "a rewriter, a collector and a reader",
    PackMutation.MOVED_NOT_READ: "a rewriter, a collector and a reader",
    PackMutation.TRASH_NOT_READ: "a pack rewritten while retention ends",
    PackMutation.BASE_NOT_LISTED: "a delta",
    PackMutation.REWRITTEN_UNCONDEMNED: "a rewriter and a publisher",
    PackMutation.REWRITTEN_UNSCANNED: "a rewriter and a publisher",
    PackMutation.SUCCESSOR_UNNAMED: "a rewriter, a collector and a reader",
    PackMutation.NAMED_REWRITTEN: "two packs rewritten to one, and that to another",
    PackMutation.FOLLOWED_UNPINNED: "a moved pack reused",
    PackMutation.TRAILER_NOT_READ: "a dead chunk of a moved pack reused",
    PackMutation.ROW_NOT_COMPARED: "two collectors and a publisher",
}
"""The configuration, of ``COLLECTIONS``, that shows each mutation to be wrong."""
