"""The commit protocol as an explorable model: configurations, what can happen, what always holds."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.actors import DEAD, DONE, Actor, Call, Script
from modelhub.testing.protocol.client import Client, ClientScript, Task
from modelhub.testing.protocol.environment import CollectorScript, StrangerScript, SweeperScript
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.world import Entry, Facts, Pack, Stores, Write, facts


class Message(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """A write whose caller has given up waiting; it lands at any later moment, or never."""

    actor: str
    action: str
    subject: str
    write: Write


class State(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """Everything, at one moment. ``faults`` is how many more calls may get lost (-1: any number).

    ``flight`` is sorted and holds no message twice: the second copy of a put-if-absent finds the
    first, and the second of a row that was swept meanwhile is swept for the same reason.
    """

    stores: Stores
    actors: tuple[Actor, ...]
    flight: tuple[Message, ...] = ()
    faults: int = -1


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part, and how much may go wrong.

    Args:
        name: for reports.
        tasks: one client each.
        versions: how many versions the model has at first.
        sweeper: whether one is at work.
        collector: how many runs a collector makes.
        stranger: whether somebody else publishes once, at any moment.
        old_packs: packs that are there at first, live and unreferenced.
        faults: how many writes may get lost or come late; None: any number.
        crashes: whether clients may crash.
    """

    name: str
    tasks: tuple[Task, ...]
    versions: int = 1
    sweeper: bool = True
    whole_sweeps: bool = False
    collector: int = 0
    stranger: bool = False
    old_packs: tuple[str, ...] = ()
    faults: int | None = None
    crashes: bool = True


class Protocol:
    """A ``Model`` of one configuration.

    A fault is a write whose outcome its caller does not learn, and that lands at any later moment
    or never. Everything else follows: a write that fails before is one that never lands, one that
    was applied and timed out lands at once, and one after which the caller dies lands before a crash.
    A pause is an actor that is not scheduled.
    """

    def __init__(self, configuration: Configuration, mutation: Mutation | None = None) -> None:
        self.configuration = configuration
        clients = [
            ClientScript(f"p{number}", task, mutation)
            for number, task in enumerate(configuration.tasks, 1)
        ]
        attempts = max(task.attempts for task in configuration.tasks)
        self._clients = clients
        self._sweeper = SweeperScript(mutation, whole=configuration.whole_sweeps)
        self._scripts: list[Script] = [*clients]
        if configuration.stranger:
            self._scripts.append(StrangerScript())
        if configuration.collector:
            self._scripts.append(CollectorScript(configuration.collector, attempts))
        if configuration.sweeper:
            self._scripts.append(self._sweeper)

    def initial(self) -> State:
        """Some versions of which search knows, and nobody under way."""
        count = self.configuration.versions
        log = tuple(
            Entry(
                f"old.{number}",
                "publish",
                f"old.{number - 1}" if number > 1 else "",
                number,
                number - 1,
            )
            for number in range(1, count + 1)
        )
        packs = tuple(Pack(name, "live", 1, "whole") for name in self.configuration.old_packs)
        return State(
            Stores(log=log, documents=facts(log).stale_since, packs=packs),
            tuple(script.start() for script in self._scripts),
            faults=-1 if self.configuration.faults is None else self.configuration.faults,
        )

    def steps(self, state: State) -> Iterator[Step[State]]:
        """All that may happen next, but a private call goes first: its order with others' does not
        matter, as nobody sees it."""
        for index, script in enumerate(self._scripts):
            if script.private(state.actors[index]):
                return self._turns(state, index)
        return self.all_steps(state)

    def all_steps(self, state: State) -> Iterator[Step[State]]:
        """All that may happen next, in every order."""
        for index in range(len(self._scripts)):
            yield from self._turns(state, index)
        for message in state.flight:
            rest = tuple(other for other in state.flight if other is not message)
            stores = message.write.apply(state.stores) or state.stores
            landed = replace(state, stores=stores, flight=_pending(rest, stores))
            yield Step(message.actor, message.action, "lands", message.subject, landed)

    def _turns(self, state: State, index: int) -> Iterator[Step[State]]:
        """What one actor may do next."""
        script, me = self._scripts[index], state.actors[index]
        for call in script.calls(me, state.stores):
            action = call.action or me.at
            answers = self._answered(state, call)
            if state.faults or not call.writes:
                answers += self._unanswered(state, call, script.name, action)
            for outcome, after, actor in answers:
                actors = (*state.actors[:index], actor, *state.actors[index + 1 :])
                yield Step(
                    script.name, action, outcome, call.subject, replace(after, actors=actors)
                )
        crashed = script.crashed(me) if self.configuration.crashes else None
        if crashed is not None:
            actors = (*state.actors[:index], crashed, *state.actors[index + 1 :])
            yield Step(script.name, me.at, "crash", "", replace(state, actors=actors))

    def _answered(self, state: State, call: Call) -> list[tuple[str, State, Actor]]:
        stores: Stores | None = state.stores
        for write in call.writes:
            assert stores is not None
            stores = write.apply(stores)
        if stores is None:
            assert call.refused is not None
            return [("ok", state, call.refused)]
        after = replace(state, stores=stores, flight=_pending(state.flight, stores))
        answers = [("ok", after, then) for then in call.then]
        if call.failed:
            answers.append(("doubled", after, call.refused))
        return answers

    def _unanswered(
        self, state: State, call: Call, actor: str, action: str
    ) -> list[tuple[str, State, Actor]]:
        if not call.writes or not call.unsure:
            return [("fails_before", state, then) for then in call.unsure]
        late = {Message(actor, action, call.subject, write) for write in call.late or call.writes}
        faults = state.faults - 1 if state.faults > 0 else state.faults
        flight = _pending(tuple(sorted({*state.flight, *late})), state.stores)
        after = replace(state, flight=flight, faults=faults)
        answers = [("late", after, then) for then in call.unsure]
        return answers + [
            ("fails_before", replace(state, faults=faults), then) for then in call.failed
        ]

    def violations(self, state: State) -> list[str]:
        """What "What always holds" says of every state."""
        stores = state.stores
        known = facts(stores.log)
        wrong = [*known.wrong, *_missing(stores, known), *_forgotten(stores, known)]
        for script, me in zip(self._clients, state.actors, strict=False):
            assert isinstance(me, Client)
            wrong += _mistold(script, me, stores, known)
        return wrong

    def at_rest(self, state: State) -> list[str]:
        """Whether a sweep brings search up to date and leaves no row behind, once all clients are
        through. What is still in flight is lost here; where it lands first, that is another state."""
        if any(actor.at not in {DONE, DEAD} for actor in state.actors[: len(self._clients)]):
            return []
        stores = state.stores
        while stores.intents:
            row = stores.intents[0]
            for write in self._sweeper.sweep(row.txid, row.base, stores)[0].writes:
                stores = write.apply(stores) or stores
        known = facts(stores.log)
        if stores.documents != known.stale_since:
            return [f"after a sweep search shows {stores.documents}, the log {known.stale_since}"]
        return []


