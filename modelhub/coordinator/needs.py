"""What versions need of a pack, chunk by chunk, as of one complete look at the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from modelhub.content.manifest import ChunkRef, Manifest
from modelhub.content.pack import read_trailer
from modelhub.coordinator import keys
from modelhub.coordinator.check_marks import CheckMarks
from modelhub.coordinator.check_packs import hold_packs, name_pins
from modelhub.coordinator.context import Context
from modelhub.coordinator.copies import Copies, whole
from modelhub.coordinator.log import models, open_row
from modelhub.errors import CorruptData
from modelhub.records import Address, PackRow, Published, Purged, VersionRecord, decode
from modelhub.stores import Row

_MOST_NAMED = 5


@dataclass
class Needed:
    """Chunks by digest, each with a place where it should be.

    ``is_all``: nothing that may need more was unreadable.
    """

    refs: dict[bytes, ChunkRef] = field(default_factory=dict)
    is_all: bool = True


class Needs:
    """A scan of intents, then the log, then rows of packs: in this order as a collector's."""

    def __init__(self, ctx: Context, marks: CheckMarks, copies: Copies) -> None:
        self._ctx = ctx
        self._marks = marks
        self._copies = copies
        self.is_whole = True
        marks.scan()
        name_pins(ctx, marks)
        found = ctx.stores.rows.scan(keys.LOG, *keys.log_from(""))
        for name, rows in models(found, self._unreadable):
            for number, version in self._published(rows):
                marks.need(name, number, version.packs)
        hold_packs(ctx, marks)

    def is_pinned(self, pack: str) -> bool:
        """Whether an attempt relies on a pack; to be asked before ``follow``."""
        return self._marks.is_named(pack)

    def follow(self) -> None:
        """Whoever needs a pack that moved needs its successors."""
        self._marks.inherit()

    def is_needed(self, pack: str) -> bool:
        """Whether a version does."""
        return bool(self._marks.users(pack))

    def of(self, pack: str) -> Needed:
        """What versions need of ``pack`` that it alone is to hold."""
        needed = Needed(is_all=self.is_whole)
        related = {pack} | self._marks.forebears(pack)
        there = self._held_by_successors(pack, related)
        seen: set[Address] = set()
        for _, version in self._needing(pack, related):
            if version.manifest in seen:
                continue
            seen.add(version.manifest)
            refs = [_blob(version.manifest)]
            manifest = self._manifest(version.manifest)
            if manifest is None:
                needed.is_all = False
            else:
                refs += [part for ref in manifest.every_chunk() for part in _parts(ref)]
            for ref in refs:
                if ref.pack in related and ref.digest not in there:
                    needed.refs.setdefault(ref.digest, ref)
        return needed

    def losses(self, pack: str, digests: set[bytes]) -> list[str]:
        """The files and versions that chunks belong to, some of many."""
        related = {pack} | self._marks.forebears(pack)
        found: list[str] = []
        for subject, version in self._needing(pack, related):
            manifest = self._manifest(version.manifest)
            if manifest is None or bytes.fromhex(version.manifest.digest) in digests:
                found.append(subject)
                continue
            for file in manifest.files:
                parts = (part for ref in manifest.chunks(file) for part in _parts(ref))
                if any(part.digest in digests for part in parts):
                    found.append(f"{subject} {file.path}")
        more = len(found) - _MOST_NAMED
        return found[:_MOST_NAMED] + ([f"{more:,} more"] if more > 0 else [])

    def _unreadable(self, _key: str, _exc: CorruptData) -> None:
        self.is_whole = False

    def _published(self, rows: Iterable[Row]) -> Iterator[tuple[int, VersionRecord]]:
        """The versions of one model that are not purged; what is purged is so further up."""
        purged: set[int] = set()
        for key, value in rows:
            try:
                change = open_row(key, value).entry.change
            except CorruptData:
                self.is_whole = False
                continue
            if isinstance(change, Purged):
                purged.update(change.numbers)
            elif isinstance(change, Published) and change.number not in purged:
                yield change.number, change.version

    def _needing(self, pack: str, related: set[str]) -> Iterator[tuple[str, VersionRecord]]:
        for model, first, last in self._marks.users(pack):
            rows = self._ctx.stores.rows.scan(keys.LOG, *keys.prefix(model))
            for number, version in self._published(rows):
                if first <= number <= last and related.intersection(version.packs):
                    yield f"{model}@{number}", version

    def _held_by_successors(self, pack: str, related: set[str]) -> set[bytes]:
        """What packs hold that these moved to, ``pack`` itself left out."""
        held: set[bytes] = set()
        seen, pending = set(related), list(related)
        while pending:
            row = self._marks.row(pending.pop())
            if row is None or row.state != "moved":
                continue
            successors = set(decode(row.value, PackRow, "a row").successors) - seen
            seen |= successors
            pending += successors
            for successor in successors - {pack}:
                try:
                    held.update(
                        one.digest for one in read_trailer(self._ctx.stores.weights, successor)
                    )
                except CorruptData:
                    continue
        return held

    def _manifest(self, address: Address) -> Manifest | None:
        """A version's manifest, from wherever it is whole."""
        ref = _blob(address)
        data = whole(self._ctx.reader, ref) or self._copies.find(ref.digest, ref.length)
        try:
            return None if data is None else Manifest.decode(bytes(data), "a manifest")
        except CorruptData:
            return None


def _blob(address: Address) -> ChunkRef:
    digest = bytes.fromhex(address.digest)
    return ChunkRef(digest, address.length, address.pack, address.offset, address.length)


def _parts(ref: ChunkRef) -> Iterator[ChunkRef]:
    yield ref
    if ref.base is not None:
        yield ref.base
