"""A file as pieces: where the same content lies in two files, the same pieces should come out.

Files whose tensors can be told apart (``layout``) are cut along them, so that a piece is always the
same part of the same tensor whatever happens to the header or to other tensors (and can be stored
as a difference from its predecessor). Everything else is cut where its content says (FastCDC), so
that an insertion changes the pieces around it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from pyfastcdc import FastCDC

from modelhub.content.layout import Beside, alone, layout
from modelhub.content.layout.spans import Span
from modelhub.content.safetensors_layout import LARGEST_HEADER_BYTES, read_fully
from modelhub.content.tree import Source, changed_while_read, reading
from modelhub.names import shown

TENSOR_CUTTER = "tensor/4M-64K-512K/1"
"""Tensors in pieces of 4 MiB from their own start; neighbours below 64 KiB joined up to 512 KiB."""

CONTENT_CUTTER = "fastcdc/512K-512K-2M/1"
"""FastCDC: shortest, average and longest piece. These ids are part of the stored format: a file's
digest depends on its cutter."""

_TENSOR_PIECE_BYTES = 4 << 20
_HEADER_PIECE_BYTES = LARGEST_HEADER_BYTES + 8
"""The largest header of safetensors, with its length, is one piece."""

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


class Part(NamedTuple):
    """Which part of a model a piece is: equal parts of two versions are alike.

    Attributes:
        tensor: the tensor's name; of small ones that share a piece, the first's.
        dtype: as safetensors spells it; empty where those that share a piece differ.
        offset: where in the tensor the piece begins, in bytes.
    """

    tensor: str
    dtype: str
    offset: int


class Piece(NamedTuple):
    """Bytes of a file, and what is known about them."""

    data: bytes
    part: Part | None = None


def cut(file: BinaryIO, source: Source, beside: Beside = alone) -> tuple[str, Iterator[Piece]]:
    """The cutter's id, and the pieces of ``file``, which is read once from its start, in order.

    Headers are read before. Every piece has bytes of its own and stays valid. At most 8 MiB are
    held besides (a header of up to 16 MiB is one piece). A file of up to 512 KiB is one piece, an
    empty one none.

    Raises:
        Conflict: from the iterator, when the file is not as long as it was surveyed.
        Unavailable: from both, when the file system failed.
        What ``beside`` raises.
    """
    with reading(shown(source.path)):
        known = parts(file, source.size_bytes, source.path, beside)
        file.seek(0)
    if known is None:
        return CONTENT_CUTTER, _whole(_content_pieces(file, source.size_bytes), source)
    return TENSOR_CUTTER, _whole(_tensor_pieces(file, known), source)


def parts(
    file: BinaryIO, size_bytes: int, path: str, beside: Beside
) -> list[tuple[int, Part | None]] | None:
    """Each piece's size in bytes that ``cut`` makes of a file, and which part it is.

    None if it is cut by its content. Reads headers alone; ``path`` is the file's in its version.

    Raises:
        What reading ``file``, or those beside it, raises.
    """
    if size_bytes <= _SHORTEST_BYTES:
        return None
    spans = layout(file, size_bytes, path, beside)
    return None if spans is None else list(_tensor_parts(spans))


def _whole(pieces: Iterable[Piece], source: Source) -> Iterator[Piece]:
    missing_bytes = source.size_bytes
    with reading(shown(source.path)):
        for piece in pieces:
            missing_bytes -= len(piece.data)
            if missing_bytes < 0 or not piece.data:
                raise changed_while_read(source)
            yield piece
    if missing_bytes:
        raise changed_while_read(source)


def _content_pieces(file: BinaryIO, size_bytes: int) -> Iterator[Piece]:
    if size_bytes <= _SHORTEST_BYTES:  # no cut is looked for, and a byte more would be noticed
        if data := read_fully(file, size_bytes + 1):
            yield Piece(data)
        return
    for chunk in _fastcdc.cut_stream(file):
        yield Piece(bytes(chunk.data))  # a view of a buffer that the next step overwrites


def _tensor_pieces(file: BinaryIO, known: Iterable[tuple[int, Part | None]]) -> Iterator[Piece]:
    for size_bytes, part in known:
        yield Piece(read_fully(file, size_bytes), part)
    if grown := file.read(1):
        yield Piece(grown)


def _tensor_parts(spans: Sequence[Span]) -> Iterator[tuple[int, Part | None]]:
    # Tensors below 64 KiB that lie side by side share a piece: 10,000 of them would otherwise cost
    # 10,000 index rows and manifest entries to save, at best, storing 512 KiB again when one of
    # them changes. A small one between large ones (a norm between matrices) stays alone, so that
    # the large ones keep their boundaries. The header in front shares with nobody.
    joined_bytes, joined = 0, Part("", "", 0)
    for index, span in enumerate(spans):
        header = index == 0 and not span.tensor
        small = span.size_bytes < _SMALL_TENSOR_BYTES and not header
        if small and joined_bytes and joined_bytes + span.size_bytes <= _JOINED_BYTES:
            joined_bytes += span.size_bytes
            if span.dtype != joined.dtype:
                joined = joined._replace(dtype="")
            continue
        if joined_bytes:
            yield joined_bytes, _part(joined)
        joined_bytes = span.size_bytes if small else 0
        joined = Part(span.tensor, span.dtype, 0)
        if not small:
            most = _HEADER_PIECE_BYTES if header else _TENSOR_PIECE_BYTES
            for at in range(0, span.size_bytes, most):
                yield min(most, span.size_bytes - at), _part(joined._replace(offset=at))
    if joined_bytes:
        yield joined_bytes, _part(joined)


def _part(part: Part) -> Part | None:
    return part if part.tensor else None
