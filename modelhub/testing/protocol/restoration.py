"""Restore as a model to explore: a backup comes back while others go on with what they began.

What is in the backup and what is not cannot be helped. What can is that nobody mixes two epochs,
that no number is given twice, and that a version which is not marked as missing can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol import turns
from modelhub.testing.protocol.epochs import Entry, PackRow, Stores, Tables, facts, folder
from modelhub.testing.protocol.restoring import (
    PACK,
    Client,
    CollectorScript,
    PublisherScript,
    RestoreMutation,
    RestorerScript,
)
from modelhub.testing.protocol.turns import Script, Turns

State = turns.State[Stores]

PUBLISHED = (Entry("old.1", 1, PACK),)
PURGED = (*PUBLISHED, Entry("old.2", 1))


class Restoration(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part, and how much may go wrong.

    Args:
        log: the log as it is, of which nothing may have been lost at all.
        backup: the log's beginning, as it comes back.
        publishers: how many clients there are, each of which publishes one version.
        collectors: how many there are.
        restores: how often somebody restores.
        faults: how many writes may get lost or come late.
    """

    log: tuple[Entry, ...] = PURGED
    backup: tuple[Entry, ...] = PUBLISHED
    publishers: int = 0
    collectors: int = 0
    restores: int = 1
    faults: int = 0


class Restoring(Turns[Stores]):
    """The ``Model`` of one configuration, right or with a mutation."""

    def __init__(self, configuration: Restoration, mutation: RestoreMutation | None = None) -> None:
        self.configuration = configuration
        self._shared = mutation is RestoreMutation.FOLDER_SHARED
        one = configuration
        publishers = [PublisherScript(f"p{n}", mutation) for n in range(1, one.publishers + 1)]
        collectors = [CollectorScript(f"c{n}", mutation) for n in range(1, one.collectors + 1)]
        scripts: list[Script[Any, Stores]] = [*publishers, *collectors]
        super().__init__([*scripts, RestorerScript(one.backup, one.restores, mutation)])

    def initial(self) -> State:
        """One pack, and nothing under way."""
        tables = Tables(self.configuration.log, (PackRow(PACK, "live"),))
        stores = Stores(tables=(tables,), files=((PACK, folder(1)),))
        return self.begin(stores, self.configuration.faults)

    def violations(self, state: State) -> list[str]:
        """A version that cannot be read and is not marked; a number that two were told."""
        stores = state.stores
        epoch = stores.system.epoch
        tables = stores.of(epoch)
        wrong = list(_told_wrong(state, tables))
        if stores.system.open:
            there = stores.folder_of(PACK) == folder(1 if self._shared else epoch)
            kept = there and tables.row(PACK).state in {"live", "condemned"}
            wrong += [
                f"version {entry.number} ({entry.txid}) of epoch {epoch} has lost its pack"
                for entry in facts(tables.log).versions
                if not kept and entry.number not in tables.missing
            ]
        return wrong

    def at_rest(self, state: State) -> list[str]:
        """Nothing is left to be done."""
        del state
        return []


def _told_wrong(state: State, tables: Tables) -> Iterator[str]:
    """Numbers that others were told of, whatever the epoch; versions that their epoch has not."""
    names = {entry.number: entry.txid for entry in tables.log if entry.pack}
    clients = [actor for actor in state.actors if isinstance(actor, Client)]
    for index, actor in enumerate(clients, 1):
        if actor.told != "ok":
            continue
        txid = f"p{index}"
        if names.get(actor.number, txid) != txid:
            yield f"{txid} was told {actor.number}, which is {names[actor.number]}'s number"
        if all(entry.txid != txid for entry in state.stores.of(actor.epoch).log):
            yield f"{txid} was told ok, and is not in the log of epoch {actor.epoch}"


RESTORATIONS: Mapping[str, Restoration] = {
    "a restore and a collector": Restoration(collectors=1, faults=1),
    "a restore and two publishers": Restoration(publishers=2, faults=1),
    "a restore, a publisher and a collector": Restoration(
        log=PURGED, backup=PURGED, publishers=1, collectors=1, faults=1
    ),
    "a restore after one that died": Restoration(publishers=1, collectors=1, restores=2, faults=1),
}
"""What is explored at every run, each to its end."""

RESTORATIONS_FULL: Mapping[str, Restoration] = {
    **{name: replace(one, faults=one.faults + 1) for name, one in RESTORATIONS.items()},
    "a restore, two publishers and two collectors": Restoration(publishers=2, collectors=2),
}
"""The same, further."""

RESTORES_CAUGHT_BY: Mapping[RestoreMutation, str] = {
    RestoreMutation.FALLEN_THROUGH: "a restore, a publisher and a collector",
    RestoreMutation.EPOCH_NOT_READ_AGAIN: "a restore and two publishers",
    RestoreMutation.SURVIVORS_READ_FIRST: "a restore and two publishers",
    RestoreMutation.NUMBERS_FROM_BACKUP: "a restore and two publishers",
    RestoreMutation.ROWS_FROM_BACKUP: "a restore and a collector",
    RestoreMutation.FOLDER_SHARED: "a restore and a collector",
    RestoreMutation.EPOCH_USED_TWICE: "a restore after one that died",
}
"""The configuration, of ``RESTORATIONS``, that shows each mutation to be wrong."""
