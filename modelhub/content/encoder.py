"""Encoding a push's new chunks in threads, while those before them are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Self, get_args

from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import RAW
from modelhub.content.read import Chunk, Reader
from modelhub.content.windows import NamedPiece
from modelhub.errors import CorruptData, InvalidInput, NotFound, Unavailable
from modelhub.names import shown

StoragePolicy = Literal["auto", "fast", "small"]
"""How much work a push spends on storing fewer bytes: ``fast`` none, ``auto`` as much as two cores
do at about the speed of a disk, ``small`` several times that."""

_THREADS = 2
_BATCH_BYTES = 1 << 20
"""What a thread takes at once: to hand over each of thousands of small pieces would cost more."""


def storage_policy(text: str) -> StoragePolicy:
    """``text``, if it is one.

    Raises:
        InvalidInput: it is not.
    """
    for policy in get_args(StoragePolicy):
        if text == policy:
            return policy  # type: ignore[no-any-return]
    raise InvalidInput(
        f"{shown(str(text))} is not a storage policy", remedy="Use auto, fast or small."
    )


_Batch = list[tuple[NamedPiece, ChunkRef | None]]


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """A piece as its pack will store it, and the chunk that it is a difference from, if any."""

    digest: bytes
    length: int
    stored: bytes | memoryview
    encoding: int
    base: ChunkRef | None


class Encoder:
    """Encodes chunks as ``policy`` says; a context that ends its threads."""

    def __init__(self, reader: Reader, policy: StoragePolicy) -> None:
        self._reader = reader
        self._policy = policy
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="modelhub-encoder")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    @property
    def wants_bases(self) -> bool:
        """Whether differences are worth looking for."""
        return self._policy != "fast"

    def begin(
        self, pieces: Iterable[tuple[NamedPiece, ChunkRef | None]]
    ) -> list[Future[list[EncodedPiece]]]:
        """Encode each piece, perhaps as a difference from the chunk beside it; in order."""
        return [self._threads.submit(self._all_encoded, batch) for batch in _batches(pieces)]

    def _all_encoded(self, batch: _Batch) -> list[EncodedPiece]:
        return [self._encoded(piece, base) for piece, base in batch]

    def _encoded(self, piece: NamedPiece, base: ChunkRef | None) -> EncodedPiece:
        data = piece.data
        if self._policy == "fast":
            return EncodedPiece(piece.digest, len(data), data, RAW, None)
        from modelhub.content.encoding import encode, width_of

        width = None if piece.part is None else width_of(piece.part.dtype)
        from_base = None if base is None else self._base_bytes(base)
        encoded = encode(data, width=width, base=from_base, small=self._policy == "small")
        based = base if encoded.based else None
        return EncodedPiece(piece.digest, len(data), encoded.stored, encoded.encoding, based)

    def _base_bytes(self, base: ChunkRef) -> Chunk | None:
        try:
            return self._reader.chunk(base)
        except (CorruptData, NotFound, Unavailable):
            return None  # Only room is lost.


def _batches(pieces: Iterable[tuple[NamedPiece, ChunkRef | None]]) -> Iterator[_Batch]:
    batch: _Batch = []
    size_bytes = 0
    for piece, base in pieces:
        batch.append((piece, base))
        size_bytes += len(piece.data)
        if size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch
