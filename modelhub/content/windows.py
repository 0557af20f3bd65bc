"""A push's files as windows of named pieces, read, cut and hashed while earlier ones are used."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import BinaryIO

from blake3 import blake3

from modelhub.content.ahead import ahead, mapped
from modelhub.content.cut import Part, Piece, cut
from modelhub.content.tree import Source

_WINDOW_BYTES = 32 * 2**20
_WINDOW_CHUNKS = 4096


@dataclass(frozen=True, slots=True)
class NamedPiece:
    """A piece of file number ``index``, the part of a model that it is, and what it is called."""

    index: int
    data: bytes
    part: Part | None
    digest: bytes


def windows(
    sources: Sequence[Source], cutters: list[str], version: Sequence[Source]
) -> Generator[list[NamedPiece], None, None]:
    """Every file's pieces in order, in groups that are looked up at once.

    Of much, some are cut and others hashed meanwhile. How each file was cut goes into ``cutters``;
    it may depend on other files of the ``version``. About 100 MiB are held.

    Raises:
        Conflict: a file changed while it was read.
        Unavailable, Forbidden: it cannot be read any more.
    """
    if sum(source.size_bytes for source in sources) <= _WINDOW_BYTES:
        yield from map(_named, _cut_windows(sources, cutters, version))
        return
    with (
        closing(ahead(_cut_windows(sources, cutters, version))) as cuts,
        closing(mapped(_named, cuts, threads=1)) as named,
    ):
        yield from named


def _cut_windows(
    sources: Sequence[Source], cutters: list[str], version: Sequence[Source]
) -> Generator[list[tuple[int, Piece]], None, None]:
    by_path = {source.path: source for source in version}
    window: list[tuple[int, Piece]] = []
    size = 0
    for index, source in enumerate(sources):
        with ExitStack() as opened:

            def beside(path: str, opened: ExitStack = opened) -> BinaryIO | None:
                found = by_path.get(path)
                return opened.enter_context(found.opened()) if found else None

            file = opened.enter_context(source.opened())
            cutter, pieces = cut(file, source, beside)
            cutters.append(cutter)
            for piece in pieces:
                window.append((index, piece))
                size += len(piece.data)
                if size >= _WINDOW_BYTES or len(window) >= _WINDOW_CHUNKS:
                    yield window
                    window, size = [], 0
    if window:
        yield window


def _named(window: Sequence[tuple[int, Piece]]) -> list[NamedPiece]:
    return [
        NamedPiece(index, piece.data, piece.part, blake3(piece.data).digest())
        for index, piece in window
    ]
