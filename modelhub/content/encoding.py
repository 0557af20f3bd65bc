"""Encodings: how what a pack stores leads to a chunk's own bytes.

::

    0        raw: the chunk as it is
    1 2 3 4  grouped: in planes (``content.planes``), as elements of 1, 2, 4, 8 bytes
    5 6 7 8  difference: the same of the chunk XOR its base, another chunk of the same length

Before the planes stand the first 8 bytes of the BLAKE3-256 of all that follows: a zstd frame has
bits that make no difference to what it holds, and what rots is to be found wherever it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from modelhub.content.pack import RAW
from modelhub.content.planes import HUFFMAN, Array, group, plan, ungroup

_WIDTHS = (1, 2, 4, 8)
_GROUPED = {1: 1, 2: 2, 3: 4, 4: 8}
_DIFFERENCE = {5: 1, 6: 2, 7: 4, 8: 8}
"""The elements' width by encoding."""
_GROUPED_OF = {width: encoding for encoding, width in _GROUPED.items()}
_DIFFERENCE_OF = {width: encoding for encoding, width in _DIFFERENCE.items()}

_CHECK_BYTES = 8
_SAMPLE_BYTES = 64 << 10
_SAMPLE_RUNS = 16
_GAIN = 0.97
"""A chunk that does not shrink to this share stays raw, which costs its readers nothing."""
_GAIN_BY_BASE = 0.9
"""A difference that does not shrink to this share of the plain encoding is none: to read it takes
two chunks."""

_NUMBERS = (HUFFMAN,)
_ANYTHING = (HUFFMAN, 3)
_SMALL = (HUFFMAN, 3, 9)
"""The levels of zstd that a sample is tried with; each wins on some plane or text."""

_WIDTH_OF = (
    dict.fromkeys(("F16", "BF16", "I16", "U16"), 2)
    | dict.fromkeys(("F32", "I32", "U32", "C64"), 4)
    | dict.fromkeys(("F64", "I64", "U64", "C128"), 8)
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chunk as a pack is to store it."""

    encoding: int
    stored: bytes | memoryview

    @property
    def based(self) -> bool:
        """Whether it is a difference from the base."""
        return is_based(self.encoding)


def is_known(encoding: int) -> bool:
    """Whether this release can decode it."""
    return encoding == RAW or encoding in _GROUPED or encoding in _DIFFERENCE


def is_based(encoding: int) -> bool:
    """Whether decoding it takes another chunk."""
    return encoding in _DIFFERENCE


def width_of(dtype: str) -> int:
    """Bytes of an element, or of each part of a complex one; types as in safetensors and GGUF.

    1 for all others: what is packed in blocks has no plane that means one thing.
    """
    return _WIDTH_OF.get(dtype, 1)


def encode(
    data: bytes | memoryview,
    *,
    width: int | None,
    base: bytes | memoryview | None = None,
    small: bool = False,
) -> Encoded:
    """The smallest form of ``data`` that a sample of 64 KiB lets expect.

    Raw, and not copied, where that gains next to nothing.

    Args:
        data: a chunk, which has bytes.
        width: of its elements in bytes, 1, 2, 4 or 8; None where nothing says so, and the sample
            is to show it. What is not known to be numbers is searched for repetitions too.
        base: a chunk that it may be like; ignored where it has another length.
        small: search for repetitions in any case, and longer, where the sample has some.
    """
    chunk = np.frombuffer(data, np.uint8)
    sample = _sample(chunk)
    levels = _SMALL if small else _ANYTHING if width is None else _NUMBERS
    # A small file of unknown kind is a text nearly always, and there may be thousands.
    guessed = _WIDTHS if len(data) > _SAMPLE_BYTES else _WIDTHS[:1]
    widths = guessed if width is None else (width,)
    plain = min((plan(sample, each, levels) for each in widths), key=lambda found: found.share)
    if base is not None and len(base) == len(data):
        other = np.frombuffer(base, np.uint8)
        difference = plan(sample ^ _sample(other), plain.width, levels)
        limit = _GAIN_BY_BASE * min(plain.share, 1)
        if difference.share <= limit:
            stored = sealed(group(chunk ^ other, difference))
            if len(stored) <= limit * len(data):
                return Encoded(_DIFFERENCE_OF[plain.width], stored)
    if plain.share <= _GAIN:
        stored = sealed(group(chunk, plain))
        if len(stored) <= _GAIN * len(data):
            return Encoded(_GROUPED_OF[plain.width], stored)
    return Encoded(RAW, data)


def decode(
    encoding: int,
    stored: bytes | memoryview,
    length: int,
    base: bytes | memoryview | None,
    out: memoryview | None = None,
) -> memoryview:
    """The chunk of ``length`` bytes, not yet verified.

    Whatever ``stored`` says, about twice ``length`` is all the memory that this takes.

    Args:
        encoding: any number.
        stored: any bytes.
        length: the chunk's, which is believed.
        base: the chunk that it is a difference from, and None if it is none.
        out: where to put the chunk: as many writable bytes as it has.

    Raises:
        ValueError: ``stored`` is no chunk of this length in this encoding, or ``base`` or ``out``
            does not fit; ``out`` may hold anything then.
    """
    if not is_known(encoding):
        raise ValueError(f"encoding {encoding} is not known to this release")
    if is_based(encoding) != (base is not None):
        raise ValueError("a difference without a base, or a base without a difference")
    if any(part is not None and len(part) != length for part in (base, out)):
        raise ValueError("the base or the buffer is not as long as the chunk")
    if encoding == RAW and len(stored) != length:
        raise ValueError("a raw chunk is not as long as it is")
    chunk = np.empty(length, np.uint8) if out is None else np.frombuffer(out, np.uint8)
    if encoding == RAW:
        chunk[:] = np.frombuffer(stored, np.uint8)
    else:
        width = (_GROUPED | _DIFFERENCE)[encoding]
        ungroup(_unsealed(memoryview(stored)), width, chunk)
    if base is not None:
        chunk ^= np.frombuffer(base, np.uint8)
    return chunk.data


def sealed(planes: bytes) -> bytes:
    """What is stored of a chunk in planes."""
    return blake3(planes).digest(_CHECK_BYTES) + planes


def _unsealed(stored: memoryview) -> memoryview:
    planes = stored[_CHECK_BYTES:]
    if stored[:_CHECK_BYTES] != blake3(planes).digest(_CHECK_BYTES):
        raise ValueError("the planes do not match their check")
    return planes


def _sample(chunk: Array) -> Array:
    """Runs from all over the chunk, of whole elements of any width; all of a small one."""
    if len(chunk) <= _SAMPLE_BYTES:
        return chunk
    apart = len(chunk) // _SAMPLE_RUNS // 8 * 8
    runs = chunk[: apart * _SAMPLE_RUNS].reshape(_SAMPLE_RUNS, apart)
    return runs[:, : _SAMPLE_BYTES // _SAMPLE_RUNS].reshape(-1)
