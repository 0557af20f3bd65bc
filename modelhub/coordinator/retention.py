"""Retention: which versions are to be deleted, and which deleted ones never come back.

Rules say so by model and age. Nothing is decided by a clock alone: a version is out of the way once
an entry of its model's log says so, and an entry is put only on top of a head that still agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from modelhub.coordinator import keys
from modelhub.coordinator.context import Context
from modelhub.coordinator.lineage import derived
from modelhub.coordinator.log import Head, Sealed, read_head, since_entry
from modelhub.coordinator.state import is_deleted, is_live, is_purged
from modelhub.coordinator.transaction import Attempt, Committed, commit
from modelhub.errors import OutcomeUnknown, Unavailable
from modelhub.records import Deleted, Metadata, Published, Purged, State, Undeleted
from modelhub.rules import RetentionRule


@dataclass
class History:
    """What a model's log says of its versions' ages, gathered from the newest entry down.

    Live versions are remembered where ``rule`` may delete them, deleted ones until they are purged.
    """

    head: Head
    rule: RetentionRule
    published: dict[int, datetime] = field(default_factory=dict)
    deleted: dict[int, datetime] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def take(self, sealed: Sealed) -> None:
        """Note what an entry says."""
        entry, state = sealed.entry, self.head.state
        match entry.change:
            case Published(number=number, version=version) if not is_purged(state, number):
                live = not is_deleted(state, number)
                if live and self.rule.expires:
                    self.published[number] = entry.time
                if not live or self.rule.expires:
                    self.sizes[number] = version.size_bytes
            case Deleted(numbers=numbers):
                for number in numbers:
                    if is_deleted(state, number) and not is_purged(state, number):
                        self.deleted.setdefault(number, entry.time)

    def is_over(self, number: int, now: datetime) -> bool:
        """Whether a version was deleted so long ago that nothing is to bring it back."""
        at = self.deleted.get(number)
        return at is not None and at <= now - timedelta(days=self.rule.deleted_days)

    def purgeable(self, now: datetime) -> list[int]:
        """Every such version."""
        return sorted(number for number in self.deleted if self.is_over(number, now))

    def expired(self, now: datetime, is_base: Callable[[int], bool]) -> list[int]:
        """The live versions that nothing keeps."""
        state, rule = self.head.state, self.rule
        if not rule.expires or "" in state.protected:
            return []
        kept = _named(state)
        if rule.keep_last is not None:
            kept |= set(sorted(self.published)[-rule.keep_last :])
        if rule.keep_days is not None:
            since = now - timedelta(days=rule.keep_days)
            kept |= {number for number, at in self.published.items() if at > since}
        return [
            number
            for number in sorted(self.published)
            if number not in kept and not is_base(number)
        ]


def is_base_of_another(ctx: Context, name: str) -> Callable[[int], bool]:
    """Whether a version of this model is one that another is based on."""
    return lambda number: next(derived(ctx, name, number), None) is not None


@dataclass
class Expire:
    """Delete versions that a rule no longer keeps (a ``Plan``), if nothing happened to them since.

    ``seen`` is the entry up to which the log was looked at.
    """

    ctx: Context
    numbers: Iterable[int]
    seen: int
    message: str
    op: str = "delete"
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None
    done: tuple[int, ...] = ()

    def build(self, head: Head, attempt: Attempt) -> Deleted | None:
        """What is still to be deleted; never a version that a ref names by now."""
        del attempt
        named = _named(head.state)
        untouched = _untouched(self.ctx, head, self.seen, self.numbers)
        self.done = tuple(n for n in untouched if is_live(head.state, n) and n not in named)
        # No head moves: none of them is one.
        return Deleted(self.done) if self.done else None

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""


@dataclass
class Purge:
    """End the retention of deleted versions (a ``Plan``), if nobody brought them back since.

    ``seen`` as in ``Expire``; ``erased`` as in the entry.
    """

    ctx: Context
    numbers: Iterable[int]
    seen: int
    message: str
    erased: bool = False
    op: str = "purge"
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None
    done: tuple[int, ...] = ()

    def build(self, head: Head, attempt: Attempt) -> Purged | None:
        """What is deleted still, and was not deleted anew."""
        del attempt
        state = head.state
        self.done = tuple(
            number
            for number in _untouched(self.ctx, head, self.seen, self.numbers)
            if is_deleted(state, number) and not is_purged(state, number)
        )
        return Purged(self.done, self.erased) if self.done else None

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""


def erase(ctx: Context, name: str, number: int, message: str) -> bool:
    """Purge a deleted version now, and remove every metadata row that it ever had.

    False: it is not deleted any more, and nothing was changed.

    Raises:
        Unavailable: the row store is away; nothing was changed.
        OutcomeUnknown: the row store went away; it may be purged, and its metadata there still.
    """
    rows = ctx.stores.rows
    seen = read_head(rows, name)
    if not is_purged(seen.state, number):
        head = commit(ctx, name, Purge(ctx, [number], seen.seq, message, erased=True))
        if not is_purged(head.state, number):
            return False
    try:
        held = rows.scan(keys.METADATA, *keys.metadata_range(name, number))
        rows.delete_many(keys.METADATA, [key for key, _ in held])
    except (Unavailable, OutcomeUnknown) as exc:
        raise OutcomeUnknown(
            f"{name}@{number} is purged, but its metadata may be there still: {exc.message}",
            remedy="Purge it again.",
        ) from exc
    return True


def _named(state: State) -> set[int]:
    """The versions that a branch, tag or alias means."""
    return {*state.branches.values(), *state.tags.values(), *state.aliases.values()}


def _untouched(ctx: Context, head: Head, seen: int, numbers: Iterable[int]) -> list[int]:
    """Those that no entry after ``seen`` deleted or brought back: their time began anew."""
    again: set[int] = set()
    for sealed in since_entry(ctx.stores.rows, head, seen):
        change = sealed.entry.change
        if isinstance(change, Deleted | Undeleted):
            again.update(change.numbers)
    return [number for number in numbers if number not in again]
