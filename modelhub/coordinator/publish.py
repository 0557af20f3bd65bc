"""Publishing a version: what a push puts on top of a model's log."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from modelhub.content.architecture import architecture
from modelhub.content.encoder import StoragePolicy
from modelhub.content.manifest import Manifest
from modelhub.content.tree import Source
from modelhub.coordinator import keys, versions
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.log import Head, Sealed, read_head
from modelhub.coordinator.refs import check_branch, check_expected
from modelhub.coordinator.relatives import manifest_at, relatives
from modelhub.coordinator.state import head_number, is_live
from modelhub.coordinator.storing import PackRefused, Stored, Storing
from modelhub.coordinator.transaction import Attempt, Committed, put_settled
from modelhub.errors import CorruptData, Unavailable
from modelhub.names import DEFAULT_BRANCH, Revision
from modelhub.records import (
    Address,
    Metadata,
    MetadataRow,
    Published,
    VersionHint,
    VersionRecord,
    encode,
    hex_digest,
)
from modelhub.stores import RowStore

_RESTARTS = 3
_MOST_IDENTICAL = 10


@dataclass
class Push:
    """One push (a ``Plan``): its arguments, and what is done of it so far.

    ``published`` is the version's entry: this push's, or that of an earlier one with the same
    request id. ``merged`` are parents besides the branch's head, ``manifests`` is where those lie,
    besides the parent's, that its own may equal.
    """

    ctx: Context
    name: str
    sources: Sequence[Source]
    metadata: Metadata
    message: str = ""
    branch: str = DEFAULT_BRANCH
    bases: tuple[str, ...] = ()
    expect: Revision | None = None
    request: str = ""
    skip_identical: bool = False
    progress: Progress = ignore_progress
    policy: StoragePolicy | None = None
    op: str = "publish"
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None
    origin: int = 0
    merged: tuple[int, ...] = ()
    manifests: tuple[Address, ...] = ()
    _architecture: str | None = None
    _storing: Storing | None = None
    _stored: Stored | None = None

    def build(self, head: Head, attempt: Attempt) -> Published | None:
        """Store and pin everything, then say what the entry is to be.

        Raises:
            Conflict: the parent is not the expected one, or a file changed while it was read.
            AlreadyExists: a tag or alias has the branch's name.
            Unavailable: a store is away, full, or took packs away again and again.
        """
        rows = self.ctx.stores.rows
        if self.request:
            # With each head anew: the version may have been made since the last one was taken.
            self.published = find_request(rows, head, self.request)
            if self.published is not None:
                self.known = known_metadata(rows, head, self.published)
                return None
        check_branch(head, self.branch)
        parent = self._parent(head)
        if self.expect is not None:
            check_expected(rows, head, f"branch {self.branch}", parent, self.expect)
        if not self.choose(head, parent):
            return None
        if self._architecture is None:
            self._architecture = architecture(self.sources)
        stored = self._store(head, attempt, parent)
        content = stored.manifest.content_digest()
        if self.skip_identical and self.branch in head.state.branches and parent:
            before = versions.publication(rows, head, parent)
            assert isinstance(before.entry.change, Published)
            if before.entry.change.version.content == content:
                self.published = before
                self.known = known_metadata(rows, head, before)
                return None
        number = head.state.next
        self.known = {number: self.metadata}
        metadata = self._put_metadata(head, attempt, number)
        record = VersionRecord(
            content=content,
            manifest=stored.address,
            metadata=metadata,
            packs=stored.packs,
            files=len(stored.manifest.files),
            size_bytes=sum(file.size_bytes for file in stored.manifest.files),
            new_bytes=stored.new_bytes,
            bases=self.bases,
            request=self.request,
            architecture=self._architecture,
            origin=self.origin,
        )
        self._put_lookup(head, attempt, number, record)
        parents = (parent, *self.merged) if parent else ()
        return Published(number, self.branch, parents, record)

    def choose(self, head: Head, parent: int) -> bool:
        """Settle what is published on top of ``head``; False: nothing, ``published`` is that.

        A push's sources and metadata are what it was called with. Others choose them here, anew for
        each head, and ``forget`` what they stored before.
        """
        del head, parent
        return True

    def forget(self) -> None:
        """Nothing is stored of this push: its sources are others than before."""
        self._storing = self._stored = self._architecture = None

    @property
    def stored_before(self) -> bool:
        """Whether every chunk of its files had been stored by others."""
        return self._stored is not None and self._stored.known

    def landed(self, committed: Committed) -> None:
        """Put the hints of the last pack's chunks."""
        self.published = committed.sealed
        assert self._storing is not None
        self._storing.put_hints()

    def _parent(self, head: Head) -> int:
        """The version that this one follows: a new branch starts at the default branch's head."""
        if self.branch in head.state.branches:
            return head_number(head.state, self.branch)
        return head_number(head.state, DEFAULT_BRANCH)

    def _store(self, head: Head, attempt: Attempt, parent: int) -> Stored:
        for _ in range(_RESTARTS):
            try:
                if self._storing is None or self._stored is None:
                    self._storing, self._stored = self._store_anew(head, attempt, parent)
                else:
                    self._storing.rebind(attempt, self._stored.packs)
            except PackRefused:
                self._storing = self._stored = None
            else:
                return self._stored
        raise Unavailable(
            f"packs of this push of {self.name} were collected {_RESTARTS} times while it ran",
            remedy="Push again; if it recurs, look at the clocks of the machines that run gc.",
        )

    def _store_anew(self, head: Head, attempt: Attempt, parent: int) -> tuple[Storing, Stored]:
        trusted: list[Manifest] = []
        known = list(self.manifests)
        if parent:
            published = versions.publication(self.ctx.stores.rows, head, parent)
            assert isinstance(published.entry.change, Published)
            address = published.entry.change.version.manifest
            # A damaged parent stops nobody from pushing.
            with contextlib.suppress(CorruptData):
                trusted = [manifest_at(self.ctx, address)]
                known.append(address)
        else:
            trusted = relatives(self.ctx, self.bases, self._architecture or "")
        policy = self.policy or self.ctx.storage_policy
        storing = Storing(self.ctx, attempt, trusted, policy)
        return storing, storing.store(self.sources, known, self.progress)

    def _put_metadata(self, head: Head, attempt: Attempt, number: int) -> str:
        return put_metadata(self.ctx, head, attempt, number, self.metadata)

    def _put_lookup(self, head: Head, attempt: Attempt, number: int, record: VersionRecord) -> None:
        value = encode(VersionHint(head.seq + 1, attempt.txid))
        rows = dict.fromkeys(lookup_keys(self.name, number, record), value)
        put_settled(self.ctx, keys.LOOKUP, rows)


