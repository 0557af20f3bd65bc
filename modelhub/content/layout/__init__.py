"""Where the tensors of a file are, for every format of which that can be read.

What a file is follows from its first bytes where its format has such, else from its name. A file
that strays from its format in any way, or says more than it may, is opaque: None. Nothing here
takes more than a few seconds or some 100 MB, whatever the file claims.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from modelhub.content.layout import gguf, npy, zipped
from modelhub.content.layout.gguf import gguf_spans
from modelhub.content.layout.npy import npy_spans
from modelhub.content.layout.npz import npz_spans
from modelhub.content.layout.onnx import onnx_data_spans, onnx_names
from modelhub.content.layout.safetensors import safetensors_spans
from modelhub.content.layout.spans import Span, Unsound

Beside = Callable[[str], BinaryIO | None]
"""Opens another file of the same version by its path there; None if there is none."""

_BUFFER_BYTES = 64 << 10


def alone(_: str) -> None:
    """For files that no others lie beside."""


def layout(file: BinaryIO, size_bytes: int, path: str, beside: Beside) -> list[Span] | None:
    """The spans that fill the seekable ``file`` of ``size_bytes``; None where it is opaque.

    ``path`` is its path in the version. Reads headers alone, and leaves the position anywhere.

    Raises:
        What reading ``file``, or those beside it, raises.
    """
    try:
        with _buffered(file) as buffered:
            return _spans(buffered, size_bytes, path, beside)
    except Unsound:
        return None


def _spans(file: BinaryIO, size_bytes: int, path: str, beside: Beside) -> list[Span]:
    magic = file.read(len(npy.MAGIC))
    file.seek(0)
    if magic.startswith(gguf.MAGIC):
        return gguf_spans(file, size_bytes)
    if magic == npy.MAGIC:
        return npy_spans(file, size_bytes, path)
    if path.endswith(".safetensors"):
        return safetensors_spans(file, size_bytes)
    if path.endswith(".npz") and magic.startswith(zipped.MAGIC):
        return npz_spans(file, size_bytes)
    return _onnx_data_spans(size_bytes, path, beside)


def _onnx_data_spans(size_bytes: int, path: str, beside: Beside) -> list[Span]:
    for name in onnx_names(path):
        file = beside(name)
        if file is None:
            continue
        with file, _buffered(file) as onnx:
            onnx_bytes = onnx.seek(0, os.SEEK_END)
            try:
                return onnx_data_spans(onnx, onnx_bytes, name, size_bytes, path)
            except Unsound:
                continue
    raise Unsound("nothing is known about it")


@contextmanager
def _buffered(file: BinaryIO) -> Iterator[BinaryIO]:
    """Surveyed files are unbuffered, and headers are read in small steps."""
    buffered = io.BufferedReader(cast(io.RawIOBase, file), _BUFFER_BYTES)
    try:
        buffered.seek(0)
        yield buffered
    finally:
        buffered.detach()
