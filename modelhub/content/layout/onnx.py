"""ONNX with external data: a ``.onnx`` says where in files beside it each tensor lies.

The boundaries are for the file that holds the data. Which ``.onnx`` speaks of it follows from its
name alone: of ``m.onnx_data``, ``m.onnx.data`` and ``m.bin`` it is ``m.onnx``, or else
``model.onnx`` in the same folder.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from modelhub.content.layout.protobuf import Extent, Messages
from modelhub.content.layout.spans import Span, Unsound, padded

SUFFIX = ".onnx"

_USUAL = "model.onnx"
_MOST_FIELDS = 1 << 18

# Fields by their numbers in onnx.proto. A tensor's are 1 dims, 2 data_type, 8 name, 9 raw_data, 13
# external_data (pairs of 1 key and 2 value), 14 data_location.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_EXTERNAL = 1
_MOST_DIMENSIONS = 64
_MOST_DIGITS = 19

_TYPES = {
    1: ("F32", 32),
    2: ("U8", 8),
    3: ("I8", 8),
    4: ("U16", 16),
    5: ("I16", 16),
    6: ("I32", 32),
    7: ("I64", 64),
    9: ("BOOL", 8),
    10: ("F16", 16),
    11: ("F64", 64),
    12: ("U32", 32),
    13: ("U64", 64),
    14: ("C64", 64),
    15: ("COMPLEX128", 128),
    16: ("BF16", 16),
    17: ("F8_E4M3", 8),
    18: ("F8_E4M3FNUZ", 8),
    19: ("F8_E5M2", 8),
    20: ("F8_E5M2FNUZ", 8),
    21: ("UINT4", 4),
    22: ("INT4", 4),
    23: ("F4", 4),
    24: ("F8_E8M0", 8),
}
"""By number: the name, and the bits of an element."""


def onnx_names(path: str) -> list[str]:
    """Where the ``.onnx`` that speaks of the file at ``path`` may be, the likeliest first."""
    folder, name = posixpath.split(path)
    if name.endswith(SUFFIX):
        return []
    stem = name[: name.rindex(SUFFIX)] if SUFFIX in name else posixpath.splitext(name)[0]
    return list(dict.fromkeys(posixpath.join(folder, found) for found in (stem + SUFFIX, _USUAL)))


def beside(onnx_path: str, location: str) -> str:
    """The path inside the version of what a model at ``onnx_path`` calls ``location``."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(onnx_path), location))


def onnx_data_spans(
    onnx: BinaryIO, onnx_bytes: int, onnx_path: str, size_bytes: int, path: str
) -> list[Span]:
    """The spans of the data file of ``size_bytes`` at ``path``, as ``onnx`` gives them.

    Padding goes with the tensor before it. Tensors that share all their bytes are one, under the
    name that comes first. Paths are those inside the version.

    Raises:
        Unsound: it is no ONNX model, does not speak of that file, or of one that differs.
    """
    placed: dict[tuple[int, int], Span] = {}
    for tensor in onnx_initializers(onnx, onnx_bytes):
        if tensor.location and beside(onnx_path, tensor.location) == path:
            length = tensor.extent.size_bytes
            span = Span(length, tensor.name, tensor.dtype, tensor.shape)
            placed.setdefault((tensor.extent.begin, length), span)
    if not placed:
        raise Unsound("the model does not speak of this file")
    return padded([(begin, span) for (begin, _), span in placed.items()], size_bytes)


class Initializer(NamedTuple):
    """A tensor of a model's graph, and the extent of its bytes.

    They are in the file at ``location``, beside the model; where that is empty, in the model.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    location: str
    extent: Extent


def onnx_initializers(onnx: BinaryIO, onnx_bytes: int) -> Iterator[Initializer]:
    """The tensors of a model's graph; nested graphs are not looked into.

    Left out are those whose numbers the model spells out one by one: small constants.

    Raises:
        Unsound: it is no ONNX model.
    """
    messages = Messages(onnx, _MOST_FIELDS)
    for graph in messages.messages(Extent(0, onnx_bytes), _MODEL_GRAPH):
        for initializer in messages.messages(graph, _GRAPH_INITIALIZER):
            tensor = _tensor(messages, initializer)
            if tensor is not None:
                yield tensor


class _Proto(NamedTuple):
    """What is read of a tensor's message."""

    name: str
    kind: int
    shape: list[int]
    raw: Extent | None
    external: dict[str, str] | None


def _proto(messages: Messages, initializer: Extent) -> _Proto:
    name, kind, location, raw = "", 0, 0, None
    shape: list[int] = []
    stored: dict[str, str] = {}
    for field in messages.fields(initializer):
        match field.number:
            case 1:
                shape += messages.integers(field)
            case 2:
                kind = field.integer
            case 8:
                name = messages.text(field.extent)
            case 9:
                raw = field.extent
            case 13:
                key, value = _entry(messages, field.extent)
                stored[key] = value
            case 14:
                location = field.integer
    return _Proto(name, kind, shape, raw, stored if location == _EXTERNAL else None)


def _tensor(messages: Messages, initializer: Extent) -> Initializer | None:
    """None where its bytes do not lie together."""
    name, kind, shape, raw, external = _proto(messages, initializer)
    if external is None and raw is None:
        return None
    if kind not in _TYPES or not name or len(shape) > _MOST_DIMENSIONS:
        raise Unsound("an unknown kind of tensor")
    dtype, bits = _TYPES[kind]
    length = -(-math.prod(shape) * bits // 8)
    location, extent = "", raw
    if external is not None:
        said = _natural(external.get("length", str(length)))
        location = external.get("location", "")
        extent = Extent(_natural(external.get("offset", "0")), said) if location else None
    if extent is None or extent.size_bytes != length:
        raise Unsound("a tensor that is nowhere, or of another size than its shape says")
    return Initializer(name, dtype, tuple(shape), location, extent)


def _entry(messages: Messages, extent: Extent) -> tuple[str, str]:
    texts = {field.number: messages.text(field.extent) for field in messages.fields(extent)}
    return texts.get(1, ""), texts.get(2, "")


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise Unsound("not a natural number")
    return int(text)
