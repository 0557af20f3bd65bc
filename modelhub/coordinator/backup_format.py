"""A backup in a folder: what lies where, and how its rows are written and read.

::

    backup.json                   format, and the hub that it is of
    packs/ab/cd/ID                copies of packs, as they are in the hub
    points/20260501T093000Z-ID/   one backup: rows.zst, heads.zst, and point.json, which comes last

Rows are (table, key, value), and heads (model, sequence, digest), in MessagePack with the length
before each, compressed. ``point.json`` has the digest of both files: without it there is no point.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec
import zstandard
from blake3 import blake3

from modelhub.errors import AlreadyExists, CorruptData, InvalidInput, NotFound
from modelhub.stores import Folder

FORMAT_NUMBER = 1
PACKS = "pack files"
"""Instead of a table's name: the key is a pack that was copied, the value its ``Copied``."""

_READ_BYTES = 8 << 20
_LENGTH_BYTES = 4
_LEVEL = 3

T = TypeVar("T")


class About(msgspec.Struct, frozen=True):
    """``backup.json``."""

    format: int
    hub: str


class Copied(msgspec.Struct, frozen=True):
    """A pack's copy, and the BLAKE3-256 of the whole file."""

    size_bytes: int
    digest: str


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """``point.json``: what one backup holds.

    ``cut`` is when: of every model the entries up to then. ``parent`` is the backup that it goes on
    from (empty: none, it is whole). ``missing`` are packs that were not to be had. Counts are those
    of this backup alone, ``new_bytes`` of the packs that it copied.
    """

    name: str
    cut: datetime
    parent: str = ""
    models: int = 0
    entries: int = 0
    versions: int = 0
    packs: int = 0
    new_bytes: int = 0
    missing: tuple[str, ...] = ()
    rows_digest: str = ""
    heads_digest: str = ""


class Saved(NamedTuple):
    """A row of the hub."""

    table: str
    key: bytes
    value: bytes


class HeadAt(NamedTuple):
    """How far a model's log went."""

    name: str
    seq: int
    digest: str


def new_name(cut: datetime) -> str:
    """A point's name: sorts by time, and is never used again."""
    return f"{cut:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def recognise(folder: Folder) -> About | None:
    """What the folder is a backup of; None where it is none.

    Raises:
        InvalidInput: its format is newer than this release can read.
        CorruptData: it says something else.
    """
    data = _whole(folder, "backup.json")
    if data is None:
        return None
    about = _decoded(data, About, "backup.json")
    if about.format > FORMAT_NUMBER:
        raise InvalidInput(
            f"the backup in {folder.address} has format {about.format}; this release reads up to "
            f"{FORMAT_NUMBER}",
            remedy="Upgrade modelhub.",
        )
    return about


def begin(folder: Folder, hub: str) -> None:
    """Make the folder a backup of ``hub``, or see that it is one.

    Raises:
        InvalidInput: it is the backup of another hub.
    """
    about = recognise(folder)
    if about is None:
        about = About(FORMAT_NUMBER, hub)
        try:
            write(folder, "backup.json", [msgspec.json.encode(about)])
        except AlreadyExists:
            about = recognise(folder)
    if about is None or about.hub != hub:
        raise InvalidInput(
            f"{folder.address} holds the backup of another hub", remedy="Name another folder."
        )


def points(folder: Folder) -> list[Point]:
    """Every backup that was finished, oldest first.

    Raises:
        CorruptData: one says something else.
    """
    found = []
    for name in sorted(folder.folders("points")):
        data = _whole(folder, f"points/{name}/point.json")
        if data is not None:
            found.append(_decoded(data, Point, f"point.json of {name}"))
    return sorted(found, key=lambda point: point.cut)


