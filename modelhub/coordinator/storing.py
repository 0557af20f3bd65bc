"""Getting a push's bytes into packs: dedupe, pins, new packs, registration.

The order is the protocol's: a pack that is reused is pinned and *then* its row is read; a new
pack's name is pinned and *then* its file is created; the row is registered once the file is
complete. A pin counts when it was acknowledged or read back.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from blake3 import blake3

from modelhub.content.ahead import ahead, mapped
from modelhub.content.cut import cut
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
from modelhub.content.pack import PACK_TARGET_BYTES, PackWriter, new_pack_id, pack_path
from modelhub.content.read import chunk_bytes
from modelhub.content.tree import SourceFile, open_unchanged
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.transaction import Attempt
from modelhub.errors import (
    AlreadyExists,
    CorruptData,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.records import Address, ChunkHint, PackRow, decode, encode
from modelhub.stores import NoSpace

_WINDOW_BYTES = 32 * 2**20
_WINDOW_CHUNKS = 4096
_HINT_BATCH = 5000
_REGISTER_TRIES = 4
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


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of file number ``index``, and what it will be called."""

    index: int
    data: bytes
    digest: bytes


@dataclass(frozen=True)
class Stored:
    """A push's content: manifest, where it lies, every pack it needs, and what was new of it."""

    manifest: Manifest
    address: Address
    packs: tuple[str, ...]
    new_bytes: int


def live_packs(ctx: Context, packs: Iterable[str]) -> set[str]:
    """Those of ``packs``, all pinned before, that may be relied on from now on.

    A condemned pack is taken back to live with a new token, which undoes a collector's decision for
    good; one that is being deleted, gone or unknown cannot be had, nor one whose file is missing or
    of another length. A moved one's chunks are stored anew.
    """
    wanted = [keys.pack(pack) for pack in sorted(set(packs))]
    found = ctx.stores.rows.get_many(keys.PACKS, wanted) if wanted else {}
    return {key.decode() for key, value in found.items() if _is_live(ctx, key, value)}


def _is_live(ctx: Context, key: bytes, value: bytes) -> bool:
    try:
        row = _revived(ctx, key, value)
    except CorruptData:
        return False  # What cannot be read cannot be relied on.
    if row is None or row.state != "live":
        return False
    return ctx.stores.weights.size(pack_path(key.decode())) == row.size_bytes


def _revived(ctx: Context, key: bytes, value: bytes | None) -> PackRow | None:
    """The pack's row, once it is not condemned any more; None where it could not be kept so."""
    rows = ctx.stores.rows
    for attempt in range(1, _REGISTER_TRIES + 1):
        if value is None:
            return None
        row = decode(value, PackRow, f"the row of pack {key.decode()}")
        if row.state != "condemned":
            return row
        revived = PackRow(state="live", size_bytes=row.size_bytes, token=secrets.token_hex(8))
        try:
            if rows.check_and_put(keys.PACKS, key, value, encode(revived)):
                return revived
        except (Unavailable, OutcomeUnknown):
            ctx.back_off(attempt)
        value = rows.get(keys.PACKS, key)
    return None


