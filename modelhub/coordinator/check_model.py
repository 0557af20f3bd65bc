"""Checking what goes with a model's log: metadata, hints, look-ups, search documents.

What looks wrong is looked at again before it is reported: others publish meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from modelhub.coordinator import due, hints, index, keys, publish, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.due import Due
from modelhub.coordinator.findings import Check, Mend
from modelhub.coordinator.log import Head, read_head
from modelhub.coordinator.state import is_purged
from modelhub.errors import CorruptData, NotFound
from modelhub.records import Published, Targets, VersionHint, encode
from modelhub.stores import Document

T = TypeVar("T")

_LOOKS = 3
_NOT_SO = "it is absent, or not what the log says"


class ModelCheck:
    """Checks models against their logs. ``targets`` are those of search, where it has any."""

    def __init__(self, check: Check, targets: Targets | None) -> None:
        self._check = check
        self._ctx = check.ctx
        self._targets = targets

    def check_versions(self, batch: Sequence[Due]) -> None:
        """What there is to be for some versions of one model, whose head is known."""
        kept = [of for of in batch if not is_purged(of.head.state, of.number)]
        self._check.count("versions", len(kept))
        self._check_metadata(kept)
        self._check_lookup(kept)
        self._check_hints(batch)
        if self._targets is not None:
            self.check_documents(batch)

    def check_end(self, head: Head) -> None:
        """The model's own hint, and whether its log once was longer."""
        rows = self._ctx.stores.rows
        first, stop = keys.version(head.name, head.state.next), keys.prefix(head.name)[1]
        beyond = [key for key, _ in rows.scan(keys.VERSIONS, first, stop, limit=1000)]
        if beyond and read_head(rows, head.name).seq == head.seq:
            cause = f"{len(beyond)} more versions were published once; their entries are missing"
            self._check.report("log-broken", f"{head.name} entry {head.seq + 1}", cause)
        if self._confirmed(head, [head.name], self._stale_summaries):
            mend = Mend("model", head.name)
            self._check.report("hint-stale", f"models row of {head.name}", _NOT_SO, mend)

    def _confirmed(
        self, head: Head, wrong: Sequence[T], look: Callable[[Head, Sequence[T]], list[T]]
    ) -> list[T]:
        """Those of ``wrong`` that nobody owes, and that are wrong still as of a later head.

        An intent goes only after what it owes is there: so what is wrong after none was there, as
        of a head that was the newest before and after, is to stay so.
        """
        found = look(head, wrong)
        for _ in range(_LOOKS):
            if not found or is_pending(self._ctx, head.name):
                return []
            fresh = read_head(self._ctx.stores.rows, head.name)
            found = look(fresh, found)
            if read_head(self._ctx.stores.rows, head.name).seq == fresh.seq:
                return found
        return []  # one that changes all the time is left to the next check

    # --- metadata and look-ups -----------------------------------------------------------------

    def _check_metadata(self, batch: Sequence[Due]) -> None:
        wanted = {keys.metadata(of.head.name, of.number, of.metadata): of for of in batch}
        held = self._ctx.stores.rows.get_many(keys.METADATA, list(wanted))
        for key, of in wanted.items():
            try:
                versions.open_metadata(key, held.get(key))
            except CorruptData:
                self._check_damaged(of)

    def _check_damaged(self, of: Due) -> None:
        """One that could not be read, as of now: the version may be purged, or edited."""
        rows = self._ctx.stores.rows
        head = read_head(rows, of.head.name)
        try:
            versions.metadata_row(rows, head, versions.publication(rows, head, of.number))
        except CorruptData as exc:
            mend = Mend("metadata", of.id)
            self._check.report("metadata-damaged", of.id, exc, mend)

    def _check_lookup(self, batch: Sequence[Due]) -> None:
        """Put before the entry: what is absent now is lost."""
        expected = {of.id: lookup_keys(of) for of in batch}
        every = [key for found in expected.values() for key in found]
        held = self._ctx.stores.rows.get_many(keys.LOOKUP, every)
        for of in batch:
            missing = [key for key in expected[of.id] if key not in held]
            if missing:
                cause = f"{len(missing)} of its lookup rows are absent"
                self._check.report("lookup-missing", of.id, cause, Mend("model", of.head.name))

    # --- hints ---------------------------------------------------------------------------------

    def _check_hints(self, batch: Sequence[Due]) -> None:
        if not batch:
            return
        for of in self._confirmed(batch[0].head, batch, self._stale_hints):
            subject, mend = f"versions row of {of.id}", Mend("model", of.head.name)
            self._check.report("hint-stale", subject, _NOT_SO, mend)

    def _stale_hints(self, _head: Head, batch: Sequence[Due]) -> list[Due]:
        wanted = {of.id: keys.version(of.head.name, of.number) for of in batch}
        held = self._ctx.stores.rows.get_many(keys.VERSIONS, list(wanted.values()))
        return [of for of in batch if held.get(wanted[of.id]) != version_hint(of)]

    def _stale_summaries(self, head: Head, names: Sequence[str]) -> list[str]:
        held = self._ctx.stores.rows.get(keys.MODELS, keys.model(head.name))
        try:
            fresh = encode(hints.model_hint(self._ctx, head, {}))
        except CorruptData:
            return []  # What is wrong with its head is reported with that version.
        return [] if held == fresh else list(names)

    # --- search --------------------------------------------------------------------------------

    def check_documents(self, batch: Sequence[Due]) -> None:
        """Compare what search holds with a fresh rendering."""
        if not batch:
            return
        self._check.count("documents", len(batch))
        for of in self._confirmed(batch[0].head, batch, self._stale_documents):
            cause = "search does not show what the log says"
            self._check.report("search-stale", of.id, cause, Mend("search", of.id))

    def _stale_documents(self, head: Head, batch: Sequence[Due]) -> list[Due]:
        assert self._targets is not None
        if batch and batch[0].head is not head:
            # Changes since may have touched these too, or edited them.
            newer = index.stale_since(self._ctx, head, batch[0].head.seq)
            seqs = {of.number: newer.get(of.number, of.seq) for of in batch}
            fresh = index.documents(self._ctx, head, seqs, {}, unreadable=[])
        else:
            fresh = due.render(self._ctx, batch, unreadable=[])
        held = self._held(self._targets.live, [of.id for of in batch])
        # What is unreadable is reported with its version.
        wrong = {
            document.id
            for document in fresh
            if held.get(document.id) != index.at_epoch(document, self._targets.epoch)
        }
        return [of for of in batch if of.id in wrong]

    def _held(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """What search holds; documents that cannot be read count as absent."""
        try:
            return index.held(self._ctx, target, ids, unreadable=[])
        except NotFound:
            self._targets = index.read_targets(self._ctx)
            if self._targets.live == target:
                raise
        return self._held(self._targets.live, ids)  # a re-index swapped targets meanwhile


def is_pending(ctx: Context, name: str) -> bool:
    """Whether an intent of this model is there, which owes hints and documents."""
    scan = ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range(name), limit=1)
    return next(iter(scan), None) is not None


def version_hint(of: Due) -> bytes:
    """The row of ``versions`` that leads to this version's entry."""
    return encode(VersionHint(of.published.entry.seq, of.published.entry.txid))


def lookup_keys(of: Due) -> list[bytes]:
    """The rows by which it is found."""
    change = of.published.entry.change
    assert isinstance(change, Published)
    return publish.lookup_keys(of.head.name, of.number, change.version)
