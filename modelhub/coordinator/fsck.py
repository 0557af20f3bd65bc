"""Checking a whole hub against its log, and the log against itself. Reads only.

Nothing found ends the check: what cannot be read is named, and the rest is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache, partial
from itertools import groupby
from typing import NamedTuple

from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import TrailerRecord, pack_path, read_trailer
from modelhub.content.read import placed
from modelhub.coordinator import hints, index, keys, publish, relatives, sweep, versions
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.log import Head, Sealed, entry_at, models, open_row
from modelhub.coordinator.state import SNAPSHOT_EVERY, apply, exists, is_purged, touched
from modelhub.coordinator.verify import Check, check_chunk
from modelhub.errors import CorruptData, NotFound
from modelhub.records import (
    Address,
    Edited,
    PackRow,
    Published,
    Purged,
    State,
    Targets,
    VersionHint,
    decode,
    encode,
)
from modelhub.results import Health
from modelhub.stores import Document, Row

_BATCH = 500
_AT_HAND = 32


class _Contents(NamedTuple):
    packs: tuple[str, ...]
    wrong: tuple[str, ...]


def check_hub(ctx: Context, *, data: bool, progress: Progress = ignore_progress) -> Health:
    """Check every model and pack; with ``data``, every byte of every pack in use.

    Raises:
        Unavailable: a store is away; a check that ends was complete.
    """
    return _HubCheck(ctx, data=data).run(progress)


class _HubCheck:
    """One check of a hub, with what it needs at more than one place."""

    def __init__(self, ctx: Context, *, data: bool) -> None:
        self.ctx = ctx
        self.check = Check(ctx)
        self._data = data
        self._bases: dict[bytes, ChunkRef] = {}
        self._targets: Targets | None = None
        # Versions of one model mostly share their packs, so a few trailers at hand are enough.
        self._trailer = lru_cache(_AT_HAND)(self._read_trailer)
        # So do versions that change no file: they have one manifest.
        self._manifest = lru_cache(_AT_HAND)(self._read_manifest)

    def run(self, progress: Progress) -> Health:
        self._targets = self._check_targets()
        packs: dict[str, str] = {}
        found = self.ctx.stores.rows.scan(keys.LOG, *keys.log_from(""))
        damaged = partial(self.check.report, "log-damaged")
        for done, (name, rows) in enumerate(models(found, damaged), 1):
            self.check.count("models")
            for pack in self._check_model(name, rows):
                packs.setdefault(pack, name)
            progress("fsck", done, 0)
        for done, pack in enumerate(sorted(packs), 1):
            self._check_pack(pack, f"pack {pack} (used by {packs[pack]})")
            progress("fsck packs", done, len(packs))
        self._check_intents()
        return self.check.health()

    def _check_model(self, name: str, rows: Iterable[Row]) -> Iterator[str]:
        """Check one model; the packs that its versions need."""
        log = _read_log(self.check, name, rows)
        state = _check_states(self.check, name, log)
        if state is None:
            # What the readable entries refer to is still worth knowing to be in use.
            purged = _purged(log)
            for sealed in log:
                change = sealed.entry.change
                if isinstance(change, Published) and change.number not in purged:
                    yield from change.version.packs
            return
        if not exists(state):
            return
        newest = log[-1]
        head = Head(
            name,
            newest.entry.seq,
            newest.digest,
            newest.entry.time,
            state,
            {sealed.entry.seq: sealed for sealed in log},
        )
        pending = self._is_pending(name)
        self._check_metadata(head, log)
        for sealed in log:
            change = sealed.entry.change
            # Of what is purged nothing has to be there any more.
            if isinstance(change, Published) and not is_purged(state, change.number):
                self.check.count("versions")
                self._check_version(head, change)
                yield from change.version.packs
        self._check_hints(head, pending=pending)
        if self._targets is not None and not pending:
            self._check_documents(head, self._targets)

    def _check_metadata(self, head: Head, log: Sequence[Sealed]) -> None:
        """The row that each version's newest publish or edit names."""
        named: dict[bytes, int] = {}
        for number, digest in _metadata_digests(log).items():
            if not is_purged(head.state, number):
                named[keys.metadata(head.name, number, digest)] = number
        held = self.ctx.stores.rows.get_many(keys.METADATA, list(named))
        for key, number in named.items():
            try:
                versions.open_metadata(key, held.get(key))
            except CorruptData as exc:
                self.check.report("metadata-damaged", f"{head.name}@{number}", exc)

    def _is_pending(self, name: str) -> bool:
        """Whether an intent of this model is there, which owes hints and documents."""
        scan = self.ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range(name), limit=1)
        return next(iter(scan), None) is not None

    def _check_version(self, head: Head, change: Published) -> None:
        subject = f"{head.name}@{change.number}"
        expected = publish.lookup_keys(head.name, change.number, change.version)
        missing = len(expected) - len(self.ctx.stores.rows.get_many(keys.LOOKUP, expected))
        if missing:
            self.check.report("lookup-missing", subject, f"{missing} of its lookup rows are absent")
        found = self._manifest(change.version.manifest)
        if isinstance(found, CorruptData):
            self.check.report("manifest-damaged", subject, found)
        elif not {*found.packs, change.version.manifest.pack} <= set(change.version.packs):
            cause = "it takes packs that its log entry does not name"
            self.check.report("manifest-damaged", subject, cause)
        else:
            for pack in found.wrong:
                cause = f"it does not hold what {subject} needs where it should"
                self.check.report("pack-damaged", f"pack {pack} (used by {head.name})", cause)

    def _read_manifest(self, address: Address) -> _Contents | CorruptData:
        """What a manifest needs, and which packs do not hold it, by what they say of themselves."""
        try:
            manifest = relatives.manifest_at(self.ctx, address)
        except CorruptData as exc:
            return exc
        wrong = []
        chunks = manifest.every_chunk() if self._data else []
        bases = {ref.base.digest: ref.base for ref in chunks if ref.base is not None}
        self._bases |= bases
        # Pack by pack, so that each trailer is read once however many packs there are.
        by_pack = sorted([*chunks, *bases.values()], key=lambda ref: ref.pack)
        for pack, refs in groupby(by_pack, key=lambda ref: ref.pack):
            held = self._trailer(pack)
            # One that has no trailer is reported with its pack.
            if held is not None and not all(_is_held(held, ref) for ref in refs):
                wrong.append(pack)
        return _Contents(manifest.packs(), tuple(wrong))

    def _read_trailer(self, pack: str) -> dict[bytes, TrailerRecord] | None:
        try:
            return {record.digest: record for record in read_trailer(self.ctx.stores.weights, pack)}
        except CorruptData:
            return None

    def _check_hints(self, head: Head, *, pending: bool) -> None:
        rows = self.ctx.stores.rows
        expected = {
            keys.version(head.name, sealed.entry.change.number): encode(
                VersionHint(sealed.entry.seq, sealed.entry.txid)
            )
            for sealed in head.recent.values()
            if isinstance(sealed.entry.change, Published)
        }
        held = rows.get_many(keys.VERSIONS, list(expected))
        stale = [key for key, value in expected.items() if held.get(key) != value]
        summary = rows.get(keys.MODELS, keys.model(head.name))
        self._check_end(head)
        try:
            fresh: bytes | None = encode(hints.model_hint(self.ctx, head, {}))
        except CorruptData:
            fresh = summary  # What is wrong with its head is reported with that version.
        if pending or ((stale or summary != fresh) and self._has_moved_on(head)):
            return
        for key in stale:
            number = int(key.decode().split("\0")[1])
            subject = f"versions row of {head.name}@{number}"
            self.check.report("hint-stale", subject, "it is absent, or not what the log says")
        if summary != fresh:
            subject = f"models row of {head.name}"
            self.check.report("hint-stale", subject, "it is absent, or not what the log says")

    def _check_end(self, head: Head) -> None:
        """Whether the log once was longer: its own rows cannot tell, but those of versions may."""
        first, stop = keys.version(head.name, head.state.next), keys.prefix(head.name)[1]
        beyond = [key for key, _ in self.ctx.stores.rows.scan(keys.VERSIONS, first, stop)]
        if beyond and not self._has_moved_on(head):
            cause = f"{len(beyond)} more versions were published once; their entries are missing"
            self.check.report("log-broken", f"{head.name} entry {head.seq + 1}", cause)

    def _has_moved_on(self, head: Head) -> bool:
        """Whether entries came since the log was read: hints and documents may show them."""
        try:
            following = entry_at(self.ctx.stores.rows, head.name, head.seq + 1)
        except CorruptData:
            return False  # It is reported as damaged, or will be.
        return following is not None and following.entry.previous == head.digest

    def _check_targets(self) -> Targets | None:
        """The registered targets, each of which has to be there; None where search has none."""
        try:
            targets, absent = self._listed()
        except (CorruptData, NotFound) as exc:
            self.check.report("search-missing", "the search index", exc)
            return None
        if targets.layout != index.LAYOUT:
            cause = f"its documents are of form {targets.layout}; this release knows {index.LAYOUT}"
            self.check.report("search-stale", f"search target {targets.live}", cause)
            return None
        for target in sorted(absent):
            self.check.report("search-missing", f"search target {target}", "it is not there")
        return targets if targets.live not in absent else None

    def _listed(self) -> tuple[Targets, set[str]]:
        """The registered targets, and those of them that are not there."""
        targets = index.read_targets(self.ctx)
        there = set(self.ctx.stores.search.targets())
        again = index.read_targets(self.ctx)
        if again != targets:
            return self._listed()  # a re-index changed them meanwhile
        return targets, set(targets.targets) - there

    def _check_documents(self, head: Head, targets: Targets) -> None:
        """Compare what search holds of a model with a fresh rendering."""
        newest: dict[int, int] = {}
        for seq in sorted(head.recent):
            newest.update(dict.fromkeys(touched(head.recent[seq].entry.change), seq))
        # What is unreadable is reported with its version.
        fresh = index.documents(self.ctx, head, newest, {}, unreadable=[])
        for start in range(0, len(fresh), _BATCH):
            batch = fresh[start : start + _BATCH]
            self.check.count("documents", len(batch))
            held = self._held(targets.live, [document.id for document in batch])
            stale = [
                document.id
                for document in batch
                if held.get(document.id) != index.at_epoch(document, targets.epoch)
            ]
            if stale and self._has_moved_on(head):
                return
            for one in stale:
                self.check.report("search-stale", one, "search does not show what the log says")

    def _held(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """What search holds; documents that cannot be read count as absent."""
        try:
            return index.held(self.ctx, target, ids, unreadable=[])
        except NotFound:
            self._targets = index.read_targets(self.ctx)
            if self._targets.live == target:
                raise
        return self._held(self._targets.live, ids)  # a re-index swapped targets meanwhile

    def _check_pack(self, pack: str, subject: str) -> None:
        check, weights = self.check, self.ctx.stores.weights
        check.count("packs")
        value = self.ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
        if value is None:
            check.report("pack-missing", subject, "it has no row")
            return
        try:
            row = decode(value, PackRow, "its row")
        except CorruptData as exc:
            check.report("pack-damaged", subject, exc)
            return
        size = weights.size(pack_path(pack))
        if row.state == "moved":
            for successor in row.successors:
                self._check_pack(successor, subject)
        elif row.state not in {"live", "condemned"}:
            check.report("pack-missing", subject, f"its row says {row.state}")
        elif size is None:
            check.report("pack-missing", subject, "its file is absent")
        elif size != row.size_bytes:
            cause = f"its file has {size:,} bytes; {row.size_bytes:,} were written"
            check.report("pack-damaged", subject, cause)
        elif self._data:
            self._check_pack_bytes(pack, subject)

    def _check_pack_bytes(self, pack: str, subject: str) -> None:
        try:
            records = read_trailer(self.ctx.stores.weights, pack)
        except (CorruptData, NotFound) as exc:
            self.check.report("pack-damaged", subject, exc)
            return
        for record in records:
            base = None if record.base is None else self._bases.get(record.base)
            if record.base is not None and base is None:
                continue  # Of no version any more: what it was a difference from may be gone.
            check_chunk(self.check, placed(pack, record, base), subject)

    def _check_intents(self) -> None:
        """An attempt whose lease is long over should have been swept."""
        now = self.ctx.clock.now()
        grace = timedelta(seconds=self.ctx.patience.grace_s)

        def unreadable(exc: CorruptData) -> None:
            self.check.report("intent-damaged", exc.message, "it cannot be read")

        for name, attempts in sweep.remains(self.ctx, unreadable):
            for attempt in attempts:
                self.check.count("intents")
                if attempt.intent is not None and now > attempt.lease + 2 * grace:
                    cause = f"its lease ended at {attempt.lease.isoformat()}"
                    self.check.report("intent-overdue", f"{name} {attempt.txid}", cause)


def _is_held(held: Mapping[bytes, TrailerRecord], ref: ChunkRef) -> bool:
    record = held.get(ref.digest)
    return record is not None and (record.offset, record.stored) == (ref.offset, ref.stored)


def _purged(log: Iterable[Sealed]) -> set[int]:
    """The versions that any entry purges."""
    changes = (sealed.entry.change for sealed in log)
    return {number for change in changes if isinstance(change, Purged) for number in change.numbers}


def _metadata_digests(log: Iterable[Sealed]) -> dict[int, str]:
    """Each version's metadata as the whole log, oldest first, leaves it."""
    digests: dict[int, str] = {}
    for sealed in log:
        match sealed.entry.change:
            case Published(number=number, version=version):
                digests[number] = version.metadata
            case Edited(number=number, metadata=digest):
                digests[number] = digest
    return digests


def _read_log(check: Check, name: str, rows: Iterable[Row]) -> list[Sealed]:
    """The readable entries, oldest first."""
    log = []
    for key, value in rows:
        check.count("entries")
        try:
            log.append(open_row(key, value))
        except CorruptData as exc:
            seq = keys.parse_log(key)[1]
            check.report("log-damaged", f"{name} entry {seq}", exc)
    return log[::-1]


def _check_states(check: Check, name: str, log: Sequence[Sealed]) -> State | None:
    """The state after the last entry; None where the log does not add up, which is reported."""
    state = State()
    previous: Sealed | None = None
    for sealed in log:
        entry = sealed.entry
        before = previous.entry.seq if previous else 0
        cause = ""
        if entry.seq != before + 1:
            cause = f"entries {before + 1} to {entry.seq - 1} are missing or unreadable"
        elif previous and entry.previous != previous.digest:
            cause = "it does not name its predecessor's digest"
        elif previous and entry.time < previous.entry.time:
            cause = "its time is before its predecessor's"
        elif isinstance(entry.change, Published) and entry.change.number != state.next:
            cause = f"it publishes version {entry.change.number} where {state.next} is next"
        if not cause:
            state = apply(state, entry.change)
            if entry.seq % SNAPSHOT_EVERY == 0 and entry.state != state:
                cause = "the state it carries is not what the log adds up to"
        if cause:
            check.report("log-broken", f"{name} entry {entry.seq}", cause)
            return None
        previous = sealed
    return state