class Storing:
    """One push's chunks, through all its rebases.

    ``trusted`` are chunks of versions that the log names: their place needs no proof. A place from
    the ``chunks`` table is a hint and is believed only when its bytes hash to the chunk's name.
    """

    def __init__(self, ctx: Context, attempt: Attempt, trusted: Manifest | None) -> None:
        self._ctx = ctx
        self._attempt = attempt
        self._trusted: dict[bytes, ChunkRef] = {}
        if trusted is not None:
            self._trusted = {
                ref.digest: ref for file in trusted.files for ref in trusted.chunks(file)
            }
        self._placed: dict[bytes, ChunkRef] = {}
        self._live: set[str] = set()
        self._refused: set[str] = set()
        self._own: set[str] = set()
        self._writer: PackWriter | None = None
        self._next_pack: str | None = None
        self._open_pack = ""
        self._unhinted: list[ChunkRef] = []
        self._new_bytes = 0

    def store(
        self, sources: Sequence[SourceFile], previous: Address | None, progress: Progress
    ) -> Stored:
        """Store what is not stored yet of ``sources``.

        ``previous`` is where the trusted version's manifest lies. Where a pack cannot be completed
        (a DataNode died, say), the files are read again, and what that pack had goes into another.

        Raises:
            Conflict: a file changed while it was read.
            PackRefused: a new pack was claimed by a collector; begin again.
            Unavailable: a store is away or full.
        """
        attempt = 1
        while True:
            try:
                return self._store(sources, previous, progress)
            except _PackLost as lost:
                self._drop_pack()
                if attempt == _PACK_TRIES:
                    raise lost.cause from lost
            except BaseException:
                self._drop_pack()
                raise
            self._ctx.pause(_PACK_PAUSE_S * 2**attempt)
            attempt += 1

    def _store(
        self, sources: Sequence[SourceFile], previous: Address | None, progress: Progress
    ) -> Stored:
        builder = ManifestBuilder()
        total, done = sum(source.size_bytes for source in sources), 0
        cutters: list[str] = []
        refs: list[list[ChunkRef]] = [[] for _ in sources]
        with contextlib.closing(_prepared(sources, cutters, total)) as windows:
            for window in windows:
                self._place(window)
                for piece in window:
                    refs[piece.index].append(self._placed[piece.digest])
                done += sum(len(piece.data) for piece in window)
                progress("push", done, total)
                self._attempt.renew()
        for source, cutter, of_file in zip(sources, cutters, refs, strict=True):
            builder.add_file(source.path, source.size_bytes, source.mode, cutter, of_file)
        data = builder.encode()
        manifest = Manifest.decode(data, "the new manifest")
        address = self._store_manifest(data, previous)
        self._close_pack()
        packs = tuple(sorted({*manifest.packs(), address.pack}))
        return Stored(manifest, address, packs, self._new_bytes)

    def rebind(self, attempt: Attempt, packs: Sequence[str]) -> None:
        """Go over to a new attempt: all packs are pinned and their rows read again, own ones too.

        Raises:
            PackRefused: one of them cannot be had any more.
        """
        attempt.announce(packs)
        self._attempt = attempt
        lost = set(packs) - live_packs(self._ctx, packs)
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

    def _place(self, window: Sequence[_Piece]) -> None:
        """See that each piece of ``window`` has a place."""
        self._reuse({piece.digest for piece in window} - self._placed.keys())
        for piece in window:
            if piece.digest not in self._placed:
                self._write(piece.digest, piece.data)

    def _reuse(self, wanted: set[bytes]) -> None:
        """Find what is stored already; pin the packs, then read their rows, then believe."""
        trusted = {d: self._trusted[d] for d in wanted if d in self._trusted}
        hinted = self._hints(wanted - trusted.keys())
        candidates = {**hinted, **trusted}
        packs = {ref.pack for ref in candidates.values()} - self._live - self._refused - self._own
        new_needed = self._writer is None and len(candidates) < len(wanted)
        fresh = [self._begin_pack()] if new_needed else []
        self._attempt.announce([*packs, *fresh])
        live = live_packs(self._ctx, packs)
        self._live |= live
        self._refused |= packs - live
        usable = self._live | self._own
        for digest, ref in candidates.items():
            if ref.pack in usable and (digest in trusted or self._holds(ref)):
                self._placed[digest] = ref

    def _hints(self, wanted: set[bytes]) -> dict[bytes, ChunkRef]:
        if not wanted:
            return {}
        found = self._ctx.stores.rows.get_many(keys.CHUNKS, [keys.chunk(d) for d in sorted(wanted)])
        hints = {}
        for key, value in found.items():
            digest = bytes.fromhex(key.decode())
            try:
                hint = decode(value, ChunkHint, f"the hint of chunk {key.decode()}")
            except CorruptData:
                continue  # A hint that cannot be read is no hint.
            hints[digest] = ChunkRef(
                digest, hint.length, hint.pack, hint.offset, hint.stored, hint.encoding
            )
        return hints

    def _holds(self, ref: ChunkRef) -> bool:
        try:
            chunk_bytes(self._ctx.stores.weights, ref)
        except (CorruptData, NotFound):
            return False
        return True

    def _begin_pack(self) -> str:
        """A new pack's name. Its file is created by the first write, after the name is pinned."""
        self._next_pack = new_pack_id()
        return self._next_pack

    def _write(self, digest: bytes, piece: bytes) -> None:
        if self._writer is None:
            if self._next_pack is None:
                self._attempt.announce([self._begin_pack()])
            assert self._next_pack is not None
            self._open_pack, self._next_pack = self._next_pack, None
            with _losing():
                self._writer = PackWriter(self._ctx.stores.weights, self._open_pack)
        assert self._writer is not None
        with _losing():
            offset = self._writer.add(digest, piece)
        size = len(piece)
        ref = ChunkRef(digest, size, self._open_pack, offset, size)
        self._placed[digest] = ref
        self._unhinted.append(ref)
        self._new_bytes += size
        if self._writer.size >= PACK_TARGET_BYTES:
            self._close_pack()
            with contextlib.suppress(Unavailable, OutcomeUnknown):
                self.put_hints()

    def _store_manifest(self, data: bytes, previous: Address | None) -> Address:
        """Where the manifest lies: as before, if nothing changed, else in the open pack."""
        digest = blake3(data).digest()
        if previous is not None and previous.digest == digest.hex():
            self._attempt.announce([previous.pack])
            if live_packs(self._ctx, [previous.pack]):
                return previous
        self._write(digest, data)
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
        row = PackRow(state="live", size_bytes=size_bytes, token=secrets.token_hex(8))
        if not _registered(self._ctx, keys.pack(self._open_pack), encode(row)):
            raise PackRefused(self._open_pack)
        self._own.add(self._open_pack)

    def _drop_pack(self) -> None:
        """Give up the pack being written; but for own packs, all is looked up and checked again."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        lost = [ref for ref in self._unhinted if ref.pack not in self._own]
        self._new_bytes -= sum(ref.length for ref in lost)
        self._unhinted = [ref for ref in self._unhinted if ref.pack in self._own]
        self._placed = {d: ref for d, ref in self._placed.items() if ref.pack in self._own}
        self._live.clear()
        self._refused.clear()


@contextlib.contextmanager
def _losing() -> Iterator[None]:
    """Whatever makes a pack's file unusable for good, as ``_PackLost``; without room, all would."""
    try:
        yield
    except NoSpace:
        raise
    except (Unavailable, OutcomeUnknown, AlreadyExists) as exc:
        raise _PackLost(exc) from exc