def chain(found: Iterable[Point], last: Point) -> list[Point]:
    """The points that ``last`` builds on, the whole one first, and itself.

    Raises:
        CorruptData: one is missing.
    """
    by_name = {point.name: point for point in found}
    links = [last]
    while links[-1].parent:
        before = by_name.get(links[-1].parent)
        if before is None:
            raise CorruptData(
                f"the backup {links[-1].name} goes on from {links[-1].parent}, which is missing",
                remedy="Restore an earlier one, or make a whole backup.",
            )
        links.append(before)
    return links[::-1]


def write(folder: Folder, path: str, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write a file that appears when it is whole; its size and digest."""
    writer = folder.put(path, overwrite=True)
    digest = blake3()
    try:
        for piece in pieces:
            digest.update(piece)
            writer.write(piece)
        return writer.commit(), digest.hexdigest()
    except BaseException:
        writer.abort()
        raise


def packed(records: Iterable[Saved | HeadAt]) -> Iterator[bytes]:
    """Records as the bytes of a file."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    encoder = msgspec.msgpack.Encoder()
    for record in records:
        data = encoder.encode(record)
        if piece := compressor.compress(len(data).to_bytes(_LENGTH_BYTES, "big") + data):
            yield piece
    yield compressor.flush()


def rows(folder: Folder, point: Point) -> Iterator[Saved]:
    """The rows of a point.

    Raises:
        CorruptData: the file is not what was written, or is missing; told before its last row.
    """
    return _records(folder, f"points/{point.name}/rows.zst", point.rows_digest, Saved)


def heads(folder: Folder, point: Point) -> Iterator[HeadAt]:
    """How far each model's log went, by name. Raises as ``rows``."""
    return _records(folder, f"points/{point.name}/heads.zst", point.heads_digest, HeadAt)


def _records(folder: Folder, path: str, digest: str, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.msgpack.Decoder(kind)
    source = _checked(folder, path, digest)
    reader = zstandard.ZstdDecompressor().decompressobj()
    pending = bytearray()
    for piece in source:
        try:
            pending += reader.decompress(piece)
        except zstandard.ZstdError as exc:
            raise _damaged(folder, path) from exc
        start = 0
        while len(pending) - start >= _LENGTH_BYTES:
            begin = start + _LENGTH_BYTES
            stop = begin + int.from_bytes(pending[start:begin], "big")
            if stop > len(pending):
                break
            try:
                yield decoder.decode(pending[begin:stop])
            except msgspec.DecodeError as exc:
                raise _damaged(folder, path) from exc
            start = stop
        del pending[:start]
    if pending:
        raise _damaged(folder, path)


def _checked(folder: Folder, path: str, digest: str) -> Iterator[bytes]:
    """A file's bytes, the last of them only once all match the digest."""
    seen, held = blake3(), b""
    for piece in read(folder, path):
        seen.update(piece)
        yield held
        held = piece
    if seen.hexdigest() != digest:
        raise _damaged(folder, path)
    yield held


def read(folder: Folder, path: str) -> Iterator[bytes]:
    """A file's bytes, piece by piece.

    Raises:
        CorruptData: it is not there.
    """
    offset = 0
    while True:
        try:
            piece = folder.read(path, offset, _READ_BYTES)
        except NotFound as exc:
            raise CorruptData(
                f"{path} is missing in the backup {folder.address}",
                remedy="Restore an earlier one, or from another copy of the backup.",
            ) from exc
        if piece:
            yield piece
        if len(piece) < _READ_BYTES:
            return
        offset += len(piece)


def _whole(folder: Folder, path: str) -> bytes | None:
    if folder.stat(path) is None:
        return None
    return b"".join(read(folder, path))


def _decoded(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as exc:
        raise CorruptData(
            f"{what} of the backup is not readable: {exc}", remedy="Restore an earlier one."
        ) from exc


def _damaged(folder: Folder, path: str) -> CorruptData:
    return CorruptData(
        f"{path} in the backup {folder.address} is not what was written",
        remedy="Restore an earlier one, or from another copy of the backup.",
    )
