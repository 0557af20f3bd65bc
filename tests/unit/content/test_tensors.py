"""What an index of a tensor means, and which arrays are made of its bytes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from math import prod
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub.content.frameworks import casts
from modelhub.content.manifest import ManifestFile
from modelhub.content.tensor_region import region
from modelhub.content.tensors import Tensor
from modelhub.errors import InvalidInput, NotInstalled

FILE = ManifestFile("model.safetensors", 100, 0o644, "00" * 32, "cutter", 0, 1)
KEYS = st.one_of(
    st.integers(-6, 6),
    st.slices(6),
    st.builds(slice, st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)),
)


def taken(array: Any, key: object, *, in_columns: bool) -> Any:
    """What the region of ``key`` takes from the run of elements that it says."""
    found = region(array.shape, key, in_columns=in_columns)
    run = array.reshape(-1, order="F" if in_columns else "C")
    run = run[found.offset : found.offset + prod(found.run)].reshape(found.run)[found.within]
    return (run.T if in_columns else run).reshape(found.shape)


@given(st.data())
def test_a_region_takes_what_numpy_takes(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 6), max_size=4)))
    keys: list[Any] = data.draw(st.lists(KEYS, max_size=len(shape)))
    if data.draw(st.booleans()):
        keys.insert(data.draw(st.integers(0, len(keys))), ...)
    key = keys[0] if len(keys) == 1 else tuple(keys)
    array = np.arange(prod(shape)).reshape(shape)
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(InvalidInput):
            region(shape, key)
        return
    for in_columns in (False, True):
        np.testing.assert_array_equal(taken(array, key, in_columns=in_columns), expected)


@pytest.mark.parametrize(
    ("key", "offset", "run"),
    [
        (..., 0, (8, 4, 2)),
        (3, 24, (1, 4, 2)),
        (slice(3, 5), 24, (2, 4, 2)),
        ((3, slice(1, 3)), 26, (1, 2, 2)),
        ((3, 1, 1), 27, (1, 1, 1)),
        ((slice(7, 2, -2), 0), 24, (5, 4, 2)),
        ((slice(None), 3), 0, (8, 4, 2)),
        ((..., 1), 0, (8, 4, 2)),
        (slice(5, 5), 0, (0,)),
    ],
)
def test_a_region_is_as_short_as_its_first_dimensions_allow(
    key: object, offset: int, run: tuple[int, ...]
) -> None:
    found = region((8, 4, 2), key)
    assert (found.offset, found.run) == (offset, run)


@pytest.mark.parametrize(
    "key",
    [8, -9, (0, 4), (0, 0, 0, 0), (..., ...), None, "a", 1.0, [0, 1], slice(0, 4, 0), slice("a")],
)
def test_what_is_no_index_here_is_refused(key: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        region((8, 4, 2), key)
    assert refused.value.remedy


def tensor(dtype: str, shape: tuple[int, ...] = (4,), size_bytes: int = 4) -> Tensor:
    return Tensor("layer.weight", dtype, shape, FILE, 8, size_bytes)


NUMPY: Mapping[str, Any] = {
    "BOOL": np.bool_,
    **{"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64},
    **{"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64},
    **{"F16": np.float16, "F32": np.float32, "F64": np.float64, "C64": np.complex64},
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


@pytest.mark.parametrize("dtype", NUMPY)
def test_numpy_has_every_dtype_of_whole_bytes_and_shares_them(dtype: str) -> None:
    expected = np.array([1, 1, 2, 1]).astype(NUMPY[dtype])
    data = expected.view(np.uint8).copy()
    array = casts("numpy")(tensor(dtype))(data)
    assert array.dtype == expected.dtype
    assert array.tolist() == expected.tolist()
    assert np.shares_memory(array, data)


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "Q4_K", "no_dtype"])
def test_what_no_array_can_hold_is_refused_by_saying_where_its_bytes_are(dtype: str) -> None:
    with pytest.raises(InvalidInput, match=f"'layer.weight' is {dtype}") as refused:
        casts("numpy")(tensor(dtype))
    assert "hub.open" in refused.value.remedy
    assert "4 bytes" in refused.value.remedy
    assert "'model.safetensors' from 8" in refused.value.remedy


class StandIn(ModuleType):
    """As much of torch as is used, on arrays of numpy: dtypes, ``from_numpy``, and ``view``."""

    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    float32 = np.dtype(np.float32)
    bool = np.dtype(np.bool_)

    def from_numpy(self, array: Any) -> Any:
        assert array.dtype == np.uint8
        assert array.flags.writeable
        return array


def test_torch_gets_the_bytes_as_they_are_and_views_them_as_its_own_dtype(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", StandIn("torch"))
    cast = casts("torch")
    for dtype in ("BF16", "F32", "BOOL"):
        expected = np.array([1, 0, 1, 1]).astype(NUMPY[dtype])
        assert cast(tensor(dtype))(expected.view(np.uint8)).tolist() == expected.tolist()
    with pytest.raises(InvalidInput, match="U64"):
        cast(tensor("U64"))  # which this torch has not


def test_torch_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(NotInstalled, match="torch") as missing:
        casts("torch")
    assert missing.value.remedy == "pip install torch"


def test_ml_dtypes_are_needed_for_their_dtypes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    cast = casts("numpy")
    assert cast(tensor("F32"))(np.zeros(4, np.uint8)).tolist() == [0.0]
    with pytest.raises(NotInstalled, match="BF16") as missing:
        cast(tensor("BF16"))
    assert missing.value.remedy == "pip install 'modelhub[tensors]'"


@pytest.mark.parametrize("name", ["jax", "", None])
def test_another_framework_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        casts(name)
    assert "numpy or torch" in refused.value.remedy
