"""What every model is made of: actors that take turns at stores, calls that get lost or land late.

Nothing here knows what is stored: that is the business of each model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.explore import Step

DONE = "done"
DEAD = "dead"


class Value(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """A part of a state: immutable, small and quick to compare."""


S = TypeVar("S", bound=Value)


class Write(Value, Generic[S], frozen=True):
    """One atomic write, of one row, file or document."""

    def apply(self, stores: S) -> S | None:
        """The stores after it; None where its condition does not hold."""
        raise NotImplementedError

    def spent(self, stores: S) -> bool:
        """Whether it can change nothing any more, whatever happens before it lands."""
        del stores
        return False


class Actor(Value, frozen=True):
    """An actor's memory. ``at`` names the step that it takes next."""

    at: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """A store call, and how its actor may go on after each answer.

    Args:
        subject: the attempt, pack or target that it is about.
        then: after success.
        unsure: after an error that leaves the outcome open; empty where there are none.
        writes: what it writes, each by itself atomic; none for a read.
        refused: after a False, the condition of its only write not being met.
        failed: after an error that rules the write out, where that is not as ``unsure``.
        late: what lands later, where that is not ``writes``.
        action: the step's name, where that is not the actor's place.
    """

    subject: str
    then: tuple[Any, ...]
    unsure: tuple[Any, ...] = ()
    writes: tuple[Write[Any], ...] = ()
    refused: Any = None
    failed: tuple[Any, ...] = ()
    late: tuple[Write[Any], ...] = ()
    action: str = ""


A = TypeVar("A", bound=Actor)
S_contra = TypeVar("S_contra", bound=Value, contravariant=True)


class Script(Protocol[A, S_contra]):
    """The program of one actor."""

    name: str

    def start(self) -> A:
        """Its memory before its first call."""

    def calls(self, me: A, stores: S_contra) -> list[Call]:
        """The calls of which it makes one next; none when it has come to its end."""

    def crashed(self, me: A) -> A | None:
        """What is left of it after a crash; None where that changes nothing."""

    def private(self, me: A) -> bool:
        """Whether its next call touches nothing that anybody else, or an invariant, looks at."""


class Message(Value, frozen=True):
    """A write whose caller has given up waiting: it lands at any later moment, or never."""

    actor: str
    action: str
    subject: str
    write: Write[Any]


class State(Value, Generic[S], frozen=True):
    """Everything, at one moment. ``faults`` is how many writes may still get lost (-1: any number).

    ``flight`` is sorted and holds no message twice. A second copy would change nothing: where it is
    a conditional write or a versioned one, it finds the first; where it is a row that was swept
    between the two, it is swept again for the same reason.
    """

    stores: S
    actors: tuple[Actor, ...]
    flight: tuple[Message, ...]
    faults: int


class Turns(Generic[S]):
    """A model in which actors take turns, one store call at a time.

    The one fault is a write whose caller does not learn its outcome, and that lands at any later
    moment or never; with crashes it makes all others. A write that fails before is one that never
    lands; one applied whose reply is lost lands at once; one after which its caller dies lands
    before a crash. A pause is an actor whose turn does not come. Beside that, a conditional write
    may be applied and yet answer False, as where a gateway sends it twice.
    """

    def __init__(self, scripts: Sequence[Script[Any, S]]) -> None:
        self._scripts = scripts

    def begin(self, stores: S, faults: int | None) -> State[S]:
        """Nothing is under way. ``faults`` is how many writes may get lost; None: any number."""
        actors = tuple(script.start() for script in self._scripts)
        return State(stores, actors, (), -1 if faults is None else faults)

    def steps(self, state: State[S]) -> Iterator[Step[State[S]]]:
        """What may happen next; but while an actor's next call is private, nothing else.

        That leaves fewer states and hides nothing: a private call changes its actor's memory alone,
        so whatever happens before it may as well happen after it.
        """
        private = self.private_calls(state)
        return self._turn(state, private[0]) if private else self.all_steps(state)

    def private_calls(self, state: State[S]) -> list[int]:
        """Which of ``state.actors`` are about to make a call that nobody else notices."""
        return [
            index
            for index, (script, me) in enumerate(zip(self._scripts, state.actors, strict=True))
            if script.private(me)
        ]

    def all_steps(self, state: State[S]) -> Iterator[Step[State[S]]]:
        """What may happen next, in every order."""
        for index in range(len(self._scripts)):
            yield from self._turn(state, index)
        for message in state.flight:
            after = land(state, (message,))
            yield Step(message.actor, message.action, "lands", message.subject, after)

    def _turn(self, state: State[S], index: int) -> Iterator[Step[State[S]]]:
        """What one actor may do next."""
        script, me = self._scripts[index], state.actors[index]
        for call in script.calls(me, state.stores):
            action = call.action or me.at
            for outcome, after, then in _outcomes(state, call, script.name, action):
                yield Step(script.name, action, outcome, call.subject, _with(after, index, then))
        crashed = script.crashed(me)
        if crashed is not None:
            yield Step(script.name, me.at, "crash", "", _with(state, index, crashed))


def land(state: State[S], messages: tuple[Message, ...]) -> State[S]:
    """The state after messages in flight landed; those whose condition is not met do nothing."""
    stores = state.stores
    for message in messages:
        stores = message.write.apply(stores) or stores
    rest = tuple(message for message in state.flight if message not in messages)
    return replace(state, stores=stores, flight=_pending(rest, stores))


def _with(state: State[S], index: int, actor: Actor) -> State[S]:
    actors = (*state.actors[:index], actor, *state.actors[index + 1 :])
    return replace(state, actors=actors)


def _pending(flight: tuple[Message, ...], stores: S) -> tuple[Message, ...]:
    """Without the messages that can change nothing any more."""
    return flight and tuple(message for message in flight if not message.write.spent(stores))


def _outcomes(
    state: State[S], call: Call, actor: str, action: str
) -> list[tuple[str, State[S], Actor]]:
    """How a call may end, and how its actor goes on."""
    if not call.writes:
        answers = [("ok", state, then) for then in call.then]
        return answers + [("fails_before", state, then) for then in call.unsure]
    answers = _answered(state, call)
    if state.faults and call.unsure:
        answers += _unanswered(state, call, actor, action)
    return answers


def _answered(state: State[S], call: Call) -> list[tuple[str, State[S], Actor]]:
    stores: S | None = state.stores
    for write in call.writes:
        assert stores is not None, "only a single write is conditional"
        stores = write.apply(stores)
    if stores is None:
        return [("ok", state, call.refused)]
    after = replace(state, stores=stores, flight=_pending(state.flight, stores))
    answers: list[tuple[str, State[S], Actor]] = [("ok", after, then) for then in call.then]
    if call.refused is not None and call.unsure:
        answers.append(("doubled", after, call.refused))
    return answers


def _unanswered(
    state: State[S], call: Call, actor: str, action: str
) -> list[tuple[str, State[S], Actor]]:
    sent = {Message(actor, action, call.subject, write) for write in call.late or call.writes}
    flight = _pending(tuple(sorted({*state.flight, *sent})), state.stores)
    lost = replace(state, faults=state.faults - 1 if state.faults > 0 else -1)
    answers: list[tuple[str, State[S], Actor]] = [
        ("late", replace(lost, flight=flight), then) for then in call.unsure
    ]
    return answers + [("fails_before", lost, then) for then in call.failed]
