"""Checking packs: their rows, their files, and, where asked for, the bytes inside.

Rows and files are listed before intents, and those before the log. What looks wrong by these lists
is looked at once more before it is reported: others push, collect and repair meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from typing import NamedTuple

from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import (
    TrailerRecord,
    is_pack_id,
    pack_path,
    read_trailer,
    trash_path,
)
from modelhub.content.read import Places, moved_to, placed
from modelhub.coordinator import keys, relatives
from modelhub.coordinator.check_marks import CheckMarks
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.due import Due
from modelhub.coordinator.findings import Check, Mend
from modelhub.coordinator.log import read_head
from modelhub.coordinator.marks import DAMAGED, Marks
from modelhub.coordinator.packs import elsewhere, hinted_chunk
from modelhub.coordinator.state import is_purged
from modelhub.errors import CorruptData, NotFound
from modelhub.records import Address, PackRow, Published, VersionRecord, decode

_AT_HAND = 8
_LOOKS = 3
_BATCH = 5000
_MANIFESTS = 32

Choice = Callable[[bytes], bool]
"""Whether a chunk, by its digest, is among those whose bytes are to be read."""


class _Contents(NamedTuple):
    """What a manifest says of itself."""

    packs: tuple[str, ...]
    content: str
    wrong: tuple[str, ...]


class _Held(NamedTuple):
    """What a pack says it holds: its own chunks, each as ``_spot``, or those that it moved."""

    moved: Places
    own: frozenset[tuple[bytes, int, int]] | None

    def has(self, ref: ChunkRef) -> bool:
        """Whether a chunk can be had where it should be."""
        if self.own is None:
            return moved_to(self.moved, ref) is not None
        return _spot(ref) in self.own


def _spot(of: ChunkRef | TrailerRecord) -> tuple[bytes, int, int]:
    return of.digest, of.offset, of.stored


class PackCheck:
    """Checks the packs of one hub.

    ``chosen`` is None where no bytes inside packs are to be looked at; ``spend`` is told of every
    byte read of them, and may wait.
    """

    def __init__(
        self, check: Check, marks: CheckMarks, chosen: Choice | None, spend: Callable[[int], None]
    ) -> None:
        self._check = check
        self._ctx: Context = check.ctx
        self._marks = marks
        self._chosen = chosen
        self._spend = spend
        # Versions of one model mostly share their packs, so a few trailers at hand are enough.
        self._trailer = lru_cache(_AT_HAND)(self._read_trailer)
        # So do versions that change no file: they have one manifest.
        self._manifest = lru_cache(_MANIFESTS)(self._read_manifest)

    def list_all(self) -> None:
        """List files, rows and pins; to be called before the log is read."""
        for info in self._ctx.stores.weights.list("packs"):
            pack = info.path.rpartition("/")[2]
            # What else somebody put there is not ours.
            if is_pack_id(pack) and info.path == pack_path(pack):
                self._marks.file(pack, info.size_bytes)
        hold_packs(self._ctx, self._marks)
        name_pins(self._ctx, self._marks)

    # --- what versions need --------------------------------------------------------------------

    def use(self, of: Due) -> None:
        """Note the packs that a version needs."""
        self._marks.need(of.head.name, of.number, _version(of).packs)

    def need(self, of: Due) -> None:
        """The same, and check its manifest."""
        self.use(of)
        version = _version(of)
        found = self._manifest(version.manifest)
        if isinstance(found, CorruptData):
            # Where its pack is at fault, that one's mend is this one's.
            mend = Mend("content", version.manifest.pack)
            self._report(of, "manifest-damaged", of.id, found, mend)
        elif not {*found.packs, version.manifest.pack} <= set(version.packs):
            cause = "it takes packs that its log entry does not name"
            self._report(of, "manifest-damaged", of.id, cause)
        elif found.content != version.content:
            self._report(of, "manifest-damaged", of.id, "its files are not those of its entry")
        else:
            for pack in found.wrong:
                cause = f"it does not hold what {of.id} needs where it should"
                subject = f"pack {pack} (used by {of.head.name})"
                self._report(of, "pack-damaged", subject, cause, Mend("content", pack))

    def _report(
        self, of: Due, kind: str, subject: str, cause: object, mend: Mend | None = None
    ) -> None:
        """Report what a version lacks, unless it was purged meanwhile."""
        if not self._is_purged_now(of.head.name, of.number, of.number):
            self._check.report(kind, subject, cause, mend)

    def _read_manifest(self, address: Address) -> _Contents | CorruptData:
        """What a manifest needs, and which packs do not hold it, by what they say of themselves."""
        try:
            manifest = relatives.manifest_at(self._ctx, address)
        except CorruptData as exc:
            return exc
        wrong = []
        chunks = [] if self._chosen is None else manifest.every_chunk()
        bases = {ref.base.digest: ref.base for ref in chunks if ref.base is not None}
        self._marks.note_bases(bases.values())
        # Pack by pack, so that each trailer is read once however many packs there are.
        by_pack = sorted([*chunks, *bases.values()], key=lambda ref: ref.pack)
        for pack, refs in groupby(by_pack, key=lambda ref: ref.pack):
            held = self._trailer(pack)
            # One that has no trailer is reported with its pack.
            if held is not None and not all(map(held.has, refs)):
                wrong.append(pack)
        return _Contents(manifest.packs(), manifest.content_digest(), tuple(wrong))

    def _read_trailer(self, pack: str) -> _Held | None:
        """Where the chunks of a pack lie, by its own trailer, or its successors'."""
        row = self._marks.row(pack)
        try:
            if row is not None and row.state == "moved":
                return _Held(elsewhere(self._ctx.stores, pack).places, None)
            records = read_trailer(self._ctx.stores.weights, pack)
        except CorruptData:
            return None
        return _Held({}, frozenset(_spot(record) for record in records))

    # --- rows and files ------------------------------------------------------------------------

    def check_needed(self, progress: Progress) -> None:
        """The rows and files of every pack that a version needs."""
        self._marks.inherit()
        total = self._marks.count_used()
        for done, (pack, model) in enumerate(self._marks.used(), 1):
            self._check.count("packs")
            self._check_row(pack, f"pack {pack} (used by {model})")
            progress("fsck packs", done, total)

    def _check_row(self, pack: str, subject: str) -> None:
        held = self._marks.row(pack)
        value = None if held is None else held.value
        wrong = self._trouble(pack, value)
        for _ in range(_LOOKS):
            if wrong is None:
                return
            fresh = self._ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
            if fresh == value:
                break
            value, wrong = fresh, self._trouble(pack, fresh)
        if wrong is not None and self._is_needed(pack):
            self._check.report(wrong[0], subject, wrong[1], Mend("pack", pack))

    def _trouble(self, pack: str, value: bytes | None) -> tuple[str, object] | None:
        """Kind and cause of what is wrong with a pack that a version needs."""
        if value is None:
            there = self._ctx.stores.weights.size(pack_path(pack)) is not None
            return "pack-missing", f"it has no row; its file is {'there' if there else 'absent'}"
        try:
            row = decode(value, PackRow, "its row")
        except CorruptData as exc:
            return "pack-damaged", exc
        if row.state == "moved":
            return ("pack-missing", _NOWHERE) if self._is_circle(pack) else None
        if row.state in {"deleting", "gone"}:
            return "pack-missing", f"its row says {row.state}; {self._in_trash(pack, row)}"
        return self._trouble_of_file(pack, row)

    def _trouble_of_file(self, pack: str, row: PackRow) -> tuple[str, object] | None:
        size = self._marks.file_size(pack)
        if size != row.size_bytes:
            size = self._ctx.stores.weights.size(pack_path(pack))
        if size is None:
            return "pack-missing", "its file is absent"
        if size != row.size_bytes:
            return "pack-damaged", f"its file has {size:,} bytes; {row.size_bytes:,} were written"
        if row.state == "condemned":
            return "pack-condemned", "it is about to be collected, and a version needs it"
        return None

    def _is_circle(self, pack: str) -> bool:
        """Whether rows lead from a pack to none that holds chunks itself."""
        seen, pending = {pack}, [pack]
        while pending:
            value = self._ctx.stores.rows.get(keys.PACKS, keys.pack(pending.pop()))
            try:
                row = None if value is None else decode(value, PackRow, "a row")
            except CorruptData:
                return False  # reported itself
            if row is None or row.state != "moved":
                return False
            pending += set(row.successors) - seen
            seen.update(row.successors)
        return True

    def _in_trash(self, pack: str, row: PackRow) -> str:
        weights = self._ctx.stores.weights
        if weights.size(pack_path(pack)) is not None:
            return "its file is still in its place"
        try:
            there = bool(row.trash) and weights.size(trash_path(row.trash)) is not None
        except CorruptData:
            there = False
        return f"its file is still in trash/{row.trash}" if there else "its file is gone"

    def _is_needed(self, pack: str) -> bool:
        """Whether one of the versions that needed a pack does so now, as far as can be read."""
        users = self._marks.users(pack)
        return not all(self._is_purged_now(*user) for user in users)

    def _is_purged_now(self, model: str, first: int, last: int) -> bool:
        try:
            state = read_head(self._ctx.stores.rows, model).state
        except CorruptData:
            return False
        return all(is_purged(state, number) for number in range(first, last + 1))

    def check_unneeded(self, *, whole: bool) -> None:
        """Rows and files that no version needs. ``whole``: all logs could be read."""
        for state in ("live", "condemned", DAMAGED):
            for held in self._marks.rows(state):
                pack = held.pack
                if self._marks.users(pack):
                    continue
                subject = f"pack {pack}"
                if state == DAMAGED:
                    mend = Mend("pack", pack)
                    self._check.report("pack-damaged", subject, "its row cannot be read", mend)
                elif whole and self._marks.file_size(pack) is None and self._is_absent(pack):
                    cause = f"its row says {state}, and its file is absent"
                    self._check.report("pack-unused", subject, cause)
        if not whole:
            return  # nobody knows what belongs to what could not be read
        for pack, size_bytes in self._marks.orphans():
            row = self._ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
            if row is None and not self._is_absent(pack):
                cause = f"a file of {size_bytes:,} bytes that has no row; a push was broken off"
                self._check.report("pack-orphan", f"pack {pack}", cause)

    def _is_absent(self, pack: str) -> bool:
        return not is_pack_id(pack) or self._ctx.stores.weights.size(pack_path(pack)) is None

    # --- bytes ---------------------------------------------------------------------------------

    def check_bytes(self, after: str, progress: Progress) -> Iterator[tuple[str, int, bool]]:
        """Read the chunks of every pack behind ``after`` that a version needs, in key order.

        Yields each pack that was looked at, how many bytes of it, and whether all was well.
        """
        total = self._marks.count_used()
        for done, (pack, model) in enumerate(self._marks.used(after=after), 1):
            subject = f"pack {pack} (used by {model})"
            yield (pack, *self.check_chunks(pack, subject))
            progress("fsck data", done, total)

    def check_chunks(self, pack: str, subject: str) -> tuple[int, bool]:
        """How many bytes were read of a pack that holds chunks, and whether all was well."""
        value = self._ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
        size = self._ctx.stores.weights.size(pack_path(pack))
        if value is None or self._chosen is None or self._trouble_in(value, size):
            return 0, True  # reported, or looked for in its successors
        mend = Mend("content", pack)
        try:
            records = read_trailer(self._ctx.stores.weights, pack)
        except (CorruptData, NotFound) as exc:
            if self._is_needed(pack):
                self._check.report("pack-damaged", subject, exc, mend)
            return 0, False
        self._check_chunk_rows(pack, records)
        refs = [ref for ref in self._refs(pack, records) if self._chosen(ref.digest)]
        well, read = True, 0
        for ref, intact in zip(refs, self._ctx.reader.intact(refs), strict=True):
            self._spend(ref.stored)
            read += ref.stored
            if intact:
                self._check.count("chunks")
            elif self._is_needed(pack):
                well = self._check.chunk(ref, subject, mend) and well
        return read, well

    def _trouble_in(self, value: bytes, size: int | None) -> bool:
        try:
            row = decode(value, PackRow, "a row")
        except CorruptData:
            return size is None
        return row.state not in {"live", "condemned"} or size != row.size_bytes

    def _refs(self, pack: str, records: Iterable[TrailerRecord]) -> Iterator[ChunkRef]:
        for record in records:
            base = None if record.base is None else self._marks.base(record.base)
            if record.base is not None and base is None:
                continue  # Of no version any more: what it was a difference from may be gone.
            yield placed(pack, record, base)

    def _check_chunk_rows(self, pack: str, records: Sequence[TrailerRecord]) -> None:
        """Rows of ``chunks`` that name this pack, but a place where the chunk is not."""
        spots = {_spot(record) for record in records}  # a pack may hold one chunk twice
        rest = iter(records)
        while batch := list(islice(rest, _BATCH)):
            found = self._ctx.stores.rows.get_many(
                keys.CHUNKS, [keys.chunk(record.digest) for record in batch]
            )
            for key, value in found.items():
                ref = _hinted(key, value)
                if ref is not None and ref.pack == pack and _spot(ref) not in spots:
                    cause = f"it names another place in pack {pack} than the pack does"
                    mend = Mend("chunk rows", pack, key)
                    self._check.report("chunk-row-stray", f"chunks row {key.decode()}", cause, mend)

    # --- rows of chunks ------------------------------------------------------------------------

    def check_chunk_rows(self, progress: Progress) -> None:
        """Rows of ``chunks`` that cannot be read, or lead to packs that hold nothing any more."""
        found = self._ctx.stores.rows.scan(keys.CHUNKS, b"\0", b"\xff")
        for done, (key, value) in enumerate(found, 1):
            self._check.count("chunk rows")
            ref = _hinted(key, value)
            if ref is None:
                subject = f"chunks row {key.decode(errors='replace')[:80]!r}"
                mend = Mend("chunk rows", "", key)
                self._check.report("chunk-row-stray", subject, "it says nothing of use", mend)
            else:
                self._marks.doubt(pack for pack in ref.packs() if not self._holds(pack))
            if done % _BATCH == 0:
                progress("fsck chunks", done, 0)
        doubts = list(self._marks.doubts())
        if doubts:
            # Whoever registered one meanwhile has its row by now, or a pin.
            name_pins(self._ctx, self._marks)
        for pack, count in doubts:
            row = self._ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
            if self._marks.is_named(pack) and row is None:
                continue
            state = _state(row)
            if state in _LEAD_NOWHERE:
                cause = f"{count:,} rows lead to it, which {_LEAD_NOWHERE[state]}"
                mend = Mend("chunk rows", pack)
                self._check.report("chunk-row-stray", f"chunks rows of pack {pack}", cause, mend)

    def _holds(self, pack: str) -> bool:
        held = self._marks.row(pack)
        return held is not None and held.state not in _LEAD_NOWHERE


