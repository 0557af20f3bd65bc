"""Where a safetensors file keeps its tensors.

The format: the header's length as a 64-bit little-endian number, the header as JSON, then the
tensors' bytes without gaps. A file that strays from it in any way is no safetensors file here: it
is stored all the same, only without the tensors' boundaries.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, BinaryIO

import msgspec

LARGEST_HEADER_BYTES = 16 << 20
"""The format allows 100 MB, but parsing takes up to 25 times the header's size in memory; 16 MiB
hold 150,000 tensors."""

_PREFIX_BYTES = 8
_MOST_DIMENSIONS = 64
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}

_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Tensor(msgspec.Struct, frozen=True):
    """A tensor's entry; ``data_offsets`` are begin and end in bytes, from the end of the header."""

    dtype: str
    shape: Annotated[tuple[_Natural, ...], msgspec.Meta(max_length=_MOST_DIMENSIONS)]
    data_offsets: tuple[_Natural, _Natural]


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """A header that was found sound: ``tensors`` in the order of their bytes, and free texts.

    ``size_bytes`` is where the tensors' bytes begin in the file.
    """

    size_bytes: int
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


_entries = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tensor = msgspec.json.Decoder(Tensor)
_texts = msgspec.json.Decoder(dict[str, str])


def safetensors_header(file: BinaryIO, size_bytes: int) -> SafetensorsHeader | None:
    """The header of the file of ``size_bytes`` that begins here; None if it is not a sound one.

    Sound means: names are unique, each tensor has the size that its shape and dtype call for, and
    together they fill the file. Reads the header at most. Its size is bounded by
    ``LARGEST_HEADER_BYTES``.
    """
    length = int.from_bytes(read_fully(file, _PREFIX_BYTES), "little")
    start = _PREFIX_BYTES + length
    if length > LARGEST_HEADER_BYTES or start > size_bytes:
        return None
    try:
        header = _parsed(read_fully(file, length), start)
    except (ValueError, RecursionError):
        return None
    end = 0
    for tensor in header.tensors.values():
        if tensor.data_offsets != (end, end + _size_bytes(tensor)):
            return None
        end = tensor.data_offsets[1]
    return header if start + end == size_bytes else None


def _parsed(raw: bytes, start: int) -> SafetensorsHeader:
    """Raises ValueError (of which msgspec's errors are kinds) or RecursionError."""
    entries = _entries.decode(raw)
    # The decoder keeps the last of two equal names, other readers the first: nobody must see both.
    json.loads(raw.decode(), object_pairs_hook=_refuse_duplicates)
    metadata = _texts.decode(entries.pop("__metadata__", b"{}"))
    tensors = {name: _tensor.decode(entry) for name, entry in entries.items()}
    return SafetensorsHeader(
        start, dict(sorted(tensors.items(), key=lambda item: item[1].data_offsets)), metadata
    )


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")


def _size_bytes(tensor: Tensor) -> int:
    """-1, which no tensor has, for an unknown dtype or a fraction of a byte."""
    bits = math.prod(tensor.shape) * _BITS.get(tensor.dtype, 1)
    return bits // 8 if tensor.dtype in _BITS and bits % 8 == 0 else -1


def read_fully(file: BinaryIO, size_bytes: int) -> bytes:
    """Raw files may give less than was asked for before their end."""
    data = file.read(size_bytes)
    while len(data) < size_bytes and (more := file.read(size_bytes - len(data))):
        data += more
    return data
