"""Arrays of numpy or torch made of a tensor's bytes, which they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from modelhub.content.tensors import Bytes, Tensor
from modelhub.errors import InvalidInput, NotInstalled
from modelhub.names import shown

Framework = Literal["numpy", "torch"]

Cast = Callable[[Bytes], Any]
"""Makes a flat array of bytes, which it shares."""

NUMPY = {
    **{"BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"},
    **{"I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"},
    **{"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8"},
}
ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
_TORCH = {
    **{"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64"},
    **{"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"},
    **{"U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"},
    **ML_DTYPES,
}
"""Torch's names are ml_dtypes' own."""


def casts(framework: str) -> Callable[[Tensor], Cast]:
    """What gives each tensor the cast to arrays of this framework.

    What is returned raises InvalidInput where the framework has no such dtype, and NotInstalled
    where numpy needs ml_dtypes for it.

    Raises:
        InvalidInput: there is no such framework here.
        NotInstalled: it is missing.
    """
    if framework == "numpy":
        return _to_numpy
    if framework == "torch":
        return _to_torch()
    raise InvalidInput(
        f"{shown(str(framework))} is not a framework that tensors are read for",
        remedy=f"Use {' or '.join(get_args(Framework))}.",
    )


def numpy_dtype(dtype: str) -> Any:
    """What numpy calls a type that ``NUMPY`` or ``ML_DTYPES`` has.

    Raises:
        NotInstalled: it needs ml_dtypes.
    """
    if dtype in NUMPY:
        return np.dtype(NUMPY[dtype])
    try:
        import ml_dtypes
    except ImportError as exc:
        raise NotInstalled(
            f"arrays of {dtype} need ml_dtypes", remedy="pip install 'modelhub[tensors]'"
        ) from exc
    return np.dtype(getattr(ml_dtypes, ML_DTYPES[dtype]))


def _to_numpy(tensor: Tensor) -> Cast:
    if tensor.dtype not in NUMPY and tensor.dtype not in ML_DTYPES:
        raise _no_array(tensor)
    dtype = numpy_dtype(tensor.dtype)
    return lambda data: data.view(dtype)


def _to_torch() -> Callable[[Tensor], Cast]:
    try:
        import torch
    except ImportError as exc:
        raise NotInstalled("torch is missing", remedy="pip install torch") from exc

    def cast(tensor: Tensor) -> Cast:
        dtype = getattr(torch, _TORCH.get(tensor.dtype, ""), None)
        if dtype is None:  # older releases have not all of them
            raise _no_array(tensor)
        return lambda data: torch.from_numpy(data).view(dtype)

    return cast


def _no_array(tensor: Tensor) -> InvalidInput:
    return InvalidInput(
        f"the tensor {shown(tensor.name)} is {tensor.dtype}, which no array can hold",
        remedy=f"Read its {tensor.size_bytes} bytes with `hub.open`: they are in "
        f"{shown(tensor.file.path)} from {tensor.offset} on.",
    )
