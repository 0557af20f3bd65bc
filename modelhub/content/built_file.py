"""A safetensors file that is made while it is read: of stored tensors, and of computed ones."""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import msgspec

from modelhub.content.tensors import Bytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 4 << 20
"""As tensors are cut: whoever reads on asks for each piece once."""

_ALIGNED = 8

Piece = Callable[[int, int], Bytes]
"""So many bytes of a tensor from an offset on; offsets are multiples of ``PIECE_BYTES``."""


class BuiltTensor(NamedTuple):
    """A tensor of the file, piece by piece."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    piece: Piece


class BuiltSource(msgspec.Struct, frozen=True):
    """A ``Source`` whose file is made of tensors, in the order given."""

    path: str
    mode: int
    header: bytes
    tensors: tuple[BuiltTensor, ...]

    @property
    def size_bytes(self) -> int:
        """Of header and tensors."""
        return len(self.header) + sum(tensor.size_bytes for tensor in self.tensors)

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The file, to be read in order; going back computes again."""
        return cast(BinaryIO, io.BufferedReader(_BuiltFile(self.header, self.tensors)))


def built_source(
    path: str, mode: int, tensors: Sequence[BuiltTensor], metadata: dict[str, str]
) -> BuiltSource:
    """A safetensors file of these tensors and free texts."""
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for tensor in tensors:
        offsets = [end, end + tensor.size_bytes]
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        end = offsets[1]
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return BuiltSource(path, mode, len(text).to_bytes(8, "little") + text, tuple(tensors))


class _BuiltFile(io.RawIOBase):
    def __init__(self, header: bytes, tensors: Sequence[BuiltTensor]) -> None:
        super().__init__()
        self._header = header
        self._tensors = [tensor for tensor in tensors if tensor.size_bytes]
        self._begins: list[int] = []
        end = len(header)
        for tensor in self._tensors:
            self._begins.append(end)
            end += tensor.size_bytes
        self._end = end
        self._at = 0
        self._kept: tuple[int, memoryview] = (0, memoryview(header))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        into = memoryview(buffer).cast("B")
        if self._at >= self._end or not into:
            return 0
        begin, data = self._kept
        if not begin <= self._at < begin + len(data):
            begin, data = self._kept = self._piece_at(self._at)
        found = data[self._at - begin :][: len(into)]
        into[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _piece_at(self, at: int) -> tuple[int, memoryview]:
        """Where the piece that holds a position begins, and its bytes."""
        if at < len(self._header):
            return 0, memoryview(self._header)
        index = bisect_right(self._begins, at) - 1
        tensor, begin = self._tensors[index], self._begins[index]
        offset = (at - begin) // PIECE_BYTES * PIECE_BYTES
        size_bytes = min(PIECE_BYTES, tensor.size_bytes - offset)
        return begin + offset, tensor.piece(offset, size_bytes).data
