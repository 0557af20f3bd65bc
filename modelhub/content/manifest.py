"""Manifests: a version's files, and for each the chunks that it is made of.

A manifest is one blob: Arrow IPC streams with zstd buffers, one behind the other. The first has a
row a file, the second a row a chunk: files are sorted by path and their chunks follow in the same
order, so that a file names only how many are its own. Where chunks are stored as differences, a
third has a row for each chunk that they are differences from, whether or not a file of this version
has it too: a manifest says by itself where everything lies that reading the version takes.

What is decoded is believed only as far as it is consistent, since a manifest decides where a
pulled file is written.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from modelhub.content.encoding import is_based, is_known
from modelhub.content.pack import LARGEST_OFFSET, RAW, is_pack_id
from modelhub.errors import CorruptData, InvalidInput
from modelhub.names import file_path, shown

_FORMAT = {b"modelhub.manifest": b"1"}
_DIGEST = pa.binary(32)
_FILES = pa.schema(
    [
        pa.field("path", pa.utf8(), nullable=False),
        pa.field("size", pa.uint64(), nullable=False),
        pa.field("mode", pa.uint16(), nullable=False),
        pa.field("digest", _DIGEST, nullable=False),
        pa.field("cutter", pa.utf8(), nullable=False),
        pa.field("chunks", pa.uint64(), nullable=False),
    ],
    metadata=_FORMAT,
)
_PLACE = [
    pa.field("digest", _DIGEST, nullable=False),
    pa.field("length", pa.uint32(), nullable=False),
    pa.field("pack", pa.dictionary(pa.int32(), pa.utf8()), nullable=False),
    pa.field("offset", pa.uint64(), nullable=False),
    pa.field("stored", pa.uint32(), nullable=False),
    pa.field("encoding", pa.uint8(), nullable=False),
]
_CHUNKS = pa.schema([*_PLACE, pa.field("base", _DIGEST, nullable=True)], metadata=_FORMAT)
_BASES = pa.schema(_PLACE, metadata=_FORMAT)
_PERMISSION_BITS = 0o777
_LISTED_BYTES = 40


class ChunkRef(msgspec.Struct, frozen=True):
    """A chunk and where it lies: ``stored`` bytes from ``offset`` in ``pack``.

    ``digest`` is the raw BLAKE3-256 of the ``length`` bytes that they decode to. ``base`` is the
    chunk which they are a difference from, if any; that one is no difference itself.
    """

    digest: bytes
    length: int
    pack: str
    offset: int
    stored: int
    encoding: int = RAW
    base: ChunkRef | None = None

    def packs(self) -> tuple[str, ...]:
        """The packs that reading it takes."""
        return (self.pack,) if self.base is None else (self.pack, self.base.pack)


class ManifestFile(msgspec.Struct, frozen=True):
    """A file of a version. ``digest`` is in hex; ``first_chunk`` counts in the whole manifest.

    The digest is BLAKE3-256 over the digest and length (u64, little-endian) of each chunk, so it
    follows from the file's bytes and the cutter.
    """

    path: str
    size_bytes: int
    mode: int
    digest: str
    cutter: str
    first_chunk: int
    chunk_count: int


class ManifestBuilder:
    """Collects a version's files, in any order."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int, str, tuple[ChunkRef, ...]]] = {}

    def add_file(
        self, path: str, size_bytes: int, mode: int, cutter: str, chunks: Iterable[ChunkRef]
    ) -> None:
        """Add a file with its chunks in order. ``mode`` is its permission bits.

        Raises:
            InvalidInput: no path that a version can hold, or one that was added before.
        """
        if file_path(path) in self._files:
            raise InvalidInput(f"{shown(path)} occurs twice", remedy="Name each file once.")
        self._files[path] = (size_bytes, mode, cutter, tuple(chunks))

    def encode(self) -> bytes:
        """The manifest's blob. The same files and places give the same bytes."""
        files = sorted(self._files.items())
        placed = [ref for _, (*_, refs) in files for ref in refs]
        bases = {ref.base.digest: ref.base for ref in placed if ref.base is not None}
        chunks = _table(_CHUNKS, [(*_place(ref), ref.base and ref.base.digest) for ref in placed])
        listing = _listing(chunks)
        rows, first = [], 0
        for path, (size_bytes, mode, cutter, refs) in files:
            digest = _digest(listing, first, len(refs))
            rows.append((path, size_bytes, mode, digest, cutter, len(refs)))
            first += len(refs)
        sink = pa.BufferOutputStream()
        _write(sink, _table(_FILES, rows))
        _write(sink, chunks)
        if bases:
            _write(sink, _table(_BASES, [_place(ref) for ref in bases.values()]))
        return bytes(sink.getvalue())


