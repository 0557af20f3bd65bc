"""numpy's ``.npz``: a zip archive with an ``.npy`` for each array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from modelhub.content.layout.npy import npy_header
from modelhub.content.layout.spans import Span, Unsound, filled
from modelhub.content.layout.zipped import STORED, member_begin, zip_members

_SUFFIX = ".npy"


def npz_spans(file: BinaryIO, size_bytes: int) -> list[Span]:
    """The spans of an ``.npz`` whose members are stored as they are.

    What is no plain array (texts, objects, other files) is nameless.

    Raises:
        Unsound: it is none, something in it is compressed or encrypted, or no array is plain.
    """
    placed = list(_arrays(file, size_bytes))
    if not placed:
        raise Unsound("no arrays")
    return filled(placed, size_bytes)


def _arrays(file: BinaryIO, size_bytes: int) -> Iterator[tuple[int, Span]]:
    for member in zip_members(file, size_bytes):
        if member.method != STORED or member.stored_bytes != member.size_bytes:
            raise Unsound("a member is compressed")
        if not member.name.endswith(_SUFFIX):
            continue
        begin = member_begin(file, member)
        try:
            header = npy_header(file, begin, member.size_bytes)
        except Unsound:
            continue
        if header.dtype != "O" and header.size_bytes + header.array_bytes == member.size_bytes:
            yield begin + header.size_bytes, header.span(member.name.removesuffix(_SUFFIX))
