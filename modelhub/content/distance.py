"""How far two tensors are from each other, in one pass over blocks that fit into a cache.

With x and y the elements of both, d = y - x:

- L2 (Euclidean) distance: sqrt(sum d²)
- relative L2: sqrt(sum d²) / sqrt(sum x²)
- cosine similarity: sum xy / (sqrt(sum x²) sqrt(sum y²))
- largest change: max |d|
- fraction changed: how many bit patterns differ, of all elements

(Golub and Van Loan, Matrix Computations, 4th ed., section 2.2.) An element that is NaN, infinite or
beyond 1e145 on either side is counted, and left out of all sums: it would make each of them NaN or
infinite.

Types that float32 holds exactly are compared in float32, in rows of 512 elements whose sums are
added up in float64. A BLAS adds up a row in 32 or more strands; with a strand of 16 additions, each
off by at most 2⁻²⁴, a sum of squares is off by less than 1.3e-6 of itself and its root by half of
that; in practice by a tenth. Where a sum would leave the range of float32, and for all other types,
the block is compared in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from modelhub.content.frameworks import ML_DTYPES, NUMPY, numpy_dtype
from modelhub.content.tensors import Bytes

_ROW = 512
_BLOCK = 512 * _ROW
"""Elements: three times 1 MiB as float32. Threads that compare share the interpreter's lock, and
with blocks that fit into a core's own cache they hand it to each other more than they work."""

_EXACT_BLOCK = 1 << 13
"""Elements in float64. From 10,000 on OpenBLAS brings in threads of its own for each product, and
takes four times as long."""

_LEAST_SUM = 1e-25
"""Of squares in float32. Those of a block that are too small for it add up to less than 1e-33."""
_LARGEST = 1e145
"""What float64 can square, and add up."""

_BITS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}

Floats = np.ndarray[Any, np.dtype[np.float64]]
Singles = np.ndarray[Any, np.dtype[np.float32]]


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


@np.errstate(invalid="ignore", over="ignore", under="ignore")
def distance(old: Bytes, old_dtype: str, new: Bytes, new_dtype: str) -> Distance:
    """The distance of the elements in ``old`` from as many in ``new``.

    A complex number counts as two.

    Raises:
        NotInstalled: numpy needs ml_dtypes for one of them.
    """
    x, y = _elements(old, old_dtype), _elements(new, new_dtype)
    compare = _in_singles() if x.is_single and y.is_single else _in_doubles
    total = Distance()
    for at in range(0, x.length, _BLOCK):
        stop = min(at + _BLOCK, x.length)
        total += compare(x, y, at, stop)
    if old_dtype == new_dtype:
        bits = _BITS[x.item_bytes]
        changed = np.count_nonzero(old.view(bits) != new.view(bits))
        total = msgspec.structs.replace(total, changed=int(changed))
    return total


class _Elements(NamedTuple):
    """The elements in a tensor's bytes, as numbers."""

    length: int
    item_bytes: int
    is_single: bool
    to_singles: Callable[[slice, Singles], None]
    """Writes some of them as float32, where that holds them exactly."""
    doubles: Callable[[slice], Floats]


def _elements(data: Bytes, dtype: str) -> _Elements:
    if dtype == "BF16":
        return _bf16(data.view("<u2"))
    if dtype in NUMPY:
        # Of a complex number, both parts.
        return _numbers(data.view("<f4" if dtype == "C64" else NUMPY[dtype]))
    return _looked_up(data, dtype)


def _bf16(halves: np.ndarray[Any, Any]) -> _Elements:
    """The upper halves of float32; ml_dtypes' own cast takes several times as long."""

    def to_singles(part: slice, out: Singles) -> None:
        bits = out.view(np.uint32)
        np.copyto(bits, halves[part])
        np.left_shift(bits, 16, out=bits)

    def doubles(part: slice) -> Floats:
        bits = halves[part].astype("<u4") << 16
        return bits.view("<f4").astype(np.float64)

    return _Elements(len(halves), 2, True, to_singles, doubles)


def _numbers(array: np.ndarray[Any, Any]) -> _Elements:
    return _Elements(
        len(array),
        array.itemsize,
        np.can_cast(array.dtype, np.float32),
        lambda part, out: np.copyto(out, array[part]),
        lambda part: array[part].astype(np.float64),
    )


def _looked_up(data: Bytes, dtype: str) -> _Elements:
    """Of a type of 8 bits, from the table of all of them."""
    table = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float32)
    return _Elements(
        len(data),
        1,
        True,
        lambda part, out: np.copyto(out, table[data[part]]),
        lambda part: table[data[part]].astype(np.float64),
    )


def _in_singles() -> Callable[[_Elements, _Elements, int, int], Distance]:
    """Compares a block in float32 where that is accurate; in scratch memory of its own."""
    scratch = np.empty((3, _BLOCK), np.float32)

    def compare(old: _Elements, new: _Elements, at: int, stop: int) -> Distance:
        elements = stop - at
        used = scratch[:, : -(-elements // _ROW) * _ROW]
        x, y, d = used
        for numbers, singles in ((old, x), (new, y)):
            numbers.to_singles(slice(at, stop), singles[:elements])
            singles[elements:] = 0  # which changes no sum
        np.subtract(y, x, out=d)
        mine, other, squares = _dots(used, used)
        largest = max(float(d.max()), -float(d.min()))
        if not (
            math.isfinite(squares + mine + other)
            and min(mine, other) > _LEAST_SUM
            and (squares > _LEAST_SUM or not largest)
        ):
            return _in_doubles(old, new, at, stop)
        (product,) = _dots(used[:1], used[1:2])
        changed = int(np.count_nonzero(x != y))
        return Distance(elements, changed, 0, squares, mine, other, product, largest)

    return compare


def _dots(many: Singles, others: Singles) -> list[float]:
    """The dot product of each with its partner."""
    count = len(many)
    rows = np.matmul(many.reshape(count, -1, 1, _ROW), others.reshape(count, -1, _ROW, 1))
    found: list[float] = rows.sum(axis=(1, 2, 3), dtype=np.float64).tolist()
    return found


def _in_doubles(old: _Elements, new: _Elements, at: int, stop: int) -> Distance:
    total = Distance()
    for begin in range(at, stop, _EXACT_BLOCK):
        part = slice(begin, min(begin + _EXACT_BLOCK, stop))
        total += _exact(old.doubles(part), new.doubles(part))
    return total


def _exact(x: Floats, y: Floats) -> Distance:
    elements, lost = len(x), 0
    d = y - x
    squares, old, new = (float(np.dot(each, each)) for each in (d, x, y))
    if not math.isfinite(squares + old + new):
        kept = (np.abs(x) < _LARGEST) & (np.abs(y) < _LARGEST)
        x, y, d = x[kept], y[kept], d[kept]
        lost = elements - len(d)
        squares, old, new = (float(np.dot(each, each)) for each in (d, x, y))
    return Distance(
        elements,
        int(np.count_nonzero(d)) + lost,
        lost,
        squares,
        old,
        new,
        float(np.dot(x, y)),
        max(float(d.max()), -float(d.min())) if len(d) else 0.0,
    )
