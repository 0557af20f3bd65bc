"""Reading a header's fields in order, as far as it is sound and no further than a limit."""

from __future__ import annotations

import os
from typing import BinaryIO

from modelhub.content.layout.spans import Unsound


class Fields:
    """The ``limit_bytes`` of ``file`` that begin at ``begin``; numbers are little-endian.

    Everything raises Unsound where it would go beyond the limit, or what is read beyond the file.
    ``file`` must be buffered: a field is read at a time.
    """

    def __init__(self, file: BinaryIO, begin: int, limit_bytes: int) -> None:
        file.seek(begin)
        self._file = file
        self._end = begin + limit_bytes
        self.at = begin

    @property
    def left_bytes(self) -> int:
        """How many there are up to the limit."""
        return self._end - self.at

    def take(self, size_bytes: int) -> bytes:
        """The next bytes."""
        self._advance(size_bytes)
        data = self._file.read(size_bytes)
        if len(data) < size_bytes:
            raise Unsound("it ends in a field")
        return data

    def skip(self, size_bytes: int) -> None:
        """Go over the next bytes unread; they need not be there."""
        self._advance(size_bytes)
        self._file.seek(size_bytes, os.SEEK_CUR)

    def skip_texts(self, count: int) -> None:
        """Go over texts, each behind its length in 8 bytes. Vocabularies are most of a header."""
        read, number = self._file.read, int.from_bytes
        for _ in range(count):
            size_bytes = number(read(8), "little")
            self._advance(8 + size_bytes)
            read(size_bytes)
        if self._file.tell() != self.at:
            raise Unsound("it ends in a text")

    def number(self, size_bytes: int) -> int:
        """The next ``size_bytes`` as a natural number."""
        return int.from_bytes(self.take(size_bytes), "little")

    def _advance(self, size_bytes: int) -> None:
        self.at += size_bytes
        if self.at > self._end:
            raise Unsound("it goes beyond its limit")
