"""A file of a version as a Python file: seekable, read from the store as it is needed."""

from __future__ import annotations

import io
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.content.read import Chunk, Reader
from modelhub.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 128 << 10


class StoredFile(io.RawIOBase):
    """The bytes of ``file``, verified. Not for several threads at once.

    The chunk read last is kept, so that reading on in small steps reads each chunk once.
    """

    def __init__(self, reader: Reader, manifest: Manifest, file: ManifestFile) -> None:
        super().__init__()
        self._reader = reader
        self._manifest = manifest
        self._file = file
        self._at = 0
        self._begin = 0
        self._chunk: Chunk = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        self._refuse_closed()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, which may lie behind the end, where there is nothing to read."""
        self._refuse_closed()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size_bytes}
        if whence not in start or start[whence] + offset < 0:
            raise InvalidInput(
                f"{offset} from {whence} is no position in a file", remedy="Use one from 0 up."
            )
        self._at = start[whence] + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read up to the end of the chunk that the position is in."""
        self._refuse_closed()
        into = memoryview(buffer).cast("B")
        if self._at >= self._file.size_bytes or not into:
            return 0
        if not self._begin <= self._at < self._begin + len(self._chunk):
            (ref,), skipped = self._manifest.spanning(self._file, self._at, 1)
            self._chunk = self._reader.chunk(ref)
            self._begin = self._at - skipped
        start = self._at - self._begin
        data = memoryview(self._chunk)[start : start + len(into)]
        into[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        """All that is left, read by several threads."""
        self._refuse_closed()
        rest = self._file.size_bytes - self._at
        data = self._reader.range(self._manifest, self._file, self._at, max(0, rest))
        self._at += len(data)
        return data

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")  # as Python's own files do


class StoredSource(msgspec.Struct, frozen=True):
    """A file of a version as a ``Source`` for another one, which may take over its chunks."""

    reader: Reader
    manifest: Manifest
    file: ManifestFile

    @property
    def path(self) -> str:
        """Its path inside both versions."""
        return self.file.path

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self.file.size_bytes

    @property
    def mode(self) -> int:
        """Its permission bits."""
        return self.file.mode

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The file as stored."""
        return cast(BinaryIO, open_stored(self.reader, self.manifest, self.file))


def open_stored(reader: Reader, manifest: Manifest, file: ManifestFile) -> io.BufferedReader:
    """The file, open for reading in steps of any size."""
    return io.BufferedReader(StoredFile(reader, manifest, file), _BUFFER_BYTES)
