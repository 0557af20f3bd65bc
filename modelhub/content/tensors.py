"""The tensors of a stored file: which there are, and reading the bytes of one, or of a part."""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import numpy as np

from modelhub.content.layout import alone, layout
from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.content.read import Reader
from modelhub.content.safetensors_layout import safetensors_header
from modelhub.content.stored_file import open_stored
from modelhub.content.tensor_region import Region
from modelhub.errors import InvalidInput
from modelhub.names import shown

SUFFIXES = (".safetensors", ".gguf")
"""The formats that name their tensors and say in which order the dimensions are."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Tensor(msgspec.Struct, frozen=True):
    """A tensor: ``size_bytes`` from ``offset`` on in ``file``; outermost dimension first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: ManifestFile
    offset: int
    size_bytes: int


class Contents(NamedTuple):
    """What a file holds: its tensors in the order of their bytes, and free texts."""

    tensors: list[Tensor]
    metadata: dict[str, str]


def contents(reader: Reader, manifest: Manifest, file: ManifestFile) -> Contents:
    """What a file holds whose name ends in one of ``SUFFIXES``; its header alone is read.

    Raises:
        InvalidInput: it is not of the format that its name says.
    """
    read = _safetensors if file.path.endswith(".safetensors") else _gguf
    with open_stored(reader, manifest, file) as stored:
        found = read(cast(BinaryIO, stored), file)
    if found is None:
        raise InvalidInput(
            f"{shown(file.path)} is not of the format that its name says",
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


def _gguf(stored: BinaryIO, file: ManifestFile) -> Contents | None:
    spans = layout(stored, file.size_bytes, file.path, alone)
    if spans is None:
        return None
    tensors, at = [], 0
    for span in spans:
        if span.tensor:
            size_bytes = span.size_bytes - span.padding_bytes
            tensors.append(Tensor(span.tensor, span.dtype, span.shape, file, at, size_bytes))
        at += span.size_bytes
    return Contents(tensors, {})


def read_region(
    reader: Reader, manifest: Manifest, tensor: Tensor, region: Region, item_bytes: int
) -> Bytes:
    """The bytes of a region of a tensor whose elements have ``item_bytes`` each, in a new array.

    Only the chunks that the region's run lies in are read, by several threads.
    """
    run = np.empty((*region.run, item_bytes), np.uint8)
    begin = tensor.offset + region.offset * item_bytes
    _fill(run.reshape(-1), reader, manifest, tensor.file, begin)
    if not region.whole:
        run = np.ascontiguousarray(run[region.within])
    return run.reshape(-1)


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
