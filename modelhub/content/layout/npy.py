"""numpy's ``.npy``: a header, which is a Python dict as text, then one array."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

from modelhub.content.layout.fields import Fields
from modelhub.content.layout.spans import Span, Unsound, filled

MAGIC = b"\x93NUMPY"

_MOST_HEADER_BYTES = 10_000
"""What numpy itself reads of files that it does not trust."""

_DESCR = re.compile(rb"'descr': *'([<>|=])([a-zA-Z])([0-9]{1,4})'")
_ORDER = re.compile(rb"'fortran_order': *(True|False)")
_SHAPE = re.compile(rb"'shape': *\(([0-9, ]*)\)")
_MOST_DIMENSIONS = 64
_MOST_DIGITS = 19

_DTYPES = {
    **{f"f{size}": f"F{8 * size}" for size in (2, 4, 8)},
    **{f"{kind}{size}": f"{kind.upper()}{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)},
    "b1": "BOOL",
    "c8": "C64",
}
_PLAIN_KINDS = "fiubcV"
"""Kinds whose number is their size in bytes: floats, integers, bool, complex, and plain bytes."""


class NpyHeader(NamedTuple):
    """Where the array begins after the ``.npy`` does, its dtype (``O`` for objects) and shape.

    The shape is that of the bytes: reversed where ``in_columns``.
    """

    size_bytes: int
    dtype: str
    shape: tuple[int, ...]
    array_bytes: int
    in_columns: bool = False

    def span(self, name: str) -> Span:
        """The array."""
        return Span(self.array_bytes, name, self.dtype, self.shape, in_columns=self.in_columns)


def npy_header(file: BinaryIO, begin: int, limit_bytes: int) -> NpyHeader:
    """The header of the ``.npy`` at ``begin`` of ``file``, of which ``limit_bytes`` may be read.

    A pickle follows where the dtype is ``O``; ``array_bytes`` is then 0.

    Raises:
        Unsound: it is none, or its array is of a kind that is not known here.
    """
    fields = Fields(file, begin, limit_bytes)
    if fields.take(len(MAGIC)) != MAGIC:
        raise Unsound("not an array")
    major, _ = fields.take(2)
    length = fields.number(2 if major == 1 else 4)
    if major not in (1, 2, 3) or length > _MOST_HEADER_BYTES:
        raise Unsound("an unknown header")
    text = fields.take(length)
    if re.search(rb"'descr': *'\|O", text):
        return NpyHeader(fields.at - begin, "O", (), 0)
    descr, order, shape = _DESCR.search(text), _ORDER.search(text), _SHAPE.search(text)
    if descr is None or order is None or shape is None:
        raise Unsound("an unknown header")
    sizes = _sizes(shape[1])
    in_columns = order[1] == b"True" and len(sizes) > 1
    if in_columns:
        sizes = sizes[::-1]
    swapped, kind, item = descr[1] == b">", descr[2].decode(), int(descr[3])
    if kind not in _PLAIN_KINDS:
        raise Unsound("an unknown dtype")
    native = None if swapped and item > 1 else _DTYPES.get(f"{kind}{item}")
    dtype = native or b"".join(descr.groups()).decode()
    return NpyHeader(fields.at - begin, dtype, sizes, math.prod(sizes) * item, in_columns)


def _sizes(text: bytes) -> tuple[int, ...]:
    digits = text.replace(b",", b" ").split()
    if len(digits) > _MOST_DIMENSIONS or any(len(number) > _MOST_DIGITS for number in digits):
        raise Unsound("too large a shape")
    return tuple(map(int, digits))


def npy_spans(file: BinaryIO, size_bytes: int, path: str) -> list[Span]:
    """The spans of a ``.npy``: its header, and its array under the file's name.

    Raises:
        Unsound: it is none, or does not end with its array.
    """
    header = npy_header(file, 0, size_bytes)
    if header.dtype == "O" or header.size_bytes + header.array_bytes != size_bytes:
        raise Unsound("not an array, or not an array alone")
    return filled([(header.size_bytes, header.span(PurePosixPath(path).stem))], size_bytes)
