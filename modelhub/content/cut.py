"""A file as pieces: where the same content lies in two files, the same pieces should come out.

safetensors are cut along their tensors, so that a piece is always the same part of the same tensor
whatever happens to the header or to other tensors (and can later be stored as a difference from
its predecessor). Everything else is cut where its content says (FastCDC), so that an insertion
changes the pieces around it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pyfastcdc import FastCDC

from modelhub.content.safetensors_layout import SafetensorsHeader, read_fully, safetensors_header
from modelhub.content.tree import SourceFile, changed_while_read, reading
from modelhub.names import shown

TENSOR_CUTTER = "tensor/4M-64K-512K/1"
"""Tensors in pieces of 4 MiB from their own start; neighbours below 64 KiB joined up to 512 KiB."""

CONTENT_CUTTER = "fastcdc/512K-512K-2M/1"
"""FastCDC: shortest, average and longest piece. These ids are part of the stored format: a file's
digest depends on its cutter."""

_TENSOR_PIECE_BYTES = 4 << 20
_SMALL_TENSOR_BYTES = 64 << 10
_JOINED_BYTES = 512 << 10
_SHORTEST_BYTES = 512 << 10
_LONGEST_BYTES = 2 << 20

_fastcdc = FastCDC(
    _SHORTEST_BYTES,
    min_size=_SHORTEST_BYTES,
    max_size=_LONGEST_BYTES,
    normalized_chunking=1,
    seed=0,
)


def cut(file: BinaryIO, source: SourceFile) -> tuple[str, Iterator[bytes]]:
    """The cutter's id, and the pieces of ``file``, which is read once from its start, in order.

    Every piece has bytes of its own and stays valid. At most 8 MiB are held besides (for
    safetensors a header of up to 16 MiB, which is one piece). A file of up to 512 KiB is one
    piece, an empty one none.

    Raises:
        Conflict: from the iterator, when the file is not as long as it was surveyed.
        Unavailable: from both, when the file system failed.
    """
    header = None
    if source.size_bytes > _SHORTEST_BYTES and source.path.endswith(".safetensors"):
        with reading(shown(source.path)):
            header = safetensors_header(file, source.size_bytes)
            file.seek(0)
    if header is None:
        return CONTENT_CUTTER, _whole(_content_pieces(file), source)
    return TENSOR_CUTTER, _whole(_tensor_pieces(file, header), source)


def _whole(pieces: Iterable[bytes], source: SourceFile) -> Iterator[bytes]:
    missing_bytes = source.size_bytes
    with reading(shown(source.path)):
        for piece in pieces:
            missing_bytes -= len(piece)
            if missing_bytes < 0 or not piece:
                raise changed_while_read(source)
            yield piece
    if missing_bytes:
        raise changed_while_read(source)


def _content_pieces(file: BinaryIO) -> Iterator[bytes]:
    for chunk in _fastcdc.cut_stream(file):
        yield bytes(chunk.data)  # a view of a buffer that the next step overwrites


def _tensor_pieces(file: BinaryIO, header: SafetensorsHeader) -> Iterator[bytes]:
    for size_bytes in _tensor_piece_sizes(header):
        yield read_fully(file, size_bytes)
    if grown := file.read(1):
        yield grown


def _tensor_piece_sizes(header: SafetensorsHeader) -> Iterator[int]:
    # Tensors below 64 KiB that lie side by side share a piece: 10,000 of them would otherwise cost
    # 10,000 index rows and manifest entries to save, at best, storing 512 KiB again when one of
    # them changes. A small one between large ones (a norm between matrices) stays alone, so that
    # the large ones keep their boundaries.
    yield header.size_bytes
    joined_bytes = 0
    for tensor in header.tensors.values():
        begin, end = tensor.data_offsets
        size_bytes = end - begin
        small = size_bytes < _SMALL_TENSOR_BYTES
        if small and joined_bytes + size_bytes <= _JOINED_BYTES:
            joined_bytes += size_bytes
            continue
        if joined_bytes:
            yield joined_bytes
        joined_bytes = size_bytes if small else 0
        if not small:
            for at in range(0, size_bytes, _TENSOR_PIECE_BYTES):
                yield min(_TENSOR_PIECE_BYTES, size_bytes - at)
    if joined_bytes:
        yield joined_bytes
