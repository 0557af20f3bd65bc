"""How far two tensors are from each other, in one pass over blocks that fit into a cache.

With x and y the elements of both, d = y - x, all sums in float64:

- L2 (Euclidean) distance: sqrt(sum d²)
- relative L2: sqrt(sum d²) / sqrt(sum x²)
- cosine similarity: sum xy / (sqrt(sum x²) sqrt(sum y²))
- largest change: max |d|
- fraction changed: how many bit patterns differ, of all elements

(Golub and Van Loan, Matrix Computations, 4th ed., section 2.2.) An element that is NaN or infinite
on either side is counted, and left out of all sums: it would make each of them NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from modelhub.content.frameworks import ML_DTYPES, NUMPY, numpy_dtype
from modelhub.content.tensors import Bytes

_BLOCK = 1 << 13
"""Elements: 64 KiB as float64, a few of which fit into a core's cache. From 10,000 on OpenBLAS
brings in threads of its own for each product, and takes four times as long."""

_BITS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Distance(msgspec.Struct, frozen=True):
    """Sums over pairs of elements; those of two parts are added.

    ``squares`` is the sum of d², ``old`` of x², ``new`` of y², ``product`` of xy.
    """

    elements: int = 0
    changed: int = 0
    not_finite: int = 0
    squares: float = 0.0
    old: float = 0.0
    new: float = 0.0
    product: float = 0.0
    largest: float = 0.0

    def __add__(self, other: Distance) -> Distance:
        return Distance(
            self.elements + other.elements,
            self.changed + other.changed,
            self.not_finite + other.not_finite,
            self.squares + other.squares,
            self.old + other.old,
            self.new + other.new,
            self.product + other.product,
            max(self.largest, other.largest),
        )

    @property
    def l2(self) -> float:
        """The Euclidean distance."""
        return math.sqrt(self.squares)

    @property
    def relative_l2(self) -> float | None:
        """The distance in lengths of the old one; None where that is 0 and the new one is not."""
        if not self.squares:
            return 0.0
        return math.sqrt(self.squares / self.old) if self.old else None

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between them; None where either is 0."""
        if not (self.old and self.new):
            return None
        if not self.squares:
            return 1.0
        return max(-1.0, min(1.0, self.product / (math.sqrt(self.old) * math.sqrt(self.new))))

    @property
    def fraction_changed(self) -> float:
        """Of all elements; 0 where there are none."""
        return self.changed / self.elements if self.elements else 0.0


def is_comparable(dtype: str) -> bool:
    """Whether the elements of this type are numbers that are understood here."""
    return dtype in NUMPY or dtype in ML_DTYPES


@np.errstate(invalid="ignore", over="ignore")
def distance(old: Bytes, old_dtype: str, new: Bytes, new_dtype: str) -> Distance:
    """The distance of the elements in ``old`` from as many in ``new``.

    A complex number counts as two.

    Raises:
        NotInstalled: numpy needs ml_dtypes for one of them.
    """
    widen_old, old_bytes = _widening(old_dtype)
    widen_new, new_bytes = _widening(new_dtype)
    count = len(old) // old_bytes
    total = Distance()
    for at in range(0, count, _BLOCK):
        stop = min(count, at + _BLOCK)
        x = old[at * old_bytes : stop * old_bytes]
        y = new[at * new_bytes : stop * new_bytes]
        total += _block(widen_old(x), widen_new(y))
    if old_dtype != new_dtype:
        return total
    changed = np.count_nonzero(old.view(_BITS[old_bytes]) != new.view(_BITS[old_bytes]))
    return msgspec.structs.replace(total, changed=int(changed))


@np.errstate(invalid="ignore", over="ignore")
def length(data: Bytes, dtype: str) -> Distance:
    """The distance of elements from themselves: 0, and their length."""
    widen, item_bytes = _widening(dtype)
    total = Distance()
    for at in range(0, len(data), _BLOCK * item_bytes):
        x = widen(data[at : at + _BLOCK * item_bytes])
        square = float(np.dot(x, x))
        lost = 0
        if not math.isfinite(square):
            finite = x[np.isfinite(x)]
            lost, square = len(x) - len(finite), float(np.dot(finite, finite))
        total += Distance(len(x), 0, lost, 0.0, square, square, square)
    return total


def _block(x: Floats, y: Floats) -> Distance:
    elements, lost = len(x), 0
    d = y - x
    squares = float(np.dot(d, d))
    if not math.isfinite(squares):
        finite = np.isfinite(x) & np.isfinite(y)
        x, y, d = x[finite], y[finite], d[finite]
        lost, squares = elements - len(d), float(np.dot(d, d))
    return Distance(
        elements,
        int(np.count_nonzero(d)) + lost,
        lost,
        squares,
        float(np.dot(x, x)),
        float(np.dot(y, y)),
        float(np.dot(x, y)),
        max(float(d.max()), -float(d.min())) if len(d) else 0.0,
    )


def _widening(dtype: str) -> tuple[Callable[[Bytes], Floats], int]:
    """What makes float64 of an element's bytes, and how many these are."""
    if dtype == "BF16":
        return _widen_bf16, 2
    if dtype in NUMPY:
        # Of a complex number, both parts.
        numpy = np.dtype("<f4" if dtype == "C64" else NUMPY[dtype])
        return (lambda data: data.view(numpy).astype(np.float64)), numpy.itemsize
    return _from_table(dtype), 1


def _widen_bf16(data: Bytes) -> Floats:
    # The upper half of a float32; ml_dtypes' own cast takes several times as long.
    bits = data.view("<u2").astype("<u4")
    bits <<= 16
    return bits.view("<f4").astype(np.float64)


def _from_table(dtype: str) -> Callable[[Bytes], Floats]:
    table: Floats = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float64)
    return lambda data: table[data]
