"""The commit protocol as a model to explore: who takes part, what can happen, what always holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from modelhub.testing.protocol import turns
from modelhub.testing.protocol.client import Client, Task
from modelhub.testing.protocol.committing import ClientScript
from modelhub.testing.protocol.environment import CollectorScript, StrangerScript
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.sweeper import SweeperScript
from modelhub.testing.protocol.turns import DEAD, DONE, Script, Turns
from modelhub.testing.protocol.world import INTENT, Entry, Facts, Pack, Stores, facts

State = turns.State[Stores]


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part, and how much may go wrong.

    Args:
        tasks: one client each; they are named p1, p2 and so on.
        versions: how many versions the model has at first.
        packs: old packs that are live at first, and that no version needs.
        faults: how many writes may get lost or come late; None: any number.
        whole_sweeps: whether the sweeper settles an attempt in a single moment.
        stranger: whether somebody else publishes once, at any moment.
        collections: how many runs a collector makes.
    """

    tasks: tuple[Task, ...]
    versions: int = 1
    packs: tuple[str, ...] = ()
    faults: int | None = None
    whole_sweeps: bool = False
    stranger: bool = False
    collections: int = 0


class Protocol(Turns[Stores]):
    """The ``Model`` of one configuration, right or with a mutation."""

    def __init__(self, configuration: Configuration, mutation: Mutation | None = None) -> None:
        self.configuration = configuration
        self._sweeper = SweeperScript(mutation, whole=configuration.whole_sweeps)
        self._clients = [
            ClientScript(f"p{number}", task, mutation)
            for number, task in enumerate(configuration.tasks, 1)
        ]
        scripts: list[Script[Any, Stores]] = [*self._clients, self._sweeper]
        if configuration.stranger:
            scripts.append(StrangerScript())
        if configuration.collections:
            attempts = max(task.attempts for task in configuration.tasks)
            scripts.append(CollectorScript(configuration.collections, attempts))
        super().__init__(scripts)

    def initial(self) -> State:
        """Some versions, which search knows, and nothing under way."""
        log: tuple[Entry, ...] = ()
        for number in range(1, self.configuration.versions + 1):
            previous = log[-1].txid if log else ""
            log += (Entry(f"old.{number}", "publish", previous, number, number - 1),)
        packs = tuple(Pack(name, "live", 1, "whole") for name in self.configuration.packs)
        stores = Stores(log=log, documents=facts(log).touched, packs=packs)
        return self.begin(stores, self.configuration.faults)

    def violations(self, state: State) -> list[str]:
        """What ARCHITECTURE.md says always holds, and does not."""
        stores = state.stores
        known = facts(stores.log)
        wrong = [*known.wrong, *_lost_packs(stores, known), *_forgotten(stores, known)]
        for script, me in zip(self._clients, state.actors, strict=False):
            assert isinstance(me, Client)
            wrong += _told_wrong(script, me, known)
        return wrong

    def at_rest(self, state: State) -> list[str]:
        """Whether search shows the log after a sweep, once all clients are through.

        What is still in flight is lost here; where it lands first, that is another state.
        """
        if any(actor.at not in {DONE, DEAD} for actor in state.actors[: len(self._clients)]):
            return []
        stores = state.stores
        while stores.intents:
            for write in self._sweeper.sweep(stores.intents[:1], stores)[0].writes:
                stores = write.apply(stores) or stores
        known = facts(stores.log)
        if stores.documents != known.touched:
            return [f"after a sweep search shows {stores.documents}, and the log {known.touched}"]
        return []


def _lost_packs(stores: Stores, known: Facts) -> Iterator[str]:
    """Packs that versions need and that are not there: promises 1 and 6."""
    for name in known.packs:
        pack = stores.pack(name)
        if pack.file != "whole" or pack.state not in {"live", "condemned"}:
            yield f"pack {name} of a version is {pack.state}, its file {pack.file or 'gone'}"


def _forgotten(stores: Stores, known: Facts) -> Iterator[str]:
    """Documents that are stale though no intent says so: promise 5."""
    if stores.documents == known.touched:
        return
    bases = [row.base for row in stores.intents if row.pack == INTENT]
    unsaid = min(bases, default=len(stores.log)) + 1
    for number, seq in enumerate(known.touched, 1):
        shown = stores.documents[number - 1] if number <= len(stores.documents) else 0
        if shown > seq or (shown < seq < unsaid):
            yield f"version {number}'s document shows entry {shown}, not {seq}; no intent says so"


def _told_wrong(script: ClientScript, me: Client, known: Facts) -> Iterator[str]:
    """A client whose answer is not what the log says: promises 1 and 2."""
    own = script.txids & known.txids
    if len(own) > 1:
        yield f"{script.name} was asked once, and is in the log as {sorted(own)}"
    found = script.task.request and known.made
    if me.told == "ok" and not own and not found:
        yield f"{script.name} was told ok, and is not in the log"
    if me.told in {"unchanged", "conflict", "failed"} and own:
        yield f"{script.name} was told {me.told}, and is in the log"
