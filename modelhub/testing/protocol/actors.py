"""What every actor of the models is made of: a place in its script, and the store call made there."""

from __future__ import annotations

from typing import Protocol

import msgspec

from modelhub.testing.protocol.world import PutDocument, Stores, Write, facts

DEAD = "dead"
DONE = "done"


class Actor(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """An actor's memory. ``at`` names the store call that it makes next."""

    at: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """A store call, and how its actor goes on after each answer.

    Args:
        subject: the attempt, pack or model that it is about.
        then: how the actor may go on after success.
        unsure: how it may go on after an error that leaves the outcome open.
        writes: what it writes, each row atomic by itself; none for a read.
        refused: how it goes on where the (single) write's condition does not hold.
        failed: how it may go on after an error that rules the write out, if not as in ``unsure``.
        late: what lands later where that differs from ``writes``.
        settled: repeated until it was acknowledged or read back.
        action: the step's name, if not the actor's place.
    """

    subject: str
    then: tuple[Actor, ...]
    unsure: tuple[Actor, ...]
    writes: tuple[Write, ...] = ()
    refused: Actor | None = None
    failed: tuple[Actor, ...] = ()
    late: tuple[Write, ...] = ()
    settled: bool = False
    action: str = ""


class Script(Protocol):
    """The program of one actor."""

    name: str

    def start(self) -> Actor:
        """Before its first call."""

    def calls(self, me: Actor, stores: Stores) -> list[Call]:
        """The calls of which it makes one next; none when it has come to its end."""

    def crashed(self, me: Actor) -> Actor | None:
        """What is left of it after a crash; None where that changes nothing."""

    def private(self, me: Actor) -> bool:
        """Whether its next call touches nothing that anybody else or an invariant looks at."""


def documents(stores: Stores, since: int, head: int, *, versioned: bool) -> tuple[Write, ...]:
    """Writes of the documents that entries after ``since`` touch, as of entry ``head``."""
    touched = facts(stores.log[:head]).stale_since
    return tuple(
        PutDocument(number, seq, versioned) for number, seq in enumerate(touched, 1) if seq > since
    )
