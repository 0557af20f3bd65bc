"""Packs: large immutable files of chunks, each with a trailer that says what lies where.

::

    magic    16 bytes
    chunks   back to back, each as its encoding stores it
    records  one a chunk: digest 32, base's digest 32 (0: none), offset u64, stored u32,
             length u32, encoding u8
    footer   key id u32, nonce 24 (0 both: not encrypted), records in bytes u64, their number u64,
             BLAKE3-256 of records and footer so far, magic 16

Numbers are little-endian. ``stored`` and ``length`` are a chunk's bytes in the pack and in its
file; the encoding, an id, leads from one to the other. The magic ends in the format's number. With
the trailers alone the index of chunks can be rebuilt.
"""

from __future__ import annotations

import re
import secrets
import struct
from datetime import datetime
from typing import NamedTuple

from blake3 import blake3

from modelhub.errors import CorruptData, InvalidInput, NotFound, Unavailable
from modelhub.names import shown
from modelhub.stores import WeightStore

PACK_TARGET_BYTES = 1 << 30
"""A pack that has grown to this is finished: eight blocks of HDFS."""

RAW = 0
"""The encoding that stores a chunk as it is."""

LARGEST_CHUNK_BYTES = 2**32 - 1
LARGEST_OFFSET = 2**62
"""No chunk is longer and none lies further into its pack, whatever a stored row says."""

_MAGIC = b"modelhub pack 1\n"
_RECORD = struct.Struct("<32s32sQIIB")
_FOOTER = struct.Struct("<I24sQQ")
_HASH_BYTES = 32
_END_BYTES = _FOOTER.size + _HASH_BYTES + len(_MAGIC)
_NO_BASE = bytes(32)
_NO_KEY = 0
_NO_NONCE = bytes(24)
_WRITE_BYTES = 8 << 20
_READ_ATTEMPTS = 4
_PACK_ID = re.compile(r"[0-9a-f]{32}")
_TRASHED = re.compile(r"\d{4}-\d\d-\d\d/\d{6}-[0-9a-f]{32}")


class TrailerRecord(NamedTuple):
    """A chunk as its pack's trailer describes it; sizes and offset in bytes, digests are raw."""

    digest: bytes
    base: bytes | None
    offset: int
    stored: int
    length: int
    encoding: int


