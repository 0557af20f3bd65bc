"""Verified bytes out of packs: nothing is handed on before it matched its hash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from blake3 import blake3

from modelhub.content.ahead import mapped
from modelhub.content.manifest import ChunkRef, Manifest, ManifestFile
from modelhub.content.pack import (
    LARGEST_CHUNK_BYTES,
    LARGEST_OFFSET,
    RAW,
    PackMissing,
    TrailerRecord,
    pack_path,
    read_pack,
)
from modelhub.errors import CorruptData, InvalidInput, ModelhubError, NotFound
from modelhub.records import Address
from modelhub.stores import WeightStore

READ_BYTES = 16 << 20
"""Chunks that lie side by side are read together, up to this much of what they decode to."""

_READERS = 4
"""HDFS gives 1 GiB in 2.1 to 2.7 s to four readers where one needs 3.8 to 5.2 s."""

Chunk = bytes | memoryview
"""A chunk's bytes, verified."""

NOTHING: Mapping[bytes, Chunk] = {}

Places = Mapping[bytes, tuple[str, TrailerRecord]]
"""Chunks by digest: in which pack each lies, and how."""


class Whereabouts(NamedTuple):
    """What became of a pack whose file is not in its place.

    ``places`` is where its chunks lie now, if it was rewritten, and ``path`` where its file is, if
    that is in the trash.
    """

    places: Places
    path: str


NOWHERE = Whereabouts({}, "")

Elsewhere = Callable[[str], Whereabouts]


def nowhere(_pack: str) -> Whereabouts:
    """For packs that nobody rewrites or collects."""
    return NOWHERE


def placed(pack: str, record: TrailerRecord, base: ChunkRef | None) -> ChunkRef:
    """The chunk that a pack's trailer describes."""
    return ChunkRef(
        record.digest, record.length, pack, record.offset, record.stored, record.encoding, base
    )


