"""Weights as files in a folder of a local disk."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelhub.backends.checks import check_weight_path, is_weight_path
from modelhub.backends.filesystem import io_error, make_folder, sync_error, sync_folder
from modelhub.errors import AlreadyExists, NotFound, Unavailable
from modelhub.stores import FileInfo


class LocalWeights:
    """A weight store in the folder ``root``, which the first file brings into being."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._durable: set[Path] = set()

    def create(self, path: str) -> LocalWriter:
        """Begin a new file under its final name, which nobody else can then take."""
        full = self._full(path)
        try:
            make_folder(self._root)
            full.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except (FileExistsError, NotADirectoryError) as exc:
            raise _taken(full) from exc
        except OSError as exc:
            raise io_error(exc, full) from exc
        return LocalWriter(self, full, descriptor)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, cut off where the file ends."""
        full = self._full(path)
        try:
            descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read_range(descriptor, offset, length)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
            raise _absent(full) from exc
        except OSError as exc:
            raise io_error(exc, full) from exc

    def size(self, path: str) -> int | None:
        """Length in bytes, or None where there is no such file."""
        full = self._full(path)
        try:
            status = full.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise io_error(exc, full) from exc
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below a folder whose name is one that a path can have."""
        if prefix:
            check_weight_path(prefix)
        return self._below(prefix)

    def _below(self, folder: str) -> Iterator[FileInfo]:
        full = self._root / folder
        try:
            with os.scandir(full) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if not is_weight_path(path):
                        continue
                    if entry.is_dir():
                        yield from self._below(path)
                    elif (info := _info(path, entry)) is not None:
                        yield info
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:
            raise io_error(exc, full) from exc

    def move(self, source: str, target: str) -> None:
        """Rename a file by a link, which cannot overwrite, and an unlink.

        A crash between the two leaves one file with both names; the same move then finishes it. Of
        two that move one file to different places both may succeed.
        """
        old, new = self._full(source), self._full(target)
        if self.size(source) is None:
            raise _absent(old)
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            _link(old, new)
        except (FileExistsError, NotADirectoryError) as exc:
            raise _taken(new) from exc
        except FileNotFoundError as exc:
            raise _absent(old) from exc
        except OSError as exc:
            raise io_error(exc, new) from exc
        try:
            self.sync(new)
            old.unlink(missing_ok=True)
            sync_folder(old.parent)
        except OSError as exc:
            raise sync_error(exc, new) from exc

    def remove(self, path: str) -> None:
        """Remove a file for good; an absent one counts as removed."""
        full = self._full(path)
        try:
            full.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as exc:
            raise io_error(exc, full) from exc
        try:
            sync_folder(full.parent)
        except OSError as exc:
            raise sync_error(exc, full) from exc

    def describe(self) -> dict[str, Any]:
        """Kind, address, the system's version, bytes held (counted file by file) and free."""
        try:
            free = shutil.disk_usage(self._root).free
        except FileNotFoundError:
            free = None
        except OSError as exc:
            raise io_error(exc, self._root) from exc
        return {
            "kind": "files",
            "address": str(self._root),
            "version": f"{platform.system()} {platform.release()}",
            "bytes": sum(info.size_bytes for info in self.list("")),
            "free_bytes": free,
        }

    def close(self) -> None:
        """Nothing is held between calls."""

    def sync(self, file: Path) -> None:
        """Make the name of ``file``, a path below the root, durable.

        A folder above it may be somebody else's, made and not synced yet, so each is synced by this
        process once. Folders are never removed.

        Raises:
            OSError: it may not be durable.
        """
        sync_folder(file.parent)
        for folder in file.parents:
            if folder == self._root or folder in self._durable:
                return
            sync_folder(folder.parent)
            self._durable.add(folder)

    def _full(self, path: str) -> Path:
        check_weight_path(path)
        return self._root / path


class LocalWriter:
    """A file being written."""

    def __init__(self, store: LocalWeights, path: Path, descriptor: int) -> None:
        self._store = store
        self._path = path
        self._descriptor: int | None = descriptor

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append without a copy; after an error the file is given up."""
        descriptor = self._opened()
        view = memoryview(data)
        rest = view.cast("B") if view.nbytes else memoryview(b"")
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError as exc:
            self.abort()
            raise io_error(exc, self._path) from exc

    def commit(self) -> int:
        """Sync the file, then the folders that lead to it."""
        descriptor = self._opened()
        self._descriptor = None
        try:
            try:
                os.fsync(descriptor)
                size_bytes = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            self._store.sync(self._path)
        except OSError as exc:
            raise sync_error(exc, self._path) from exc
        return size_bytes

    def abort(self) -> None:
        """Give up and free the space; after ``commit`` there is nothing to give up."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                os.close(descriptor)
            with suppress(OSError):
                self._path.unlink()

    def _opened(self) -> int:
        if self._descriptor is None:
            raise Unavailable(
                f"{self._path} was committed or given up before",
                remedy="Write a new file under a new name.",
            )
        return self._descriptor


def _read_range(descriptor: int, offset: int, length: int) -> bytes:
    # The file's end bounds what is allocated; one pread returns at most 2 GiB.
    length = min(length, os.fstat(descriptor).st_size - offset)
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, offset)):
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except FileExistsError:
        if old == new or not new.samefile(old):
            raise


def _info(path: str, entry: os.DirEntry[str]) -> FileInfo | None:
    try:
        status = entry.stat()
    except FileNotFoundError:  # moved or removed since the folder was read
        return None
    return FileInfo(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _absent(full: Path) -> NotFound:
    return NotFound(f"there is no file {full}", remedy="Run `modelhub admin fsck`.")


def _taken(full: Path) -> AlreadyExists:
    return AlreadyExists(f"{full} is taken", remedy="Use a name that was never used before.")