_NOWHERE = "its row says moved, and leads nowhere"
_LEAD_NOWHERE = {"": "has no row", "deleting": "is being deleted", "gone": "is gone"}


def _version(of: Due) -> VersionRecord:
    change = of.published.entry.change
    assert isinstance(change, Published)
    return change.version


def hold_packs(ctx: Context, marks: Marks) -> None:
    """Note the row of every pack; one that cannot be read is held as ``DAMAGED``."""
    for key, value in ctx.stores.rows.scan(keys.PACKS, b"\0", b"\xff"):
        pack = key.decode(errors="replace")
        try:
            row: PackRow | None = decode(value, PackRow, f"the row of pack {pack}")
        except CorruptData:
            row = None
        marks.hold(pack, row, value)


def name_pins(ctx: Context, marks: Marks) -> None:
    """Name every pack that an attempt relies on."""
    for key, _ in ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range()):
        try:
            _, _, pack = keys.parse_intent(key)
        except CorruptData:
            continue
        if pack is not None:
            marks.name([pack], "")


def _state(value: bytes | None) -> str:
    try:
        return "" if value is None else decode(value, PackRow, "a row").state
    except CorruptData:
        return DAMAGED


def _hinted(key: bytes, value: bytes) -> ChunkRef | None:
    try:
        return hinted_chunk(bytes.fromhex(key.decode()), value)
    except ValueError:
        return None