class Reader:
    """Reads chunks from the packs of ``weights``, from several threads at once.

    A pack whose file is missing may have been rewritten or collected: ``elsewhere`` says where its
    chunks are now.

    All methods raise ``PackMissing`` where a pack's file is nowhere, ``CorruptData`` where bytes do
    not match their digest, twice, and ``Unavailable`` where the store did not answer four times in
    a row.
    """

    def __init__(self, weights: WeightStore, elsewhere: Elsewhere = nowhere) -> None:
        self._weights = weights
        self._elsewhere = elsewhere

    def blob(self, address: Address) -> bytes:
        """The raw bytes that a row points to."""
        digest = bytes.fromhex(address.digest)
        ref = ChunkRef(digest, address.length, address.pack, address.offset, address.length)
        return bytes(self.chunk(ref))

    def chunk(self, ref: ChunkRef, at_hand: Mapping[bytes, Chunk] = NOTHING) -> Chunk:
        """One chunk; one that it is a difference from is read if it is not ``at_hand``."""
        (data,) = self._run([ref], at_hand)
        return data

    def chunks(self, refs: Iterable[ChunkRef]) -> Iterator[Chunk]:
        """Each chunk in the order given; the next ones are read meanwhile. About 200 MiB are held.

        What is raised comes after every chunk before the one that failed.
        """
        runs = list(_runs(refs))
        if len(runs) == 1:
            yield from self._run(runs[0])
        elif runs:
            with closing(mapped(self._try_run, runs, threads=_READERS)) as found:
                for chunks, failure in found:
                    yield from chunks
                    if failure is not None:
                        raise failure

    def intact(self, refs: Sequence[ChunkRef]) -> Iterator[bool]:
        """Whether each chunk can be had and is what its digest says, in the order given.

        Only ``Unavailable`` is raised.
        """
        with closing(mapped(self._intact_run, _runs(refs), threads=_READERS)) as found:
            for run in found:
                yield from run

    def file(
        self, manifest: Manifest, file: ManifestFile, *, start_chunk: int = 0
    ) -> Iterator[Chunk]:
        """The file's chunks in order, from its ``start_chunk``-th on."""
        return self.chunks(manifest.chunks(file)[start_chunk:])

    def range(self, manifest: Manifest, file: ManifestFile, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes of the file from ``offset``, or fewer where it ends earlier.

        Only the chunks that they lie in are read.

        Raises:
            InvalidInput: a negative offset or length.
        """
        if offset < 0 or length < 0:
            raise InvalidInput(
                f"{length} bytes from {offset} are not a range", remedy="Use numbers from 0 up."
            )
        length = min(length, file.size_bytes - offset)
        if length <= 0:
            return b""
        refs, begin = manifest.spanning(file, offset, length)
        return b"".join(self.chunks(refs))[begin : begin + length]

    def _try_run(self, run: Sequence[ChunkRef]) -> tuple[list[Chunk], ModelhubError | None]:
        """The run's chunks, up to the one that cannot be had."""
        chunks: list[Chunk] = []
        try:
            chunks.extend(self._run(run))
        except ModelhubError as exc:
            return chunks, exc
        return chunks, None

    def _intact_run(self, run: Sequence[ChunkRef]) -> list[bool]:
        intact: list[bool] = []
        while len(intact) < len(run):
            chunks, failure = self._try_run(run[len(intact) :])
            intact += [True] * len(chunks)
            if isinstance(failure, CorruptData | NotFound):
                intact.append(False)
            elif failure is not None:
                raise failure
        return intact

    def _run(
        self, run: Sequence[ChunkRef], at_hand: Mapping[bytes, Chunk] = NOTHING
    ) -> Iterator[Chunk]:
        """The chunks of a run, which lie side by side."""
        for ref in run:
            _check_place(ref)
        first, last = run[0], run[-1]
        length = last.offset + last.stored - first.offset
        path = pack_path(first.pack)
        try:
            data = memoryview(read_pack(self._weights, first.pack, first.offset, length))
        except PackMissing as missing:
            places, path = self._elsewhere(first.pack)
            moved = [moved_to(places, ref) for ref in run]
            if None not in moved:
                yield from self._moved_run([ref for ref in moved if ref is not None], at_hand)
                return
            # Of no use to any version when the pack was rewritten; a reader that began before
            # finds it in the trash.
            if not path:
                raise missing from None
            data = memoryview(read_pack(self._weights, first.pack, first.offset, length, path=path))
        bases = self._bases(run, at_hand)
        for ref in run:
            begin = ref.offset - first.offset
            stored = data[begin : begin + ref.stored]
            base = None if ref.base is None else bases[ref.base.digest]
            yield self._verified(ref, path, stored, base)

    def _moved_run(
        self, refs: Sequence[ChunkRef], at_hand: Mapping[bytes, Chunk]
    ) -> Iterator[Chunk]:
        for run in _runs(refs):
            yield from self._run(run, at_hand)

    def _bases(self, run: Sequence[ChunkRef], at_hand: Mapping[bytes, Chunk]) -> dict[bytes, Chunk]:
        """The chunks that those of ``run`` are differences from."""
        wanted = {ref.base.digest: ref.base for ref in run if ref.base is not None}
        found = {digest: at_hand[digest] for digest in wanted.keys() & at_hand.keys()}
        for bases in _runs(ref for digest, ref in wanted.items() if digest not in found):
            found.update(zip((base.digest for base in bases), self._run(bases), strict=True))
        return found

    def _verified(self, ref: ChunkRef, path: str, stored: Chunk, base: Chunk | None) -> Chunk:
        decoded = _decoded(ref, stored, base)
        if decoded is None:
            # One replica may be bad, or one transfer: a second read often goes to another replica.
            # Only what is wrong twice is reported as damage.
            stored = read_pack(self._weights, ref.pack, ref.offset, ref.stored, path=path)
            decoded = _decoded(ref, stored, base)
        if decoded is None:
            raise CorruptData(
                f"{ref.stored} bytes at {ref.offset} of pack {ref.pack} do not match their digest "
                f"{ref.digest.hex()}",
                remedy="Run `modelhub admin fsck`.",
            )
        return decoded


def moved_to(places: Places, ref: ChunkRef) -> ChunkRef | None:
    """Where a chunk is now; a base that did not move with it is where it was."""
    if ref.digest not in places:
        return None
    pack, record = places[ref.digest]
    if record.base is None:
        return placed(pack, record, None)
    if record.base in places:
        return placed(pack, record, placed(*places[record.base], None))
    kept = ref.base is not None and ref.base.digest == record.base
    return placed(pack, record, ref.base) if kept else None


def _decoded(ref: ChunkRef, stored: Chunk, base: Chunk | None) -> Chunk | None:
    """The chunk, or None where these bytes are not it."""
    data = stored
    if ref.encoding != RAW:
        from modelhub.content.encoding import decode  # what it needs takes time to import

        try:
            data = decode(ref.encoding, stored, ref.length, base)
        except ValueError:
            return None
    return data if blake3(data).digest() == ref.digest else None


def _runs(refs: Iterable[ChunkRef]) -> Iterator[Sequence[ChunkRef]]:
    run: list[ChunkRef] = []
    size_bytes = 0
    for ref in refs:
        size_bytes += ref.length
        if run and not (size_bytes <= READ_BYTES and _follows(run[-1], ref)):
            yield run
            run, size_bytes = [], ref.length
        run.append(ref)
    if run:
        yield run


def _follows(last: ChunkRef, ref: ChunkRef) -> bool:
    return ref.pack == last.pack and ref.offset == last.offset + last.stored


def _check_place(ref: ChunkRef) -> None:
    # References also come from hints, which may say anything.
    placed = 0 <= ref.offset <= LARGEST_OFFSET and 0 < ref.stored <= LARGEST_CHUNK_BYTES
    fits = ref.stored == ref.length if ref.encoding == RAW else ref.stored <= ref.length
    if not placed or not fits or (ref.base is not None and ref.base.base is not None):
        raise CorruptData(
            f"the place of chunk {ref.digest.hex()} makes no sense",
            remedy="Run `modelhub admin fsck`.",
        )
