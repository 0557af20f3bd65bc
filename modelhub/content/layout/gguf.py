"""GGUF, versions 2 and 3, little-endian: what llama.cpp and its kin read.

::

    "GGUF"  version u32  tensors u64  facts u64
    facts   name  kind u32  value
    tensors name  dimensions u32  size u64 of each, innermost first  type u32  offset u64
    padding up to a multiple of the alignment (the fact general.alignment, else 32)
    data    tensors in the order of their entries, each padded to the alignment

A text is its length as u64 and its bytes; an array is its items' kind as u32, their number as u64
and the items. Offsets count from the beginning of the data. A file that strays from this is opaque.
"""

from __future__ import annotations

import math
from typing import BinaryIO

from modelhub.content.layout.fields import Fields
from modelhub.content.layout.spans import MOST_TENSORS, Span, Unsound, padded

MAGIC = b"GGUF"

_HEADER_BYTES = 32 << 20
"""Vocabularies of 260,000 words and their merges take up to 15 MB."""

_VERSIONS = (2, 3)
_ALIGNMENT = b"general.alignment"
_MOST_ALIGNMENT = 1 << 20
_MOST_DIMENSIONS = 8
_MOST_NAME_BYTES = 1 << 16
_DEEPEST = 4

_FACT_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""By kind: integers from 8 to 32 bits unsigned and signed, float, bool, then those of 64 bits."""
_UINT32, _TEXT, _ARRAY = 4, 8, 9

TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""By number: the name, how many numbers share a block, and the block's bytes."""


def gguf_spans(file: BinaryIO, size_bytes: int) -> list[Span]:
    """The spans of a GGUF file that begins here; padding goes with the tensor before it.

    Raises:
        Unsound: it is none of these versions, strays from the format, has no tensors, or has a
            type that is not known here.
    """
    fields = Fields(file, 0, min(_HEADER_BYTES, size_bytes))
    if fields.take(4) != MAGIC or fields.number(4) not in _VERSIONS:
        raise Unsound("not GGUF")
    tensors, facts = fields.number(8), fields.number(8)
    if not 0 < tensors <= MOST_TENSORS:
        raise Unsound("no tensors, or too many")
    alignment = _alignment(fields, facts)
    entries = [_entry(fields) for _ in range(tensors)]
    start = fields.at + -fields.at % alignment
    spans = padded([(start + offset, tensor) for offset, tensor in entries], size_bytes)
    if spans[0].size_bytes != start or any(offset % alignment for offset, _ in entries):
        raise Unsound("a tensor is not aligned")
    if any(span.padding_bytes >= alignment for span in spans):
        raise Unsound("bytes that are no tensor's")
    return spans


def _alignment(fields: Fields, facts: int) -> int:
    """Go over the facts, of which this is the one that matters."""
    alignment = 32
    for _ in range(facts):
        name, kind = fields.take(fields.number(8)), fields.number(4)
        if name == _ALIGNMENT and kind == _UINT32:
            alignment = fields.number(4)
        else:
            _skip(fields, kind, 1, depth=0)
    if not 0 < alignment <= _MOST_ALIGNMENT or alignment % 8:
        raise Unsound("an odd alignment")
    return alignment


def _skip(fields: Fields, kind: int, count: int, *, depth: int) -> None:
    if kind in _FACT_BYTES:
        fields.skip(_FACT_BYTES[kind] * count)
    elif kind == _TEXT:
        fields.skip_texts(count)
    elif kind == _ARRAY and depth < _DEEPEST:
        for _ in range(count):
            _skip(fields, fields.number(4), fields.number(8), depth=depth + 1)
    else:
        raise Unsound("an unknown kind of fact")


def _entry(fields: Fields) -> tuple[int, Span]:
    """A tensor's offset, and the tensor without padding."""
    length = fields.number(8)
    if not 0 < length <= _MOST_NAME_BYTES:
        raise Unsound("a tensor without a name")
    try:
        name = fields.take(length).decode()
    except UnicodeDecodeError as exc:
        raise Unsound("a name that is no text") from exc
    dimensions = fields.number(4)
    if dimensions > _MOST_DIMENSIONS:
        raise Unsound("too many dimensions")
    shape = tuple(fields.number(8) for _ in range(dimensions))
    kind, offset = fields.number(4), fields.number(8)
    if kind not in TYPES:
        raise Unsound("an unknown type")
    dtype, block, block_bytes = TYPES[kind]
    if (shape and shape[0] % block) or (not shape and block > 1):
        raise Unsound("rows that are no whole blocks")
    return offset, Span(math.prod(shape) // block * block_bytes, name, dtype, shape[::-1])
