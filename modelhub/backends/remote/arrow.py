"""Any file system that pyarrow opens: S3 and its like, and HDFS through libhdfs.

None of them creates or renames "unless it is there" through pyarrow, so each name is looked at and
then taken by an empty file. Threads of one process take turns and never overwrite. Two processes
that choose the same name in the same moment would; names of packs are 128 random bits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import pyarrow as pa
from pyarrow import fs

from modelhub.backends.remote.arrow_errors import reason, translated, unreachable
from modelhub.backends.remote.arrow_stream import ArrowSink
from modelhub.backends.remote.files import BesideWriter, FileWriter, absent, full_path, taken
from modelhub.backends.remote.hadoop import lost
from modelhub.backends.remote.processes import DeadlinePassedError, PerProcess, Threads
from modelhub.backends.remote.silence import Silence
from modelhub.backends.remote.wording import place
from modelhub.errors import InvalidInput, NotFound, NotInstalled
from modelhub.names import shown
from modelhub.stores import FileInfo, Stat

T = TypeVar("T")

_FLAT = frozenset({"abfs", "abfss", "gcs", "gs", "s3"})
"""File systems of objects, where a folder is there as long as something is in it."""

_DEPTH = 2
"""Folders this deep are listed as a whole, those above one by one: pyarrow lists into memory."""

_taking = threading.Lock()


class ArrowFiles:
    """Files below a folder of a file system that has a URL."""

    def __init__(
        self, url: str, *, user: str | None, replication: int | None, timeout_s: float
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "file" and not parts.netloc:
            raise InvalidInput(
                f"{shown(url)} names no bucket or host",
                remedy=f"Write {parts.scheme}://BUCKET/PATH.",
            )
        self._scheme = parts.scheme
        self._address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip(
            "/"
        )
        self._silence = Silence(timeout_s)
        if parts.scheme == "arrow+hdfs":
            options = {"user": user, "replication": replication}
            query = urlencode({key: said for key, said in options.items() if said is not None})
            self._url = f"hdfs://{parts.netloc}{quote(parts.path, safe='/%')}?{query}"
        elif user is not None or replication is not None:
            raise InvalidInput(
                f"{self._address} takes neither a user nor a replication",
                remedy="Leave them out; credentials are looked for as the store's own tools do.",
            )
        else:
            self._url = url
        self._opened = PerProcess(self._open)
        self._threads = PerProcess(Threads)

    @property
    def address(self) -> str:
        """The root's URL, without user, password and options."""
        return self._address

    @property
    def renames_folders(self) -> bool:
        """An object store moves one file of it after the other."""
        return self._scheme not in _FLAT

    def create(self, path: str) -> FileWriter:
        """Take the name with an empty file."""
        with _taking:
            if self.stat(path) is not None:
                raise taken(self._where(path))
            self._make_parent(path)
            self._change(path, lambda system, full: system.open_output_stream(full).close())
        return FileWriter(self, path, ArrowSink(self, path))

    def put(self, path: str, *, overwrite: bool) -> BesideWriter:
        """Begin a file that appears by its commit."""
        full_path("/", path)
        return BesideWriter(self, path, overwrite=overwrite)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, cut off where the file ends."""

        def call(system: fs.FileSystem, full: str) -> bytes:
            with system.open_input_file(full) as file:
                size = min(length, file.size() - offset)
                return bytes(file.read_at(size, offset)) if size > 0 else b""

        return self._ask(path, call)

    def stat(self, path: str) -> Stat | None:
        """What is there, or None."""
        info = self._ask(path, lambda system, full: system.get_file_info(full))
        if info.type == fs.FileType.NotFound:
            return None
        return Stat(info.size or 0, info.type == fs.FileType.Directory)

    def list(self, folder: str) -> Iterator[FileInfo]:
        """Every file below a folder; what is in memory is one of its folders two levels down."""
        below = len(self._root()) + 1
        pending = [(folder, 0)]
        while pending:
            inside, depth = pending.pop()
            whole = depth >= _DEPTH

            def call(system: fs.FileSystem, full: str, whole: bool = whole) -> list[fs.FileInfo]:
                if system.get_file_info(full).type != fs.FileType.Directory:
                    return []
                where = fs.FileSelector(full, recursive=whole, allow_not_found=True)
                return list(system.get_file_info(where))

            for info in self._ask(inside, call):
                path = info.path[below:]
                if info.type == fs.FileType.File:
                    yield FileInfo(path, info.size, info.mtime or datetime.fromtimestamp(0, UTC))
                elif info.type == fs.FileType.Directory and not whole:
                    pending.append((path, depth + 1))

    def folders(self, folder: str) -> dict[str, datetime]:
        """The folders right in a folder; those of objects have no time and are left out."""

        def call(system: fs.FileSystem, full: str) -> list[fs.FileInfo]:
            if system.get_file_info(full).type != fs.FileType.Directory:
                return []
            return list(system.get_file_info(fs.FileSelector(full, allow_not_found=True)))

        return {
            info.base_name: info.mtime
            for info in self._ask(folder, call)
            if info.type == fs.FileType.Directory and info.mtime is not None
        }

    def rename(self, source: str, target: str) -> None:
        """Rename a file or folder.

        An object store copies each file and then removes the old one: a folder is moved bit by bit.
        """
        with _taking:
            found = self.stat(source)
            if found is None:
                raise absent(self._where(source))
            if self.stat(target) is not None:
                raise taken(self._where(target))
            self._make_parent(target)
            if found.is_folder and not self.renames_folders:
                for info in list(self.list(source)):
                    self._move(info.path, target + info.path.removeprefix(source))
                self.remove_folder(source)
            else:
                self._move(source, target)

    def replace(self, source: str, target: str) -> None:
        """Rename a file over another one where that is in the way."""
        self._move(source, target)

    def _move(self, source: str, target: str) -> None:
        new = full_path(self._root(), target)
        self._change(source, lambda system, old: system.move(old, new))

    def remove(self, path: str) -> None:
        """Remove a file."""
        found = self.stat(path)
        if found is None or found.is_folder:
            return
        try:
            self._change(path, lambda system, full: system.delete_file(full))
        except NotFound:
            return

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents, where there are folders."""
        if self.renames_folders:
            self._change(path, lambda system, full: system.create_dir(full, recursive=True))

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        found = self.stat(path)
        if found is not None and found.is_folder:
            self._change(path, lambda system, full: system.delete_dir(full))

    def describe(self) -> dict[str, Any]:
        """Bytes held, counted file by file; a file system says not what is free."""
        return {
            "kind": self._scheme,
            "address": self._address,
            "version": f"pyarrow {pa.__version__}",
            "bytes": sum(info.size_bytes for info in self.list("")),
            "free_bytes": None,
            "exclusive": False,
        }

    def close(self) -> None:
        """Let go of the file system."""
        self._opened.forget()
        threads = self._threads.forget()
        if threads is not None:
            threads.close()

    def open_stream(self, path: str) -> Any:
        """A stream in place of the empty file ``path``."""
        return self._change(path, lambda system, full: system.open_output_stream(full))

    def run(self, path: str, call: Callable[[], T]) -> T:
        """Run a call that changes something."""
        return self._run(path, call, writes=True)

    def _open(self) -> tuple[fs.FileSystem, str]:
        try:
            system, root = fs.FileSystem.from_uri(self._url)
        except (OSError, ValueError, pa.ArrowException) as exc:
            said = reason(exc)
            if "libhdfs" in said or "libjvm" in said:
                raise NotInstalled(
                    f"{self._address} needs Java and libhdfs: {said}",
                    remedy="Use hdfs://, which needs neither: pip install 'modelhub[hdfs]'",
                ) from exc
            if isinstance(exc, ValueError | pa.ArrowException):
                raise InvalidInput(
                    f"{self._address} cannot be opened: {said}", remedy="Correct the URL."
                ) from exc
            raise unreachable(self._address, said) from exc
        return system, root.rstrip("/")

    def _run(self, path: str, call: Callable[[], T], *, writes: bool) -> T:
        threads = self._threads.get()
        try:
            return self._silence.waiting(
                lambda timeout_s: threads.run(call, timeout_s), DeadlinePassedError
            )
        except DeadlinePassedError as exc:
            raise (lost if writes else unreachable)(self._where(path), str(exc)) from exc
        except (OSError, pa.ArrowException) as exc:
            raise translated(exc, self._where(path), writes=writes) from exc

    def _root(self) -> str:
        return self._run("", lambda: self._opened.get()[1], writes=False)

    def _ask(self, path: str, call: Callable[[fs.FileSystem, str], T]) -> T:
        """Run a call that changes nothing."""
        return self._run(path, lambda: self._call(path, call), writes=False)

    def _change(self, path: str, call: Callable[[fs.FileSystem, str], T]) -> T:
        return self.run(path, lambda: self._call(path, call))

    def _call(self, path: str, call: Callable[[fs.FileSystem, str], T]) -> T:
        system, root = self._opened.get()
        return call(system, full_path(root, path))

    def _make_parent(self, path: str) -> None:
        self.make_folder(path.rpartition("/")[0])

    def _where(self, path: str) -> str:
        return place(self._address, path)
