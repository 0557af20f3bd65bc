"""Chunks of numbers as planes: bytes of equal meaning side by side, each coded on its own.

::

    planes   one for each byte of an element: kind u8 (0: as it is, 1: a zstd frame), stored u32
    bodies   the planes' stored bytes, in the same order, back to back
    tail     what is left when the length is divided by the element's, as it is

Plane ``i`` is byte ``i`` of every element in turn. Numbers are little-endian. A frame states the
size of what it holds. How hard zstd tried is not recorded, and makes no difference to reading.

Weights hold next to no repetitions, and taking what look like some costs both time and room: of a
bf16 matrix's upper bytes, zstd's level 9 stores 40 % at 34 MB/s, Huffman codes alone 34 % at
900 MB/s. So zstd is held in the corner where it does little else. Lower bytes are mostly noise and
stay as they are.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard

Array = npt.NDArray[np.uint8]

HUFFMAN = 0
"""A level below zstd's own, which are 1 and up: it hardly looks for repetitions."""

_AS_IS = 0
_ZSTD = 1
_PLANE = struct.Struct("<BI")

_NOISE = 7.6 / 8
"""A plane whose sample does not shrink to this share is not coded: 7.6 bits of entropy a byte."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to store chunks like a sample, and the share of their size that this should take.

    Attributes:
        levels: one for each plane; None stores it as it is.
    """

    width: int
    levels: tuple[int | None, ...]
    share: float


def plan(sample: Array, width: int, levels: Sequence[int]) -> Plan:
    """The best of ``levels`` for each plane of elements of ``width`` bytes."""
    chosen: list[int | None] = []
    stored = width * _PLANE.size + len(sample) % width
    for plane in _split(sample, width):
        size, level = min(
            (len(_codecs.compressor(each).compress(plane.data)), each) for each in levels
        )
        noise = size > _NOISE * len(plane)
        chosen.append(None if noise else level)
        stored += len(plane) if noise else size
    return Plan(width, tuple(chosen), stored / len(sample))


def group(chunk: Array, how: Plan) -> bytes:
    """The chunk in planes, in the layout above."""
    head = bytearray()
    bodies: list[bytes | memoryview] = []
    for plane, level in zip(_split(chunk, how.width), how.levels, strict=True):
        kind, body = _coded(plane, level)
        head += _PLANE.pack(kind, len(body))
        bodies.append(body)
    tail = chunk[len(chunk) - len(chunk) % how.width :]
    return b"".join([head, *bodies, tail.data])


def ungroup(stored: memoryview, width: int, out: Array) -> None:
    """Put the chunk back together in ``out``, whose size is the chunk's.

    Whatever ``stored`` says, no more memory is taken than ``out`` has, in addition to it.

    Raises:
        ValueError: it is not such a chunk; ``out`` may hold anything then.
    """
    count, tail = divmod(len(out), width)
    begin, end = width * _PLANE.size, len(stored) - tail
    if begin > end:
        raise ValueError("too short for the planes' sizes")
    planes = list(_PLANE.iter_unpack(stored[:begin]))
    if begin + sum(size for _, size in planes) != end:
        raise ValueError("the planes' sizes do not add up")
    elements = out[: count * width].view(f"<u{width}")
    elements[...] = 0
    for kind, size in reversed(planes):
        elements <<= 8
        elements |= _decoded(kind, stored[end - size : end], count)
        end -= size
    out[count * width :] = np.frombuffer(stored, np.uint8)[len(stored) - tail :]


def _split(chunk: Array, width: int) -> Iterator[Array]:
    # By shifts, which run several times as fast as copies of every second byte.
    elements = chunk[: len(chunk) - len(chunk) % width].view(f"<u{width}")
    for index in range(width):
        yield (elements >> 8 * index).astype(np.uint8)


def _coded(plane: Array, level: int | None) -> tuple[int, bytes | memoryview]:
    if level is None:
        return _AS_IS, plane.data
    return _ZSTD, _codecs.compressor(level).compress(plane.data)


def _decoded(kind: int, body: memoryview, count: int) -> Array:
    if kind not in (_AS_IS, _ZSTD):
        raise ValueError(f"{kind} is no kind of plane")
    plane = body if kind == _AS_IS else _decompressed(body, count)
    if len(plane) != count:
        raise ValueError("a plane is of another size")
    return np.frombuffer(plane, np.uint8)


def _decompressed(frame: memoryview, count: int) -> bytes:
    try:
        # zstd takes as much memory as the frame says.
        if zstandard.frame_content_size(frame) != count:
            raise ValueError("a plane's frame is of another size")
        return _codecs.decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise ValueError(f"a plane's frame is damaged: {exc}") from exc


class _Codecs(threading.local):
    """Each thread's own, because one works for one thread at a time."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}

    def compressor(self, level: int) -> zstandard.ZstdCompressor:
        if level not in self._compressors:
            self._compressors[level] = _compressor(level)
        return self._compressors[level]


def _compressor(level: int) -> zstandard.ZstdCompressor:
    if level != HUFFMAN:
        return zstandard.ZstdCompressor(level=level)
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_FAST,
            hash_log=6,
            chain_log=6,
            min_match=7,
            target_length=0,
        )
    )


_codecs = _Codecs()
