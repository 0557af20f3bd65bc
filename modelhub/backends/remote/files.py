"""The seam between what is done with remote files and the drivers that do it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from modelhub.backends.remote.wording import place
from modelhub.errors import AlreadyExists, InvalidInput, NotFound, Unavailable
from modelhub.names import shown
from modelhub.stores import Folder

PIECE_BYTES = 8 << 20
"""What is handed to a driver at once: each piece has the timeout for itself."""


class Sink(Protocol):
    """An open file of a driver. After any error it is only discarded."""

    def write(self, data: bytes) -> None:
        """Append at most ``PIECE_BYTES``."""

    def close(self) -> None:
        """Make the file complete and as durable as the store makes files."""

    def discard(self) -> None:
        """Give up, at once; may raise anything."""


class Files(Folder, Protocol):
    """Files and folders below one root: plain ones, and those of a weight store.

    The contract of ``WeightStore`` holds for the methods of the same name.
    """

    def create(self, path: str) -> FileWriter:
        """Begin a new file; its folders are made."""

    def replace(self, source: str, target: str) -> None:
        """Rename a file, over another one where that is in the way."""

    def remove(self, path: str) -> None:
        """Remove a file; what is absent, or a folder that is not empty, is left as it is."""

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents. Idempotent."""

    def describe(self) -> dict[str, Any]:
        """Kind, address, version, bytes held and free.

        ``exclusive`` says whether of two processes that create or rename to one name in the same
        moment only one succeeds.
        """


class FileWriter:
    """A file being written through a driver's ``Sink``: a ``Writer`` of ``stores``.

    One piece is sent while the caller makes the next; what goes wrong with it is told by the next
    call.
    """

    def __init__(self, files: Files, path: str, sink: Sink) -> None:
        self._files = files
        self._path = path
        self._sink: Sink | None = sink
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="modelhub-sender")
        self._sending: Future[None] | None = None
        self._written_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; after an error the file is given up."""
        sink = self._opened()
        try:
            for piece in _pieces(data):
                self._settle()
                self._sending = self._sender.submit(sink.write, piece)
                self._written_bytes += len(piece)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> int:
        """Close the file, and return the length that the server then says it has.

        Raises:
            Unavailable: that is another one than was written. Nothing may refer to the file.
        """
        sink = self._opened()
        try:
            self._settle()
            with self._still_there():
                sink.close()
        except BaseException:
            self.abort()
            raise
        self._sink = None
        self._sender.shutdown()
        found = self._files.stat(self._path)
        if found is None or found.size_bytes != self._written_bytes:
            there = "nothing" if found is None else f"{found.size_bytes:,}"
            raise Unavailable(
                f"{self._where()}: {self._written_bytes:,} bytes were written and {there} is there",
                remedy="Write a new file under a new name; check the health of the store.",
            )
        return found.size_bytes

    def abort(self) -> None:
        """Give up; what was written may remain, incomplete."""
        if self._sink is not None:
            sink, self._sink = self._sink, None
            with suppress(Exception):
                self._settle()
            with suppress(Exception):
                sink.discard()
            self._sender.shutdown(wait=False)

    def _settle(self) -> None:
        """Wait until the last piece was sent, or raise what kept it."""
        if self._sending is not None:
            sending, self._sending = self._sending, None
            with self._still_there():
                sending.result()

    @contextmanager
    def _still_there(self) -> Iterator[None]:
        """Raise what a driver says of a file that is gone as a write that failed."""
        try:
            yield
        except NotFound as exc:
            raise Unavailable(
                f"{self._where()} was removed while it was written",
                remedy="Write a new file under a new name.",
            ) from exc

    def _opened(self) -> Sink:
        if self._sink is None:
            raise Unavailable(
                f"{self._where()} was committed or given up before",
                remedy="Write a new file under a new name.",
            )
        return self._sink

    def _where(self) -> str:
        return place(self._files.address, self._path)


class BesideWriter:
    """A file being written beside its place, which it then takes.

    Hive and Spark take no notice of a name that begins with a dot.
    """

    def __init__(self, files: Files, path: str, *, overwrite: bool) -> None:
        folder, slash, _ = path.rpartition("/")
        self._files = files
        self._path = path
        self._beside = f"{folder}{slash}.{secrets.token_hex(8)}.part"
        self._take = files.replace if overwrite else files.rename
        self._writer = files.create(self._beside)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; after an error the file is given up."""
        try:
            self._writer.write(data)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> int:
        """Complete the file, then give it its name.

        Raises:
            AlreadyExists: something has that name, and was not to be overwritten.
        """
        try:
            size_bytes = self._writer.commit()
            self._take(self._beside, self._path)
        except BaseException:
            self.abort()
            raise
        return size_bytes

    def abort(self) -> None:
        """Give up and remove what was written."""
        self._writer.abort()
        with suppress(Exception):
            self._files.remove(self._beside)


def _pieces(data: bytes | bytearray | memoryview) -> Iterator[bytes]:
    # Drivers convert what is not bytes element by element, or keep a view of what may change.
    if isinstance(data, bytes) and len(data) <= PIECE_BYTES:
        if data:
            yield data
        return
    whole = memoryview(data)
    view = whole.cast("B") if whole.nbytes else memoryview(b"")
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


def full_path(root: str, path: str) -> str:
    """The path ``path`` below ``root``, which begins with a slash.

    Raises:
        InvalidInput: it leads elsewhere.
    """
    parts = path.split("/")
    if path and any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise InvalidInput(
            f"{shown(path)} is not a path of a file", remedy="Name a file below the folder."
        )
    return "/".join([root.rstrip("/"), *parts]) if path else root


def absent(where: str) -> NotFound:
    """The error for a file that is not there."""
    return NotFound(f"there is no file {where}", remedy="Run `modelhub admin fsck`.")


def taken(where: str) -> AlreadyExists:
    """The error for a name that something has."""
    return AlreadyExists(f"{where} is taken", remedy="Use a name that was never used before.")


def parse_permission(permission: str | None) -> tuple[int, int] | None:
    """The permissions of folders and of files.

    Raises:
        InvalidInput: it is not octal.
    """
    if permission is None:
        return None
    try:
        bits = int(permission, 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o777:
        raise InvalidInput(
            f"{shown(permission)} is not a permission", remedy="Write it in octal, such as 750."
        )
    return bits, bits & 0o666
