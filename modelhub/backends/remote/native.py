"""HDFS by its own protocol, with hdfs-native: no JVM and no libhdfs.

The driver itself reads ``core-site.xml`` and ``hdfs-site.xml`` in ``HADOOP_CONF_DIR``, and with
them what it needs for nameservices and Kerberos. It repeats a call of its own accord where the
connection broke, so that a ``create`` may find its own file and a ``rename`` its own work done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from modelhub.backends.remote.files import (
    FileWriter,
    ReplacingWriter,
    absent,
    full_path,
    parse_permission,
)
from modelhub.backends.remote.hadoop import given_up, is_below_a_file, lost, unreachable
from modelhub.backends.remote.native_errors import reason, translated
from modelhub.backends.remote.native_stream import NativeSink
from modelhub.backends.remote.processes import DeadlinePassedError, Forks, PerProcess, Threads
from modelhub.errors import (
    InvalidInput,
    NotFound,
    NotInstalled,
    Unavailable,
)
from modelhub.stores import FileInfo, Stat

if TYPE_CHECKING:
    from hdfs_native import Client
    from hdfs_native import FileReader as Reader

T = TypeVar("T")

_USER = "HADOOP_USER_NAME"
_READ_BYTES = 4 << 20
"""What the driver is asked for at once: 16 MiB take it twice as long a byte."""

_LISTED_AT_ONCE = 1000
_CACHED_S = 3.5
"""For three seconds the driver keeps a DataNode's connection, in a cache that a fork duplicates."""


class _LastRead:
    """When this process, or the one that it was forked from, last read from a DataNode."""

    at = -_CACHED_S


