"""A file as spans: which bytes are which tensor's, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

MOST_TENSORS = 1 << 17
"""A file that names more is opaque: what it lists takes memory, and no model comes near."""


class Span(NamedTuple):
    """A run of a file's bytes.

    Attributes:
        size_bytes: with the padding.
        tensor: its name; empty for headers and everything else that is no tensor.
        dtype: as safetensors spells it, or the format's own name for what safetensors has not.
        shape: outermost dimension first, as the bytes lie.
        padding_bytes: how many of its last bytes only align what follows.
        in_columns: whether the array itself has its dimensions in the reverse order (Fortran's).
    """

    size_bytes: int
    tensor: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    padding_bytes: int = 0
    in_columns: bool = False


class Unsound(Exception):
    """The file is not what it seemed to be; it is stored as opaque."""


def filled(placed: Iterable[tuple[int, Span]], size_bytes: int) -> list[Span]:
    """Tensors, by where they begin, and between them nameless spans, so that a file is full.

    Raises:
        Unsound: tensors overlap, have one name, or reach beyond the file's ``size_bytes``.
    """
    spans: list[Span] = []
    at = 0
    for begin, span in sorted(placed):
        if begin < at:
            raise Unsound("tensors overlap")
        if begin > at:
            spans.append(Span(begin - at))
        spans.append(span)
        at = begin + span.size_bytes
    if at > size_bytes:
        raise Unsound("a tensor lies beyond the file")
    if at < size_bytes:
        spans.append(Span(size_bytes - at))
    names = [span.tensor for span in spans if span.tensor]
    if len(set(names)) != len(names):
        raise Unsound("two tensors have one name")
    return spans


def padded(placed: Iterable[tuple[int, Span]], size_bytes: int) -> list[Span]:
    """As ``filled``, but what follows a tensor is its padding; only the first may be nameless.

    Raises:
        Unsound: as ``filled``.
    """
    spans: list[Span] = []
    for span in filled(placed, size_bytes):
        if span.tensor or not spans:
            spans.append(span)
        else:
            size = spans[-1].size_bytes + span.size_bytes
            spans[-1] = spans[-1]._replace(size_bytes=size, padding_bytes=span.size_bytes)
    return spans
