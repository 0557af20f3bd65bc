"""The tensors of a stored file: which there are, and reading the bytes of one, or of a part."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import numpy as np

from modelhub.content.layout import alone, layout
from modelhub.content.layout.onnx import SUFFIX as ONNX
from modelhub.content.layout.onnx import beside, onnx_initializers
from modelhub.content.layout.spans import Unsound
from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.content.read import Reader
from modelhub.content.safetensors_layout import safetensors_header
from modelhub.content.stored_file import open_stored
from modelhub.content.tensor_region import region
from modelhub.errors import InvalidInput
from modelhub.names import shown

_SAFETENSORS, _NPY = ".safetensors", ".npy"
SUFFIXES = ((_SAFETENSORS, ".gguf"), (ONNX,), (_NPY, ".npz"))
"""What is looked into first; where there is none, what next: an exported model often lies beside
the one that it was made of, and arrays may be anything."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Tensor(msgspec.Struct, frozen=True):
    """A tensor: ``size_bytes`` from ``offset`` on in ``file``; outermost dimension first.

    Where it lies ``in_columns``, its bytes have the dimensions in the reverse order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: ManifestFile
    offset: int
    size_bytes: int
    in_columns: bool = False


class Contents(NamedTuple):
    """What a file holds: its tensors in the order of their bytes, and free texts."""

    tensors: list[Tensor]
    metadata: dict[str, str]


def contents(reader: Reader, manifest: Manifest, file: ManifestFile) -> Contents:
    """What a file holds whose name ends in one of ``SUFFIXES``; its headers alone are read.

    Raises:
        InvalidInput: it is compressed, or not of the format that its name says.
    """
    with open_stored(reader, manifest, file) as opened:
        stored = cast(BinaryIO, opened)
        if file.path.endswith(_SAFETENSORS):
            found = _safetensors(stored, file)
        elif file.path.endswith(ONNX):
            found = _onnx(stored, file, {other.path: other for other in manifest.files})
        else:
            found = _spanned(stored, file)
    if found is None:
        raise InvalidInput(
            f"{shown(file.path)} is compressed, or not of the format that its name says",
            remedy="Leave it out by `include`, or read its bytes with `hub.open`.",
        )
    return found


def _safetensors(stored: BinaryIO, file: ManifestFile) -> Contents | None:
    header = safetensors_header(stored, file.size_bytes)
    if header is None:
        return None
    tensors = [
        Tensor(name, entry.dtype, entry.shape, file, header.size_bytes + begin, end - begin)
        for name, entry in header.tensors.items()
        for begin, end in [entry.data_offsets]
    ]
    return Contents(tensors, header.metadata)


def _spanned(stored: BinaryIO, file: ManifestFile) -> Contents | None:
    spans = layout(stored, file.size_bytes, file.path, alone)
    if spans is None:
        return None
    tensors, at = [], 0
    for span in spans:
        if span.tensor:
            size_bytes = span.size_bytes - span.padding_bytes
            name = file.path.removesuffix(_NPY) if file.path.endswith(_NPY) else span.tensor
            shape = span.shape[::-1] if span.in_columns else span.shape
            tensors.append(Tensor(name, span.dtype, shape, file, at, size_bytes, span.in_columns))
        at += span.size_bytes
    return Contents(tensors, {})


def _onnx(
    stored: BinaryIO, file: ManifestFile, files: Mapping[str, ManifestFile]
) -> Contents | None:
    tensors = []
    try:
        for one in onnx_initializers(stored, file.size_bytes):
            held = files.get(beside(file.path, one.location)) if one.location else file
            begin, size_bytes = one.extent
            if held is None or begin + size_bytes > held.size_bytes:
                return None
            tensors.append(Tensor(one.name, one.dtype, one.shape, held, begin, size_bytes))
    except Unsound:
        return None
    names = {tensor.name for tensor in tensors}
    return Contents(tensors, {}) if len(names) == len(tensors) else None


def read_region(
    reader: Reader, manifest: Manifest, tensor: Tensor, key: object
) -> tuple[Bytes, tuple[int, ...]]:
    """The bytes of ``tensor[key]`` in a new flat array, and the shape of what they are.

    Only the chunks that the region's run lies in are read, by several threads.

    Raises:
        InvalidInput: ``key`` is no index here, see ``region``.
    """
    item_bytes = tensor.size_bytes // max(1, prod(tensor.shape))
    part = region(tensor.shape, key, in_columns=tensor.in_columns)
    run = np.empty((*part.run, item_bytes), np.uint8)
    _fill(run.reshape(-1), reader, manifest, tensor.file, tensor.offset + part.offset * item_bytes)
    if not part.whole:
        run = run[part.within]
    if tensor.in_columns:
        axes = range(run.ndim - 1)
        run = run.transpose(*axes[::-1], run.ndim - 1)
    return np.ascontiguousarray(run).reshape(-1), part.shape


def _fill(out: Bytes, reader: Reader, manifest: Manifest, file: ManifestFile, offset: int) -> None:
    """Read the file's bytes from ``offset`` on until ``out`` is full; each is copied once."""
    if not len(out):
        return
    refs, skipped = manifest.spanning(file, offset, len(out))
    at = 0
    for chunk in reader.chunks(refs):
        part = np.frombuffer(chunk, np.uint8)[skipped : skipped + len(out) - at]
        out[at : at + len(part)] = part
        at += len(part)
        skipped = 0
