"""A client of the models: what it was asked to do, and what it remembers on the way."""

from __future__ import annotations

from functools import cache
from typing import Literal

import msgspec

from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.turns import DONE, Actor, Call
from modelhub.testing.protocol.world import Change

Told = Literal["", "ok", "unchanged", "conflict", "failed", "unknown"]


class Task(msgspec.Struct, frozen=True):
    """What a client is asked to do.

    Args:
        op: what to change.
        number: the version to delete or undelete.
        request: whether a publish carries the request id, of which there is one.
        expected: the parent that a publish expects; None: any.
        stores: whether a publish writes a new pack.
        reuses: an older pack that it finds chunks in.
        attempts: after so many lost attempts it gives up.
        names: after so many names of new packs it gives up.
    """

    op: Literal["publish", "delete", "undelete"] = "publish"
    number: int = 0
    request: bool = False
    expected: int | None = None
    stores: bool = False
    reuses: str = ""
    attempts: int = 2
    names: int = 2

    @property
    def pins(self) -> bool:
        """Whether it pins packs at all."""
        return self.stores or bool(self.reuses)


class Client(Actor, frozen=True):
    """A client's memory.

    ``packs`` are those that it relies on; ``doubts`` those whose rows it has yet to read (token 0)
    or to bring back to live; ``new`` is the pack to be written, ``names`` how many there were.
    ``before`` is the lost attempt whose rows are still there, ``leaving`` the one whose rows are
    being removed, and ``after`` the step that follows that. ``unsure``: its log row may have been
    put. ``debt``: hints or search were not told, so the intent stays.
    """

    told: Told = ""
    attempt: int = 0
    announced: bool = False
    base: int = 0
    number: int = 0
    parent: int = 0
    packs: tuple[str, ...] = ()
    doubts: tuple[tuple[str, int], ...] = ()
    new: str = ""
    names: int = 0
    before: str = ""
    leaving: str = ""
    after: str = ""
    unsure: bool = False
    debt: bool = False


@cache
def txid(name: str, attempt: int) -> str:
    """The transaction of a client's ``attempt`` (from 1)."""
    return f"{name}.{attempt}"


class Setting(msgspec.Struct, frozen=True):
    """What stays the same for one client."""

    name: str
    task: Task
    mutation: Mutation | None

    def txid(self, me: Client) -> str:
        """The transaction of the attempt at hand."""
        return txid(self.name, me.attempt)

    def row_key(self, txid: str) -> str:
        """The key of an attempt's rows in ``intents``."""
        return "shared" if self.mutation is Mutation.SHARED_INTENT else txid

    def reading(self, then: Client) -> Call:
        """A read; where it fails the call ends, and what was put stays for the sweeper."""
        return Call(self.name, (then,), (Client(DONE, "failed"),))

    def putting(self, me: Client, then: Client, writes: tuple[Change, ...] = ()) -> Call:
        """Puts of this client's own rows: repeated until acknowledged or read back, or given up."""
        return Call(self.txid(me), (then,), (me, Client(DONE, "failed")), writes)