class Manifest:
    """What a version is made of. Made by ``decode`` alone, so it is always consistent."""

    def __init__(self, files: Any, chunks: Any, bases: Any) -> None:
        for table in (chunks, bases):
            _check_places(table)
        self._chunks = chunks
        self._bases = {row[0]: ChunkRef(*row) for row in _rows(bases)}
        _check_bases(chunks, self._bases)
        self._packs = tuple(sorted({*_checked_packs(chunks), *_checked_packs(bases)}))
        self._ends = array("Q", accumulate(_values(chunks, "length")))
        self.files: tuple[ManifestFile, ...] = tuple(self._checked_files(files))

    @classmethod
    def decode(cls, data: bytes, subject: str) -> Manifest:
        """The manifest in ``data``; ``subject`` names it in the error.

        Raises:
            CorruptData: not readable, of an unknown format, or not consistent in itself.
        """
        source = pa.BufferReader(data)
        try:
            files, chunks = _read(source, _FILES), _read(source, _CHUNKS)
            more = source.tell() < len(data)
            bases = _read(source, _BASES) if more else _table(_BASES, [])
            if source.tell() != len(data):
                raise ValueError("something follows the last stream")  # noqa: TRY301
            manifest = cls(files, chunks, bases)
        except (pa.ArrowException, OSError, ValueError, MemoryError, InvalidInput) as exc:
            raise CorruptData(
                f"{subject} is not readable: {exc}", remedy="Run `modelhub admin fsck`."
            ) from exc
        return manifest

    def chunks(self, file: ManifestFile) -> list[ChunkRef]:
        """The file's chunks in order, made on the spot."""
        return self._refs(file.first_chunk, file.first_chunk + file.chunk_count)

    def every_chunk(self) -> list[ChunkRef]:
        """The chunks of all files in order, those twice that occur twice."""
        return self._refs(0, len(self._ends))

    def spanning(self, file: ManifestFile, offset: int, length: int) -> tuple[list[ChunkRef], int]:
        """The chunks that hold these bytes of the file, and where in the first of them they begin.

        The bytes, at least one, lie inside the file.
        """
        begin = self._start(file.first_chunk)
        first = bisect_right(self._ends, begin + offset)
        last = bisect_right(self._ends, begin + offset + length - 1)
        return self._refs(first, last + 1), begin + offset - self._start(first)

    def packs(self) -> tuple[str, ...]:
        """The packs that reading everything needs, sorted."""
        return self._packs

    def content_digest(self) -> str:
        """The version's logical identity in hex, wherever its chunks lie.

        BLAKE3-256 over, for each file by path: the path's length in bytes (u32), the path, mode
        (u32), size (u64) and digest (32 raw bytes); numbers little-endian.
        """
        identity = blake3()
        for file in self.files:
            path = file.path.encode()
            identity.update(struct.pack("<I", len(path)) + path)
            identity.update(struct.pack("<IQ", file.mode, file.size_bytes))
            identity.update(bytes.fromhex(file.digest))
        return identity.hexdigest()

    def _start(self, chunk: int) -> int:
        return self._ends[chunk - 1] if chunk else 0

    def _refs(self, first: int, stop: int) -> list[ChunkRef]:
        rows = _rows(self._chunks.slice(first, stop - first))
        places = ((*row[:-1], row[-1] and self._bases[row[-1]]) for row in rows)
        return [ChunkRef(*place) for place in places]

    def _checked_files(self, table: Any) -> Iterator[ManifestFile]:
        _check_paths(_values(table, "path"))
        listing = _listing(self._chunks)
        columns = (_values(table, name) for name in _FILES.names)
        first = 0
        for path, size_bytes, mode, digest, cutter, count in zip(*columns, strict=True):
            stop = first + count
            if mode > _PERMISSION_BITS:
                raise ValueError(f"{shown(path)} has a mode that is more than permissions")
            if stop > len(self._ends) or self._start(stop) - self._start(first) != size_bytes:
                raise ValueError(f"the chunks of {shown(path)} do not add up to its size")
            if digest != _digest(listing, first, count):
                raise ValueError(f"the chunks of {shown(path)} do not match its digest")
            yield ManifestFile(path, size_bytes, mode, digest.hex(), cutter, first, count)
            first = stop
        if first != len(self._ends):
            raise ValueError("some chunks belong to no file")


def _check_paths(paths: Sequence[str]) -> None:
    seen: set[str] = set()
    previous = ""
    for path in paths:
        if file_path(path) <= previous:
            raise ValueError(f"{shown(path)} occurs twice or out of order")
        folders = accumulate(path.split("/")[:-1], "{}/{}".format)
        if any(folder in seen for folder in folders):
            raise ValueError(f"{shown(path)} lies in a folder that is a file as well")
        seen.add(path)
        previous = path