def lookup_keys(name: str, number: int, record: VersionRecord) -> list[bytes]:
    """The rows by which a version is found: by content, bases, request id and architecture."""
    pairs = [("content", record.content), *(("base", base) for base in record.bases)]
    for kind, value in (("request", record.request), ("architecture", record.architecture)):
        if value:
            pairs.append((kind, value))
    return [keys.lookup(kind, text, name, number) for kind, text in pairs]


def identical(ctx: Context, head: Head, published: Sealed) -> tuple[str, ...]:
    """Other live versions with the same files, of any model, each ``NAME@N``; at most 10."""
    change = published.entry.change
    assert isinstance(change, Published)
    rows, content = ctx.stores.rows, change.version.content
    found: list[str] = []
    for key, _ in rows.scan(keys.LOOKUP, *keys.lookup_range("content", content)):
        _, _, name, number = keys.parse_lookup(key)
        if (name, number) == (head.name, change.number):
            continue
        other = head if name == head.name else read_head(rows, name)
        if is_live(other.state, number):
            version = versions.publication(rows, other, number).entry.change
            assert isinstance(version, Published)
            if version.version.content == content:
                found.append(f"{name}@{number}")
        if len(found) == _MOST_IDENTICAL:
            break
    return tuple(found)


def put_metadata(
    ctx: Context, head: Head, attempt: Attempt, number: int, metadata: Metadata
) -> str:
    """Put a metadata row for the entry that ``attempt`` is about to put; its digest."""
    data = encode(MetadataRow(head.seq + 1, attempt.txid, metadata))
    digest = hex_digest(data)
    put_settled(ctx, keys.METADATA, {keys.metadata(head.name, number, digest): data})
    return digest


def known_metadata(rows: RowStore, head: Head, published: Sealed) -> dict[int, Metadata]:
    """A version's metadata as of ``head``, under its number."""
    assert isinstance(published.entry.change, Published)
    row = versions.metadata_row(rows, head, published)
    return {published.entry.change.number: row.metadata}


def find_request(rows: RowStore, head: Head, request: str) -> Sealed | None:
    """The entry of the version that a publish with this request id made, as of ``head``."""
    for key, _ in rows.scan(keys.LOOKUP, *keys.lookup_range("request", request, head.name)):
        *_, number = keys.parse_lookup(key)
        # The row is put before its entry, and two calls with one request may put the same row: so
        # it says no more than which version to look at.
        if number < head.state.next:
            published = versions.publication(rows, head, number)
            assert isinstance(published.entry.change, Published)
            if published.entry.change.version.request == request:
                return published
    return None
