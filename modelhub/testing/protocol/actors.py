"""What every actor of the models is made of: a memory, and the store call that it makes next."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from modelhub.testing.protocol.world import Entry, PutDocument, Stores, Value, Write, facts

DONE = "done"
DEAD = "dead"


class Actor(Value, frozen=True):
    """An actor's memory. ``at`` names the step that it takes next."""

    at: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """A store call, and how its actor may go on after each answer.

    Args:
        subject: the attempt or pack that it is about.
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
    writes: tuple[Write, ...] = ()
    refused: Any = None
    failed: tuple[Any, ...] = ()
    late: tuple[Write, ...] = ()
    action: str = ""


A = TypeVar("A", bound=Actor)


class Script(Protocol[A]):
    """The program of one actor."""

    name: str

    def start(self) -> A:
        """Its memory before its first call."""

    def calls(self, me: A, stores: Stores) -> list[Call]:
        """The calls of which it makes one next; none when it has come to its end."""

    def crashed(self, me: A) -> A | None:
        """What is left of it after a crash; None where that changes nothing."""

    def private(self, me: A) -> bool:
        """Whether its next call touches nothing that anybody else, or an invariant, looks at."""


def documents(
    log: tuple[Entry, ...], since: int, *, versioned: bool = True
) -> tuple[PutDocument, ...]:
    """Writes of the documents that entries after ``since`` touch, as of the end of ``log``."""
    return tuple(
        PutDocument(number, seq, versioned)
        for number, seq in enumerate(facts(log).touched, 1)
        if seq > since
    )