class NativeFiles:
    """Files below a folder of HDFS."""

    def __init__(
        self,
        url: str,
        *,
        user: str | None,
        replication: int | None,
        permission: str | None,
        timeout_s: float,
    ) -> None:
        parts = urlsplit(url)
        self._server = f"hdfs://{parts.netloc}"
        self._root = "/" + unquote(parts.path).strip("/")
        self._address = self._server + self._root.rstrip("/")
        self._replication = replication
        self._permission = parse_permission(permission)
        self._timeout_s = timeout_s
        self._config = {
            "dfs.client.socket-timeout": str(int(timeout_s * 1000)),
            # Where a DataNode dies, go on with the others: HDFS copies what is short of copies.
            "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
        }
        if ":" in parts.netloc:
            # There is no other NameNode to try, and no use in waiting for one.
            self._config["dfs.client.failover.max.attempts"] = "0"
        self._answered = False
        _act_as(user)
        try:
            import hdfs_native
        except ImportError as exc:
            raise NotInstalled(
                f"{self._server} needs the package hdfs-native",
                remedy="pip install 'modelhub[hdfs]'",
            ) from exc
        self._driver = hdfs_native
        self._clients = PerProcess(self._connect)
        self._threads = PerProcess(Threads)

    @property
    def address(self) -> str:
        """The root's URL."""
        return self._address

    @property
    def renames_folders(self) -> bool:
        """HDFS renames a folder like a file."""
        return True

    def create(self, path: str) -> FileWriter:
        """Begin a new file, which nobody else can then create."""
        full = full_path(self._root, path)
        options = self._driver.WriteOptions(
            replication=self._replication,
            permission=None if self._permission is None else self._permission[1],
            overwrite=False,
            create_parent=True,
        )
        if self._permission is not None:
            self.make_folder(path.rpartition("/")[0])
        stream = self._change(path, lambda client: client.create(full, options))
        return FileWriter(self, path, NativeSink(self, path, stream))

    def put(self, path: str) -> ReplacingWriter:
        """Begin a file that appears by its commit."""
        full_path(self._root, path)
        return ReplacingWriter(self, path)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file. One that is still written ends with its last complete block."""
        _wait_for_cache()
        full = full_path(self._root, path)
        reader = self._ask(path, lambda client: client.read(full))
        stop = min(offset + length, len(reader))  # reading past the end is a panic
        starts = range(offset, stop, _READ_BYTES)
        pieces = [
            self._ranged(path, reader, start, min(_READ_BYTES, stop - start)) for start in starts
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _ranged(self, path: str, reader: Reader, offset: int, length: int) -> bytes:
        data = self._ask(path, lambda _: reader.read_range(offset, length))
        _LastRead.at = time.monotonic()
        return data

    def stat(self, path: str) -> Stat | None:
        """What is there, or None."""
        full = full_path(self._root, path)

        def call(client: Client) -> Stat | None:
            try:
                found = client.get_file_info(full)
            except FileNotFoundError:
                return None
            except RuntimeError as exc:
                if is_below_a_file("", str(exc)):
                    return None
                raise
            return Stat(found.length, found.isdir)

        return self._ask(path, call)

    def list(self, folder: str) -> Iterator[FileInfo]:
        """Every file below a folder, a thousand at a time."""
        full = full_path(self._root, folder)
        found = self.stat(folder)
        if found is None or not found.is_folder:
            return
        below = len(self._root.rstrip("/")) + 1
        listing = self._ask(folder, lambda client: client.list_status(full, recursive=True))
        while True:
            try:
                page = self._ask(folder, lambda _: list(islice(listing, _LISTED_AT_ONCE)))
            except NotFound as exc:
                # A folder that was removed meanwhile ends the driver's iterator.
                raise Unavailable(exc.message, remedy="List it again.") from exc
            for status in page:
                if not status.isdir:
                    modified = datetime.fromtimestamp(status.modification_time / 1000, UTC)
                    yield FileInfo(status.path[below:], status.length, modified)
            if len(page) < _LISTED_AT_ONCE:
                return

    def rename(self, source: str, target: str) -> None:
        """Rename a file or folder in one step, never over or into another."""
        old, new = full_path(self._root, source), full_path(self._root, target)

        def call(client: Client) -> bool:
            try:
                client.rename(old, new, overwrite=False)
            except FileNotFoundError as exc:
                if "destination parent" in str(exc):
                    return False
                raise
            return True

        if not self._change(source, call, target=target):
            self.make_folder(target.rpartition("/")[0])
            if not self._change(source, call, target=target):
                raise absent(f"{self._address}/{target}")

    def replace(self, source: str, target: str) -> None:
        """Rename a file in one step, over another one where that is in the way."""
        old, new = full_path(self._root, source), full_path(self._root, target)
        self._change(source, lambda client: client.rename(old, new, overwrite=True), target=target)

    def remove(self, path: str) -> None:
        """Remove a file."""
        full = full_path(self._root, path)

        def call(client: Client) -> None:
            try:
                client.delete(full, recursive=False)
            except RuntimeError as exc:
                if not is_below_a_file("", str(exc)) and "IsNotEmptyDirectory" not in str(exc):
                    raise

        self._change(path, call)

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents."""
        full = full_path(self._root, path)
        bits = 0o755 if self._permission is None else self._permission[0]
        self._change(path, lambda client: client.mkdirs(full, bits, create_parent=True))

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        full = full_path(self._root, path)
        self._change(path, lambda client: client.delete(full, recursive=True))

    def describe(self) -> dict[str, Any]:
        """Bytes held; what is free, where a space quota says it, in bytes before replication."""

        def call(client: Client) -> tuple[int, int | None]:
            try:
                held = client.get_content_summary(self._root)
            except FileNotFoundError:
                return 0, None
            limited = held.space_quota < 2**63
            return held.length, held.space_quota - held.space_consumed if limited else None

        held_bytes, free_bytes = self._ask("", call)
        return {
            "kind": "hdfs",
            "address": self._address,
            "version": f"hdfs-native {version('hdfs-native')}",
            "bytes": held_bytes,
            "free_bytes": free_bytes,
            "exclusive": True,
        }

    def close(self) -> None:
        """Let go of the client, and with it of its connections."""
        self._clients.forget()
        threads = self._threads.forget()
        if threads is not None:
            threads.close()

    def append(self, path: str, call: Callable[[], object]) -> None:
        """Run the step of a writer that sends bytes.

        Raises:
            Unavailable: it did not succeed; nothing refers to the file, and nothing ever will.
        """
        try:
            self._run(call)
        except DeadlinePassedError as exc:
            raise self._silent(path) from exc
        except BaseException as exc:
            raise given_up(translated(exc, self._where(path), writes=True)) from exc

    def complete(self, path: str, call: Callable[[], object]) -> None:
        """Run the step of a writer that makes the file complete."""
        try:
            self._run(call)
        except DeadlinePassedError as exc:
            raise lost(self._where(path), f"nothing for {self._timeout_s:g} s") from exc
        except FileNotFoundError as exc:
            raise given_up(translated(exc, self._where(path), writes=True)) from exc
        except OSError as exc:
            raise lost(self._where(path), reason(exc)) from exc
        except BaseException as exc:
            raise given_up(translated(exc, self._where(path), writes=True)) from exc

    def _connect(self) -> Client:
        try:
            return self._driver.Client(self._server, self._config)
        except Exception as exc:
            raise InvalidInput(
                f"{self._server} names no NameNode: {reason(exc)}",
                remedy="Name HOST:PORT, or set HADOOP_CONF_DIR to a configuration that knows this "
                "nameservice.",
            ) from exc

    def _run(self, call: Callable[[], T], timeout_s: float | None = None) -> T:
        return self._threads.get().run(call, self._timeout_s if timeout_s is None else timeout_s)

    def _ask(self, path: str, call: Callable[[Client], T]) -> T:
        """Run a call that changes nothing."""
        client = self._clients.get()
        try:
            result = self._run(lambda: call(client))
        except DeadlinePassedError as exc:
            self._clients.forget()
            raise self._silent(path) from exc
        except BaseException as exc:
            raise translated(exc, self._where(path), writes=False) from exc
        self._answered = True
        return result

    def _change(self, path: str, call: Callable[[Client], T], *, target: str | None = None) -> T:
        """Run a call that changes names."""
        client = self._clients.get()
        try:
            result = self._run(lambda: call(client))
        except DeadlinePassedError as exc:
            self._clients.forget()
            raise lost(self._where(path), f"nothing for {self._timeout_s:g} s") from exc
        except FileExistsError as exc:
            at = path if target is None else target
            raise translated(exc, self._where(at), writes=True) from exc
        except FileNotFoundError as exc:
            raise absent(self._where(path)) from exc
        except OSError as exc:
            # Its first try may have been sent over a connection that then broke.
            if self._answered:
                raise lost(self._where(path), reason(exc)) from exc
            raise unreachable(self._server, reason(exc)) from exc
        except BaseException as exc:
            at = path if target is None else target
            raise translated(exc, self._where(at), writes=True) from exc
        self._answered = True
        return result

    def _silent(self, path: str) -> Unavailable:
        return unreachable(self._where(path), f"nothing for {self._timeout_s:g} s")

    def _where(self, path: str) -> str:
        return f"{self._address}/{path}" if path else self._address


def _act_as(user: str | None) -> None:
    """Name the user to whom HDFS without Kerberos grants what it grants.

    The driver takes the name from the environment each time it connects.
    """
    if user is None:
        return
    current = os.environ.setdefault(_USER, user)
    if current != user:
        raise InvalidInput(
            f"this process acts as {current} on HDFS, and cannot act as {user} too",
            remedy=f"Unset {_USER}, name the same user, or use webhdfs://.",
        )


def _wait_for_cache() -> None:
    """In a forked child, wait until no connection of its parent's is in the driver's cache.

    Bytes that the one asked for would otherwise be read by the other.
    """
    if Forks.at is not None and Forks.at - _LastRead.at < _CACHED_S:
        time.sleep(max(0.0, Forks.at + _CACHED_S - time.monotonic()))