def _pending(flight: tuple[Message, ...], stores: Stores) -> tuple[Message, ...]:
    return tuple(message for message in flight if not message.write.spent(stores))


def _missing(stores: Stores, known: Facts) -> list[str]:
    """Packs that versions need and that are not there (1, 6)."""
    return [
        f"pack {pack} of a version is gone"
        for pack in known.packs
        if stores.pack(pack).file != "whole" or stores.pack(pack).state not in {"live", "condemned"}
    ]


def _forgotten(stores: Stores, known: Facts) -> list[str]:
    """Documents that are stale though no intent says so (5)."""
    wrong = []
    oldest = min((row.base for row in stores.intents if not row.pack), default=len(stores.log))
    for number, seq in enumerate(known.stale_since, 1):
        shown = stores.documents[number - 1] if number <= len(stores.documents) else 0
        if shown > seq or (shown < seq and oldest >= seq):
            wrong.append(f"the document of version {number} shows entry {shown}, not {seq}")
    return wrong


def _mistold(script: ClientScript, me: Client, stores: Stores, known: Facts) -> list[str]:
    """A client whose answer and the log disagree (1, 2)."""
    own = [entry for entry in stores.log if entry.txid.startswith(f"{script.name}.")]
    if len(own) > 1:
        return [f"{script.name} was asked once and is in the log {len(own)} times"]
    made = bool(own) or (script.task.request and known.by_request > 0)
    if me.told == "ok" and not made:
        return [f"{script.name} was told ok, but is not in the log"]
    if me.told in {"failed", "conflict", "unchanged"} and own:
        return [f"{script.name} was told {me.told}, but is in the log"]
    return []
