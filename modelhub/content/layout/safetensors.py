"""safetensors: a JSON header, then tensors without gaps. A shard is a file like any other."""

from __future__ import annotations

from typing import BinaryIO

from modelhub.content.layout.spans import Span, Unsound
from modelhub.content.safetensors_layout import safetensors_header


def safetensors_spans(file: BinaryIO, size_bytes: int) -> list[Span]:
    """The spans of a safetensors file that begins here.

    Raises:
        Unsound: it is none.
    """
    header = safetensors_header(file, size_bytes)
    if header is None:
        raise Unsound("not a safetensors file")
    tensors = [
        Span(tensor.data_offsets[1] - tensor.data_offsets[0], name, tensor.dtype, tensor.shape)
        for name, tensor in header.tensors.items()
    ]
    return [Span(header.size_bytes), *tensors]
