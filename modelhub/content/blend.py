"""Weights made of several versions' weights, element by element in float32 (F64 in float64).

With x and y the elements of both sides, b those of their common ancestor, and t in [0, 1]:

- average: (x + y) / 2 (Wortsman et al., Model soups, 2022)
- weighted: (1 - t) x + t y
- slerp: sin((1 - t) w) / sin(w) x + sin(t w) / sin(w) y, where w is the angle between x and y as
  vectors (Shoemake, Animating rotation with quaternion curves, 1985); where they are nearly
  parallel, weighted
- task-arithmetic: b + s ((x - b) + (y - b)) (Ilharco et al., Editing models with task arithmetic,
  2023)

The result is rounded to the tensor's own type, to nearest, ties to even.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from modelhub.content.frameworks import numpy_dtype
from modelhub.content.tensors import Bytes
from modelhub.errors import InvalidInput
from modelhub.names import shown

Strategy = Literal["average", "weighted", "slerp", "task-arithmetic"]

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_LARGEST_SCALE = 1e6
_PARALLEL = 0.9995
"""Beyond this cosine the sine of the angle is too small to divide by."""

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


class Blend(msgspec.Struct, frozen=True):
    """How weights that both sides changed are settled.

    ``weight`` is t, the share of theirs; ``scale`` is s, of task arithmetic.
    """

    strategy: Strategy
    weight: float = 0.5
    scale: float = 1.0


def parse_blend(strategy: str, weight: float, scale: float) -> Blend:
    """A strategy with its numbers.

    Raises:
        InvalidInput: there is none of this name, or a number is out of its range.
    """
    if strategy not in get_args(Strategy):
        raise InvalidInput(
            f"{shown(str(strategy))} is no way to settle conflicts",
            remedy=f"Use {', '.join(get_args(Strategy))}.",
        )
    if not _is_number(weight) or not 0 <= weight <= 1:
        raise InvalidInput(f"{shown(str(weight))} is no share", remedy="Give a weight of 0 to 1.")
    if not _is_number(scale) or not abs(scale) <= _LARGEST_SCALE:
        raise InvalidInput(f"{shown(str(scale))} is no scale", remedy="Use one such as 1.0.")
    return Blend(strategy, float(weight), float(scale))  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def can_blend(dtype: str) -> bool:
    """Whether tensors of this type are weights that can be computed with."""
    return dtype in _FLOATS


def coefficients(blend: Blend, product: float, old: float, new: float) -> tuple[float, float]:
    """What x and y are multiplied by; the sums are those of the whole tensors.

    Args:
        blend: weighted or slerp.
        product: sum of xy.
        old: sum of x².
        new: sum of y².
    """
    t = blend.weight
    if blend.strategy != "slerp" or not (old and new):
        return 1 - t, t
    cosine = product / (math.sqrt(old) * math.sqrt(new))
    if not abs(cosine) < _PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def averaged(x: Bytes, y: Bytes, dtype: str) -> Bytes:
    """The mean of both sides' elements; halving each first would round subnormal numbers twice."""
    a, b = _widen(x, dtype), _widen(y, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = (a + b) / 2
        lost = np.isfinite(a) & np.isfinite(b) & ~np.isfinite(mean)
        mean[lost] = a[lost] / 2 + b[lost] / 2
    return _narrow(mean, dtype)


def combined(shares: tuple[float, float], x: Bytes, y: Bytes, dtype: str) -> Bytes:
    """The sum of both sides' elements, each multiplied by its share."""
    # Python's own numbers leave an array's type as it is. What has no share is not looked at: an
    # infinite element times 0 would be none.
    parts = [
        _widen(side, dtype) * share for side, share in zip((x, y), shares, strict=True) if share
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        return _narrow(parts[0] + parts[1] if len(parts) > 1 else parts[0], dtype)


def added(scale: float, base: Bytes, x: Bytes, y: Bytes, dtype: str) -> Bytes:
    """What both sides changed, added to what they changed it from."""
    before = _widen(base, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = (_widen(x, dtype) - before) + (_widen(y, dtype) - before)
        return _narrow(before + moved * scale, dtype)


def _widen(data: Bytes, dtype: str) -> Floats:
    wide: Floats = data.view(numpy_dtype(dtype)).astype(
        np.float64 if dtype == "F64" else np.float32
    )
    return wide


def _narrow(values: Floats, dtype: str) -> Bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(numpy_dtype(dtype)).view(np.uint8)
