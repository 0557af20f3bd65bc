"""Deleting, undeleting and editing a version: entries that change no byte of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from modelhub.coordinator import versions
from modelhub.coordinator.compare import changed_fields
from modelhub.coordinator.context import Context
from modelhub.coordinator.lineage import derived
from modelhub.coordinator.log import Head, Sealed
from modelhub.coordinator.publish import known_metadata, put_metadata
from modelhub.coordinator.refs import check_unprotected
from modelhub.coordinator.state import deleted_numbers, head_moves, is_deleted, refs_at
from modelhub.coordinator.transaction import Attempt, Committed
from modelhub.describe.facts import apply as apply_facts
from modelhub.errors import Conflict, CorruptData
from modelhub.names import Number, Revision
from modelhub.records import Deleted, Edited, Metadata, Published, Undeleted


def parent_number(ctx: Context, head: Head, number: int) -> int:
    """The first parent of a version; 0 where it has none."""
    change = versions.publication(ctx.stores.rows, head, number).entry.change
    assert isinstance(change, Published)
    return change.parents[0] if change.parents else 0


@dataclass
class Retire:
    """Put a tombstone on a version, or take it back (a ``Plan``).

    A version that is as wanted already is left alone, so a repeated call does no harm. Branch
    heads go where they would be had the version never been there, or never been deleted.
    """

    ctx: Context
    revision: Revision
    deleted: bool
    message: str = ""
    force: bool = False
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None
    number: int = 0

    @property
    def op(self) -> str:
        """What the intent says is under way."""
        return "delete" if self.deleted else "undelete"

    def build(self, head: Head, attempt: Attempt) -> Deleted | Undeleted | None:
        """Which version, and where branch heads go.

        Raises:
            Conflict: a tag or alias names a version that is to be deleted, or another one is based
                on it, and it is not forced. The latter is best effort: it may come to be.
            NotFound: a version that is to come back is purged.
            Forbidden: the model is protected, or a branch that moves, or an alias that names it.
        """
        del attempt
        # Resolved once: after a rebase, "the head" might be a version that nobody named.
        self.number = self.number or versions.resolve(self.ctx.stores.rows, head, self.revision)
        rows = self.ctx.stores.rows
        self.published = versions.publication(rows, head, self.number)
        self.known = known_metadata(rows, head, self.published)
        if not self.deleted:
            versions.require_unpurged(head, self.number)
        if is_deleted(head.state, self.number) == self.deleted:
            return None
        tombstones = deleted_numbers(head.state) ^ {self.number}
        moves = head_moves(
            head.state, tombstones, lambda number: parent_number(self.ctx, head, number)
        )
        if self.deleted:
            self._check_free(head, moves)
        return (Deleted if self.deleted else Undeleted)((self.number,), moves)

    def _check_free(self, head: Head, moves: Iterable[str]) -> None:
        aliases = refs_at(head.state.aliases, self.number)
        names = (*aliases, *refs_at(head.state.tags, self.number))
        if names and not self.force:
            raise Conflict(
                f"{head.name}@{self.number} is {', '.join(names)}",
                remedy="Move or delete what names it first, or force it.",
            )
        check_unprotected(head, *aliases, *moves)
        if not self.force and (child := next(derived(self.ctx, head.name, self.number), None)):
            raise Conflict(
                f"{head.name}@{self.number} is the base of {child[0]}@{child[1]}",
                remedy="That one stays whole without it; force it if its lineage may end there.",
            )

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""


@dataclass
class Edit:
    """Give a version new metadata (a ``Plan``): a new row, and an entry that names it."""

    ctx: Context
    revision: Revision
    facts: Mapping[str, object]
    message: str = ""
    op: str = "edit"
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None
    number: int = 0

    def build(self, head: Head, attempt: Attempt) -> Edited | None:
        """The metadata as it is, with the facts applied; nothing to do where it stays the same."""
        rows = self.ctx.stores.rows
        self.number = versions.resolve_live(rows, head, self.revision)
        # After a rebase "the head" might be another version; this one might be deleted.
        self.revision = replace(self.revision, selector=Number(self.number))
        self.published = versions.publication(rows, head, self.number)
        try:
            before = known_metadata(rows, head, self.published)[self.number]
        except CorruptData:
            before = None  # What cannot be read any more is described anew.
        after = apply_facts(before or Metadata(), self.facts)
        self.known = {self.number: after}
        if before is not None and not any(changed_fields(before, after)):
            return None
        attempt.announce()
        return Edited(self.number, put_metadata(self.ctx, head, attempt, self.number, after))

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""
