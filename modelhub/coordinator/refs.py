"""Branches, tags and aliases: entries that change which version a name means, or guard it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from msgspec.structs import replace

from modelhub.coordinator import versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, Sealed, entries, require
from modelhub.coordinator.state import kind_of, named
from modelhub.coordinator.transaction import Attempt, Committed
from modelhub.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound
from modelhub.names import DEFAULT_BRANCH, Number, Revision
from modelhub.records import (
    Change,
    Deleted,
    Metadata,
    Protected,
    Published,
    RefKind,
    RefMoved,
    Undeleted,
)
from modelhub.stores import RowStore

Act = Literal["create", "set", "move", "delete"]
"""``create`` makes one that is not there, ``move`` moves one that is, ``set`` does either."""


@dataclass
class MoveRef:
    """Create, move or delete a branch, tag or alias (a ``Plan``).

    One that means ``target`` already is left alone. A deletion has no target.
    """

    ctx: Context
    kind: RefKind
    ref: str
    act: Act
    target: Revision | None = None
    expect: Revision | None = None
    message: str = ""
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None

    @property
    def op(self) -> str:
        """What the intent says is under way."""
        return self.kind

    def build(self, head: Head, attempt: Attempt) -> RefMoved | None:
        """Which version the name is to mean.

        Raises:
            NotFound: the model, the target or the ref is not there.
            AlreadyExists: the name means something else.
            Conflict: the ref is not where it is expected to be.
            Forbidden: the ref is protected.
            InvalidInput: the default branch is to be deleted.
        """
        del attempt
        rows = self.ctx.stores.rows
        require(rows, head)
        came = named(head.state, self.ref)
        if self.expect is not None:
            check_expected(rows, head, f"{self.kind} {self.ref}", came, self.expect)
        to = 0 if self.target is None else self._resolved(rows, head, self.target)
        there = _check_kind(head, self.kind, self.ref, self.act)
        if there and to and came == to and head.state.tips.get(self.ref, to) == to:
            return None
        if self.act == "create" and there:
            raise _taken(head, self.ref)
        if to and not (self.kind == "tag" and head.state.retired.get(self.ref) == to):
            _check_not_retired(head, self.ref)
        if self.act == "delete" and self.ref == DEFAULT_BRANCH:
            raise InvalidInput(
                f"{DEFAULT_BRANCH} is the default branch of {head.name}",
                remedy="Move it with `modelhub branch move`, or delete versions.",
            )
        if there:
            check_unprotected(head, self.ref)
        return RefMoved(self.kind, self.ref, came, to)

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""

    def _resolved(self, rows: RowStore, head: Head, target: Revision) -> int:
        number = versions.resolve_live(rows, head, target)
        # After a rebase "the head" might be another version; this one might be deleted.
        self.target = replace(target, selector=Number(number))
        return number


@dataclass
class Protect:
    """Protect a branch, an alias or (without ``ref``) the model, or no longer (a ``Plan``)."""

    ctx: Context
    ref: str
    on: bool
    message: str = ""
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None

    @property
    def op(self) -> str:
        """What the intent says is under way."""
        return "protect" if self.on else "unprotect"

    def build(self, head: Head, attempt: Attempt) -> Protected | None:
        """Nothing, where it is so already.

        Raises:
            NotFound: the model has no such branch or alias.
            InvalidInput: it is a tag.
        """
        del attempt
        require(self.ctx.stores.rows, head)
        kind = kind_of(head.state, self.ref) if self.ref else "model"
        if kind is None:
            raise versions.unknown_ref(head, self.ref)
        if kind == "tag":
            raise InvalidInput(
                f"{self.ref} is a tag of {head.name}, which never moves", remedy="Leave it."
            )
        if (self.ref in head.state.protected) == self.on:
            return None
        return Protected(self.ref, self.on)

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""


def check_expected(rows: RowStore, head: Head, ref: str, number: int, expect: Revision) -> None:
    """See that a ref, which means version ``number`` (0: none), is where it is expected.

    Raises:
        Conflict: it is not.
    """
    try:
        expected = versions.resolve(rows, head, expect)
    except NotFound:
        expected = None
    if expected != number:
        now = f"version {number}" if number else "no version"
        raise Conflict(
            f"{head.name} was expected to be at {expect}, but {ref} is at {now}",
            remedy=f"Look at `modelhub log {head.name}`, then decide anew.",
        )


def check_unprotected(head: Head, *refs: str) -> None:
    """See that neither ``refs`` nor the whole model are protected.

    Raises:
        Forbidden: one of them is.
    """
    for ref in ("", *refs):
        if ref in head.state.protected:
            what = f"{kind_of(head.state, ref)} {ref} of {head.name}" if ref else head.name
            raise Forbidden(
                f"{what} is protected",
                remedy=f"`modelhub unprotect {head.name} {ref}`".rstrip(" `") + "` lifts that.",
            )


def check_branch(head: Head, branch: str) -> None:
    """See that ``branch`` may be published onto: nothing else has the name.

    Raises:
        AlreadyExists: a tag or alias has, or a tag had.
    """
    if kind_of(head.state, branch) not in (None, "branch"):
        raise _taken(head, branch)
    _check_not_retired(head, branch)


def _check_not_retired(head: Head, ref: str) -> None:
    if ref in head.state.retired:
        raise AlreadyExists(
            f"the tag {ref} of {head.name} meant version {head.state.retired[ref]} until it was "
            "deleted",
            remedy="A tag's name never means another version: choose a new one.",
        )


def _check_kind(head: Head, kind: RefKind, ref: str, act: Act) -> bool:
    """Whether the ref is there.

    Raises:
        AlreadyExists, InvalidInput: something else has the name.
        NotFound: it is not there, and cannot be moved or deleted.
    """
    found = kind_of(head.state, ref)
    if found is None and act in {"move", "delete"}:
        raise versions.unknown_ref(head, ref)
    if found not in (None, kind):
        if act in {"create", "set"}:
            raise _taken(head, ref)
        raise InvalidInput(
            f"{ref} is no {kind} of {head.name}: it is its {found}",
            remedy=f"Use `modelhub {found}`.",
        )
    return found is not None


def _taken(head: Head, ref: str) -> AlreadyExists:
    kind, number = kind_of(head.state, ref), named(head.state, ref)
    moves = "a tag never moves" if kind == "tag" else f"`modelhub {kind}` moves or deletes it"
    return AlreadyExists(
        f"{head.name} has the {kind} {ref} already, at version {number}",
        remedy=f"Choose another name; {moves}.",
    )


def history(rows: RowStore, head: Head, ref: str) -> Iterator[tuple[Sealed, int]]:
    """The entries that made a ref mean a version (0: none, or the ref is gone), newest first.

    Raises:
        NotFound: the model has no such ref, and never had.
    """
    found = False
    for sealed in entries(rows, head.name, newest=head.seq):
        to = _moves(sealed.entry.change).get(ref)
        if to is not None:
            found = True
            yield sealed, to
    if not found:
        raise versions.unknown_ref(head, ref)


def _moves(change: Change) -> dict[str, int]:
    """The refs that ``change`` makes mean another version."""
    match change:
        case Published(number=number, branch=branch):
            return {branch: number}
        case RefMoved(name=name, to=to):
            return {name: to}
        case Deleted(heads=heads) | Undeleted(heads=heads):
            return {branch: to for branch, (_, to) in heads.items()}
        case _:
            return {}
