"""Distances of tensors, beside a straightforward float64 reference."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from modelhub.content.distance import Distance, distance, is_comparable

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I8": np.int8,
    "U8": np.uint8,
    "I32": np.int32,
    "BOOL": np.bool_,
}
Array = np.ndarray[Any, Any]


def raw(array: Array) -> Array:
    return np.frombuffer(array.tobytes(), np.uint8)


def reference(x: Array, y: Array) -> dict[str, float]:
    """Element by element in float64, whatever is finite on both sides."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    lost = int((~finite).sum())
    a, b = a[finite], b[finite]
    d = b - a
    return {
        "l2": float(np.sqrt(np.sum(d * d))),
        "old": float(np.sqrt(np.sum(a * a))),
        "new": float(np.sqrt(np.sum(b * b))),
        "product": float(np.sum(a * b)),
        "largest": float(np.abs(d).max()) if len(d) else 0.0,
        "lost": lost,
    }


def check(found: Distance, x: Array, y: Array, changed: int) -> None:
    expected = reference(x, y)
    assert found.elements == len(x)
    assert found.not_finite == expected["lost"]
    assert found.changed == changed
    for mine, theirs in (
        (found.l2, expected["l2"]),
        (math.sqrt(found.old), expected["old"]),
        (math.sqrt(found.new), expected["new"]),
    ):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=0)
    assert found.largest == pytest.approx(expected["largest"], rel=1e-6, abs=0)
    scale = expected["old"] * expected["new"]
    if scale and math.isfinite(scale) and expected["l2"]:
        assert found.cosine == pytest.approx(expected["product"] / scale, rel=1e-6, abs=1e-12)
    if expected["old"] and expected["l2"]:
        assert found.relative_l2 == pytest.approx(expected["l2"] / expected["old"], rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 7, 8192, 8193, 50_001])
@pytest.mark.parametrize("drift", [0.0, 0.01, 10.0])
def test_distances_of_weights_agree_with_the_reference(
    dtype: str, count: int, drift: float
) -> None:
    random = np.random.default_rng(count)
    spread = 40 if dtype in {"I8", "U8", "I32"} else 1
    x = np.abs(random.normal(0, spread, count)).astype(DTYPES[dtype])
    moved = np.abs(x.astype(np.float64) + random.normal(0, 1, count) * drift * spread)
    y = np.clip(moved, 0, 120).astype(DTYPES[dtype])
    changed = int((x.view(np.uint8) != y.view(np.uint8)).reshape(count, x.itemsize).any(1).sum())
    check(distance(raw(x), dtype, raw(y), dtype), x, y, changed)


@settings(max_examples=100)
@given(st.data())
def test_whatever_the_bits_mean(data: st.DataObject) -> None:
    """NaN, infinities, signed zeros and subnormal numbers included."""
    dtype = data.draw(st.sampled_from(["F32", "F16", "BF16", "F8_E5M2", "I8"]))
    size = np.dtype(DTYPES[dtype]).itemsize
    count = data.draw(st.integers(0, 50))
    bits = hn.arrays(np.uint8, count * size)
    x, y = (data.draw(bits).view(DTYPES[dtype]) for _ in range(2))
    with np.errstate(all="ignore"):
        changed = int((x.view(np.uint8) != y.view(np.uint8)).reshape(count, size).any(1).sum())
        check(distance(raw(x), dtype, raw(y), dtype), x, y, changed)


def test_what_is_not_finite_is_counted_and_spreads_nowhere() -> None:
    x = np.array([1.0, np.nan, 3.0, np.inf, 2.0], np.float32)
    y = np.array([1.0, 2.0, np.nan, np.inf, 4.0], np.float32)
    found = distance(raw(x), "F32", raw(y), "F32")
    assert (found.not_finite, found.changed, found.l2, found.largest) == (3, 3, 2.0, 2.0)
    assert found.cosine == pytest.approx(9 / (math.sqrt(5) * math.sqrt(17)))
    same = distance(raw(x), "F32", raw(x), "F32")
    assert same == Distance(5, 0, 2, 0.0, 14.0, 14.0, 14.0, 0.0)


def test_the_distance_between_two_types_is_that_of_the_numbers() -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    y = x.astype(ml_dtypes.bfloat16)
    found = distance(raw(x), "F32", raw(y), "BF16")
    check(found, x, y, int((x != y.astype(np.float32)).sum()))
    assert 0 < (found.relative_l2 or 0) < 0.01


def test_complex_numbers_count_as_two() -> None:
    x, y = np.array([1 + 2j], np.complex64), np.array([1 + 5j], np.complex64)
    found = distance(raw(x), "C64", raw(y), "C64")
    assert (found.elements, found.l2) == (2, 3.0)


def test_lengths_of_nothing_have_no_direction() -> None:
    nothing, something = np.zeros(4, np.float32), np.ones(4, np.float32)
    found = distance(raw(nothing), "F32", raw(something), "F32")
    assert (found.relative_l2, found.cosine, found.fraction_changed) == (None, None, 1.0)
    same = distance(raw(nothing), "F32", raw(nothing), "F32")
    assert (same.relative_l2, same.cosine, same.l2) == (0.0, None, 0.0)


def test_quantised_blocks_are_not_comparable() -> None:
    assert is_comparable("F8_E8M0")
    assert not is_comparable("Q8_0")
    assert not is_comparable("<U10")


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "I8"])
@pytest.mark.parametrize("value", [1.1, 3.0, 7.7])
def test_rounding_that_always_goes_the_same_way_stays_small(dtype: str, value: float) -> None:
    x = np.full(600_001, value).astype(DTYPES[dtype])
    y = np.full(600_001, 2 * value + 1).astype(DTYPES[dtype])
    check(distance(raw(x), dtype, raw(y), dtype), x, y, 600_001)


def test_weights_that_have_nothing_in_common_are_at_right_angles() -> None:
    random = np.random.default_rng(5)
    x, y = (random.normal(0, 0.02, 1 << 20).astype(ml_dtypes.bfloat16) for _ in range(2))
    found = distance(raw(x), "BF16", raw(y), "BF16")
    assert abs(found.cosine or 1) < 0.01
    check(found, x, y, found.changed)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-20, 1e-13, 1e13, 1e20, 1e38])
def test_squares_beyond_the_range_of_float32(scale: float) -> None:
    random = np.random.default_rng(3)
    x, d = random.normal(0, 0.1, (2, 70_000))
    x, y = (x * scale).astype(np.float32), ((x + 0.01 * d) * scale).astype(np.float32)
    check(distance(raw(x), "F32", raw(y), "F32"), x, y, int((x != y).sum()))


def test_small_changes_of_large_weights() -> None:
    """The squares of the changes alone are too small for float32."""
    x = np.random.default_rng(3).normal(0, 1, 70_000).astype(np.float32)
    x[5], y = 0, x.copy()
    y[5] = 1e-25
    check(distance(raw(x), "F32", raw(y), "F32"), x, y, 1)


def test_numbers_that_float64_cannot_square_are_left_out() -> None:
    x, y = np.array([1e200, 1.0, 2.0]), np.array([-1e200, 1.0, 5.0])
    found = distance(raw(x), "F64", raw(y), "F64")
    assert (found.not_finite, found.changed, found.l2, found.largest) == (1, 2, 3.0, 3.0)
