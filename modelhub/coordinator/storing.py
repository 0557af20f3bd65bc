"""Getting a push's bytes into packs: dedupe, pins, new packs, registration.

The order is the protocol's: a pack that is reused, or holds the base of a difference, is pinned and
*then* its row is read; a new pack's name is pinned and *then* its file is created; the row is
registered once the file is complete. A pin counts when it was acknowledged or read back.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from blake3 import blake3

from modelhub.content.bases import Bases
from modelhub.content.encoder import EncodedPiece, Encoder, StoragePolicy
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
from modelhub.content.pack import (
    PACK_TARGET_BYTES,
    RAW,
    PackWriter,
    TrailerRecord,
    new_pack_id,
    read_trailer,
)
from modelhub.content.read import Places
from modelhub.content.stored_file import StoredSource
from modelhub.content.tree import Source
from modelhub.content.windows import NamedPiece, windows
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.packs import chunk_hint, hinted_chunk, now_at, register, standing
from modelhub.coordinator.transaction import Attempt
from modelhub.errors import AlreadyExists, CorruptData, ModelhubError, OutcomeUnknown, Unavailable
from modelhub.records import Address
from modelhub.stores import NoSpace

_HINT_BATCH = 5000
_LARGE_PACK_BYTES = 64 << 20
"""From here on a pack is worth an effort to be found by the push that follows a broken-off one."""
_MOST_REUSED, _REUSED_OF_MORE = 4000, 2000
"""Earlier packs: a version's entry names each, and a row has 256 KiB. Where a predecessor needs
more, half as many are reused, and what lies in the others is stored anew, together."""
_PACK_TRIES = 4
_PACK_PAUSE_S = 0.5
"""Doubled before each try: 7 s in all, since HDFS goes on naming a dead DataNode for about 5 s."""


class PackRefused(Exception):
    """A pack of this push can no longer be relied on: what it holds is to be stored anew."""


class _PackLost(Exception):
    """The pack being written cannot be completed: what was in it goes into another."""

    def __init__(self, cause: ModelhubError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True)
class Stored:
    """A push's content: manifest, where it lies, every pack it needs, and what was new of it.

    ``new_bytes`` is what the new chunks take in their packs. ``known``: not one chunk of the files
    was new.
    """

    manifest: Manifest
    address: Address
    packs: tuple[str, ...]
    new_bytes: int
    known: bool


class Storing:
    """One push's chunks, through all its rebases.

    ``trusted`` are manifests of versions that the log names, the parent's first: the places in them
    need no proof, and new chunks may become differences from theirs. A place from the ``chunks``
    table is a hint and is believed only when its bytes hash to the chunk's name.
    """

    def __init__(
        self,
        ctx: Context,
        attempt: Attempt,
        trusted: Sequence[Manifest],
        policy: StoragePolicy,
    ) -> None:
        self._ctx = ctx
        self._attempt = attempt
        self._policy = policy
        self._bases = Bases(ctx.reader, trusted)
        self._trusted = {
            ref.digest: ref for manifest in reversed(trusted) for ref in manifest.every_chunk()
        }
        self._placed: dict[bytes, ChunkRef] = {}
        self._scattered = _scattered(self._trusted.values())
        self._proven: set[ChunkRef] = set()
        self._coming: set[bytes] = set()
        self._live: set[str] = set()
        self._refused: set[str] = set()
        self._moved: dict[str, Places] = {}
        self._own: set[str] = set()
        self._writer: PackWriter | None = None
        self._next_pack: str | None = None
        self._open_pack = ""
        self._unhinted: list[ChunkRef] = []
        self._new_bytes = 0

    def store(
        self, sources: Sequence[Source], manifests: Sequence[Address], progress: Progress
    ) -> Stored:
        """Store what is not stored yet of ``sources``.

        ``manifests`` is where those lie that the new one may be equal to. Where a pack cannot be
        completed (a DataNode died, say), the files are read again, and what that pack had goes into
        another.

        Raises:
            Conflict: a file changed while it was read.
            PackRefused: a new pack was claimed by a collector; begin again.
            Unavailable: a store is away or full.
        """
        attempt, completed = 1, 0
        while True:
            try:
                return self._store(sources, manifests, progress)
            except _PackLost as lost:
                self._drop_pack()
                if len(self._own) > completed:  # it went on since the last one was lost
                    attempt, completed = 1, len(self._own)
                if attempt == _PACK_TRIES:
                    raise lost.cause from lost
            except KeyboardInterrupt:
                try:
                    self._keep_pack()
                finally:
                    self._drop_pack()
                raise
            except BaseException:
                self._drop_pack()
                raise
            self._ctx.pause(_PACK_PAUSE_S * 2**attempt)
            attempt += 1

    def _store(
        self, sources: Sequence[Source], manifests: Sequence[Address], progress: Progress
    ) -> Stored:
        adopted = self._adopted(sources)
        total = sum(source.size_bytes for source in sources)
        done = sum(source.size_bytes for source in sources if source.path in adopted)
        read = [source for source in sources if source.path not in adopted]
        cutters: list[str] = []
        digests: list[list[bytes]] = [[] for _ in read]
        written: list[Future[list[EncodedPiece]]] = []
        with (
            Encoder(self._ctx.reader, self._policy) as encoder,
            contextlib.closing(windows(read, cutters, sources)) as found,
        ):
            for window in found:
                for piece in window:
                    digests[piece.index].append(piece.digest)
                # The last window's new pieces are written while those of this one are encoded.
                coming = encoder.begin(self._fresh(window, read, bases=encoder.wants_bases))
                self._write_all(written)
                written = coming
                done += sum(len(piece.data) for piece in window)
                progress("push", done, total)
                self._attempt.renew()
            self._write_all(written)
        builder = ManifestBuilder()
        for source, cutter, names in zip(read, cutters, digests, strict=True):
            adopted[source.path] = cutter, [self._placed[digest] for digest in names]
        for source in sources:
            builder.add_file(source.path, source.size_bytes, source.mode, *adopted[source.path])
        data = builder.encode()
        manifest = Manifest.decode(data, "the new manifest")
        address = self._store_manifest(data, manifests)
        self._close_pack()
        packs = tuple(sorted({*manifest.packs(), address.pack}))
        known = self._new_bytes in (0, address.length * (address.pack in self._own))
        return Stored(manifest, address, packs, self._new_bytes, known)

    def _adopted(self, sources: Sequence[Source]) -> dict[str, tuple[str, list[ChunkRef]]]:
        """Cutter and chunks of those files that are stored already and need not even be read."""
        stored = {
            source.path: (source.file.cutter, source.manifest.chunks(source.file))
            for source in sources
            if isinstance(source, StoredSource)
        }
        if not stored:
            return {}
        packs = {pack for _, refs in stored.values() for ref in refs for pack in ref.packs()}
        self._rely_on(packs, new_needed=False)
        now = {
            path: (cutter, [now_at(self._moved, ref) for ref in refs])
            for path, (cutter, refs) in stored.items()
        }
        return {
            path: (cutter, refs)
            for path, (cutter, refs) in now.items()
            if all(map(self._is_usable, refs))
        }

    def rebind(self, attempt: Attempt, packs: Sequence[str]) -> None:
        """Go over to a new attempt: all packs are pinned and their rows read again, own ones too.

        Raises:
            PackRefused: one of them cannot be had any more.
        """
        attempt.announce(packs)
        self._attempt = attempt
        lost = set(packs) - standing(self._ctx, packs).live
        if lost:
            raise PackRefused(", ".join(sorted(lost)))

    def put_hints(self) -> None:
        """Put the hints of the chunks in closed packs: the last pack's come after the commit."""
        hints = {keys.chunk(ref.digest): chunk_hint(ref) for ref in self._unhinted}
        pairs = list(hints.items())
        for start in range(0, len(pairs), _HINT_BATCH):
            batch = dict(pairs[start : start + _HINT_BATCH])
            self._ctx.stores.rows.put_many(keys.CHUNKS, batch)
        self._unhinted = []

    def _fresh(
        self, window: Sequence[NamedPiece], sources: Sequence[Source], *, bases: bool
    ) -> list[tuple[NamedPiece, ChunkRef | None]]:
        """The pieces of ``window`` that have no place yet, and what each may be a difference from.

        Finds what is stored already; pins the packs, then reads their rows, then believes.
        """
        unknown = {
            piece.digest: piece
            for piece in window
            if piece.digest not in self._placed and piece.digest not in self._coming
        }
        trusted = {d: self._trusted[d] for d in unknown if d in self._trusted}
        hinted = self._hints(unknown.keys() - trusted.keys())
        # Of another length it is wrong, and reading what it says could take any amount of memory.
        fitting = {d: ref for d, ref in hinted.items() if ref.length == len(unknown[d].data)}
        candidates = {**fitting, **trusted}
        based = {
            digest: self._bases.find(sources[piece.index].path, piece.part, len(piece.data))
            for digest, piece in unknown.items()
            if bases and digest not in candidates
        }
        self._rely_on(
            {
                pack
                for ref in (*candidates.values(), *based.values())
                if ref
                for pack in ref.packs()
            },
            new_needed=self._writer is None and len(candidates) < len(unknown),
        )
        now = [now_at(self._moved, ref) for ref in candidates.values()]
        usable = [ref for ref in now if self._is_usable(ref)]
        self._prove([ref for ref in usable if ref.digest not in trusted])
        for ref in usable:
            if ref.digest in trusted or ref in self._proven:
                self._placed[ref.digest] = ref
        fresh = [piece for digest, piece in unknown.items() if digest not in self._placed]
        self._coming.update(piece.digest for piece in fresh)
        found = [(piece, based.get(piece.digest)) for piece in fresh]
        found = [(piece, base and now_at(self._moved, base)) for piece, base in found]
        return [(piece, base if base and self._is_usable(base) else None) for piece, base in found]

    def _rely_on(self, packs: set[str], *, new_needed: bool) -> None:
        """Pin packs, with a new one's name where one is needed, and see which may be relied on."""
        known = self._live | self._refused | self._own | self._moved.keys()
        unsure = packs - known - self._scattered
        fresh = [self._begin_pack()] if new_needed and self._next_pack is None else []
        self._attempt.announce([*unsure, *fresh])
        found = standing(self._ctx, unsure)
        self._live |= found.live
        self._refused |= unsure - found.live - found.moved.keys()
        self._follow(found.moved)

    def _follow(self, moved: Mapping[str, Sequence[str]]) -> None:
        """See where the chunks of rewritten packs are: pin the successors as any pack."""
        if not moved:
            return
        self._moved |= {pack: {} for pack in moved}  # rows that lead in a circle lead nowhere
        self._rely_on({pack for found in moved.values() for pack in found}, new_needed=False)
        for pack, successors in moved.items():
            places = dict[bytes, tuple[str, TrailerRecord]]()
            for successor in successors:
                places.update(self._moved.get(successor, {}))
                if successor in self._live:
                    with contextlib.suppress(CorruptData):
                        records = read_trailer(self._ctx.stores.weights, successor)
                        places.update((one.digest, (successor, one)) for one in records)
            self._moved[pack] = places

    def _is_usable(self, ref: ChunkRef) -> bool:
        return all(pack in self._live or pack in self._own for pack in ref.packs())

    def _hints(self, wanted: Collection[bytes]) -> dict[bytes, ChunkRef]:
        if not wanted:
            return {}
        found = self._ctx.stores.rows.get_many(keys.CHUNKS, [keys.chunk(d) for d in sorted(wanted)])
        refs = (hinted_chunk(bytes.fromhex(key.decode()), value) for key, value in found.items())
        return {ref.digest: ref for ref in refs if ref is not None}

    def _prove(self, refs: Sequence[ChunkRef]) -> None:
        """Read what hints say, but what was read before: a pack's bytes never change."""
        unread = sorted(set(refs) - self._proven, key=lambda ref: (ref.pack, ref.offset))
        intact = self._ctx.reader.intact(unread)
        self._proven.update(ref for ref, holds in zip(unread, intact, strict=True) if holds)

    def _begin_pack(self) -> str:
        """A new pack's name. Its file is created by the first write, after the name is pinned."""
        self._next_pack = new_pack_id()
        return self._next_pack

    def _write_all(self, batches: Sequence[Future[list[EncodedPiece]]]) -> None:
        for batch in batches:
            for piece in batch.result():
                self._write(piece)

    def _write(self, piece: EncodedPiece) -> None:
        if self._writer is None:
            if self._next_pack is None:
                self._attempt.announce([self._begin_pack()])
            assert self._next_pack is not None
            self._open_pack, self._next_pack = self._next_pack, None
            with _losing():
                self._writer = PackWriter(self._ctx.stores.weights, self._open_pack)
        assert self._writer is not None
        stored = len(piece.stored)
        with _losing():
            offset = self._writer.add(
                piece.digest,
                piece.stored,
                length=piece.length,
                encoding=piece.encoding,
                base=None if piece.base is None else piece.base.digest,
            )
        ref = ChunkRef(
            piece.digest,
            piece.length,
            self._open_pack,
            offset,
            stored,
            piece.encoding,
            piece.base,
        )
        self._placed[piece.digest] = ref
        self._coming.discard(piece.digest)
        self._unhinted.append(ref)
        self._new_bytes += stored
        if self._writer.size >= PACK_TARGET_BYTES:
            self._close_pack()

    def _store_manifest(self, data: bytes, known: Sequence[Address]) -> Address:
        """Where the manifest lies: where an equal one does, else in the open pack."""
        digest = blake3(data).digest()
        for address in known:
            if address.digest == digest.hex():
                self._attempt.announce([address.pack])
                if standing(self._ctx, [address.pack]).live:
                    return address
        self._write(EncodedPiece(digest, len(data), data, RAW, None))
        ref = self._placed[digest]
        return Address(ref.pack, ref.offset, ref.length, digest.hex())

    def _close_pack(self) -> None:
        """Complete the pack being written, then register it.

        Raises:
            PackRefused: its row is there already, put by a collector that took the file for an
                orphan.
        """
        if self._writer is None:
            return
        with _losing():
            size_bytes = self._writer.finish()
        self._writer = None
        if size_bytes >= _LARGE_PACK_BYTES:
            # Before the row: whatever push finds the row then finds the chunks too. A small pack's
            # come after the commit, which they would only delay.
            with contextlib.suppress(Unavailable, OutcomeUnknown):
                self.put_hints()
        if not register(self._ctx, self._open_pack, size_bytes):
            raise PackRefused(self._open_pack)
        self._own.add(self._open_pack)

    def _keep_pack(self) -> None:
        """Complete the pack being written, if it holds much: the next push goes on from there."""
        if self._writer is not None and self._writer.size >= _LARGE_PACK_BYTES:
            with contextlib.suppress(ModelhubError, PackRefused, _PackLost):
                self._close_pack()

    def _drop_pack(self) -> None:
        """Give up the pack being written; but for own packs, all is looked up and checked again."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        lost = [ref for ref in self._unhinted if ref.pack not in self._own]
        self._new_bytes -= sum(ref.stored for ref in lost)
        self._unhinted = [ref for ref in self._unhinted if ref.pack in self._own]
        self._placed = {d: ref for d, ref in self._placed.items() if ref.pack in self._own}
        self._coming.clear()
        self._live.clear()
        self._refused.clear()
        self._moved.clear()


def _scattered(refs: Iterable[ChunkRef]) -> set[str]:
    """The packs that are not to be reused, so that a version does not need too many."""
    held: Counter[str] = Counter()
    for ref in refs:
        for place in (ref, ref.base):
            if place is not None:
                held[place.pack] += place.stored
    if len(held) <= _MOST_REUSED:
        return set()
    return held.keys() - {pack for pack, _ in held.most_common(_REUSED_OF_MORE)}


@contextlib.contextmanager
def _losing() -> Iterator[None]:
    """Whatever makes a pack's file unusable for good, as ``_PackLost``; without room, all would."""
    try:
        yield
    except NoSpace:
        raise
    except (Unavailable, OutcomeUnknown, AlreadyExists) as exc:
        raise _PackLost(exc) from exc