def _registered(ctx: Context, key: bytes, value: bytes) -> bool:
    """Put a pack's row if it is absent; whether the row is this one now."""
    rows = ctx.stores.rows
    said = "the row does not stay"
    for attempt in range(1, _REGISTER_TRIES + 1):
        try:
            if rows.check_and_put(keys.PACKS, key, None, value):
                return True
        except (Unavailable, OutcomeUnknown) as exc:
            said = exc.message
            ctx.back_off(attempt)
        found = rows.get(keys.PACKS, key)
        if found is not None:
            return found == value
    raise Unavailable(
        f"pack {key.decode()} could not be registered: {said}", remedy="Try the push again."
    )


def chunk_hint(ref: ChunkRef) -> bytes:
    """The bytes of the row that says where a chunk lies."""
    return encode(ChunkHint(ref.pack, ref.offset, ref.stored, ref.length, ref.encoding))


def _windows(
    sources: Sequence[SourceFile], cutters: list[str]
) -> Generator[list[tuple[int, bytes]], None, None]:
    """Every file's pieces, each with its file's index, in groups that are looked up at once.

    How each file was cut goes into ``cutters``.
    """
    window: list[tuple[int, bytes]] = []
    size = 0
    for index, source in enumerate(sources):
        with open_unchanged(source) as file:
            cutter, pieces = cut(file, source)
            cutters.append(cutter)
            for data in pieces:
                window.append((index, data))
                size += len(data)
                if size >= _WINDOW_BYTES or len(window) >= _WINDOW_CHUNKS:
                    yield window
                    window, size = [], 0
    if window:
        yield window


def _prepared(
    sources: Sequence[SourceFile], cutters: list[str], total: int
) -> Generator[list[_Piece], None, None]:
    """Windows of pieces with their names; of much, some are cut and others hashed meanwhile."""
    if total <= _WINDOW_BYTES:
        yield from map(_named, _windows(sources, cutters))
        return
    with (
        contextlib.closing(ahead(_windows(sources, cutters))) as cuts,
        contextlib.closing(mapped(_named, cuts, threads=1)) as windows,
    ):
        yield from windows


def _named(window: Sequence[tuple[int, bytes]]) -> list[_Piece]:
    return [_Piece(index, data, blake3(data).digest()) for index, data in window]
