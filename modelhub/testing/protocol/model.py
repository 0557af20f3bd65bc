"""The commit protocol as a model to explore: who takes part, what can happen, what always holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.actors import DEAD, DONE, Actor, Call, Script
from modelhub.testing.protocol.client import Client, Task
from modelhub.testing.protocol.committing import ClientScript
from modelhub.testing.protocol.environment import CollectorScript, StrangerScript
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.sweeper import SweeperScript
from modelhub.testing.protocol.world import (
    INTENT,
    Entry,
    Facts,
    Pack,
    Stores,
    Value,
    Write,
    facts,
)


class Message(Value, frozen=True):
    """A write whose caller has given up waiting: it lands at any later moment, or never."""

    actor: str
    action: str
    subject: str
    write: Write


class State(Value, frozen=True):
    """Everything, at one moment. ``faults`` is how many writes may still get lost (-1: any number).

    ``flight`` is sorted and holds no message twice. A second copy would change nothing: where it is
    a conditional write or a versioned one, it finds the first; where it is a row that was swept
    between the two, it is swept again for the same reason.
    """

    stores: Stores
    actors: tuple[Actor, ...]
    flight: tuple[Message, ...]
    faults: int


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


class Protocol:
    """The ``Model`` of one configuration, right or with a mutation.

    The one fault is a write whose caller does not learn its outcome, and that lands at any later
    moment or never; with crashes it makes all others. A write that fails before is one that never
    lands; one applied whose reply is lost lands at once; one after which its caller dies lands
    before a crash. A pause is an actor whose turn does not come. Beside that, a conditional write
    may be applied and yet answer False, as where a gateway sends it twice.
    """

    def __init__(self, configuration: Configuration, mutation: Mutation | None = None) -> None:
        self.configuration = configuration
        self._sweeper = SweeperScript(mutation, whole=configuration.whole_sweeps)
        self._clients = [
            ClientScript(f"p{number}", task, mutation)
            for number, task in enumerate(configuration.tasks, 1)
        ]
        self._scripts: list[Script[Any]] = [*self._clients, self._sweeper]
        if configuration.stranger:
            self._scripts.append(StrangerScript())
        if configuration.collections:
            attempts = max(task.attempts for task in configuration.tasks)
            self._scripts.append(CollectorScript(configuration.collections, attempts))

    def initial(self) -> State:
        """Some versions, which search knows, and nothing under way."""
        log: tuple[Entry, ...] = ()
        for number in range(1, self.configuration.versions + 1):
            previous = log[-1].txid if log else ""
            log += (Entry(f"old.{number}", "publish", previous, number, number - 1),)
        packs = tuple(Pack(name, "live", 1, "whole") for name in self.configuration.packs)
        return State(
            Stores(log=log, documents=facts(log).touched, packs=packs),
            tuple(script.start() for script in self._scripts),
            (),
            -1 if self.configuration.faults is None else self.configuration.faults,
        )

    def steps(self, state: State) -> Iterator[Step[State]]:
        """What may happen next; but while an actor's next call is private, nothing else.

        That leaves fewer states and hides nothing: a private call changes its actor's memory alone,
        so whatever happens before it may as well happen after it.
        """
        private = self.private_calls(state)
        return self._turn(state, private[0]) if private else self.all_steps(state)

    def private_calls(self, state: State) -> list[int]:
        """Which of ``state.actors`` are about to make a call that nobody else notices."""
        return [
            index
            for index, (script, me) in enumerate(zip(self._scripts, state.actors, strict=True))
            if script.private(me)
        ]

    def all_steps(self, state: State) -> Iterator[Step[State]]:
        """What may happen next, in every order."""
        for index in range(len(self._scripts)):
            yield from self._turn(state, index)
        for message in state.flight:
            after = land(state, (message,))
            yield Step(message.actor, message.action, "lands", message.subject, after)

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

    def _turn(self, state: State, index: int) -> Iterator[Step[State]]:
        """What one actor may do next."""
        script, me = self._scripts[index], state.actors[index]
        for call in script.calls(me, state.stores):
            action = call.action or me.at
            for outcome, after, then in _outcomes(state, call, script.name, action):
                yield Step(script.name, action, outcome, call.subject, _with(after, index, then))
        crashed = script.crashed(me)
        if crashed is not None:
            yield Step(script.name, me.at, "crash", "", _with(state, index, crashed))


def land(state: State, messages: tuple[Message, ...]) -> State:
    """The state after messages in flight landed; those whose condition is not met do nothing."""
    stores = state.stores
    for message in messages:
        stores = message.write.apply(stores) or stores
    rest = tuple(message for message in state.flight if message not in messages)
    return replace(state, stores=stores, flight=_pending(rest, stores))


def _with(state: State, index: int, actor: Actor) -> State:
    actors = (*state.actors[:index], actor, *state.actors[index + 1 :])
    return replace(state, actors=actors)


def _pending(flight: tuple[Message, ...], stores: Stores) -> tuple[Message, ...]:
    """Without the messages that can change nothing any more."""
    return flight and tuple(message for message in flight if not message.write.spent(stores))


_Outcomes = list[tuple[str, State, Actor]]


def _outcomes(state: State, call: Call, actor: str, action: str) -> _Outcomes:
    """How a call may end, and how its actor goes on."""
    if not call.writes:
        answers = [("ok", state, then) for then in call.then]
        return answers + [("fails_before", state, then) for then in call.unsure]
    answers = _answered(state, call)
    if state.faults and call.unsure:
        answers += _unanswered(state, call, actor, action)
    return answers


def _answered(state: State, call: Call) -> _Outcomes:
    stores: Stores | None = state.stores
    for write in call.writes:
        assert stores is not None, "only a single write is conditional"
        stores = write.apply(stores)
    if stores is None:
        return [("ok", state, call.refused)]
    after = replace(state, stores=stores, flight=_pending(state.flight, stores))
    answers: _Outcomes = [("ok", after, then) for then in call.then]
    if call.refused is not None and call.unsure:
        answers.append(("doubled", after, call.refused))
    return answers


def _unanswered(state: State, call: Call, actor: str, action: str) -> _Outcomes:
    sent = {Message(actor, action, call.subject, write) for write in call.late or call.writes}
    flight = _pending(tuple(sorted({*state.flight, *sent})), state.stores)
    lost = replace(state, faults=state.faults - 1 if state.faults > 0 else -1)
    answers: _Outcomes = [("late", replace(lost, flight=flight), then) for then in call.unsure]
    return answers + [("fails_before", lost, then) for then in call.failed]


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