def _check_places(places: Any) -> None:
    length, stored, offset, encoding = (
        _numbers(places, name) for name in ("length", "stored", "offset", "encoding")
    )
    if (length == 0).any():
        raise ValueError("a chunk is empty")
    if (offset > LARGEST_OFFSET).any():
        raise ValueError("a chunk lies beyond any pack's end")
    for each in set(encoding.tolist()):
        if not is_known(each):
            raise ValueError(f"encoding {each} is not known to this release")
    if ((encoding == RAW) & (stored != length)).any():
        raise ValueError("a raw chunk has a length of its own in the pack")
    if (stored > length).any():
        raise ValueError("a chunk is longer in the pack than in its file")


def _check_bases(chunks: Any, bases: Mapping[bytes, ChunkRef]) -> None:
    if any(is_based(ref.encoding) for ref in bases.values()):
        raise ValueError("a difference builds on another one")
    encodings = _numbers(chunks, "encoding").tolist()
    differences = {each for each in set(encodings) if is_based(each)}
    if not differences and chunks["base"].null_count == len(chunks):
        return
    columns = (_values(chunks, name) for name in ("length", "base"))
    for encoding, length, base in zip(encodings, *columns, strict=True):
        if (encoding in differences) != (base is not None):
            raise ValueError("a difference without a base, or a base without a difference")
        if base is not None and (base not in bases or bases[base].length != length):
            raise ValueError("a difference builds on a chunk that is not there, or of other length")


def _checked_packs(chunks: Any) -> tuple[str, ...]:
    packs = chunks["pack"].unique().to_pylist()
    for pack in packs:
        if pack is None or not is_pack_id(pack):
            raise ValueError(f"{shown(str(pack))} is not a pack id")
    return tuple(sorted(packs))


def _listing(chunks: Any) -> memoryview:
    """What the files' digests are over, 40 bytes a chunk; built without a Python object each."""
    digests = _bytes_of(chunks["digest"])
    lengths = _bytes_of(chunks["length"].cast(pa.uint64()))
    return memoryview(np.hstack([digests, lengths]).tobytes())


def _bytes_of(column: Any) -> npt.NDArray[np.uint8]:
    """A row of bytes for each value of a type of fixed width."""
    values = column.combine_chunks()
    width = values.type.bit_width // 8
    data = np.frombuffer(values.buffers()[1] or b"", np.uint8)
    return data[values.offset * width :][: len(values) * width].reshape(len(values), width)


def _numbers(table: Any, name: str) -> npt.NDArray[Any]:
    """A column of numbers. Arrow's own comparisons would import pandas for the numbers beside."""
    column = table[name]
    return _bytes_of(column).reshape(-1).view(column.type.to_pandas_dtype())


def _digest(listing: memoryview, first: int, count: int) -> bytes:
    return blake3(listing[first * _LISTED_BYTES : (first + count) * _LISTED_BYTES]).digest()


def _values(table: Any, name: str) -> list[Any]:
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)  # ten times faster than value by value
    values: list[Any] = column.to_pylist()
    return values


def _rows(table: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(_values(table, name) for name in table.schema.names), strict=True)


def _place(ref: ChunkRef) -> tuple[object, ...]:
    return ref.digest, ref.length, ref.pack, ref.offset, ref.stored, ref.encoding


def _table(schema: Any, rows: Sequence[tuple[Any, ...]]) -> Any:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: Any) -> Any:
    """An Arrow array of one of the types above.

    From buffers: ``pa.array`` looks at each value, and imports pandas where that is installed,
    which takes longer than all the rest of a small push.
    """
    if pa.types.is_dictionary(kind):
        known = {value: number for number, value in enumerate(dict.fromkeys(values))}
        indices = _array([known[value] for value in values], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, _array(list(known), kind.value_type))
    if pa.types.is_string(kind):
        texts = [value.encode() for value in values]
        ends = array("i", accumulate(map(len, texts), initial=0))
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
    elif pa.types.is_fixed_size_binary(kind):
        there = np.array([value is not None for value in values], bool)
        bits = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little"))
        nothing = bytes(kind.byte_width)
        buffers = [bits, pa.py_buffer(b"".join(value or nothing for value in values))]
    else:
        buffers = [None, pa.py_buffer(np.array(values, kind.to_pandas_dtype()))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _write(sink: Any, table: Any) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)


def _read(source: Any, schema: Any) -> Any:
    # One thread: a manifest is small, and starting a pool takes longer than decoding it.
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(source, options=options) as stream:
        if not stream.schema.equals(schema, check_metadata=True):
            raise ValueError("it is of a format that this release does not know")
        table = stream.read_all()
    table.validate(full=True)  # else Arrow believes offsets and reads past its buffers
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"a row has no {field.name}")
    return table