class PackMissing(CorruptData):
    """A pack's file is not where its id says.

    Whoever reads a version looks into the pack's row before this is the last word: the chunks may
    have moved to ``successors``.

    Args:
        pack: the pack's id.
    """

    def __init__(self, message: str, *, remedy: str = "", pack: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.pack = pack


def new_pack_id() -> str:
    """A name that no pack ever had: 32 random hex digits."""
    return secrets.token_hex(16)


def is_pack_id(text: str) -> bool:
    """Whether ``text`` is 32 lower-case hex digits."""
    return _PACK_ID.fullmatch(text) is not None


def pack_path(pack_id: str) -> str:
    """Where the pack lies in a weight store: ``packs/ab/cd/ID``.

    Raises:
        CorruptData: not a pack id, so that no stored text can lead anywhere else.
    """
    if not is_pack_id(pack_id):
        raise CorruptData(f"{shown(pack_id)} is not a pack id", remedy="Run `modelhub admin fsck`.")
    return f"packs/{pack_id[:2]}/{pack_id[2:4]}/{pack_id}"


def trash_path(place: str) -> str:
    """Where the file lies of a pack that is of no more use, by its row's ``trash``.

    Raises:
        CorruptData: no such place, so that no stored text can lead anywhere else.
    """
    if _TRASHED.fullmatch(place) is None:
        raise CorruptData(
            f"{shown(place)} is no place in the trash", remedy="Run `modelhub admin fsck`."
        )
    return f"trash/{place}"


def new_place(now: datetime, pack_id: str) -> str:
    """A place in the trash for a pack that goes there now."""
    return f"{now:%Y-%m-%d/%H%M%S}-{pack_id}"


def quarantine_path(place: str) -> str:
    """Where a damaged file is kept that was made anew; ``place`` as in ``trash_path``.

    Nobody empties this folder but people.
    """
    return f"quarantine/{place}"


class PackWriter:
    """A new pack's file, chunk by chunk. Not for several threads at once.

    Creating one creates the file. Whatever a method raises, ``abort`` is what remains to be done,
    and the id is not used again.

    Raises:
        AlreadyExists: the id was used before.
    """

    def __init__(self, weights: WeightStore, pack_id: str) -> None:
        self._weights = weights
        self._pack_id = pack_id
        self._writer = weights.create(pack_path(pack_id))
        self._records = bytearray()
        self._pending = [_MAGIC]
        self._pending_bytes = len(_MAGIC)
        self._written_bytes = 0
        self._recorded_bytes = len(_MAGIC)

    @property
    def size(self) -> int:
        """Bytes added so far, which is where the next chunk begins."""
        return self._written_bytes + self._pending_bytes

    def add(
        self,
        digest: bytes,
        data: bytes | memoryview,
        *,
        length: int | None = None,
        encoding: int = RAW,
        base: bytes | None = None,
    ) -> int:
        """Append a chunk and return its offset. ``digest`` is believed.

        Args:
            digest: of the bytes that ``data`` decodes to.
            data: what is stored; it may be reused afterwards.
            length: how many bytes it decodes to, where it is encoded.
            encoding: how.
            base: the digest of the chunk that it is a difference from.

        Raises:
            InvalidInput: it is empty, or 4 GiB or more.
        """
        stored = len(data)
        if not 0 < stored <= LARGEST_CHUNK_BYTES:
            raise InvalidInput(
                f"a chunk of {stored:,} bytes cannot be packed",
                remedy="Chunks have at least one byte and less than 4 GiB.",
            )
        offset = self.size
        decoded = stored if length is None else length
        self._append(data)
        self._records += _RECORD.pack(digest, base or _NO_BASE, offset, stored, decoded, encoding)
        self._recorded_bytes += stored
        return offset

    def finish(self) -> int:
        """Write the trailer, make the file durable, and return its size once the store confirms it.

        Raises:
            Unavailable: the store kept another number of bytes, or an ``add`` was interrupted;
                nothing refers to the pack yet.
        """
        if self._recorded_bytes != self.size:
            raise Unavailable(
                f"pack {self._pack_id} was interrupted within a chunk", remedy="Push again."
            )
        count = len(self._records) // _RECORD.size
        footer = _FOOTER.pack(_NO_KEY, _NO_NONCE, len(self._records), count)
        self._append(self._records)
        self._append(footer + blake3(self._records).update(footer).digest() + _MAGIC)
        self._flush()
        committed, found = self._writer.commit(), self._weights.size(pack_path(self._pack_id))
        if not committed == found == self._written_bytes:
            raise Unavailable(
                f"of the {self._written_bytes:,} bytes written to pack {self._pack_id}, "
                f"{committed:,} were reported and {found or 0:,} are there",
                remedy="Push again; if this repeats, check the weight store's health.",
            )
        return committed

    def abort(self) -> None:
        """Give the file up; never raises."""
        self._writer.abort()

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        # Joined once into large writes; what is bytes already is not copied before.
        self._pending.append(bytes(data))
        self._pending_bytes += len(data)
        if self._pending_bytes >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write(b"".join(self._pending))
            self._written_bytes += self._pending_bytes
            self._pending, self._pending_bytes = [], 0


def read_pack(
    weights: WeightStore, pack_id: str, offset: int, length: int, *, path: str = ""
) -> bytes:
    """Bytes of a pack, unverified; fewer than ``length`` where the file ends.

    ``path`` is where its file lies, if that is not its place.

    Tried up to four times, without waiting: about one in 300 HDFS reads was reported to fail with
    every replica in good health, and to succeed at once when repeated. What is down for longer is
    for the caller to wait for.

    Raises:
        PackMissing: the file is not there.
        Unavailable: all four tries failed.
    """
    path = path or pack_path(pack_id)
    attempt = 1
    while True:
        try:
            return weights.read(path, offset, length)
        except NotFound as exc:
            raise pack_missing(pack_id) from exc
        except Unavailable:
            if attempt == _READ_ATTEMPTS:
                raise
        attempt += 1


def read_trailer(weights: WeightStore, pack_id: str, *, path: str = "") -> list[TrailerRecord]:
    """What the pack says it holds, in the order of its bytes.

    Chunks lie back to back between magic and trailer; their bytes are not looked at. ``path`` is
    where its file lies, if that is not its place.

    Raises:
        PackMissing: the file is not there.
        CorruptData: the trailer, or the magic at the start, is not as it was written.
    """
    size = weights.size(path or pack_path(pack_id))
    if size is None:
        raise pack_missing(pack_id)
    if size < len(_MAGIC) + _END_BYTES:
        raise _corrupt(pack_id, f"{size} bytes are too few for a pack")
    end = read_pack(weights, pack_id, size - _END_BYTES, _END_BYTES, path=path)
    start_magic = read_pack(weights, pack_id, 0, len(_MAGIC), path=path)
    if end[-len(_MAGIC) :] != _MAGIC or start_magic != _MAGIC:
        raise _corrupt(pack_id, "it is incomplete, or of a format that this release does not know")
    footer, digest = end[: _FOOTER.size], end[_FOOTER.size : -len(_MAGIC)]
    _, _, records_bytes, count = _FOOTER.unpack(footer)
    start = size - _END_BYTES - records_bytes
    if start < len(_MAGIC) or records_bytes != count * _RECORD.size:
        raise _corrupt(pack_id, "its trailer cannot have the length that it states")
    records = read_pack(weights, pack_id, start, records_bytes, path=path)
    if blake3(records).update(footer).digest() != digest:
        raise _corrupt(pack_id, "its trailer does not match its hash")
    return _records(records, pack_id, start)


def pack_missing(pack_id: str) -> PackMissing:
    """The error that says so."""
    return PackMissing(
        f"pack {pack_id} is not there", remedy="Run `modelhub admin fsck`.", pack=pack_id
    )


def _records(data: bytes, pack_id: str, stop: int) -> list[TrailerRecord]:
    records = []
    offset = len(_MAGIC)
    for digest, base, at, stored, length, encoding in _RECORD.iter_unpack(data):
        if at != offset:
            raise _corrupt(pack_id, f"its trailer leaves a gap or an overlap at byte {offset}")
        offset += stored
        known_base = None if base == _NO_BASE else base
        records.append(TrailerRecord(digest, known_base, at, stored, length, encoding))
    if offset != stop:
        raise _corrupt(pack_id, f"its trailer accounts for {offset:,} of {stop:,} bytes")
    return records


def _corrupt(pack_id: str, why: str) -> CorruptData:
    return CorruptData(
        f"pack {pack_id} is not readable: {why}", remedy="Run `modelhub admin fsck`."
    )
